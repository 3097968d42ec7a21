"""The statistics of a comparison: rows of runs, means over them, spreads, confidence intervals and differences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from updn_vqa.bootstrap import Interval, bootstrap_means, intervals
from updn_vqa.evaluation import Columns
from updn_vqa.recipes import ComparedRun


class Measured(NamedTuple):
    """A run's means over questions, by their names, and the same over R resamples of the questions."""

    means: dict[str, float]
    resampled: dict[str, NDArray[np.float64]]


class Cell(NamedTuple):
    """One number of a row.

    Attributes:
        value: The mean over its runs.
        spread: Standard deviation over the runs; None for one run.
        interval: 95 % confidence interval of ``value``, over questions: the runs are given.
    """

    value: float
    spread: float | None
    interval: Interval


@dataclass(frozen=True)
class Row:
    """Runs that differ in their seeds or data alone.

    Attributes:
        name: What to call it.
        runs: The runs.
        cells: The numbers, by their names.
        differences: To the first row, over the pairs of runs that share seed and data; none without such pairs.
    """

    name: str
    runs: Sequence[ComparedRun]
    cells: dict[str, Cell]
    differences: dict[str, Cell]


def summarise(columns: Columns, world: int) -> Measured:
    """Means of a run's columns, which are one number for each question; all runs of a world are resampled alike."""
    known = {name: column for name, column in columns.items() if not np.isnan(column).all()}
    resampled = bootstrap_means(np.stack(list(known.values()), axis=1), seed=(0, world))
    return Measured(
        {name: float(np.nanmean(column)) for name, column in known.items()},
        dict(zip(known, resampled.T, strict=True)),
    )


def compare_runs(runs: Sequence[ComparedRun], measured: Mapping[Path, Measured]) -> list[Row]:
    """The rows of a table, in the order of their first runs."""
    groups: list[list[ComparedRun]] = []
    for run in runs:
        for group in groups:
            if group[0].recipe == run.recipe:
                group.append(run)
                break
        else:
            groups.append([run])
    names = _names(groups)
    first = {(run.world, run.seed): measured[run.path] for run in groups[0]}
    rows = []
    for name, group in zip(names, groups, strict=True):
        mine = [measured[run.path] for run in group]
        pairs = [(measured[run.path], first.get((run.world, run.seed))) for run in group if group is not groups[0]]
        differences = [_difference(one, other) for one, other in pairs if other is not None]
        rows.append(Row(name, group, _cells(mine), _cells(differences)))
    return rows


def _names(groups: Sequence[Sequence[ComparedRun]]) -> list[str]:
    """The directory's name where all runs of a row have the same, else that of the method; no name twice."""
    names: list[str] = []
    for group in groups:
        directories = {run.path.name for run in group}
        name = directories.pop() if len(directories) == 1 else group[0].name
        same = sum(other == name or other.startswith(f"{name} (") for other in names)
        names.append(f"{name} ({same + 1})" if same else name)
    return names


def _difference(one: Measured, other: Measured) -> Measured:
    """Of paired means: the questions are the same, and so is every resample of them."""
    shared = [name for name in one.means if name in other.means]
    return Measured(
        {name: one.means[name] - other.means[name] for name in shared},
        {name: one.resampled[name] - other.resampled[name] for name in shared},
    )


def _cells(runs: Sequence[Measured]) -> dict[str, Cell]:
    """Over runs; of what all of them know."""
    cells = {}
    for name in runs[0].means if runs else ():
        if all(name in run.means for run in runs):
            values = [run.means[name] for run in runs]
            (interval,) = intervals(np.mean([run.resampled[name] for run in runs], axis=0)[:, None])
            cells[name] = Cell(fmean(values), stdev(values) if len(values) > 1 else None, interval)
    return cells
