"""A comparison as tables, for the terminal, as Markdown and as CSV, and the supervision curve."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from updn_common.console import plain_console
from updn_common.files.writing import atomic_file
from updn_common.reports.comparison import Cell, Row, describe_data
from updn_common.reports.figures import plain_text
from updn_common.reports.tables import Block, Line, beside_published, format_cell, print_blocks, write_blocks, write_csv
from updn_common.runs.importance import trained_importance
from updn_vqa.data.accuracy import AccuracyVersion
from updn_vqa.evaluation.evaluate import NAMES
from updn_vqa.evaluation.measures import relevant_by
from updn_vqa.studies.published import ANSWER_TYPES, TABLE_1, VQA, VQACP
from updn_vqa.studies.recipes import ComparedRun

Rows = Mapping[str | None, Sequence[Row[ComparedRun]]]
"""For each data set of the paper's table, and None for all others together."""

GROUNDING = {
    "rank_correlation": "rank corr.",
    "pointing": "pointing %",
    "sufficiency": "sufficiency",
    "comprehensiveness": "comprehens.",
}
FLIPS = {"flips_irrelevant": "irrelevant swapped", "flips_relevant": "relevant swapped"}
FPVG = {"fpvg": "FPVG", "ggc": "GGC", "ggw": "GGW", "bgc": "BGC", "bgw": "BGW"}
GUIDE = (
    "Means over runs of different seeds or data ± their standard deviation. In brackets: 95 % confidence intervals of "
    "the means, by the percentile bootstrap over images, each with all of its questions; they know nothing of other "
    "seeds. Differences are paired: of runs with the same seed and data, over the same questions."
)
GROUNDING_GUIDE = (
    "Rank correlation is Spearman's, of importance and human importance; pointing: the most important proposal shows "
    "the asked object. Low sufficiency and high comprehensiveness say that the importance is faithful (DeYoung et al., "
    "2020). FPVG (Reich et al., 2023) = GGC + GGW: the answer stays with the relevant proposals alone and changes with "
    "the irrelevant ones alone; G or B for good or bad grounding, C or W for a correct or wrong answer. Importance is "
    "that which each run was trained with: the sum of the gradient, or its norm."
)


def tables(rows: Rows) -> list[Block]:
    """The paper's table with our rows for each of its data sets; ours on other data, and then the paper's apart."""
    blocks = []
    for data_set, mine in rows.items():
        where = data_set or describe_data(mine)
        there = dict.fromkeys(name for row in mine for name in row.cells)
        types = {name: name for name in ANSWER_TYPES}
        if not data_set:
            mentioned = [*ANSWER_TYPES, *(name for name in there if not name.startswith('"') and name not in NAMES)]
            types = {name: name for name in mentioned if name in there}
        ours = [_line(f"{row.name} ({len(row.runs)})", row.cells, types) for row in mine]
        published = {
            name: _published(f"{name}, published", found[data_set]) for name, found in TABLE_1.items() if data_set
        }
        lines = beside_published(mine, ours, published)
        blocks.append(Block(f"{where}: official accuracy (%)", ["method (runs)", *types.values()], lines))
        measures = {name: short for name, short in GROUNDING.items() if name in there}
        compared = [row for row in mine if row.differences]
        for of, names in (("accuracy (%)", types), ("grounding", measures)) if compared else ():
            lines = [_line(row.name, row.differences, names) for row in compared]
            title = f"{where}: difference to {mine[0].name}, {of}"
            blocks.append(Block(title, ["method", *names.values()], lines))
        by = " and ".join(sorted({relevant_by(run.data, run.split) for row in mine for run in row.runs}))
        fpvg = f"faithful and plausible grounding (%), relevant by {by}"
        flips = f"answers that change with another image's proposals (%), relevant by {by}"
        taken = " and ".join(sorted({trained_importance(run.path) for row in mine for run in row.runs}))
        for title, names in ((f"grounding, importance: {taken}", measures), (fpvg, FPVG), (flips, FLIPS)):
            if there.keys() & names.keys():
                lines = [_line(row.name, row.cells, names) for row in mine]
                blocks.append(Block(f"{where}: {title}", ["method", *names.values()], lines))
    if None in rows:
        for data_set in (VQACP, VQA):
            lines = [_published(name, found[data_set]) for name, found in TABLE_1.items()]
            title = f"{data_set}, published accuracy (%): other data than above, not to be compared"
            blocks.append(Block(title, ["method", *ANSWER_TYPES], lines))
    return blocks


