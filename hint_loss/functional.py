"""Importance as a function transform, for ``torch.compile`` and ``torch.func``: no graph of the caller's is needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from hint_loss.tracking import attach_scalars

__all__ = ["importance_and_output"]


def importance_and_output(
    function: Callable[[Tensor], tuple[Tensor, Any]],
    proposals: Tensor,
    *,
    feature_dim: int = -1,
    reduction: Literal["sum", "input"] = "sum",
) -> tuple[Tensor, Any]:
    """The functional twin of :func:`~hint_loss.proposal_importance`: the forward pass is part of it.

    Compiled with ``fullgraph=True``, forward pass, importance and ranking loss are one graph, of which ``backward``
    outside of the compiled function takes the second-order step. Without the compiler, ``proposal_importance`` is
    faster: on transformers several times.

    Args:
        function: the forward pass, from proposals to the score ``(B,)`` of each sample's decision, and its other
            output, such as the logits: tensors in any nest of tuples, lists and dictionaries, ``()`` for none.
        proposals: as in :func:`~hint_loss.proposal_importance`; they need not require a gradient.
        feature_dim: the dimension of ``proposals`` to reduce.
        reduction: ``"sum"`` of the gradient over features (the paper), or ``"input"``: of gradient times input.

    Returns:
        The importance, in the shape of ``proposals`` without ``feature_dim``, and the function's other output. Both are
        differentiable with respect to all that the function uses.

    Raises:
        TypeError: ``proposals`` of integers.
        ValueError: scores of another shape.

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

    def total(t: Tensor) -> tuple[Tensor, Any]:
        score, output = function(attach_scalars(proposals, t, feature_dim, reduction))
        if score.dim() > 1:
            raise ValueError(f"Parameter `function` should return scores (B,) first. Found {tuple(score.shape)}.")
        return score.sum(), output

    if not proposals.is_floating_point():
        raise TypeError(f"Parameter `proposals` should be floating point. Found `proposals.dtype = {proposals.dtype}`.")
    dtype = torch.promote_types(proposals.dtype, torch.float32)
    t = torch.zeros_like(proposals.detach().select(feature_dim, 0), dtype=dtype)
    alpha, output = torch.func.grad(total, has_aux=True)(t)
    return alpha, output
