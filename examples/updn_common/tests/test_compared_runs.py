"""Which runs make one row of a comparison, and the means, intervals and differences of rows."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import bootstrap

from updn_common.errors import InputError
from updn_common.reports.bootstrap import Estimates, estimate_means
from updn_common.reports.rows import Cell, Row
from updn_common.studies.compared_runs import (
    ComparedRun,
    describe_data,
    describe_importance,
    make_rows,
    open_runs,
)

RNG = np.random.default_rng(5)
NAN = float("nan")


@dataclass(frozen=True)
class Method:
    supervision: str = "none"
    margin: float = 0.0


@dataclass(frozen=True)
class Scale:
    steps: int = 10
    model: dict[str, int] = field(default_factory=lambda: {"hidden": 8})


@dataclass
class Data:
    directory: Path
    split_names: tuple[str, ...] = ("train", "val", "test")
    record: dict[str, Any] = field(default_factory=dict)

    def check_split(self, name: str) -> None:
        if name not in self.split_names:
            raise InputError(f"no split {name}")


class Run(ComparedRun[Data]):
    presets = {"base": Method(), "hint": Method("hint")}  # noqa: RUF012
    default_method = Method()
    default_scale = Scale()
    data_set = None
    published_row = None

    @property
    def name(self) -> str:
        return self.preset


MakeRun = Callable[..., Path]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Writes the configuration of a run."""
    (tmp_path / "world").mkdir()

    def make(name: str, supervision: str = "none", *, start_from: Path | None = None, **options: Any) -> Path:
        config = {
            "data": str(tmp_path / "world"),
            "method": {"supervision": supervision, "margin": 0.0},
            "scale": {"steps": 10, "model": {"hidden": 8}},
            "start_from": start_from and str(start_from),
            "hint_share": 1.0,
            "seed": 0,
        }
        path = tmp_path / name
        path.mkdir(parents=True)
        (path / "config.json").write_text(json.dumps({"config": config | options}))
        return path

    return make


def open_all(*paths: Path, data: Path | None = None, split: str | None = None) -> list[Run]:
    return open_runs(paths, data, split, Data, Run)


def rows_of(*paths: Path) -> list[Row[Run]]:
    """Rows of runs with a single number ``n``: the place of the run among the paths."""
    estimates = {path: Estimates({"n": float(i)}, {"n": np.full(10, float(i))}) for i, path in enumerate(paths)}
    return make_rows(open_all(*paths), estimates)


def names_of(*paths: Path) -> list[list[str]]:
    return [[run.path.name for run in row.runs] for row in rows_of(*paths)]


def interval(column: NDArray[np.float64], world: int = 0) -> tuple[float, float]:
    found = bootstrap((column,), np.mean, n_resamples=1000, method="percentile", rng=np.random.default_rng((0, world)))
    return tuple(found.confidence_interval)


def assert_cell(cell: Cell, runs: list[NDArray[np.float64]]) -> None:
    """Check a cell against the columns of its runs."""
    means = [float(np.mean(column)) for column in runs]
    assert cell.value == pytest.approx(fmean(means))
    assert cell.spread == pytest.approx(stdev(means)) if len(runs) > 1 else cell.spread is None
    assert cell.interval == pytest.approx(interval(np.mean(runs, axis=0)))


def test_rows_are_means_over_seeds_and_differences_are_paired(make_run: MakeRun) -> None:
    """The second row has its seeds in the other order; the intervals are SciPy's."""
    paths = [make_run(f"seed{seed}/base", seed=seed) for seed in (3, 4)]
    paths += [make_run(f"hint-{seed}", "hint", seed=seed) for seed in (4, 3)]
    columns = {
        path: {"all": RNG.random(20), "some": np.where(np.arange(20) < 12, RNG.random(20), NAN)} for path in paths
    }
    estimates = {path: estimate_means(found, np.arange(20), seed=(0, 0)) for path, found in columns.items()}
    base, hint = make_rows(open_all(*paths), estimates)
    assert (base.name, hint.name) == ("base", "hint")
    assert [run.path for run in hint.runs] == paths[2:]
    b3, b4, h4, h3 = (columns[path]["all"] for path in paths)
    assert_cell(base.cells["all"], [b3, b4])
    assert_cell(hint.cells["all"], [h4, h3])
    assert_cell(hint.differences["all"], [h4 - b4, h3 - b3])
    assert base.differences == {}
    some = [columns[path]["some"][:12] for path in paths]
    assert hint.cells["some"].value == pytest.approx(np.mean(some[2:]))
    assert hint.differences["some"].value == pytest.approx(np.mean(some[2:]) - np.mean(some[:2]))


