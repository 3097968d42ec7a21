"""The comparison of runs, with one another and with the paper: as tables in the terminal, as Markdown and as CSV."""

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple

import tyro
from accelerate import Accelerator

from updn_common.console import plain_console
from updn_common.errors import InputError
from updn_common.files.writing import atomic_file
from updn_common.progress import track
from updn_common.reports.bootstrap import Estimates
from updn_common.reports.rows import Cell, Column, Row, row_line
from updn_common.reports.tables import Block, Line, print_blocks, write_blocks
from updn_common.runs.measurements import CheckpointName
from updn_common.runs.processes import make_accelerator
from updn_common.studies.compared_runs import Config, Data, Rows, Run, by_data_set, describe_data, open_runs

Published = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Numbers of the paper: for each row and each data set, the value of each measure."""
HINT_ROW = "UpDn + HINT"
"""The row of the paper that runs with several forms of HINT stand below."""
GUIDE = (
    "Means over runs with different seeds or data ± their standard deviation. In brackets: 95 % confidence intervals "
    "of the means, by the percentile bootstrap over images, each with all of its {samples}; they do not include the "
    "uncertainty over seeds. Differences are paired: between runs with the same seed and data, on the same images."
)
FORMS_GUIDE = (
    "Three forms of HINT stand below the paper's UpDn + HINT. hint-paper is the paper's loss to the letter. hint is "
    "the signed form: it ranks the sum of the gradient as the paper does, but scale-free and with a margin. unsigned "
    "is the form that this library recommends: it ranks the norm of the gradient, which the paper does not."
)
CSV_HEADER = (
    *("data", "method", "runs", "measure", "value", "spread", "low", "high"),
    *("difference", "difference_spread", "difference_low", "difference_high"),
)


@dataclass(frozen=True)
class CompareOptions:
    """Options of the command ``compare`` that both pipelines have.

    Attributes:
        runs: Directories of the runs; differences are to the row of the first.
        data: The prepared directory; default: the one that each run was trained on.
        split: The split to measure runs on; default: test, or val if there is no test.
        out: Directory for the tables and figures.
        checkpoint: The best on the development split, or the last.
        cpu: Evaluate on the CPU even if there is a GPU.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    data: Path | None = None
    split: str | None = None
    out: Path = Path("comparison")
    checkpoint: CheckpointName = "best"
    cpu: bool = False


class Part(NamedTuple):
    """One table of a comparison. Columns that no run has a number for are left out."""

    title: str
    columns: Sequence[Column]
    differences: bool = False
    """Whether the table shows differences to the first row; then its title follows on "difference to base, "."""


@dataclass(frozen=True)
class Layout(Generic[Run]):
    """What a pipeline shows in a comparison."""

    introduction: str
    guide: str
    """How to read the measures."""
    parts: Callable[[Sequence[Row[Run]]], Sequence[Part]]
    """The tables to make of rows; the first also shows the rows of the paper."""
    published: Published
    published_title: str
    """What the numbers of the paper are, for the titles of tables of their own."""


def run_comparison(
    options: CompareOptions,
    open_data: Callable[[Path], Data],
    make_run: Callable[[Path, Config, Data, str, int], Run],
    measure: Callable[[Run, Accelerator], Estimates],
    report: Callable[[Rows[Run]], list[Path]],
) -> None:
    """Measure runs and report how they compare.

    Args:
        options: Options from the command line.
        open_data: Opens a prepared directory.
        make_run: The pipeline's subclass of `ComparedRun`.
        measure: Measures a run. Runs on the same data should get the same resamples.
        report: Prints and writes the tables; returns the files that it wrote.

    Raises:
        InputError: No runs are given, one of them or its data does not exist, or two of them do not differ.
    """
    if not options.runs:
        raise InputError("Give the directories of the runs to compare.")
    runs = open_runs(options.runs, options.data, options.split, open_data, make_run)
    accelerator = make_accelerator(cpu=options.cpu)
    estimates = {run.path: measure(run, accelerator) for run in track(runs, "runs")}
    if accelerator.is_main_process:
        written = report(by_data_set(runs, estimates))
        plain_console(soft_wrap=True).print(f"written: {', '.join(map(str, written))}")


