"""The tables of a comparison, and the curves of accuracy over the share of hints."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from numpy.typing import NDArray

from updn_common.reports.figures import draw
from updn_common.reports.rows import Cell, Column, Row
from updn_common.reports.tables import Block
from updn_common.studies.compare import Part, comparison_blocks
from updn_common.studies.compared_runs import Rows, describe_data, describe_importance
from updn_vqa.evaluation.evaluate import NAMES
from updn_vqa.evaluation.measures import relevant_by
from updn_vqa.studies.compared_run import ComparedRun
from updn_vqa.studies.published import ANSWER_TYPES, TABLE_1, VQA, VQACP

GROUNDING = (
    Column("rank_correlation", "rank corr.", 3),
    Column("pointing", "pointing %", 2),
    Column("sufficiency", "sufficiency", 3),
    Column("comprehensiveness", "comprehens.", 3),
)
FLIPS = (Column("flips_irrelevant", "irrelevant swapped"), Column("flips_relevant", "relevant swapped"))
FPVG = tuple(Column(name, name.upper()) for name in ("fpvg", "ggc", "ggw", "bgc", "bgw"))
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


def tables(rows: Rows[ComparedRun]) -> list[Block]:
    """The tables: beside those of the paper on its data sets, and apart from them on other data."""
    return comparison_blocks(rows, _parts, TABLE_1, published_title="published accuracy (%)")


def _parts(rows: Sequence[Row[ComparedRun]]) -> list[Part]:
    measured = dict.fromkeys(name for row in rows for name in row.cells)
    answer_types = [name for name in measured if not name.startswith('"') and name not in NAMES]
    accuracy = [Column(name, name, 2) for name in dict.fromkeys([*ANSWER_TYPES, *answer_types])]
    relevant = " and ".join(sorted({relevant_by(run.data, run.split) for row in rows for run in row.runs}))
    return [
        Part("official accuracy (%)", accuracy),
        Part("accuracy (%)", accuracy, differences=True),
        Part("grounding", GROUNDING, differences=True),
        Part(f"grounding, importance: {describe_importance(rows)}", GROUNDING),
        Part(f"faithful and plausible grounding (%), relevant by {relevant}", FPVG),
        Part(f"answers that change with another image's proposals (%), relevant by {relevant}", FLIPS),
    ]


def notes(rows: Rows[ComparedRun]) -> list[str]:
    """How to read the tables."""
    return [GROUNDING_GUIDE]


def supervision(rows: Sequence[Row[ComparedRun]]) -> dict[str, list[tuple[float, Cell]]]:
    """Accuracy against the share of questions with a hint, for methods that have rows of several shares.

    The share 0 is the row without hints that has the same scale and the same start.
    """
    curves: dict[str, list[tuple[float, Cell]]] = {}
    for row in rows:
        run = row.runs[0]
        if not run.share:
            continue
        without = [
            other
            for other in rows
            if other.runs[0].preset == "base"
            and all(other.runs[0].description[name] == run.description[name] for name in ("scale", "start"))
        ]
        alike = [other for other in rows if _except_share(other) == _except_share(row)]
        if len(alike) > 1 and alike[0] is row:
            points = [(other.runs[0].share, other.cells["all"]) for other in [*without[:1], *alike]]
            curves[run.method or row.name] = sorted(points, key=lambda point: point[0])
    return curves


def _except_share(row: Row[ComparedRun]) -> dict[str, Any]:
    return row.runs[0].description | {"hint_share": None}


def _root(x: Float[np.ndarray, " N"]) -> NDArray[np.float64]:
    root: NDArray[np.float64] = np.sign(x) * np.sqrt(np.abs(x))  # the margin is below 0
    return root


def _square(x: Float[np.ndarray, " N"]) -> NDArray[np.float64]:
    square: NDArray[np.float64] = np.sign(x) * np.square(x)
    return square


def draw_supervision(out: Path, rows: Rows[ComparedRun]) -> list[Path]:
    """Draw the supervision curves of each data set into ``out``, if there are any; returns the files."""
    written = []
    for data_set, mine in rows.items():
        if curves := supervision(mine):
            suffix = {None: "", VQACP: "-vqacp", VQA: "-vqa"}[data_set]
            written.append(out / f"supervision{suffix}.png")
            draw(written[-1], plot_supervision(curves, data_set or describe_data(mine)))
    return written


def plot_supervision(curves: Mapping[str, Sequence[tuple[float, Cell]]], where: str) -> Callable[[Axes], None]:
    """Means, with standard deviations over runs as bars, and confidence intervals over images as bands."""

    def plot(axes: Axes) -> None:
        for i, (name, points) in enumerate(curves.items()):
            x = [100 * share for share, _ in points]
            cells = [cell for _, cell in points]
            spreads = [cell.spread or 0.0 for cell in cells]
            axes.errorbar(x, [cell.value for cell in cells], spreads, fmt="o-", capsize=3, color=f"C{i}", label=name)
            low, high = zip(*(cell.interval for cell in cells if cell.interval is not None), strict=True)
            axes.fill_between(x, low, high, color=f"C{i}", alpha=0.15, linewidth=0)
        axes.set_xscale("function", functions=(_root, _square))
        ticks = sorted({share for points in curves.values() for share, _ in points})
        axes.set_xticks([100 * share for share in ticks], [f"{100 * share:.3g}" for share in ticks])
        axes.set(xlabel="train questions with a hint (%)", ylabel=f"accuracy, {where} (%)")
        axes.margins(x=0.03)
        if len(curves) > 1:
            axes.legend(frameon=False)

    return plot
