"""The statistics of a comparison: rows of runs, means over them, spreads, confidence intervals and differences."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np

from updn_common.console import plain_console
from updn_common.errors import InputError, first_few
from updn_common.reports.bootstrap import Estimates, Interval, intervals
from updn_common.runs.directory import read_config


class PreparedDirectory(Protocol):
    """Prepared data."""

    directory: Path

    @property
    def split_names(self) -> Sequence[str]:
        """The splits there are."""

    def check_split(self, name: str) -> None:
        """Raise an InputError if there is no such split."""


class ComparedRun(Protocol):
    """What a comparison has to know of a run."""

    @property
    def path(self) -> Path:
        """Its directory."""

    @property
    def recipe(self) -> dict[str, Any]:
        """Its options but seed and data, and those of the run that it started from."""

    @property
    def seeds(self) -> tuple[int, ...]:
        """Its seed, that of the run that it started from, and so on."""

    @property
    def data(self) -> PreparedDirectory:
        """The prepared data that it was measured on."""

    @property
    def split(self) -> str:
        """One of their splits."""

    @property
    def world(self) -> int:
        """A number for the data among those that are compared."""

    @property
    def data_set(self) -> str | None:
        """The data set of the paper that the split is; None for another."""

    @property
    def published_row(self) -> str | None:
        """The result of the paper that it reproduces, if it is one."""

    @property
    def name(self) -> str:
        """What to call it where its directory's name will not do."""


Run = TypeVar("Run", bound=ComparedRun)
Data = TypeVar("Data", covariant=True)


class OpenedRun(NamedTuple, Generic[Data]):
    """A run's configuration, and the data that it is to be measured on.

    Attributes:
        path: The run's directory.
        config: What it was trained with.
        data: The prepared data.
        world: A number for these data among those of all runs.
    """

    path: Path
    config: dict[str, Any]
    data: Data
    world: int


def open_runs(paths: Sequence[Path], data: Path | None, opened: Callable[[Path], Data]) -> list[OpenedRun[Data]]:
    """Read what runs were trained with, and open their data, each once.

    Args:
        paths: The runs' directories.
        data: The prepared directory; None for the one that each run was trained on.
        opened: Opens a prepared directory.

    Raises:
        InputError: A run or its data does not exist.
    """
    found: dict[Path, Data] = {}
    runs = []
    for path in paths:
        config = read_config(path)
        directory = data or Path(config["data"])
        if not directory.exists():
            raise InputError(f"{path} was trained on {directory}, which is not there. Give the directory with --data.")
        key = directory.resolve()
        if key not in found:
            found[key] = opened(directory)
        runs.append(OpenedRun(path, config, found[key], list(found).index(key)))
    starts = {run.config["start_from"] for run in runs} - {None}
    if absent := sorted(start for start in starts if not (Path(start) / "config.json").is_file()):
        plain_console(stderr=True, soft_wrap=True).print(
            f"note: not there: {first_few(absent)}. Runs that started from one of these are told apart by its path, "
            "not by how it was trained."
        )
    return runs


def split_to_compare(data: PreparedDirectory, split: str | None) -> str:
    """The split to measure runs on: the given one, or by default test, or val where there is no test.

    Raises:
        InputError: There is no such split.
    """
    if split is None:
        split = next((name for name in ("test", "val") if name in data.split_names), None)
    if split is None:
        names = ", ".join(data.split_names)
        raise InputError(f"{data.directory} has no split test or val; it has {names}. Give --split one of these.")
    data.check_split(split)
    return split


class Cell(NamedTuple):
    """One number of a row.

    Attributes:
        value: The mean over its runs.
        spread: Standard deviation over the runs; None for one run.
        interval: 95 % confidence interval of ``value``, over images: the runs are given.
    """

    value: float
    spread: float | None
    interval: Interval


