"""Network importance of proposals: how strongly the score of a decision depends on each of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from hint_loss._checks import check_feature_dim
from hint_loss.second_order.kernels import check_graph, trained_tensors
from hint_loss.second_order.tracking import TrackedProposals, importance_along

ImportanceReduction = Literal["sum", "input", "norm"] | Callable[[Tensor, Tensor], Tensor]


def proposal_importance(
    score: Tensor,
    proposals: Tensor,
    *,
    feature_dim: int = -1,
    reduction: ImportanceReduction = "sum",
    differentiable: bool = True,
) -> Tensor:
    r"""Importance of each proposal for the score of a decision: its gradient, reduced over features.

    .. math:: \alpha_r = \sum_d \frac{\partial o}{\partial P_{r,d}}

    These are the weights of Grad-CAM without pooling over space. Any model will do that computes the ``score`` of each
    sample from its own ``proposals``. Graph, gradients, flags and modes of the model stay as they are, so the task loss
    can be back-propagated afterwards.

    Args:
        score: the score of one decision for each sample, ``(B,)``, such as the logit of the true answer; ``(B, T)``
            for T decisions for each sample, such as the words of a caption; or a scalar. Do not pass the logits of all
            answers: each would count as a decision.
        proposals: the tensor that the model was given: region features ``(B, K, D)``, a feature map ``(B, C, H, W)``
            with ``feature_dim=1``, or any other layout. Either the result of :func:`~hint_loss.track_proposals`, which
            makes a differentiable importance cheap, or a tensor that required a gradient before the forward pass.
        feature_dim: the dimension of ``proposals`` to reduce.
        reduction: ``"sum"`` over features (the paper), ``"input"`` (gradient times input, summed), ``"norm"``
            (Euclidean), or a function of the gradient and the proposals, both with features in the last dimension and
            broadcastable to each other, that returns the importance without that dimension.
        differentiable: build the graph that a loss on the importance needs. False is cheaper, for evaluation.

    Returns:
        The importance, in the shape of ``proposals`` without ``feature_dim``, ``(B, K)``. T decisions are the second
        dimension, ``(B, T, K)``. At least float32.

    Raises:
        ValueError: ``score`` or ``proposals`` has no graph, ``score`` does not depend on this very tensor or has a
            wrong shape, ``reduction`` is unknown or differs from the one that the proposals were tracked for, or
            inference mode is on.
        RuntimeError: A loss on the importance could not train anything but the proposals, an operation without a second
            derivative lies between proposals and score (the error names the remedy), or the score's graph was freed.

    Example:
        >>> weight = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> proposals = torch.ones(1, 3, 2, requires_grad=True)
        >>> score = (proposals @ weight).square().sum(-1)  # (B,)
        >>> alpha = proposal_importance(score, proposals)
        >>> alpha
        tensor([[18., 18., 18.]], grad_fn=<SumBackward1>)
        >>> alpha.sum().backward()  # second order: the gradient of a gradient
        >>> weight.grad
        tensor([36., 36.])

    References:
        Selvaraju et al., "Taking a HINT", ICCV 2019, section 3.2; "Grad-CAM", ICCV 2017.
    """
    _check(score, proposals, feature_dim, reduction)
    leaf = proposals.source.t if isinstance(proposals, TrackedProposals) else proposals
    score = score.plain if isinstance(score, TrackedProposals) else score
    if differentiable:
        check_graph(score, leaf)
    several, tracked = score.dim() == 2, leaf is not proposals
    with torch.enable_grad():  # the graph exists, also under `torch.no_grad`
        output = score.sum(0) if several else score.sum()

    def derivative(weights: Tensor | None = None) -> Tensor:
        gradient: Tensor | None
        (gradient,) = torch.autograd.grad(
            output, leaf, weights, create_graph=differentiable, retain_graph=True, allow_unused=True
        )
        if gradient is None and proposals.numel():
            raise ValueError(
                f"Parameter `score` should depend on `proposals`. Found `proposals` of shape {tuple(proposals.shape)} "
                "outside of its graph: pass the very tensor that the model was given, not a copy or a slice of it."
            )
        return 0 * (leaf + score.sum()) if gradient is None else gradient  # a batch without samples has no graph

    try:  # one vector-Jacobian product for each decision, batched
        with torch.set_grad_enabled(differentiable):
            each = torch.eye(score.shape[1]).to(score) if several else None
            batched = torch.vmap(derivative, out_dims=1 + tracked, randomness="same")  # for dropout in a checkpoint
            gradient = derivative() if each is None else batched(each)
    except RuntimeError as error:
        remedies = [remedy for sign, remedy in _REMEDIES.items() if sign in str(error)]
        if not remedies:
            raise
        raise RuntimeError(remedies[0]) from error
    with torch.set_grad_enabled(differentiable):
        if tracked:
            alpha = importance_along(gradient, str(reduction))
        else:
            alpha = _reduce(gradient, proposals, feature_dim, reduction, several)
    if differentiable and alpha.numel() and not _trains_something(alpha, leaf):
        raise RuntimeError(
            "The importance of `proposals` cannot be trained: nothing that requires a gradient influences it, beside "
            "the proposals themselves. Unfreeze the model's parameters or, for evaluation, pass `differentiable=False`."
        )
    return alpha


_REMEDIES = {  # keys are parts of PyTorch's messages
    "a second time": (
        "The graph of `score` is gone: take the importance before `backward`, or pass that `retain_graph=True`. "
        "Proposals are tracked anew for each forward pass."
    ),
    "recomput": (
        "A checkpointed part was computed again with other kernels than in the forward pass. Pass `checkpoint` "
        "`context_fn=lambda: (double_backward_kernels(), double_backward_kernels())` (in Hugging Face, among the "
        "`gradient_checkpointing_kwargs`), or use none that are fused: `attn_implementation='eager'`."
    ),
}


def _trains_something(alpha: Tensor, leaf: Tensor) -> bool:
    """Whether alpha depends on a tensor that requires a gradient, other than proposals that are only data."""
    if not alpha.requires_grad or isinstance(leaf, nn.Parameter):
        return alpha.requires_grad
    found = trained_tensors(alpha)
    first = next(found, None)
    return first is not leaf or any(tensor is not leaf for tensor in found)


def _reduce(
    gradient: Tensor, proposals: Tensor, feature_dim: int, reduction: ImportanceReduction, several: bool
) -> Tensor:
    inputs = proposals.movedim(feature_dim, -1)
    gradient = gradient.movedim(feature_dim % proposals.dim() + several, -1)  # (B, ..., D), or (B, T, ..., D)
    inputs = inputs[:, None] if several else inputs
    if gradient.dtype in (torch.float16, torch.bfloat16):  # sums in half precision have ties
        gradient, inputs = gradient.float(), inputs.float()
    if callable(reduction):
        return reduction(gradient, inputs)
    if reduction == "norm":
        norm: Tensor = torch.linalg.vector_norm(gradient, dim=-1)
        return norm
    return (gradient if reduction == "sum" else gradient * inputs).sum(-1)


def _check(score: Tensor, proposals: Tensor, feature_dim: int, reduction: ImportanceReduction) -> None:
    if not isinstance(score, Tensor):
        raise TypeError(
            f"Parameter `score` should be a torch.Tensor, the score of each sample's decision. Found a "
            f"{type(score).__name__}: pass the score of the true answer, such as `output.logits[range(B), answers]`."
        )
    if not isinstance(proposals, Tensor):
        raise TypeError(
            "Parameter `proposals` should be the very torch.Tensor that the model was given. "
            f"Found a {type(proposals).__name__}."
        )
    if score.dim() > 2 or 0 in score.shape[1:]:
        raise ValueError(
            f"Parameter `score` should have shape (B,), (B, T) or (). Found `score.shape = {tuple(score.shape)}`."
        )
    check_feature_dim("proposals", proposals, feature_dim)
    if score.dim() and score.shape[0] != proposals.shape[0]:
        raise ValueError(
            "Parameters `score` and `proposals` should have the same batch first. Found `score.shape = "
            f"{tuple(score.shape)}` and `proposals.shape = {tuple(proposals.shape)}`: score each sample once or, where "
            "the batch of proposals is another dimension, pass `score.sum()`."
        )
    if torch.is_inference_mode_enabled():
        raise ValueError("The importance is a gradient: call `proposal_importance` outside of `torch.inference_mode`.")
    if not callable(reduction) and reduction not in ("sum", "input", "norm"):
        raise ValueError(f"Parameter `reduction` should be 'sum', 'input', 'norm' or a function. Found {reduction!r}.")
    if isinstance(proposals, TrackedProposals):
        source = proposals.source
        if proposals.low_rank.value is not source.features:
            raise ValueError(
                "Parameter `proposals` should be what `track_proposals` returned. Found a tensor of shape "
                f"{tuple(proposals.shape)} that a model made of it."
            )
        if reduction != source.reduction or (feature_dim - source.feature_dim) % proposals.dim():
            raise ValueError(
                "Parameters `reduction` and `feature_dim` should be those that the proposals were tracked for, "
                f"{source.reduction!r} and {source.feature_dim}. Found {reduction!r} and {feature_dim}."
            )
    elif not proposals.requires_grad:
        raise ValueError(
            "Parameter `proposals` should require a gradient. Found `proposals.requires_grad = False`: call "
            "`proposals.requires_grad_()` before the model's forward pass, and run that with gradients enabled."
        )
    if not score.requires_grad:
        raise ValueError(
            "Parameter `score` should carry a graph. Found `score.requires_grad = False`: run the model's forward pass "
            "with gradients enabled (not under `torch.no_grad` or `torch.inference_mode`), and do not detach the score."
        )
    node = score.grad_fn
    while node is not None and node.name().rstrip("0123456789") in ("SumBackward", "MeanBackward", "DivBackward"):
        node = node.next_functions[0][0]
    if node is not None and re.match(r"\w+Loss|BinaryCrossEntropy", node.name()):
        raise ValueError(
            "Parameter `score` should grow with the network's belief in a decision, as the ground truth's logit does. "
            f"Found a loss ({node.name().partition('Backward')[0]}), whose importance has the opposite sign."
        )
