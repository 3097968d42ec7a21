"""Flip rates of models whose reliance is known."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hint_loss import answer_flips

B, K, D = 40, 4, 3
PROPOSALS = torch.randn(B, K, D)
RELEVANT = torch.arange(K).expand(B, K) == 1


def looks_at(position: int) -> Any:
    return lambda x: x[:, position]  # its features are the logits


@pytest.mark.parametrize("position", [1, 2])
def test_only_what_the_model_looks_at_flips_it(position: int) -> None:
    flips = answer_flips(looks_at(position), PROPOSALS, RELEVANT)
    answers = PROPOSALS[:, position].argmax(1)
    expected = (answers != answers.roll(-1)).float() if position == 1 else torch.zeros(B)
    assert torch.equal(flips, expected)
    assert flips.mean() > 0.4 or position == 2


def test_given_donors_and_predictions() -> None:
    donors = torch.arange(B).roll(7)
    flips = answer_flips(lambda x: x[:, 1].argmax(1), PROPOSALS, RELEVANT, donors=donors)
    answers = PROPOSALS[:, 1].argmax(1)
    assert torch.equal(flips, (answers != answers[donors]).float())


def test_feature_maps() -> None:
    maps = torch.randn(B, D, 2, 2)
    swapped = torch.zeros(B, 2, 2, dtype=torch.bool)
    swapped[:, 0, 1] = True
    flips = answer_flips(lambda x: x[:, :, 0, 1], maps, swapped, feature_dim=1)
    answers = maps[:, :, 0, 1].argmax(1)
    assert torch.equal(flips, (answers != answers.roll(-1)).float())


def test_nothing_to_swap_is_nan_and_modes_stay() -> None:
    swapped, model = RELEVANT.clone(), nn.Linear(D, 5)
    swapped[3] = False
    proposals = PROPOSALS.clone().requires_grad_()
    flips = answer_flips(lambda x: model(x).sum(1), proposals, swapped)
    assert flips.isnan().nonzero().tolist() == [[3]]
    assert model.training
    assert not flips.requires_grad


@pytest.mark.parametrize(
    ("swapped", "donors", "message"),
    [
        (RELEVANT.float(), None, r"should be boolean, of shape \(40, 4\). Found `swapped.dtype = torch.float32`"),
        (RELEVANT[:, :2], None, r"Found `swapped.dtype = torch.bool` and `swapped.shape = \(40, 2\)`"),
        (RELEVANT, torch.arange(B), r"should name another sample for each of 40. Found `donors = \[0, 1"),
        (RELEVANT, torch.arange(B) + 1, "should name another sample for each of 40"),
        (RELEVANT, torch.arange(3).roll(1), "should name another sample for each of 40"),
    ],
)
def test_bad_input(swapped: Tensor, donors: Tensor | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        answer_flips(looks_at(1), PROPOSALS, swapped, donors=donors)


def test_one_sample_has_no_other() -> None:
    with pytest.raises(ValueError, match="should name another sample for each of 1"):
        answer_flips(looks_at(1), PROPOSALS[:1], RELEVANT[:1])