def test_a_measure_that_a_run_lacks_has_no_mean(make_run: MakeRun) -> None:
    paths = [make_run("0/base"), make_run("1/base", seed=1), make_run("hint", "hint", seed=1)]
    found: list[dict[str, float]] = [{"a": 1.0, "b": 1.0}, {"a": 3.0}, {"a": 4.0, "b": 5.0}]
    estimates = {path: Estimates(values, {}) for path, values in zip(paths, found, strict=True)}
    base, hint = make_rows(open_all(*paths), estimates)
    assert base.cells == {"a": Cell(2.0, stdev([1.0, 3.0]), None)}
    assert hint.differences == {"a": Cell(1.0, None, None)}


def test_worlds_are_resampled_apart(make_run: MakeRun, tmp_path: Path) -> None:
    (tmp_path / "another").mkdir()
    paths = [make_run("0/base"), make_run("1/base", seed=1, data=str(tmp_path / "another"))]
    runs = open_all(*paths)
    assert [run.world for run in runs] == [0, 1]
    columns = [RNG.random(20), RNG.random(30)]
    estimates = {
        run.path: estimate_means({"all": column}, np.arange(len(column)), seed=(0, run.world))
        for run, column in zip(runs, columns, strict=True)
    }
    (row,) = make_rows(runs, estimates)
    resampled = [
        bootstrap(
            (column,), np.mean, n_resamples=1000, method="percentile", rng=np.random.default_rng((0, world))
        ).bootstrap_distribution
        for world, column in enumerate(columns)
    ]
    expected = np.quantile(np.mean(resampled, axis=0), [0.025, 0.975])
    assert row.cells["all"].interval == pytest.approx(tuple(expected))
    assert describe_data([row]) == "test of world, another"


def test_runs_without_a_partner_have_no_differences(make_run: MakeRun) -> None:
    paths = [make_run("base"), make_run("hint", "hint", seed=1)]
    _, hint, both = rows_of(*paths, make_run("x0", "x"), make_run("x1", "x", seed=1))
    assert hint.cells
    assert hint.differences == {}
    assert both.cells["n"].spread is not None
    assert both.differences["n"].spread is None  # one pair


def test_a_row_has_one_method_scale_start_and_share(make_run: MakeRun) -> None:
    """Seed and directory may differ, and the share of hints if there are none to use."""
    base = make_run("base")
    assert names_of(
        base,
        make_run("again", seed=1, hint_share=0.5),
        make_run("longer", scale={"steps": 20, "model": {"hidden": 8}}),
        make_run("larger", scale={"steps": 10, "model": {"hidden": 9}}),
        make_run("continued", start_from=base),
        make_run("hint", "hint"),
        make_run("half", "hint", hint_share=0.5),
        make_run("other", "x"),
    ) == [["base", "again"], ["longer"], ["larger"], ["continued"], ["hint"], ["half"], ["other"]]


def test_options_that_a_run_did_not_record_had_their_defaults(make_run: MakeRun) -> None:
    old = make_run("old", seed=1, method={"supervision": "none"}, scale={"steps": 10, "model": {}})
    assert names_of(make_run("new"), old) == [["new", "old"]]


def test_rows_are_named_by_directory_or_else_by_preset(make_run: MakeRun) -> None:
    """No name occurs twice."""
    start = make_run("start/net")
    paths = (start, make_run("a/net", start_from=start), make_run("b/net", "hint"), make_run("hint", "x"))
    assert [row.name for row in rows_of(*paths)] == ["net", "net (2)", "net (3)", "hint"]
    (row,) = rows_of(make_run("c", "hint"), make_run("d", "hint", seed=1))
    assert row.name == "hint"


