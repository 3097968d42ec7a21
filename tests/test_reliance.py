"""`answer_flips` gives the expected flips for models that read a known proposal."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hint_loss import answer_flips

B, K, D = 40, 4, 3
PROPOSALS = torch.randn(B, K, D, generator=torch.Generator().manual_seed(0))
RELEVANT = torch.arange(K).expand(B, K) == 1


def reads(position: int) -> Any:
    """A model that returns the features of this proposal as logits."""
    return lambda x: x[:, position]


@pytest.mark.parametrize("position", [1, 2])
def test_an_answer_flips_only_if_the_model_reads_the_swapped_proposal(position: int) -> None:
    flips = answer_flips(reads(position), PROPOSALS, RELEVANT)
    answers = PROPOSALS[:, position].argmax(1)
    expected = (answers != answers.roll(-1)).float() if position == 1 else torch.zeros(B)
    assert torch.equal(flips, expected)
    assert flips.mean() > 0.4 or position == 2


def test_replacements_and_predicted_classes_may_be_given() -> None:
    flips = answer_flips(lambda x: x[:, 1].argmax(1), PROPOSALS, RELEVANT, others=PROPOSALS.roll(7, 0))
    answers = PROPOSALS[:, 1].argmax(1)
    assert torch.equal(flips, (answers != answers.roll(7)).float())


def test_feature_maps_may_have_channels_first() -> None:
    maps = torch.randn(B, D, 2, 2)
    swapped = torch.zeros(B, 2, 2, dtype=torch.bool)
    swapped[:, 0, 1] = True
    flips = answer_flips(lambda x: x[:, :, 0, 1], maps, swapped, feature_dim=1)
    answers = maps[:, :, 0, 1].argmax(1)
    assert torch.equal(flips, (answers != answers.roll(-1)).float())


def test_a_sample_without_swapped_proposals_is_nan() -> None:
    swapped, model = RELEVANT.clone(), nn.Linear(D, 5)
    swapped[3] = False
    flips = answer_flips(lambda x: model(x).sum(1), PROPOSALS.clone().requires_grad_(), swapped)
    assert flips.isnan().nonzero().tolist() == [[3]]
    assert model.training
    assert not flips.requires_grad


@pytest.mark.parametrize(
    ("swapped", "others", "message"),
    [
        (RELEVANT.float(), None, r"should be boolean, of shape \(40, 4\). Found `swapped.dtype = torch.float32`"),
        (RELEVANT[:, :2], None, r"Found `swapped.dtype = torch.bool` and `swapped.shape = \(40, 2\)`"),
        (RELEVANT, PROPOSALS[:3], r"have the shape of `proposals`, \(40, 4, 3\). Found `others.shape = \(3, 4, 3\)`"),
    ],
)
def test_arguments_of_another_dtype_or_shape_raise(swapped: Tensor, others: Tensor | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        answer_flips(reads(1), PROPOSALS, swapped, others=others)


def test_a_swap_that_changes_nothing_is_nan() -> None:
    """Two samples in a row may show the same image, and padding may be the same in both."""
    others = PROPOSALS.roll(-1, 0)
    others[4] = PROPOSALS[4]
    assert answer_flips(reads(1), PROPOSALS, RELEVANT, others=others).isnan().nonzero().tolist() == [[4]]


@pytest.mark.parametrize("shape", [(B,), (B, 1), (B, K, D), (1, D)], ids=str)
def test_outputs_that_are_no_predictions_raise(raises: Any, shape: tuple[int, ...]) -> None:
    message = (
        "Parameter `predict` should return classes (40,) or logits (40, A) of at least two. Found torch.float32 of "
        f"shape {shape}: where a single logit decides, pass `lambda proposals: model(proposals).flatten() > 0`."
    )
    with raises(ValueError, message):
        answer_flips(lambda _: torch.zeros(shape), PROPOSALS, RELEVANT)


def test_a_single_sample_needs_a_replacement() -> None:
    with pytest.raises(ValueError, match="should be given for a single sample"):
        answer_flips(reads(1), PROPOSALS[:1], RELEVANT[:1])
