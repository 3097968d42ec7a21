"""`two_level` reduces human importance to relevant or irrelevant."""

from typing import Any

import torch

from hint_loss import two_level


def test_thresholds_are_inclusive() -> None:
    s = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0], dtype=torch.float64)
    levels, mask = two_level(s, relevant=0.75, irrelevant=0.25)
    assert levels.tolist() == [0.0, 0.0, 0.0, 1.0, 1.0]
    assert levels.dtype == torch.float64
    assert mask.tolist() == [True, True, False, True, True]


def test_every_proposal_has_a_level_without_irrelevant() -> None:
    levels, mask = two_level(torch.tensor([[0.2, 0.75]]), relevant=0.75)
    assert levels.tolist() == [[0.0, 1.0]]
    assert mask.all()


def test_nan_has_no_level() -> None:
    for options in ({"relevant": 0.7}, {"relevant": 0.7, "irrelevant": 0.3}):
        assert not two_level(torch.tensor([float("nan")]), **options)[1].any()


def test_levels_the_wrong_way_round_raise(raises: Any) -> None:
    message = "Parameter `irrelevant` should be below `relevant`. Found `irrelevant = 0.7`, `relevant = 0.7`."
    with raises(ValueError, message):
        two_level(torch.rand(3), relevant=0.7, irrelevant=0.7)
