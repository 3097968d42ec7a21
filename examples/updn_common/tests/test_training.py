"""What surrounds the training loops; starting, resuming and fine-tuning are tested with the pipelines."""

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from updn_common.errors import InputError
from updn_common.runs.directory import RunDirectory, read_checkpoint, read_metrics
from updn_common.runs.training import OpenRun, TrainingState, check_finite


def make_state() -> TrainingState:
    model = nn.Linear(2, 1)
    return TrainingState(model, torch.optim.SGD(model.parameters(), lr=0.1), auxiliary=nn.Linear(1, 1))


def test_the_best_checkpoint_has_the_first_of_the_highest_scores(tmp_path: Path) -> None:
    """Scores may be negative: the best starts below all of them."""
    state = make_state()
    with RunDirectory.create(tmp_path, {}) as directory:
        run = OpenRun(directory, state)
        for step, score in enumerate([-3.0, -1.0, -2.0, -1.0], start=1):
            nn.init.constant_(state.model.weight, step)  # type: ignore[arg-type]
            run.keep(step, score, {"score": score})
    best, last = (read_checkpoint(tmp_path, name, option="--run") for name in ("best", "last"))
    assert (best.progress, best.model["weight"].tolist()) == ({"step": 2, "best": -1.0}, [[2.0, 2.0]])
    assert (last.progress, last.model["weight"].tolist()) == ({"step": 4, "best": -1.0}, [[4.0, 4.0]])
    assert (best.optimizer, best.auxiliary) == (None, {})
    assert last.optimizer is not None
    assert last.auxiliary.keys() == {"weight", "bias"}
    assert [line["score"] for line in read_metrics(tmp_path)] == [-3.0, -1.0, -2.0, -1.0]


def test_other_processes_write_nothing_but_know_the_best_score() -> None:
    run = OpenRun(None, make_state())
    run.save_last()
    run.keep(2, 0.5, {"score": 0.5})
    assert list(run.track(range(3), total=3)) == [0, 1, 2]
    assert (run.state.step, run.state.best) == (2, 0.5)


def test_divergence(tmp_path: Path) -> None:
    check_finite(Path("run"), 7, {"loss": 1.0})
    with pytest.raises(InputError) as error:
        check_finite(Path("run"), 7, {"loss": math.nan})
    assert str(error.value) == (
        "run diverged by step 7: {'loss': nan}. Lower --learning-rate or --weight; the checkpoints are of earlier "
        "steps."
    )
