"""Importance as a function transform, for ``torch.compile`` and ``torch.func``."""

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
    """Like :func:`~hint_loss.proposal_importance`, but runs the forward pass itself.

    Compiled with ``fullgraph=True``, forward pass, importance and ranking loss are a single graph; call ``backward``
    outside of the compiled function. Without the compiler ``proposal_importance`` is faster, for transformers several
    times.

    Args:
        function: the forward pass. It takes the proposals, and returns the score ``(B,)`` of each sample's decision and
            other output, such as the logits: tensors in nested tuples, lists and dictionaries, or ``()`` for none. If
            the score does not depend on the proposals, their importance is zero.
        proposals: as in :func:`~hint_loss.proposal_importance`; they need not require a gradient.
        feature_dim: the dimension of ``proposals`` to reduce.
        reduction: ``"sum"``, ``"input"`` or ``"norm"``, as in :func:`~hint_loss.track_proposals`.
        probes: as in :func:`~hint_loss.track_proposals`.
        generator: as in :func:`~hint_loss.track_proposals`; must be None in compiled code.

    Returns:
        The importance, in the shape of ``proposals`` without ``feature_dim``, and the function's other output. Both are
        differentiable with respect to everything that the function uses.

    Raises:
        TypeError: ``proposals`` is not a floating point tensor, or ``function`` does not return a pair.
        ValueError: Scores have another shape, or ``reduction``, ``feature_dim`` or ``probes`` is wrong.
        RuntimeError: An operation has no second derivative, such as fused attention, or cannot be transformed by
            ``torch.func``, such as a checkpoint or a recurrent layer of cuDNN (the error names the remedy). In compiled
            code the error is PyTorch's own.

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
