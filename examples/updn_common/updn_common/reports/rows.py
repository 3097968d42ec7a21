"""Rows of a results table: means over runs with their spread, and paired differences to the runs of another row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from updn_common.reports.bootstrap import Estimates, Interval, intervals
from updn_common.reports.tables import Line, LineStyle, format_interval, format_mean

Run = TypeVar("Run")


class Cell(NamedTuple):
    """A mean over runs."""

    value: float
    spread: float | None
    """Standard deviation over the runs; None for a single run."""
    interval: Interval | None = None
    """95 % confidence interval of the mean for these runs, over images; None if there are no resamples."""


@dataclass(frozen=True)
class Row(Generic[Run]):
    """Runs that differ in seed or data only. A measure that one of them lacks has no cell."""

    name: str
    runs: Sequence[Run]
    cells: Mapping[str, Cell]
    differences: Mapping[str, Cell]
    """Mean differences to the partners of the runs; empty if no run has a partner."""


class Column(NamedTuple):
    """One column of a table of rows."""

    measure: str
    header: str
    digits: int = 1
    difference: bool = False
    """Whether the column shows the difference instead of the value."""


def make_row(
    name: str, runs: Sequence[Run], estimates: Sequence[Estimates], partners: Sequence[Estimates | None]
) -> Row[Run]:
    """Average the numbers of runs, and their differences to those of their partners, if they have any."""
    pairs = zip(estimates, partners, strict=True)
    differences = [_difference(one, other) for one, other in pairs if other is not None]
    return Row(name, runs, _means(estimates), _means(differences))


def row_line(row: Row[Run], columns: Sequence[Column], style: LineStyle = "") -> Line:
    """A row as a line of a table; ``-`` stands for an unknown number."""
    return Line(row.name, [_format_cell(row, column) for column in columns], style)


def _format_cell(row: Row[Run], column: Column) -> tuple[str, str]:
    cell = (row.differences if column.difference else row.cells).get(column.measure)
    if cell is None:
        return "-", ""
    interval = "" if cell.interval is None else format_interval(cell.interval, column.digits)
    return format_mean(cell.value, cell.spread, column.digits), interval


def _difference(one: Estimates, other: Estimates) -> Estimates:
    """Differences of the measures that both have; resamples are paired, since both drew the same images."""
    return Estimates(
        {name: value - other.values[name] for name, value in one.values.items() if name in other.values},
        {name: drawn - other.resampled[name] for name, drawn in one.resampled.items() if name in other.resampled},
    )


def _means(runs: Sequence[Estimates]) -> dict[str, Cell]:
    cells = {}
    for name in runs[0].values if runs else ():
        if all(name in run.values for run in runs):
            values = [run.values[name] for run in runs]
            interval = None
            if all(name in run.resampled for run in runs):
                (interval,) = intervals(np.mean([run.resampled[name] for run in runs], axis=0)[:, None])
            cells[name] = Cell(fmean(values), stdev(values) if len(values) > 1 else None, interval)
    return cells