def comparison_blocks(rows: Rows[Run], layout: Layout[Run]) -> list[Block]:
    """The tables of a comparison.

    Rows on a data set of the paper stand below the paper's rows. For rows on other data, the paper's rows have tables
    of their own.
    """
    published = layout.published
    blocks = []
    for data_set, mine in rows.items():
        for i, part in enumerate(layout.parts(mine)):
            block = _block(mine, part, data_set, {} if i else published, counted=not i)
            blocks += [block] if block.lines and len(block.header) > 1 else []
    if None in rows:
        for data_set in dict.fromkeys(name for found in published.values() for name in found):
            found = {name: numbers[data_set] for name, numbers in published.items() if data_set in numbers}
            measures = list(dict.fromkeys(measure for numbers in found.values() for measure in numbers))
            lines = [_published_line(name, numbers, measures) for name, numbers in found.items()]
            title = f"{data_set}, {layout.published_title}: other data than above, not to be compared"
            blocks.append(Block(title, ["method", *measures], lines))
    return blocks


def forms_note(rows: Rows[Run]) -> list[str]:
    """Which form of HINT is the paper's, if runs stand below its row."""
    beside = {row.runs[0].published_row for data_set, mine in rows.items() if data_set for row in mine}
    return [FORMS_GUIDE] if HINT_ROW in beside else []


def _block(rows: Sequence[Row[Run]], part: Part, data_set: str | None, published: Published, *, counted: bool) -> Block:
    """One table; ``counted`` adds the number of runs to the names of rows."""
    beside = {name: found[data_set] for name, found in published.items() if data_set is not None and data_set in found}
    known = {name for row in rows for name in row.cells} | {name for found in beside.values() for name in found}
    columns = [column._replace(difference=part.differences) for column in part.columns if column.measure in known]
    lines: dict[str | None, list[Line]] = {}
    for row in rows if not part.differences else [row for row in rows if row.differences]:
        reproduced = row.runs[0].published_row
        line = row_line(row, columns)
        name = f"{row.name} ({len(row.runs)})" if counted else row.name
        lines.setdefault(reproduced if reproduced in beside else None, []).append(line._replace(name=name))
    ordered = []
    for name, numbers in beside.items():
        theirs = _published_line(f"{name}, published", numbers, [column.measure for column in columns])
        ordered += [theirs, *lines.get(name, [])]
    label = f"difference to {rows[0].name}, {part.title}" if part.differences else part.title
    header = ["method (runs)" if counted else "method", *(column.header for column in columns)]
    return Block(f"{data_set or describe_data(rows)}: {label}", header, [*ordered, *lines.get(None, [])])


def _published_line(name: str, numbers: Mapping[str, float], measures: Sequence[str]) -> Line:
    cells = [(f"{numbers[measure]:.2f}" if measure in numbers else "-", "") for measure in measures]
    return Line(name, cells, "published")


def report_comparison(out: Path, rows: Rows[Run], layout: Layout[Run]) -> list[Path]:
    """Print the tables and how to read them, and write ``table.md`` and ``table.csv``; returns these files."""
    out.mkdir(parents=True, exist_ok=True)
    written = [out / "table.md", out / "table.csv"]
    blocks, notes = comparison_blocks(rows, layout), [layout.guide, *forms_note(rows)]
    write_blocks(written[0], "\n\n".join((layout.introduction, *notes)) + "\n", blocks)
    write_csv(written[1], {data_set or describe_data(mine): mine for data_set, mine in rows.items()}, layout.published)
    print_blocks(blocks)
    plain_console().print("± standard deviation over runs; [95 % interval over images].", *notes)
    return written


def write_csv(path: Path, rows: Mapping[str, Sequence[Row[Any]]], published: Published) -> None:
    """Write every number of a comparison as a record of :data:`CSV_HEADER`, and those of the paper below them."""
    records: list[list[object]] = []
    for data, mine in rows.items():
        for row in mine:
            for name, cell in row.cells.items():
                numbers = [*_cell_fields(cell), *_cell_fields(row.differences.get(name))]
                records.append([data, row.name, len(row.runs), name, *numbers])
    for method, found in published.items():
        for data, values in found.items():
            for name, value in values.items():
                records.append([data, f"{method} (published)", "", name, value, *[""] * 7])
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([CSV_HEADER, *(map(_as_text, record) for record in records)])


def _cell_fields(cell: Cell | None) -> list[object]:
    if cell is None:
        return [""] * 4
    interval = ["" if math.isnan(end) else end for end in cell.interval or (math.nan, math.nan)]
    return [cell.value, "" if cell.spread is None else cell.spread, *interval]


def _as_text(field: object) -> object:
    """Put an apostrophe before a text that a spreadsheet would compute as a formula."""
    return f"'{field}" if isinstance(field, str) and field[:1] in ("=", "+", "-", "@", "\t", "\r") else field
