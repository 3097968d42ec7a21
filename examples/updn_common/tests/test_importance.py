"""Importance of proposals in training, the ranking loss on hints, and the importance of a finished run."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from hint_loss import hint_ranking_loss, proposal_importance
from updn_common.data.stream import fold
from updn_common.runs.importance import HintOptions, require_importance, trained_importance

FEATURES = torch.rand(2, 3, 4)


@pytest.mark.parametrize(("importance", "probes"), [("sum", 16), ("sum", 0), ("norm", 0), ("norm", 5)])
def test_importance_is_the_gradient_exact_or_estimated(importance: Any, probes: int) -> None:
    weight = torch.randn(4, requires_grad=True)
    proposals = require_importance(FEATURES, importance, probes)
    alpha = proposal_importance((proposals @ weight).square().sum(1), proposals, reduction=importance)
    gradient = 2 * (FEATURES @ weight)[..., None] * weight
    if importance == "sum":
        torch.testing.assert_close(alpha, gradient.sum(-1))
    elif probes == 0:
        torch.testing.assert_close(alpha, gradient.norm(dim=-1))
    else:
        assert 0.2 < alpha.sum() / gradient.norm(dim=-1).sum() < 3
    assert not FEATURES.requires_grad


def test_directions_are_a_function_of_seed_step_and_rank() -> None:
    def drawn(*numbers: int) -> torch.Tensor:
        torch.manual_seed(fold(*numbers))
        proposals: Any = require_importance(FEATURES, "norm", probes=3)
        (direction,) = torch.autograd.grad(proposals[0, 0, 1], proposals.source.t)
        return torch.cat([direction.flatten(), torch.rand(1)])

    assert torch.equal(drawn(0, 5, 1), drawn(0, 5, 1))
    others = [drawn(0, 5, 1), drawn(1, 5, 1), drawn(0, 6, 1), drawn(0, 5, 0)]
    assert len({tuple(x.tolist()) for x in others}) == 4


@pytest.mark.parametrize(("method", "expected"), [({"importance": "norm"}, "norm"), ({}, "sum")])
def test_importance_of_a_run_is_the_paper_s_if_none_is_recorded(
    tmp_path: Path, method: dict[str, str], expected: str
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"config": {"method": method}}))
    assert trained_importance(tmp_path) == expected


def test_ranking_losses_ignore_proposals_without_a_human_score() -> None:
    options = HintOptions(margin=0.3, min_gap=0.1, relative=True, scale_free=False, pair_reduction="sum")
    alpha, human = torch.randn(2, 4, requires_grad=True), torch.rand(2, 4)
    human[0, 1] = torch.nan
    mask = torch.tensor([[True, True, True, False], [True] * 4])
    expected = hint_ranking_loss(
        alpha[:1, [0, 2]],
        human[:1, [0, 2]],
        margin=0.3,
        min_gap=0.1,
        relative=True,
        scale_free=False,
        pair_reduction="sum",
    )
    losses = options.ranking_losses(alpha, human, mask)
    assert losses.shape == (2,)
    torch.testing.assert_close(losses[0], expected)
    several = options.ranking_losses(alpha[:, None], human[:, None], mask[:, None])  # as for words of captions
    torch.testing.assert_close(several[:, 0], losses)
