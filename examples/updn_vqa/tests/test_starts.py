"""Which runs are repetitions of one another depends on what they were fine-tuned from, too."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from updn_common.errors import InputError
from updn_common.reports.bootstrap import Estimates
from updn_common.reports.comparison import compare_runs
from updn_vqa.studies.recipes import read_runs

Untrained = Callable[..., Path]


def rows(*paths: Path) -> dict[tuple[str, ...], dict[str, float]]:
    """The runs of each row, and the row's difference to the first; the number of a run is its place in the list."""
    runs = read_runs(paths, None, None)
    estimates = {path: Estimates({"n": float(i)}, {"n": np.full(10, float(i))}) for i, path in enumerate(paths)}
    return {
        tuple(run.path.name for run in row.runs): {name: cell.value for name, cell in row.differences.items()}
        for row in compare_runs(runs, estimates)
    }


def test_runs_from_other_starts_are_other_rows(untrained: Untrained) -> None:
    """Also where only the start of the start differs."""
    base, other = untrained("base"), untrained("other", "visfis")
    again = untrained("again", seed=1)
    middle = [untrained(f"middle-{start.name}", start_from=start) for start in (base, other)]
    tuned = [
        untrained("from-base", "hint", start_from=base),
        untrained("from-again", "hint", start_from=again, seed=1),
        untrained("from-other", "hint", start_from=other),
        *(untrained(f"from-{start.name}", "hint", start_from=start) for start in middle),
        untrained("from-nothing", "hint"),
    ]
    assert list(rows(*tuned)) == [
        ("from-base", "from-again"),
        ("from-other",),
        ("from-middle-base",),
        ("from-middle-other",),
        ("from-nothing",),
    ]


def test_two_seeds_of_a_start(untrained: Untrained) -> None:
    """One seed may fine-tune several starts: these are no doubles, and each has its own partner."""
    starts = [untrained(f"start{seed}", seed=seed) for seed in (0, 1)]
    base = [untrained(f"base{i}", start_from=start) for i, start in enumerate(starts)]
    hint = [untrained(f"hint{i}", "hint", start_from=start) for i, start in enumerate(starts)]
    found = rows(base[0], base[1], hint[1])
    assert found == {("base0", "base1"): {}, ("hint1",): {"n": 1.0}}
    assert rows(*starts, hint[1])[("hint1",)] == {"n": 2.0}  # a run of another depth is paired by its own seed
    again = untrained("again", "hint", start_from=starts[1])
    with pytest.raises(InputError) as error:
        rows(hint[1], again)
    assert str(error.value) == f"{hint[1]} and {again} have the same options, seed and data: give one of them."


def test_a_start_that_is_gone(untrained: Untrained, capsys: pytest.CaptureFixture[str]) -> None:
    starts = [untrained(f"start{seed}", seed=seed) for seed in (0, 1)]
    tuned = [untrained(f"tuned{i}", "hint", start_from=start, seed=i) for i, start in enumerate(starts)]
    assert list(rows(*tuned)) == [("tuned0", "tuned1")]
    assert capsys.readouterr().err == ""
    for start in starts:
        shutil.rmtree(start)
    assert list(rows(*tuned)) == [("tuned0",), ("tuned1",)]
    assert capsys.readouterr().err == (
        f"note: not there: {starts[0]}, {starts[1]}. Runs that started from one of these are told apart by its path, "
        "not by how it was trained.\n"
    )
