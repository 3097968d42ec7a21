"""Tracked proposals refuse wrong arguments, and writes that would change their importance."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hint_loss import proposal_importance, track_proposals, tracking_report

from .tracking import B, D, K, W, features


@pytest.mark.parametrize(
    "write",
    [
        lambda x: x.add_(1),
        lambda x: x.__setitem__(0, 0.0),
        lambda x: x.__imul__(2),
        lambda x: F.relu(x, inplace=True),
        lambda x: F.dropout(x, 0.5, True, True),
        lambda x: torch.add(x.detach(), 1, out=x),
    ],
    ids=["add_", "setitem", "imul", "relu", "dropout", "out"],
)
def test_writing_into_them_raises(write: Callable[[Tensor], Any]) -> None:
    with pytest.raises(RuntimeError, match="writes into tracked proposals, but the importance is of the values that"):
        write(track_proposals(features()))


@pytest.mark.parametrize(
    "write",
    [lambda x: (x * 2).clamp_(min=0), lambda x: F.relu(x.mean(1), inplace=True), lambda x: x[:, 0].add_(1)],
    ids=["product", "mean", "row"],
)
def test_writing_into_lazy_results_raises(write: Callable[[Tensor], Any]) -> None:
    with pytest.raises(
        RuntimeError, match=r"writes into what the model made of tracked proposals, of shape \(3, .*6\)"
    ):
        write(track_proposals(features()))


@pytest.mark.parametrize(
    ("data", "options", "error", "message"),
    [
        (torch.ones(2, 3, dtype=torch.int64), {}, TypeError, r"dtype = torch.int64`: pass `features.float\(\)`"),
        ([1.0], {}, TypeError, r"Found a list: pass `torch.as_tensor\(features\)`"),
        (track_proposals(features()), {}, TypeError, "Found TrackedProposals"),
        (features(), {"feature_dim": 3}, ValueError, r"`feature_dim = 3` and `features.shape = \(3, 5, 6\)`"),
        (features(), {"reduction": "mean"}, ValueError, "should be 'sum', 'input' or 'norm' for tracked .* 'mean'"),
    ],
    ids=["integers", "list", "twice", "dimension", "reduction"],
)
def test_wrong_arguments_raise(data: Any, options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        track_proposals(data, **options)


@pytest.mark.parametrize(
    "probes", [0, -3, 1.5, True, "4", torch.ones(D), torch.ones(D + 1, 2), torch.ones(D, 0)], ids=str
)
def test_wrong_probes_raise(probes: Any) -> None:
    message = "`probes` should be the number of random directions, at least 1, or a te"
    with pytest.raises(ValueError, match=message):
        track_proposals(features(), probes=probes)


def test_a_numpy_integer_is_a_number_of_probes() -> None:
    tracked = track_proposals(features(), reduction="norm", probes=np.int64(4))  # type: ignore[arg-type]
    assert tracked.source.t.shape == (4, B, K)


def test_inference_mode_raises() -> None:
    with torch.inference_mode(), pytest.raises(ValueError, match=r"outside of `torch.inference_mode`"):
        track_proposals(features())


def test_a_report_of_an_untracked_tensor_raises() -> None:
    with pytest.raises(TypeError, match=r"`track_proposals\(features\)` returned. Found an untracked Tensor"):
        tracking_report(features())


def score(x: Tensor) -> Tensor:
    return F.linear(x, W).tanh().sum((1, 2))


@pytest.mark.parametrize(
    ("other", "options", "message"),
    [
        (lambda x: x, {"reduction": "input"}, "tracked for, 'sum' and -1. Found 'input' and -1"),
        (lambda x: x, {"feature_dim": 1}, "tracked for, 'sum' and -1. Found 'sum' and 1"),
        (lambda x: x[:, :2], {}, "that a model made of it"),
        (lambda x: track_proposals(features()), {}, "`score` should depend on `proposals`"),
        (lambda x: features().requires_grad_(), {}, "`score` should depend on `proposals`"),
    ],
    ids=["reduction", "dimension", "slice", "tracked anew", "untracked"],
)
def test_an_importance_of_other_proposals_or_with_other_options_raises(
    other: Callable[[Tensor], Tensor], options: dict[str, Any], message: str
) -> None:
    x = track_proposals(features())
    with pytest.raises(ValueError, match=message):
        proposal_importance(score(x), other(x), **options)


def test_a_score_without_a_graph_raises() -> None:
    x = track_proposals(features())
    with torch.no_grad(), pytest.raises(ValueError, match="`score` should carry a graph"):
        proposal_importance(score(x), x)


def test_an_importance_after_backward_raises() -> None:
    x = track_proposals(features())
    value = score(x)
    value.sum().backward()
    with pytest.raises(RuntimeError, match="The graph of `score` is gone: take the importance before `backward`"):
        proposal_importance(value, x)
