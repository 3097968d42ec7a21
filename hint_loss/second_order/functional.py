"""Importance as a function transform, for ``torch.compile`` and ``torch.func``: no graph of the caller's is needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from hint_loss._checks import check_features
from hint_loss.second_order.kernels import check_graph
from hint_loss.second_order.tracking import coordinates, importance_along, move_along


def importance_and_output(
    function: Callable[[Tensor], tuple[Tensor, Any]],
    proposals: Tensor,
    *,
    feature_dim: int = -1,
    reduction: Literal["sum", "input", "norm"] = "sum",
    probes: int | Tensor = 16,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Any]:
    """The functional twin of :func:`~hint_loss.proposal_importance`: the forward pass is part of it.

    Compiled with ``fullgraph=True``, forward pass, importance and ranking loss are one graph, of which ``backward``
    outside of the compiled function takes the second-order step. Without the compiler, ``proposal_importance`` is
    faster: on transformers several times.

    Args:
        function: the forward pass, from proposals to the score ``(B,)`` of each sample's decision, and its other
            output, such as the logits: tensors in any nest of tuples, lists and dictionaries, ``()`` for none. If the
            score does not depend on the proposals, their importance is zero.
        proposals: as in :func:`~hint_loss.proposal_importance`; they need not require a gradient.
        feature_dim: the dimension of ``proposals`` to reduce.
        reduction: ``"sum"``, ``"input"`` or ``"norm"``, as in :func:`~hint_loss.track_proposals`.
        probes: as there.
        generator: as there; None in compiled code, which draws from PyTorch's global one.

    Returns:
        The importance, in the shape of ``proposals`` without ``feature_dim``, and the function's other output. Both are
        differentiable with respect to all that the function uses.

    Raises:
        TypeError: ``proposals`` that are no floating point tensor; a function that does not return two things.
        ValueError: scores of another shape; an unknown reduction or ``feature_dim``; unfit ``probes``.
        RuntimeError: an operation without a second derivative, such as fused attention, or one that ``torch.func``
            cannot look into, such as a recurrent layer of cuDNN (the error names the remedy) or a checkpoint;
            in compiled code, where nobody can look, the error is PyTorch's.

    Example:
        >>> weight = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> def forward(proposals):
        ...     hidden = proposals @ weight
        ...     return hidden.square().sum(-1), hidden
        >>> alpha, hidden = importance_and_output(forward, torch.ones(1, 3, 2))
        >>> alpha.sum().backward()
        >>> alpha.tolist(), weight.grad.tolist()
        ([[18.0, 18.0, 18.0]], [36.0, 36.0])
    """
    check_features("proposals", proposals, feature_dim, reduction)

    zeros, u = coordinates(proposals, feature_dim, reduction, probes, generator)

    def total(t: Tensor) -> tuple[Tensor, Any]:
        result = function(move_along(proposals, t, u, feature_dim, reduction))
        if not isinstance(result, tuple) or len(result) != 2 or result[1] is None:
            raise TypeError("Parameter `function` should return two things: scores, and other output, `()` for none.")
        score, output = result
        if score.shape not in ((), proposals.shape[:1]):
            found = tuple(score.shape)
            raise ValueError(f"Parameter `function` should return scores ({len(proposals)},) first. Found {found}.")
        if not torch.compiler.is_compiling() and score.requires_grad:
            check_graph(score, t)
        return score.sum(), output

    try:
        gradient, output = torch.func.grad(total, has_aux=True)(zeros)
    except NotImplementedError as error:
        if "TensorWrapper" not in str(error):
            raise
        raise RuntimeError(
            f"`torch.func` cannot look into an operation of the model ({error}), most likely a recurrent layer of "
            "cuDNN: run the model's forward pass inside of `with double_backward_kernels():`."
        ) from error
    return importance_along(gradient, reduction), output