@dataclass(frozen=True)
class Row(Generic[Run]):
    """Runs that differ in their seeds or data alone.

    Attributes:
        name: What to call it.
        runs: The runs.
        cells: The numbers, by their names.
        differences: To the first row, over the pairs of runs that share seed and data; none without such pairs.
    """

    name: str
    runs: Sequence[Run]
    cells: dict[str, Cell]
    differences: dict[str, Cell]


def check_distinct(runs: Sequence[ComparedRun]) -> None:
    """Raise an InputError if two runs have the same options, seeds and data."""
    for i, run in enumerate(runs):
        for other in runs[:i]:
            if (other.recipe, other.seeds, other.world) == (run.recipe, run.seeds, run.world):
                raise InputError(f"{other.path} and {run.path} have the same options, seed and data: give one of them.")


def compare_runs(runs: Sequence[Run], estimates: Mapping[Path, Estimates]) -> list[Row[Run]]:
    """The rows of a table, in the order of their first runs.

    Args:
        runs: The runs.
        estimates: Those of each run, by its directory. All runs of a world should be resampled alike: differences are
            paired.
    """
    groups: list[list[Run]] = []
    for run in runs:
        for group in groups:
            if group[0].recipe == run.recipe:
                group.append(run)
                break
        else:
            groups.append([run])
    names = _names(groups)
    first: dict[tuple[int, ...], Estimates] = {
        (run.world, run.seeds[0]): estimates[run.path] for run in reversed(groups[0])
    }
    first |= {(run.world, *run.seeds): estimates[run.path] for run in groups[0]}  # the same start is the better partner
    rows = []
    for name, group in zip(names, groups, strict=True):
        mine = [estimates[run.path] for run in group]
        others = group if group is not groups[0] else ()
        partners = [first.get((run.world, *run.seeds), first.get((run.world, run.seeds[0]))) for run in others]
        pairs = [(estimates[run.path], partner) for run, partner in zip(others, partners, strict=True)]
        differences = [_difference(one, other) for one, other in pairs if other is not None]
        rows.append(Row(name, group, _cells(mine), _cells(differences)))
    return rows


def by_data_set(runs: Sequence[Run], estimates: Mapping[Path, Estimates]) -> dict[str | None, list[Row[Run]]]:
    """The rows of a table for each data set of the paper, and for None those of all other data together."""
    data_sets = dict.fromkeys(run.data_set for run in runs)
    return {name: compare_runs([run for run in runs if run.data_set == name], estimates) for name in data_sets}


def describe_data(rows: Sequence[Row[Run]]) -> str:
    """Which data rows are of, such as ``"test of cue0, cue1"``."""
    found = dict.fromkeys((run.split, run.data.directory.resolve().name) for row in rows for run in row.runs)
    splits = dict.fromkeys(split for split, _ in found)
    return f"{' and '.join(splits)} of {', '.join(dict.fromkeys(name for _, name in found))}"


def _names(groups: Sequence[Sequence[ComparedRun]]) -> list[str]:
    """The directory's name where all runs of a row have the same, else that of the method; no name twice."""
    names: list[str] = []
    for group in groups:
        directories = {run.path.name for run in group}
        name = directories.pop() if len(directories) == 1 else group[0].name
        same = sum(other == name or other.startswith(f"{name} (") for other in names)
        names.append(f"{name} ({same + 1})" if same else name)
    return names


def _difference(one: Estimates, other: Estimates) -> Estimates:
    """Of paired means: the questions are the same, and so is every resample of them."""
    shared = [name for name in one.values if name in other.values]
    return Estimates(
        {name: one.values[name] - other.values[name] for name in shared},
        {name: one.resampled[name] - other.resampled[name] for name in shared},
    )


def _cells(runs: Sequence[Estimates]) -> dict[str, Cell]:
    """Over runs; of what all of them know."""
    cells = {}
    for name in runs[0].values if runs else ():
        if all(name in run.values for run in runs):
            values = [run.values[name] for run in runs]
            (interval,) = intervals(np.mean([run.resampled[name] for run in runs], axis=0)[:, None])
            cells[name] = Cell(fmean(values), stdev(values) if len(values) > 1 else None, interval)
    return cells
