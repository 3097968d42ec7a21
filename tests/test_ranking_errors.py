"""The ranking loss refuses wrong arguments: whole messages."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import hint_loss
from hint_loss import HintRankingLoss, proposal_importance

from .ranking import hint_ranking_loss

DEVICE = torch.zeros(()).device


@pytest.mark.parametrize(
    ("alpha", "s"),
    [
        (torch.zeros(2, 3), torch.zeros(3)),
        (torch.tensor(0.0), torch.tensor(0.0)),
        (torch.zeros(2, 3), torch.zeros(2, 3, device="meta")),
    ],
    ids=["shapes", "scalars", "devices"],
)
def test_alpha_and_s_of_other_shapes_or_devices_raise(raises: Any, alpha: Tensor, s: Tensor) -> None:
    message = (
        "Parameters `alpha` and `s` should have the same shape (..., K), on one device. Found "
        f"`alpha.shape = {tuple(alpha.shape)}` on {alpha.device} and `s.shape = {tuple(s.shape)}` on {s.device}."
    )
    with raises(ValueError, message):
        hint_ranking_loss(alpha, s)


def test_an_alpha_of_integers_raises(raises: Any) -> None:
    message = "Parameter `alpha` should be a floating point tensor. Found `alpha.dtype = torch.int64`."
    with raises(TypeError, message):
        hint_ranking_loss(torch.tensor([[1, 2]]), torch.zeros(1, 2))


@pytest.mark.parametrize(("name", "value"), [("alpha", [0.0]), ("s", np.zeros(1)), ("mask", np.ones(1, bool))])
def test_an_array_or_a_list_raises(raises: Any, name: str, value: Any) -> None:
    kind = {"alpha": "list"}.get(name, "numpy.ndarray")
    message = f"Parameter `{name}` should be a torch.Tensor. Found a {kind}: pass `torch.as_tensor({name})`."
    with raises(TypeError, message):
        hint_ranking_loss(**({"alpha": torch.zeros(1), "s": torch.zeros(1)} | {name: value}))


@pytest.mark.parametrize(
    ("mask", "found"),
    [
        (torch.ones(2, 3), "`mask.dtype = torch.float32` and `mask.shape = (2, 3)`"),
        (torch.ones(3, 2).bool(), "`mask.dtype = torch.bool` and `mask.shape = (3, 2)`"),
        (torch.ones(2, 1).bool(), "`mask.dtype = torch.bool` and `mask.shape = (2, 1)`"),
    ],
    ids=["not boolean", "transposed", "broadcastable"],
)
def test_a_mask_of_another_dtype_or_shape_raises(raises: Any, mask: Tensor, found: str) -> None:
    message = (
        f"Parameter `mask` should be boolean, of shape (2, 3) or, for whole samples, (2,). Found {found} on {DEVICE}."
    )
    with raises(ValueError, message):
        hint_ranking_loss(torch.zeros(2, 3), torch.zeros(2, 3), mask=mask)


def test_a_mask_that_fits_decisions_and_proposals_raises(raises: Any) -> None:
    """A mask of shape (B, T) for an alpha of shape (B, T, K) is refused only if T = K."""
    message = (
        "Parameter `mask` of shape (2, 4) could be meant for decisions or for proposals, because `alpha.shape = "
        "(2, 4, 4)` has as many of both: pass `mask[..., None].expand_as(alpha)` or "
        "`mask[..., None, :].expand_as(alpha)`."
    )
    alpha, s, mask = torch.rand(2, 4, 4), torch.rand(2, 4, 4), torch.rand(2, 4) > 0.5
    with raises(ValueError, message):
        hint_ranking_loss(alpha, s, mask=mask)
    for whole in (mask[..., None].expand_as(alpha), mask[..., None, :].expand_as(alpha)):
        assert hint_ranking_loss(alpha, s, mask=whole).isfinite()
    assert hint_ranking_loss(alpha[..., :3], s[..., :3], mask=mask).isfinite()
    assert hint_ranking_loss(alpha[0], s[0], mask=mask[0]).isfinite()  # (B,), though B = K


def test_maps_that_are_not_flattened_raise(raises: Any) -> None:
    message = (
        "Parameter `alpha` should have shape (B, K) or, with a mask, (..., K). Found `alpha.shape = (2, 7, 7)` "
        "without one: pass `alpha.flatten(1)` and `s.flatten(1)` if these are maps, or the mask of the decisions "
        "that count, `torch.ones_like(alpha, dtype=torch.bool)` for all."
    )
    alpha, s = torch.rand(2, 7, 7), torch.rand(2, 7, 7)
    with raises(ValueError, message):
        hint_ranking_loss(alpha, s)
    decisions = hint_ranking_loss(alpha, s, mask=torch.ones_like(alpha, dtype=torch.bool))
    torch.testing.assert_close(decisions, hint_ranking_loss(alpha.flatten(0, 1), s.flatten(0, 1)))


def test_an_importance_that_cannot_be_trained_raises(raises: Any) -> None:
    message = (
        "Parameter `alpha` should carry a graph, or nothing is trained. Found `alpha.requires_grad = False`: take "
        "the importance with `differentiable=True`, or only measure the loss, under `torch.no_grad()`."
    )
    proposals, weight = torch.rand(2, 3, 4, requires_grad=True), torch.rand(4, requires_grad=True)
    score = (proposals @ weight).square().sum(1)
    alpha = proposal_importance(score, proposals, differentiable=False)
    for loss in (HintRankingLoss(), hint_loss.hint_ranking_loss):
        with raises(ValueError, message):
            loss(alpha, torch.rand(2, 3))
        with torch.no_grad():
            assert loss(alpha, torch.rand(2, 3)).isfinite()


def test_alpha_and_s_the_wrong_way_round_raise(raises: Any) -> None:
    message = (
        "Parameter `alpha` is what the loss trains, `s` its target. Found `alpha.requires_grad = False` and "
        "`s.requires_grad = True`: swap them if they are the wrong way round, or else pass `s.detach()`."
    )
    alpha, s = torch.zeros(2, 3, requires_grad=True), torch.zeros(2, 3)
    with raises(ValueError, message):
        hint_ranking_loss(s, alpha)
    assert hint_ranking_loss(alpha.detach(), s) == 0  # an evaluation


@pytest.mark.parametrize(("margin", "min_gap"), [(-0.5, 0.0), (0.0, -0.5), (float("nan"), 0.0)])
def test_negative_options_raise(raises: Any, margin: float, min_gap: float) -> None:
    message = (
        f"Parameters `margin` and `min_gap` should be at least 0. Found `margin = {margin}`, `min_gap = {min_gap}`."
    )
    with raises(ValueError, message):
        hint_ranking_loss(torch.zeros(2, 3), torch.zeros(2, 3), margin=margin, min_gap=min_gap)
    with raises(ValueError, message):
        HintRankingLoss(margin=margin, min_gap=min_gap)


@pytest.mark.parametrize("margin", ["1", None])
def test_options_that_are_no_numbers_raise(raises: Any, margin: Any) -> None:
    message = f"Parameters `margin` and `min_gap` should be numbers. Found `margin = {margin!r}`, `min_gap = 0.0`."
    with raises(TypeError, message):
        HintRankingLoss(margin=margin)


@pytest.mark.parametrize("module", [False, True])
def test_unknown_reductions_raise(raises: Any, module: bool) -> None:
    def call(**options: Any) -> Any:
        return HintRankingLoss(**options) if module else hint_ranking_loss(torch.zeros(2), torch.zeros(2), **options)

    with raises(ValueError, "Parameter `pair_reduction` should be 'sum' or 'mean'. Found 'max'."):
        call(pair_reduction="max")
    with raises(ValueError, "Parameter `reduction` should be 'mean', 'sum' or 'none'. Found 'batchmean'."):
        call(reduction="batchmean")
