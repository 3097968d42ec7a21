"""Select kernels that have a second derivative, and name the remedy if another kernel was used.

The backward passes of PyTorch's fastest attention and recurrent kernels cannot be differentiated. The importance itself
can be computed through them; only the backward pass of a loss on it fails.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from threading import RLock
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.autograd.graph import Node, get_gradient_edge
from torch.backends import cudnn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

_ATTENTION = {F.scaled_dot_product_attention, F.multi_head_attention_forward}
_RECURRENT = {torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu}
_REPLACE = "replace it by operations that have one"
_REMEDIES = {
    "ScaledDotProductFlashAttention ScaledDotProductFlashAttentionForCpu ScaledDotProductEfficientAttention "
    "ScaledDotProductCudnnAttention ScaledDotProductFusedAttentionOverrideable CudnnRnn MiopenRnn": (
        "run the model's forward pass inside of `with double_backward_kernels():`"
    ),
    "CompiledFunction": "leave the model uncompiled, or compile the whole step with `importance_and_output` in it",
    "CheckpointFunction": "pass `use_reentrant=False` to `torch.utils.checkpoint.checkpoint`",
    "Cdist CtcLoss FlexAttentionAutogradOp Hardsigmoid LstmMps MaskedSoftmax Pdist SegmentReduce": _REPLACE,
}
_FSDP = (
    "FSDP2 frees the weights of a layer between `proposals` and score once the importance is computed, and a loss on "
    "it needs them again: compute the whole loss inside of the wrapped module's forward and shard the root alone, or "
    "call the root's `set_reshard_after_backward(False)`."
)
_REMEDY = {name: remedy for names, remedy in _REMEDIES.items() for name in names.split()}
_ONCE = once_differentiable(lambda ctx: None).__code__  # shared by all decorated functions


class _DoubleBackwardKernels(TorchFunctionMode):  # stateless, so it may be nested and shared by threads
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None) -> Any:
        if func in _ATTENTION:
            with nullcontext() if torch.compiler.is_compiling() else _LOCK, sdpa_kernel(SDPBackend.MATH):
                return func(*args, **kwargs or {})  # (the compiler knows no locks)
        if func not in _RECURRENT:
            return func(*args, **kwargs or {})
        name = func.__name__
        if torch.compiler.is_compiling():  # a flag would only be off while the graph is traced, not when it runs
            return getattr(torch.ops.hint_loss, name)(*args, **kwargs or {})
        return _without_cudnn(name, *args, **kwargs or {})


_LOCK = RLock()  # PyTorch's flags belong to the process, so one thread at a time sets them


def _without_cudnn(name: str, *args: Any, **kwargs: Any) -> Any:
    with _LOCK:
        enabled, cudnn.enabled = cudnn.enabled, False  # `cudnn.flags` would reset the other flags
        try:
            return getattr(torch, name)(*args, **kwargs)
        finally:
            cudnn.enabled = enabled


# Operations for compiled graphs, with PyTorch's names and schemas. They exist already if the module is reloaded.
_LIBRARY = torch.library.Library("hint_loss", "FRAGMENT")  # type: ignore[no-untyped-call]
for _name, _overload in itertools.product(("lstm", "gru", "rnn_tanh", "rnn_relu"), ("input", "data")):
    if not hasattr(getattr(torch.ops.hint_loss, _name, None), _overload):
        _schema = str(getattr(getattr(torch.ops.aten, _name), _overload)._schema)
        _LIBRARY.define(_schema.removeprefix("aten::"))  # type: ignore[no-untyped-call]
        _LIBRARY.impl(  # type: ignore[no-untyped-call]
            f"{_name}.{_overload}", partial(_without_cudnn, _name), "CompositeImplicitAutograd"
        )


def double_backward_kernels() -> AbstractContextManager[Any]:
    """A context for the model's forward pass that selects kernels with a second derivative.

    Scaled dot-product attention uses PyTorch's mathematical kernel, and LSTM, GRU and RNN layers do not use cuDNN.
    All other operations, such as convolutions, keep their kernels and flags. The context can be nested and entered
    again. The backward pass does not need it, except where a checkpoint recomputes its part: pass the context to the
    checkpoint too, as below, since a context around ``backward`` has no effect there.

    On an H200, all attention kernels of PyTorch and all recurrent layers of cuDNN become trainable in this way.
    Without cuDNN a recurrent layer launches its kernels step by step. If that takes too long, put only the layers
    between proposals and score inside of the context.

    Example:
        >>> from torch.utils.checkpoint import checkpoint
        >>> from hint_loss import proposal_importance
        >>> layer = torch.nn.TransformerEncoderLayer(8, 2, batch_first=True).eval()
        >>> proposals, kernels = torch.randn(2, 3, 8, requires_grad=True), double_backward_kernels()
        >>> with kernels:
        ...     seen = checkpoint(layer, layer(proposals), use_reentrant=False, context_fn=lambda: (kernels, kernels))
        >>> proposal_importance(seen.sum((1, 2)), proposals).square().sum().backward()
    """
    return _DoubleBackwardKernels()


def check_graph(score: Tensor, proposals: Tensor) -> None:
    """Raise a RuntimeError with a remedy if a kernel between ``proposals`` and score has no second derivative.

    Kernels elsewhere, such as the fused attention of a question encoder, are differentiated once and do not matter.
    """
    target = get_gradient_edge(proposals)[:2]  # (node, number of its output)
    dead = {target[0]}  # nodes that do not depend on `proposals`
    for node, _ in _walk(score.grad_fn, {target[0]}):
        name = node.name().partition("Backward")[0]
        backward = getattr(getattr(type(node), "_forward_cls", None), "backward", None)  # of an `autograd.Function`
        remedy = _REPLACE if getattr(backward, "__code__", None) is _ONCE else _REMEDY.get(name)
        message = f"{name} lies between `proposals` and score and has no second derivative: {remedy}."
        if getattr(getattr(node, "param_group", None), "reshard_after_backward", False):
            remedy = message = _FSDP
        if remedy and any(target in edges for _, edges in _walk(node, dead)):
            raise RuntimeError(message)


def trained_tensors(x: Tensor) -> Iterator[Tensor]:
    """The leaves of the graph of x, to which ``backward`` would give a gradient."""
    return (node.variable for node, _ in _walk(x.grad_fn, set()) if hasattr(node, "variable"))


def _walk(root: Node | None, seen: set[Node]) -> Iterator[tuple[Node, tuple[tuple[Node | None, int], ...]]]:
    """Each node below ``root`` that is not in ``seen``, with the edges to its inputs; adds it to ``seen``."""
    stack = [root]
    while stack:
        node = stack.pop()
        if node is not None and node not in seen:
            seen.add(node)
            yield node, node.next_functions
            stack += [child for child, _ in node.next_functions]