def _published(name: str, values: Sequence[float]) -> Line:
    return Line(name, [(f"{value:.2f}", "") for value in values], published=True)


def _line(name: str, cells: Mapping[str, Cell], columns: Iterable[str]) -> Line:
    return Line(name, [_told(cells[column], column) if column in cells else ("-", "") for column in columns])


def _told(cell: Cell, column: str) -> tuple[str, str]:
    return format_cell(
        cell, 1 if column in FPVG | FLIPS else 3 if column in GROUNDING and "%" not in GROUNDING[column] else 2
    )


def print_tables(rows: Rows) -> None:
    """Print them, each number above its interval."""
    print_blocks(tables(rows))
    plain_console().print(f"± standard deviation over runs; [95 % interval over images]. {GROUNDING_GUIDE}")


def write_tables(out: Path, rows: Rows, version: AccuracyVersion) -> list[Path]:
    """Write the tables and the curves; returns what was written."""
    out.mkdir(parents=True, exist_ok=True)
    written = [out / "table.md", out / "table.csv"]
    introduction = f"{GUIDE} The official rules of accuracy are those of {version}.\n\n{GROUNDING_GUIDE}\n"
    write_blocks(written[0], introduction, tables(rows))
    published = [
        (data_set, name, kind, value)
        for name, found in TABLE_1.items()
        for data_set, values in found.items()
        for kind, value in zip(ANSWER_TYPES, values, strict=True)
    ]
    write_csv(written[1], {data_set or describe_data(mine): mine for data_set, mine in rows.items()}, published)
    for data_set, mine in rows.items():
        if curves := supervision(mine):
            kind = {None: "", VQACP: "-vqacp", VQA: "-vqa"}[data_set]
            written.append(out / f"supervision{kind}.png")
            _draw(written[-1], curves, data_set or describe_data(mine))
    return written


def supervision(rows: Sequence[Row[ComparedRun]]) -> dict[str, list[tuple[float, Cell]]]:
    """Accuracy against the share of questions with a hint, for methods that have rows of several shares.

    The share 0 is the row that has all other options in common with a method but is trained without hints.
    """
    curves: dict[str, list[tuple[float, Cell]]] = {}
    for row in rows:
        recipe, share = row.runs[0].recipe, row.runs[0].share
        if not share:
            continue
        alike = [r for r in rows if r.runs[0].recipe == recipe | {"hint_share": r.runs[0].recipe["hint_share"]}]
        without = [
            r
            for r in rows
            if r.runs[0].preset == "base" and all(r.runs[0].recipe[name] == recipe[name] for name in ("scale", "start"))
        ]
        if len(alike) > 1 and alike[0] is row:
            points = [(r.runs[0].share, r.cells["all"]) for r in [*without[:1], *alike]]
            curves[row.runs[0].method or row.name] = sorted(points, key=lambda point: point[0])
    return curves


def _root(x: Float[np.ndarray, " N"]) -> NDArray[np.float64]:
    root: NDArray[np.float64] = np.sign(x) * np.sqrt(np.abs(x))  # the margin is below 0
    return root


def _square(x: Float[np.ndarray, " N"]) -> NDArray[np.float64]:
    square: NDArray[np.float64] = np.sign(x) * np.square(x)
    return square


@plain_text()
def _draw(path: Path, curves: Mapping[str, Sequence[tuple[float, Cell]]], where: str) -> None:
    """Means; the bars are standard deviations over runs, the bands confidence intervals over images."""
    figure, axes = plt.subplots(figsize=(6.4, 4), layout="constrained")
    for i, (name, points) in enumerate(curves.items()):
        x = [100 * share for share, _ in points]
        cells = [cell for _, cell in points]
        spreads = [cell.spread or 0.0 for cell in cells]
        axes.errorbar(x, [cell.value for cell in cells], spreads, fmt="o-", capsize=3, color=f"C{i}", label=name)
        low, high = zip(*(cell.interval for cell in cells), strict=True)
        axes.fill_between(x, low, high, color=f"C{i}", alpha=0.15, linewidth=0)
    axes.set_xscale("function", functions=(_root, _square))
    ticks = sorted({share for points in curves.values() for share, _ in points})
    axes.set_xticks([100 * share for share in ticks], [f"{100 * share:.3g}" for share in ticks])
    axes.set(xlabel="train questions with a hint (%)", ylabel=f"accuracy, {where} (%)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.margins(x=0.03)
    if len(curves) > 1:
        axes.legend(frameon=False)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=150, format="png")
    plt.close(figure)
