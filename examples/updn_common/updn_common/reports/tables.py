"""Tables of numbers with their intervals, for the terminal, as Markdown and as CSV."""

import csv
import html
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

from rich.table import Table
from rich.text import Text

from updn_common.console import plain_console
from updn_common.files.writing import atomic_file
from updn_common.reports.bootstrap import Interval, Number
from updn_common.reports.comparison import Cell, Row

CSV_HEADER = (
    *("data", "method", "runs", "measure", "value", "spread", "low", "high"),
    *("difference", "difference_spread", "difference_low", "difference_high"),
)


class Line(NamedTuple):
    """A line of a table: a name, and for each column a value and its interval (empty where there is none)."""

    name: str
    cells: Sequence[tuple[str, str]]
    published: bool = False


class Block(NamedTuple):
    """One table."""

    title: str
    header: Sequence[str]
    lines: Sequence[Line]


def format_number(number: Number, digits: int) -> str:
    """Such as ``"81.66 [79.21, 83.98]"``."""
    return f"{number.value:.{digits}f} {format_interval(number.interval, digits)}"


def format_interval(interval: Interval, digits: int) -> str:
    """Such as ``"[79.21, 83.98]"``, or ``"[-]"`` for none."""
    low, high = interval
    return "[-]" if math.isnan(low) else f"[{low:.{digits}f}, {high:.{digits}f}]"


def format_cell(cell: Cell, digits: int) -> tuple[str, str]:
    """Such as ``"81.66 ± 0.12"`` and ``"[79.21, 83.98]"``; without a spread for one run."""
    spread = "" if cell.spread is None else f" ± {cell.spread:.{digits}f}"
    return f"{cell.value:.{digits}f}{spread}", format_interval(cell.interval, digits)


def beside_published(rows: Sequence[Row[Any]], lines: Sequence[Line], published: Mapping[str, Line]) -> list[Line]:
    """Published lines by the names of what they are of, each with our lines of it below; then all others of ours."""
    belongs = [row.runs[0].published_row for row in rows]
    together = []
    for name, line in published.items():
        together += [line, *(mine for mine, of in zip(lines, belongs, strict=True) if of == name)]
    return together + [mine for mine, of in zip(lines, belongs, strict=True) if of not in published]


def print_blocks(blocks: Iterable[Block]) -> None:
    """Print tables, each number above its interval."""
    console = plain_console()
    for block in blocks:
        table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
        for i, name in enumerate(block.header):
            table.add_column(name, justify="right" if i else "left", no_wrap=not i)
        for line in block.lines:
            cells = ["\n".join(filter(None, cell)) for cell in line.cells]
            table.add_row(line.name, *cells, style="dim italic" if line.published else "")
        console.print(
            Text(block.title, style="italic"), soft_wrap=True
        )  # a title of the table has no more than its width
        console.print(table, "")


def write_blocks(path: Path, introduction: str, blocks: Iterable[Block]) -> None:
    """Write tables as Markdown, each below its title."""
    text = [introduction]
    for block in blocks:
        lines = [[line.name, *(" ".join(filter(None, cell)) for cell in line.cells)] for line in block.lines]
        text.append(f"\n## {_plain(block.title)}\n\n{markdown(block.header, lines)}")
    with atomic_file(path) as temporary:
        temporary.write_text("".join(text), encoding="utf-8")


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table of plain text; all columns but the first are set to the right."""
    lines = [map(_plain, header), ["---", *["---:"] * (len(header) - 1)], *(map(_plain, row) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _plain(text: str) -> str:
    """Text as Markdown that is shown as it is: no HTML, formulas, links or further lines."""
    return re.sub(r"([\\`|$*~]|(?<=\])\()", r"\\\1", html.escape(" ".join(text.split()), quote=False))


def write_csv(
    path: Path, rows: Mapping[str, Sequence[Row[Any]]], published: Iterable[tuple[str, str, str, float]]
) -> None:
    """Write every number of a comparison as a record of :data:`CSV_HEADER`.

    Args:
        path: The file.
        rows: Those of each data set.
        published: Data set, method, measure and value of numbers of others.
    """
    records: list[list[object]] = []
    for data, mine in rows.items():
        for row in mine:
            for name, cell in row.cells.items():
                difference = row.differences.get(name)
                numbers = [*_flat(cell), *(_flat(difference) if difference else [""] * 4)]
                records.append([data, row.name, len(row.runs), name, *numbers])
    for data, method, measure, value in published:
        records.append([data, f"{method} (published)", "", measure, value, *[""] * 7])
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([CSV_HEADER, *(map(_no_formula, record) for record in records)])


def _no_formula(cell: object) -> object:
    """A cell that no spreadsheet computes: what begins like a formula gets the apostrophe of text before it."""
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell


def _flat(cell: Cell) -> list[object]:
    interval = ["" if math.isnan(end) else end for end in cell.interval]
    return [cell.value, "" if cell.spread is None else cell.spread, *interval]


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Mean and standard deviation, such as ``"66.4 ± 7.9"``."""
    if not values:
        return "-"
    deviation = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{fmean(values):.{digits}f}{deviation}"