def test_runs_from_other_starts_make_other_rows(make_run: MakeRun) -> None:
    """Also if only the start of the start differs."""
    base, other = make_run("base"), make_run("other", "visfis")
    again = make_run("again", seed=1)
    middle = [make_run(f"middle-{start.name}", start_from=start) for start in (base, other)]
    assert names_of(
        make_run("from-base", "hint", start_from=base),
        make_run("from-again", "hint", start_from=again, seed=1),
        make_run("from-other", "hint", start_from=other),
        *(make_run(f"from-{start.name}", "hint", start_from=start) for start in middle),
        make_run("from-nothing", "hint"),
    ) == [["from-base", "from-again"], ["from-other"], ["from-middle-base"], ["from-middle-other"], ["from-nothing"]]


def test_runs_of_one_seed_from_two_starts_have_their_own_partners(make_run: MakeRun) -> None:
    starts = [make_run(f"start{seed}", seed=seed) for seed in (0, 1)]
    base = [make_run(f"base{i}", start_from=start) for i, start in enumerate(starts)]
    hint = [make_run(f"hint{i}", "hint", start_from=start) for i, start in enumerate(starts)]

    def differences(*paths: Path) -> list[float | None]:
        return [row.differences["n"].value if row.differences else None for row in rows_of(*paths)]

    assert differences(*base, hint[1]) == [None, 1.0]
    assert differences(*starts, hint[1]) == [None, 2.0]  # starts have no start: the own seed decides
    assert differences(*base, make_run("from-nothing", "hint")) == [
        None,
        2.0,
    ]  # no run has its start: the first decides
    again = make_run("again", "hint", start_from=starts[1])
    with pytest.raises(InputError) as error:
        open_all(hint[1], again)
    assert str(error.value) == f"{hint[1]} and {again} have the same options, seed and data: give one of them."


def test_a_start_that_no_longer_exists(make_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    starts = [make_run(f"start{seed}", seed=seed) for seed in (0, 1)]
    tuned = [make_run(f"tuned{i}", "hint", start_from=start, seed=i) for i, start in enumerate(starts)]
    assert names_of(*tuned) == [["tuned0", "tuned1"]]
    assert capsys.readouterr().err == ""
    for start in starts:
        shutil.rmtree(start)
    assert names_of(*tuned) == [["tuned0"], ["tuned1"]]
    assert capsys.readouterr().err == (
        f"note: {starts[0]}, {starts[1]} no longer exist. Runs that started from one of these are distinguished by its "
        "path, not by how it was trained.\n"
    )


def test_other_data_and_another_split_can_be_given(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run("run", data="elsewhere")
    with pytest.raises(InputError) as error:
        open_all(run)
    assert str(error.value) == (
        f"{run} was trained on elsewhere, which does not exist. Give the directory with --data."
    )
    (opened,) = open_all(run, data=tmp_path / "world", split="val")
    assert (opened.data.directory, opened.split) == (tmp_path / "world", "val")
    with pytest.raises(InputError, match=r"^no split tset$"):
        open_all(run, data=tmp_path / "world", split="tset")


@pytest.mark.parametrize(
    ("names", "chosen"), [(("train", "val"), "val"), (("val", "test"), "test"), (("train", "dev"), "")]
)
def test_the_default_split_is_test_or_else_val(make_run: MakeRun, names: tuple[str, ...], chosen: str) -> None:
    run = make_run("run")

    def opened() -> list[Run]:
        return open_runs([run], None, None, lambda path: Data(path, names), Run)

    if chosen:
        assert opened()[0].split == chosen
    else:
        with pytest.raises(InputError) as error:
            opened()
        assert str(error.value).endswith(
            "world has no split test or val; it has train, dev. Give --split one of these."
        )


def test_all_importances_of_rows_are_described(make_run: MakeRun) -> None:
    paths = [make_run("a"), make_run("b", method={"supervision": "x", "importance": "norm"})]
    assert describe_importance(rows_of(*paths)) == "norm and sum"
    assert describe_importance(rows_of(paths[0])) == "sum"
