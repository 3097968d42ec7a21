"""Precision, NaN and infinity in the ranking loss."""

from typing import Any

import pytest
import torch

from .ranking import hint_ranking_loss

NAN = float("nan")
RELATIVE = {"relative": True, "margin": 0.4, "min_gap": 0.25, "scale_free": True, "pair_reduction": "mean"}


def test_float64_scores_are_not_rounded_to_float32() -> None:
    s = torch.tensor([[0.5 + 1e-12, 0.5]], dtype=torch.float64)
    assert hint_ranking_loss(torch.tensor([[0.0, 1.0]]), s) == 1.0
    assert hint_ranking_loss(torch.tensor([[0.0, 1.0]]), s.float()) == 0.0


@pytest.mark.parametrize("offset", [1e4, 1e7])
@pytest.mark.parametrize("real", [36, 10], ids=["no padding", "padding"])
def test_a_large_offset_in_float32_adds_no_error(offset: float, real: int) -> None:
    """The loss is computed from centred values: rounding 1e7s would hide it."""
    shifted, s = torch.randn(8, 36) + offset, torch.rand(8, 36)
    mask = (torch.arange(36) < real).expand(8, 36)
    exact = hint_ranking_loss(shifted.double(), s, mask=mask)
    error = (hint_ranking_loss(shifted, s, mask=mask).double() - exact).abs() / exact
    assert error < 2e-6


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("options", [{}, {"margin": 0.3}, {"scale_free": True}], ids=["paper", "margin", "scale-free"])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype, options: dict[str, Any]) -> None:
    alpha = torch.randn(4, 36).to(dtype).requires_grad_()
    s = torch.rand(4, 36)
    loss = hint_ranking_loss(alpha, s, **options)
    assert loss.dtype == torch.float32
    assert loss == hint_ranking_loss(alpha.detach().float(), s, **options)
    loss.backward()
    assert alpha.grad is not None
    assert alpha.grad.dtype == dtype


@pytest.mark.parametrize("options", [{}, {"min_gap": 0.1}, {"scale_free": True}, {"margin": 0.1}, RELATIVE], ids=list)
def test_nan_propagates_to_the_loss_and_its_gradient(options: dict[str, Any]) -> None:
    good, bad = torch.zeros(1, 3), torch.tensor([[0.0, NAN, 1.0]])
    for alpha, s in ((bad, good), (good, bad)):
        alpha = alpha.clone().requires_grad_()
        loss = hint_ranking_loss(alpha, s, **options)
        loss.backward()
        assert loss.isnan()
        assert alpha.grad is not None
        assert alpha.grad.isnan().any()


def test_nan_does_not_reach_other_samples() -> None:
    alpha = torch.rand(3, 4, requires_grad=True)
    s = torch.rand(3, 4)
    s[1, 2] = NAN
    losses = hint_ranking_loss(alpha, s, reduction="none")
    losses.sum().backward()
    assert losses.isnan().tolist() == [False, True, False]
    assert alpha.grad is not None
    assert alpha.grad.isnan().any(1).tolist() == [False, True, False]


@pytest.mark.parametrize("scale", [1e-38, 1e-41, 1e-44, 0.0])
def test_tiny_alphas_have_finite_gradients(scale: float) -> None:
    """The inverse of their sum is infinite below the smallest normal number."""
    alpha = (torch.tensor([[0.1, 0.5, 0.3]]) * scale).requires_grad_()
    loss = hint_ranking_loss(alpha, torch.tensor([[0.9, 0.2, 0.2]]), scale_free=True)
    loss.backward()
    assert loss.isfinite()
    assert alpha.grad is not None
    assert alpha.grad.isfinite().all()


@pytest.mark.parametrize("alpha_type", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("s_type", [torch.bool, torch.float32, torch.float64])
def test_the_loss_has_the_precision_of_alpha(alpha_type: torch.dtype, s_type: torch.dtype) -> None:
    alpha, s = torch.rand(2, 3).to(alpha_type).requires_grad_(), torch.rand(2, 3).round().to(s_type)
    expected = torch.float64 if alpha_type == torch.float64 else torch.float32
    for options in ({}, {"margin": 0.5, "scale_free": True}, {"min_gap": 0.5}, {"pair_reduction": "mean"}):
        assert hint_ranking_loss(alpha, s, **options).dtype == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("infinity", [float("inf"), -float("inf")])
def test_an_infinite_score_makes_the_loss_nan(infinity: float) -> None:
    """Its distance from the other scores is not defined, and leaving the sample out would hide that."""
    s = torch.tensor([[0.0, infinity, 1.0]])
    for options in ({}, {"relative": True}, {"relative": True, "min_gap": 0.1}, {"margin": 0.1}):
        assert hint_ranking_loss(torch.zeros(1, 3), s, **options).isnan()
    masked = hint_ranking_loss(torch.tensor([[1.0, 5.0, 0.0]]), s, mask=s.isfinite(), relative=True)
    assert masked == 1.0


def test_min_gap_is_compared_in_float32_for_half_precision_scores() -> None:
    s = torch.tensor([[1.0, 0.75]], dtype=torch.bfloat16)
    assert hint_ranking_loss(torch.tensor([[0.0, 1.0]]), s, min_gap=0.249) == 1.0


def test_inputs_need_not_be_contiguous() -> None:
    alpha, s, mask = torch.rand(5, 3).T, torch.rand(5, 3).T, (torch.rand(5, 3) < 0.8).T
    loss = hint_ranking_loss(alpha, s, mask=mask, pair_reduction="mean")  # torch warns if it has to copy
    copies = alpha.contiguous(), s.contiguous(), mask.contiguous()
    assert loss == hint_ranking_loss(*copies[:2], mask=copies[2], pair_reduction="mean")
