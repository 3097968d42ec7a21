"""Unsigned importance: the norm of the gradient, exact, and estimated along random directions by tracked proposals."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hint_loss import (
    forward_hinted,
    hint_ranking_loss,
    importance_and_output,
    proposal_importance,
    track_proposals,
    tracking_report,
)
from hint_loss.second_order.low_rank import sum_product

B, K, D = 2, 4, 6


class UpDn(nn.Module):
    """Attention pools the proposals, of which one linear layer is read."""

    def __init__(self) -> None:
        super().__init__()
        self.seen, self.attention, self.image = nn.Linear(D, 8), nn.Linear(8, 1), nn.Linear(D, 8)
        self.answer = nn.Linear(8, 3)
        self.double()

    def forward(self, proposals: Tensor) -> Any:
        weights = self.attention(self.seen(proposals).tanh()).softmax(1)
        return self.answer(self.image((weights * proposals).sum(1)).tanh())


class ConvolutionalNet(nn.Module):
    """Two layers on a feature map whose cells are the proposals."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(D, 5, 3, padding=1), nn.Tanh(), nn.Conv2d(5, 3, 2))
        self.double()

    def forward(self, grid: Tensor) -> Any:
        return self.layers(grid).sum((2, 3)).tanh()


NETWORKS = pytest.mark.parametrize(
    ("build", "shape", "feature_dim"),
    [(UpDn, (B, K, D), -1), (ConvolutionalNet, (B, D, 3, 4), 1)],
    ids=["updn", "conv"],
)


def exact_norm(model: nn.Module, data: Tensor, feature_dim: int, **how: Any) -> Tensor:
    proposals = data.clone().requires_grad_()
    score = model(proposals)[:, 1]
    return proposal_importance(score, proposals, feature_dim=feature_dim, reduction="norm", **how)


@NETWORKS
@pytest.mark.parametrize("probes", [1, 4])
def test_its_square_is_unbiased(
    build: Callable[[], nn.Module], shape: tuple[int, ...], feature_dim: int, probes: int
) -> None:
    """Within three standard errors of the exact square over 10,000 draws, and as spread as the theory says."""
    model, data, draws = build(), torch.rand(shape, dtype=torch.float64), 10_000
    expected = exact_norm(model, data, feature_dim, differentiable=False).square()
    proposals = track_proposals(data, feature_dim=feature_dim, reduction="norm", probes=draws * probes)
    (gradient,) = torch.autograd.grad(model(proposals)[:, 1].sum(), proposals.source.t)  # along all directions at once
    squares = draws * gradient.view(draws, probes, *expected.shape).square().sum(1)
    standard_errors = (squares.mean(0) - expected) / (squares.std(0) / draws**0.5)
    total = squares.flatten(1).sum(1)
    assert abs(total.mean() - expected.sum()) < 3 * total.std() / draws**0.5
    assert standard_errors.abs().max() < 4  # of up to 24 proposals
    assert (squares.std(0) < 1.1 * (2 / probes) ** 0.5 * expected).all()


@NETWORKS
def test_orthogonal_directions_make_it_exact(
    build: Callable[[], nn.Module], shape: tuple[int, ...], feature_dim: int
) -> None:
    model, data = build(), torch.rand(shape, dtype=torch.float64)
    orthogonal = torch.linalg.qr(torch.randn(D, D, dtype=torch.float64)).Q
    results = []
    for track in (False, True):
        proposals = data.clone().requires_grad_()
        if track:
            proposals = track_proposals(data, feature_dim=feature_dim, reduction="norm", probes=orthogonal)
        alpha = proposal_importance(model(proposals)[:, 1], proposals, feature_dim=feature_dim, reduction="norm")
        results.append([alpha, *torch.autograd.grad(alpha.square().sum(), [*model.parameters()][:-1])])  # but the bias
    torch.testing.assert_close(results[1], results[0], rtol=1e-10, atol=1e-10)


@NETWORKS
def test_gradients_for_fixed_directions(
    build: Callable[[], nn.Module], shape: tuple[int, ...], feature_dim: int
) -> None:
    """Those of all parameters, by finite differences of the loss."""
    model, data = build(), torch.rand(shape, dtype=torch.float64)
    directions, names = torch.randn(D, 3, dtype=torch.float64), [name for name, _ in model.named_parameters()]

    def loss(*values: Tensor) -> Tensor:
        proposals = track_proposals(data, feature_dim=feature_dim, reduction="norm", probes=directions)
        score = torch.func.functional_call(model, dict(zip(names, values, strict=True)), (proposals,))[:, 1]
        alpha = proposal_importance(score, proposals, feature_dim=feature_dim, reduction="norm")
        return (alpha.flatten() * torch.linspace(0.5, 1, alpha.numel(), dtype=torch.float64)).sum() + score.sum()

    assert torch.autograd.gradcheck(loss, tuple(model.parameters()))


