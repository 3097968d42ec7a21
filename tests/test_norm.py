"""Unsigned importance: the norm of the gradient, which tracked proposals estimate along random directions."""

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

from .networks import OneQuestion

B, K, D = 2, 4, 6


def updn() -> nn.Module:
    return OneQuestion(D, hidden=3, words=2, answers=3).double()


def small_convolutional_net() -> nn.Module:
    """Two layers on a 3 x 4 feature map."""
    layers = nn.Conv2d(D, 3, 3, padding=1), nn.Tanh(), nn.Conv2d(3, 3, (3, 4)), nn.Flatten(), nn.Tanh()
    return nn.Sequential(*layers).double()


NETWORKS = pytest.mark.parametrize(
    ("build", "shape", "feature_dim"),
    [(updn, (B, K, D), -1), (small_convolutional_net, (B, D, 3, 4), 1)],
    ids=["updn", "conv"],
)


def exact_norm(model: nn.Module, data: Tensor, feature_dim: int, **options: Any) -> Tensor:
    proposals = data.clone().requires_grad_()
    score = model(proposals)[:, 1]
    return proposal_importance(score, proposals, feature_dim=feature_dim, reduction="norm", **options)


@NETWORKS
@pytest.mark.parametrize("probes", [1, 4])
def test_the_square_of_the_estimate_is_unbiased(
    build: Callable[[], nn.Module], shape: tuple[int, ...], feature_dim: int, probes: int
) -> None:
    """The mean of 10,000 draws is within three standard errors of the exact square, and their spread as expected."""
    model, data, draws = build(), torch.rand(shape, dtype=torch.float64), 10_000
    expected = exact_norm(model, data, feature_dim, differentiable=False).square()
    proposals = track_proposals(data, feature_dim=feature_dim, reduction="norm", probes=draws * probes)
    (gradient,) = torch.autograd.grad(model(proposals)[:, 1].sum(), proposals.source.t)  # along all directions
    squares = draws * gradient.view(draws, probes, *expected.shape).square().sum(1)
    standard_errors = (squares.mean(0) - expected) / (squares.std(0) / draws**0.5)
    total = squares.flatten(1).sum(1)
    assert abs(total.mean() - expected.sum()) < 3 * total.std() / draws**0.5
    assert standard_errors.abs().max() < 4  # of up to 24 proposals
    assert (squares.std(0) < 1.1 * (2 / probes) ** 0.5 * expected).all()


@NETWORKS
def test_the_estimate_along_orthogonal_directions_is_exact(
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
        gradients = torch.autograd.grad(alpha.square().sum(), list(model.parameters()), materialize_grads=True)
        results.append([alpha, *gradients])
    torch.testing.assert_close(results[1], results[0], rtol=1e-10, atol=1e-10)


@NETWORKS
def test_the_gradients_of_a_loss_equal_finite_differences(
    build: Callable[[], nn.Module], shape: tuple[int, ...], feature_dim: int
) -> None:
    model, data = build(), torch.rand(shape, dtype=torch.float64)
    directions, names = torch.randn(D, 3, dtype=torch.float64), [name for name, _ in model.named_parameters()]

    def loss(*values: Tensor) -> Tensor:
        proposals = track_proposals(data, feature_dim=feature_dim, reduction="norm", probes=directions)
        score = torch.func.functional_call(model, dict(zip(names, values, strict=True)), (proposals,))[:, 1]
        alpha = proposal_importance(score, proposals, feature_dim=feature_dim, reduction="norm")
        return (alpha.flatten() * torch.linspace(0.5, 1, alpha.numel(), dtype=torch.float64)).sum() + score.sum()

    assert torch.autograd.gradcheck(loss, tuple(model.parameters()), fast_mode=True)


def test_the_generator_draws_new_signs_as_directions() -> None:
    data = torch.rand(B, K, D)

    def drawn(generator: torch.Generator | None) -> Tensor:
        """The directions, from the gradient of each feature of a proposal."""
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


def test_there_are_16_directions_by_default_and_all_operations_are_lazy() -> None:
    model, data = updn(), torch.rand(B, K, D, dtype=torch.float64)
    proposals = track_proposals(data, reduction="norm")
    proposal_importance(model(proposals)[:, 1], proposals, reduction="norm")
    assert proposals.source.t.shape == (16, B, K)
    assert tracking_report(proposals).plain == {}


def test_opposite_gradients_do_not_cancel() -> None:
    """Two features have opposite weights: the sum of the gradient is zero, its norm is not."""
    data, weight = torch.ones(1, 3, 2), torch.tensor([[1.0, -1.0]], requires_grad=True)
    found = {}
    for reduction in ("sum", "norm"):
        proposals = track_proposals(data, reduction=reduction, probes=torch.eye(2))  # type: ignore[arg-type]
        score = F.linear(proposals, weight).sum((1, 2))
        found[reduction] = proposal_importance(score, proposals, reduction=reduction).tolist()  # type: ignore[arg-type]
    assert found == {"sum": [[0.0] * 3], "norm": [[pytest.approx(2**0.5)] * 3]}


def test_several_decisions_share_the_directions() -> None:
    model, data = updn(), torch.rand(B, K, D, dtype=torch.float64)
    proposals = track_proposals(data, reduction="norm", probes=2)
    logits = model(proposals)
    together = proposal_importance(logits, proposals, reduction="norm")
    apart = [proposal_importance(logits[:, t], proposals, reduction="norm") for t in range(3)]
    torch.testing.assert_close(together, torch.stack(apart, 1), rtol=1e-12, atol=1e-14)


def test_forward_hinted_computes_the_norm() -> None:
    model, data = updn(), torch.rand(6, K, D, dtype=torch.float64)
    hinted = torch.tensor([False, True, True, False, True, False])
    track = partial(track_proposals, reduction="norm", probes=torch.eye(D))
    logits, proposals = forward_hinted(model, data, hinted=hinted, track=track)
    alpha = proposal_importance(logits[hinted, 1], proposals, reduction="norm")
    torch.testing.assert_close(alpha, exact_norm(model, data, -1)[hinted], rtol=1e-10, atol=1e-12)


def test_the_functional_form_draws_the_same_directions() -> None:
    model, data = updn(), torch.rand(B, K, D, dtype=torch.float64)
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


def test_a_training_step_under_autocast_to_bfloat16_works() -> None:
    """Directions and importance stay in float32 under autocast."""
    model, data = updn().float(), torch.rand(B, K, D)
    with torch.autocast("cpu", torch.bfloat16):
        proposals = track_proposals(data, reduction="norm", probes=torch.eye(D))
        score = model(proposals)[:, 1].float()
    alpha = proposal_importance(score, proposals, reduction="norm")
    assert alpha.dtype == torch.float32
    torch.testing.assert_close(alpha, exact_norm(model, data, -1), rtol=0.1, atol=0.01)
    hint_ranking_loss(alpha, torch.rand(B, K)).backward()
    trained = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert len(trained) == len(list(model.parameters())) - 1  # the last bias has no influence
    assert all(gradient.isfinite().all() for gradient in trained)


def test_gradients_are_contiguous() -> None:
    """Transposed gradients make element-wise operations on them several times as slow."""
    value = torch.rand(1, 4, 5, 6, requires_grad=True)
    products = sum_product(value, torch.rand(3, 1, 1, 6), (3, 4, 5, 1))
    (gradient,) = torch.autograd.grad(products, value, torch.rand_like(products))
    assert gradient.is_contiguous()
