"""What the tests of tracked proposals share: random tensors, and the comparison with plain double backward."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from hint_loss import TrackedProposals, proposal_importance, track_proposals

B, K, D = 3, 5, 6
REDUCTIONS = pytest.mark.parametrize("reduction", ["sum", "input", "norm"])


def features(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*(shape or (B, K, D)), generator=generator, dtype=torch.float64) + 0.1


def weight(*shape: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()


W, V, U = weight(4, D), weight(D), weight(B, K, 1)


def along(directions: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """The reduction by which tracked proposals estimate the norm, for directions ``(D, m)``."""
    return lambda gradient, _: torch.linalg.vector_norm(gradient @ directions, dim=-1)


def assert_exact(
    score: Callable[[Tensor], Tensor],
    parameters: list[Tensor],
    data: Tensor,
    *,
    reduction: Any = "sum",
    feature_dim: int = -1,
) -> TrackedProposals:
    """Checks that score, importance and the gradients of a loss on both equal those of plain double backward."""
    results = []
    directions = weight(data.shape[feature_dim], 3, seed=5).detach()
    tracked = track_proposals(data, feature_dim=feature_dim, reduction=reduction, probes=directions)
    for x in (data.detach().clone().requires_grad_(), tracked):
        torch.manual_seed(0)
        value = score(x)
        how = along(directions) if reduction == "norm" and x is not tracked else reduction
        alpha = proposal_importance(value, x, feature_dim=feature_dim, reduction=how)
        coefficients = features(*alpha.shape, seed=2)
        loss = (alpha * coefficients).sum() + alpha.square().sum() + value.square().sum()
        results.append([value, alpha, *torch.autograd.grad(loss, parameters, materialize_grads=True)])
    for plain, found in zip(*results, strict=True):
        # To 1e-10 of the largest entry, because some results are zero but for rounding.
        largest = plain.nan_to_num(0.0, 0.0, 0.0).abs().max().item()
        torch.testing.assert_close(found, plain, rtol=0, atol=1e-10 * max(largest, 0.1), equal_nan=True)
    return tracked