def test_directions_are_signs_drawn_anew_by_the_generator() -> None:
    data = torch.rand(B, K, D)

    def drawn(generator: torch.Generator | None) -> Tensor:
        """The directions, as the gradient of one proposal's features, one after the other."""
        proposals = track_proposals(data, reduction="norm", probes=3, generator=generator)
        each = (torch.autograd.grad(proposals[0, 0, d], proposals.source.t)[0][:, 0, 0] for d in range(D))
        return torch.stack(list(each))

    first, second = drawn(torch.Generator().manual_seed(1)), drawn(torch.Generator().manual_seed(1))
    assert torch.equal(first, second)
    assert torch.equal(first.abs(), torch.full((D, 3), 3**-0.5))
    generator = torch.Generator().manual_seed(1)
    assert torch.equal(drawn(generator), first)
    assert not torch.equal(drawn(generator), first)
    state = torch.get_rng_state()
    drawn(generator)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(drawn(None), drawn(None))


def test_default_is_16_directions_and_lazy() -> None:
    model, data = UpDn(), torch.rand(B, K, D, dtype=torch.float64)
    proposals = track_proposals(data, reduction="norm")
    proposal_importance(model(proposals)[:, 1], proposals, reduction="norm")
    assert proposals.source.t.shape == (16, B, K)
    assert tracking_report(proposals).plain == {}


def test_nothing_cancels() -> None:
    """Two features with opposite weights: the sum of the gradient is zero, its norm is not."""
    data, weight = torch.ones(1, 3, 2), torch.tensor([[1.0, -1.0]], requires_grad=True)
    found = {}
    for reduction in ("sum", "norm"):
        proposals = track_proposals(data, reduction=reduction, probes=torch.eye(2))  # type: ignore[arg-type]
        score = F.linear(proposals, weight).sum((1, 2))
        found[reduction] = proposal_importance(score, proposals, reduction=reduction).tolist()  # type: ignore[arg-type]
    assert found == {"sum": [[0.0] * 3], "norm": [[pytest.approx(2**0.5)] * 3]}


def test_several_decisions_share_the_directions() -> None:
    model, data = UpDn(), torch.rand(B, K, D, dtype=torch.float64)
    proposals = track_proposals(data, reduction="norm", probes=2)
    logits = model(proposals)
    together = proposal_importance(logits, proposals, reduction="norm")
    apart = [proposal_importance(logits[:, t], proposals, reduction="norm") for t in range(3)]
    torch.testing.assert_close(together, torch.stack(apart, 1), rtol=1e-12, atol=1e-14)


def test_hinted_samples_alone() -> None:
    model, data = UpDn(), torch.rand(6, K, D, dtype=torch.float64)
    hinted = torch.tensor([False, True, True, False, True, False])
    track = partial(track_proposals, reduction="norm", probes=torch.eye(D))
    logits, proposals = forward_hinted(model, data, hinted=hinted, track=track)
    alpha = proposal_importance(logits[hinted, 1], proposals, reduction="norm")
    torch.testing.assert_close(alpha, exact_norm(model, data, -1)[hinted], rtol=1e-10, atol=1e-12)


def test_functional_twin_draws_the_same() -> None:
    model, data = UpDn(), torch.rand(B, K, D, dtype=torch.float64)
    proposals = track_proposals(data, reduction="norm", probes=2, generator=torch.Generator().manual_seed(3))
    expected = proposal_importance(model(proposals)[:, 1], proposals, reduction="norm")
    alpha, _ = importance_and_output(
        lambda x: (model(x)[:, 1], ()),
        data,
        reduction="norm",
        probes=2,
        generator=torch.Generator().manual_seed(3),
    )
    torch.testing.assert_close(alpha, expected, rtol=1e-12, atol=1e-14)


def test_a_training_step_in_bfloat16() -> None:
    """Directions and term keep float32 under autocast."""
    model, data = UpDn().float(), torch.rand(B, K, D)
    with torch.autocast("cpu", torch.bfloat16):
        proposals = track_proposals(data, reduction="norm", probes=torch.eye(D))
        score = model(proposals)[:, 1].float()
    alpha = proposal_importance(score, proposals, reduction="norm")
    assert alpha.dtype == torch.float32
    torch.testing.assert_close(alpha, exact_norm(model, data, -1), rtol=0.1, atol=0.01)
    hint_ranking_loss(alpha, torch.rand(B, K)).backward()
    assert all(
        parameter.grad is not None and parameter.grad.isfinite().all() for parameter in [*model.parameters()][:-1]
    )


def test_gradients_of_tensors_are_laid_out_as_they_are() -> None:
    """Transposed, they would make every element-wise operation behind them several times as slow."""
    value = torch.rand(1, 4, 5, 6, requires_grad=True)
    products = sum_product(value, torch.rand(3, 1, 1, 6), (3, 4, 5, 1))
    (gradient,) = torch.autograd.grad(products, value, torch.rand_like(products))
    assert gradient.is_contiguous()
