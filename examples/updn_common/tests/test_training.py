"""Options of runs beside their record, and steps cut among processes; what trains is tested with the pipelines."""

import math
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from hypothesis import given
from hypothesis import strategies as st

from updn_common.errors import InputError
from updn_common.files.writing import write_json
from updn_common.runs.training import check_cut, check_finite, cut, flat, options_changed, options_record


@dataclass(frozen=True)
class Inner:
    weight: float = 1.0


@dataclass(frozen=True)
class Options:
    out: Path
    seed: int = 0
    method: Inner = field(default_factory=Inner)


def test_options_that_changed(tmp_path: Path) -> None:
    options = Options(tmp_path, seed=3)
    record = options_record(options, 2)
    assert record == {"out": str(tmp_path), "seed": 3, "method": {"weight": 1.0}, "processes": 2}
    write_json(tmp_path / "config.json", {"config": record})
    assert options_changed(tmp_path, record, record, unused=()) == []
    now = options_record(Options(tmp_path, seed=4, method=Inner(2.0)), 1)
    found = ["seed = 3, not 4", "method.weight = 1.0, not 2.0", "processes = 2, not 1"]
    assert options_changed(tmp_path, now, record, unused=()) == found
    assert options_changed(tmp_path, now, record, unused=("seed",)) == found[1:]


def test_an_option_that_was_not_known_had_its_default(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", {"config": {"seed": 3, "method": {}}})
    now = {"seed": 3, "method": {"weight": 5.0}, "new": True}
    assert options_changed(tmp_path, now, {"method": {"weight": 1.0}, "new": True}, unused=()) == [
        "method.weight = 1.0, not 5.0"
    ]


def test_flat() -> None:
    assert flat({"a": 1, "b": {"c": {"d": 2}, "e": None}}) == {"a": 1, "b.c.d": 2, "b.e": None}


@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 5))
def test_shares_are_of_equal_size_and_hold_every_sample_once(ranks: int, micro_batches: int, each: int) -> None:
    indices = torch.randperm(ranks * micro_batches * each)
    parts = [part for rank in range(ranks) for part in cut(indices, rank, ranks, micro_batches)]
    assert [len(part) for part in parts] == [each] * (ranks * micro_batches)
    assert sorted(torch.cat(parts).tolist()) == list(range(len(indices)))


def test_sizes_that_cannot_be_cut() -> None:
    check_cut(Accelerator(cpu=True), 4, batch_size=8, hint_batch_size=4)
    with pytest.raises(InputError) as error:
        check_cut(Accelerator(cpu=True), 4, batch_size=8, hint_batch_size=6)
    assert str(error.value) == (
        "--hint-batch-size 6 cannot be cut evenly into 1 process(es) x 4 micro-batch(es): choose a multiple of 4."
    )


def test_divergence() -> None:
    check_finite(Path("run"), 7, {"loss": 1.0})
    with pytest.raises(InputError) as error:
        check_finite(Path("run"), 7, {"loss": math.nan})
    assert str(error.value) == (
        "run diverged by step 7: {'loss': nan}. Lower --learning-rate or --weight; the checkpoints are of earlier "
        "steps."
    )
