"""Tables of numbers with their intervals, for the terminal and as Markdown."""

import html
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import fmean, stdev
from typing import Literal, NamedTuple

from rich.table import Table
from rich.text import Text

from updn_common.console import plain_console
from updn_common.files.writing import atomic_file
from updn_common.reports.bootstrap import Interval, Number

LineStyle = Literal["", "emphasised", "published"]
_RICH_STYLES: dict[LineStyle, str] = {"": "", "emphasised": "bold", "published": "dim italic"}


class Line(NamedTuple):
    """One line of a table: its name, and for each column a value and its interval (empty if there is none)."""

    name: str
    cells: Sequence[tuple[str, str]]
    style: LineStyle = ""

    @property
    def texts(self) -> list[str]:
        """The name and the text of each cell."""
        return [self.name, *(" ".join(filter(None, cell)) for cell in self.cells)]


class Block(NamedTuple):
    """One table. Its header has one more entry than the cells of a line, for the names of the lines."""

    title: str
    header: Sequence[str]
    lines: Sequence[Line]

    def pieces(self, first: int, width: int) -> Iterator["Block"]:
        """Cut the table into narrower ones: the first has ``first`` columns, the others ``width`` at most."""
        cuts = [0, *range(first, len(self.header) - 1, width), len(self.header) - 1]
        for start, end in pairwise(cuts):
            lines = [line._replace(cells=line.cells[start:end]) for line in self.lines]
            yield Block(self.title, [self.header[0], *self.header[1:][start:end]], lines)


def format_number(number: Number, digits: int) -> str:
    """Format a number and its interval, such as ``"81.66 [79.21, 83.98]"``."""
    return f"{number.value:.{digits}f} {format_interval(number.interval, digits)}"


def format_interval(interval: Interval, digits: int) -> str:
    """Format an interval, such as ``"[79.21, 83.98]"``; an unknown one is ``"[-]"``."""
    low, high = interval
    return "[-]" if math.isnan(low) else f"[{low:.{digits}f}, {high:.{digits}f}]"


def format_mean(value: float, spread: float | None, digits: int) -> str:
    """Format a mean and its standard deviation, such as ``"66.4 ± 7.9"``; one run has no deviation."""
    return f"{value:.{digits}f}" + ("" if spread is None else f" ± {spread:.{digits}f}")


def format_values(values: Sequence[float], digits: int = 1) -> str:
    """Format the mean and standard deviation of values, such as ``"66.4 ± 7.9"``; ``"-"`` if there are none."""
    return format_mean(fmean(values), stdev(values) if len(values) > 1 else None, digits) if values else "-"


def print_blocks(blocks: Iterable[Block]) -> None:
    """Print tables, each number above its interval."""
    console = plain_console()
    for block in blocks:
        table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
        for i, name in enumerate(block.header):
            table.add_column(name, justify="right" if i else "left", no_wrap=not i)
        for line in block.lines:
            cells = ["\n".join(filter(None, cell)) for cell in line.cells]
            table.add_row(line.name, *cells, style=_RICH_STYLES[line.style])
        if block.title:  # printed apart, because Rich wraps a table's own title at the width of the table
            console.print(Text(block.title, style="italic"), soft_wrap=True)
        console.print(table, "")


def write_blocks(path: Path, introduction: str, blocks: Iterable[Block]) -> None:
    """Write tables as Markdown, each below its title."""
    tables = [f"\n## {_plain(block.title)}\n\n{block_markdown(block)}" for block in blocks]
    with atomic_file(path) as temporary:
        temporary.write_text("".join([introduction, *tables]), encoding="utf-8")


def block_markdown(block: Block) -> str:
    """A table as Markdown, without its title."""
    return markdown(block.header, [line.texts for line in block.lines])


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table of plain text; all columns except the first are aligned to the right."""
    lines = [map(_plain, header), ["---", *["---:"] * (len(header) - 1)], *(map(_plain, row) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _plain(text: str) -> str:
    """Escape text so that Markdown shows it as it is, on one line: no HTML, formulas or links."""
    return re.sub(r"([\\`|$*~]|(?<=\])\()", r"\\\1", html.escape(" ".join(text.split()), quote=False))
