"""Tracked proposals in half precision and under autocast."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hint_loss import proposal_importance, track_proposals

from .networks import OneQuestion
from .tracking import REDUCTIONS, B, D, K, U, V, W, along, features, weight


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_proposals_have_an_importance_in_float32(dtype: torch.dtype) -> None:
    x = track_proposals(features().to(dtype))
    alpha = proposal_importance(torch.tanh(F.linear(x, W.to(dtype))).sum((1, 2)), x)
    assert alpha.dtype == torch.float32
    plain = features().requires_grad_()
    expected = proposal_importance(torch.tanh(F.linear(plain, W)).sum((1, 2)), plain)
    torch.testing.assert_close(alpha.double(), expected, rtol=0.1, atol=0.1)


def test_autocast_rounds_the_forward_pass_only() -> None:
    model = OneQuestion(D)
    trained = [*model.seen.parameters(), *model.image.parameters()]
    results = []
    for cast in (False, True):
        x = track_proposals(features().float())
        with torch.autocast("cpu", torch.bfloat16, enabled=cast):
            score = model(x)[:, 2]
            alpha = proposal_importance(score.float(), x)
        assert alpha.dtype == torch.float32
        results.append([alpha, *torch.autograd.grad(alpha.square().sum(), trained)])
    for exact, rounded in zip(*results, strict=True):
        assert (rounded - exact).norm() < 0.1 * exact.norm()


AUTOCAST: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda x: F.linear(x, W.float()),
    "matmul": lambda x: x @ W.float().T,
    "pooling": lambda x: U.float().mT @ x,
    "einsum": lambda x: torch.einsum("bkd,hd->bkh", x, W.float()),
    "sum": lambda x: (x * V.float()).sum(-1),
    "pooled sum": lambda x: (x * U.float()).sum(1),
    "conv1d": lambda x: F.conv1d(x.transpose(1, 2), W.float()[..., None]),
}


@pytest.mark.parametrize("reduction", ["sum", "norm"])
@pytest.mark.parametrize("name", AUTOCAST)
def test_the_importance_is_in_float32_under_autocast(name: str, reduction: str) -> None:
    """The score is linear in the proposals: its value is rounded to bfloat16, its importance is not."""
    data, score, directions = features().float(), AUTOCAST[name], weight(D, 3, seed=5).detach().float()
    plain = data.clone().requires_grad_()
    how: Any = along(directions) if reduction == "norm" else reduction
    expected = proposal_importance(score(plain).flatten(1).sum(1), plain, reduction=how)
    x = track_proposals(data, reduction=reduction, probes=directions)  # type: ignore[arg-type]
    with torch.autocast("cpu", torch.bfloat16):
        value = score(x).flatten(1).float().sum(1)
    found = proposal_importance(value, x, reduction=reduction)  # type: ignore[arg-type]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_a_weighted_sum_has_the_same_dtype_as_without_tracking() -> None:
    weights, features = (torch.rand(B, K, size).bfloat16() for size in (1, D))
    with torch.autocast("cpu", torch.bfloat16):
        expected, found = ((weights * x).sum(1) for x in (features, track_proposals(features)))
    assert found.dtype == expected.dtype
    assert torch.equal(found, expected)


@REDUCTIONS
def test_normalised_half_precision_proposals_have_a_finite_importance(reduction: Any) -> None:
    x = track_proposals(features().bfloat16(), reduction=reduction)
    normalised = F.normalize(x, dim=-1) + x / x.norm(dim=-1, keepdim=True)
    alpha = proposal_importance(torch.tanh(normalised @ V.bfloat16()).sum(1), x, reduction=reduction)
    assert alpha.dtype == torch.float32
    assert alpha.isfinite().all()


def test_tracking_changes_no_value_under_autocast() -> None:
    data, weights = features().float(), U.float()
    with torch.autocast("cpu", torch.bfloat16):
        found, plain = ((weights * x).sum(1) for x in (track_proposals(data), data))
        torch.testing.assert_close(found.as_subclass(Tensor), plain)
