"""The supervision curve: accuracy against the share of train questions that have a hint."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from updn_common.reports.figures import draw
from updn_common.reports.rows import Cell, Row
from updn_common.studies.compared_runs import Rows, describe_data
from updn_vqa.studies.compared_run import ComparedRun
from updn_vqa.studies.published import VQA, VQACP

Curves = Mapping[str, Sequence[tuple[float, Cell]]]
"""For each method, the accuracy at each share."""


def draw_supervision(out: Path, rows: Rows[ComparedRun]) -> list[Path]:
    """Draw the curves of each data set into ``out``, if there are any; returns the files."""
    written = []
    for data_set, mine in rows.items():
        if curves := supervision_curves(mine):
            suffix = {None: "", VQACP: "-vqacp", VQA: "-vqa"}[data_set]
            written.append(out / f"supervision{suffix}.png")
            draw(written[-1], plot_supervision(curves, data_set or describe_data(mine)))
    return written


def supervision_curves(rows: Sequence[Row[ComparedRun]]) -> Curves:
    """The curve of each method that has rows with different shares of hints.

    At the share 0 stands the row without hints that has the same scale and the same start.
    """
    curves: dict[str, Sequence[tuple[float, Cell]]] = {}
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


def plot_supervision(curves: Curves, where: str) -> Callable[[Axes], None]:
    """Plots means, with standard deviations over runs as bars, and confidence intervals over images as bands."""

    def plot(axes: Axes) -> None:
        for i, (name, points) in enumerate(curves.items()):
            x = [100 * share for share, _ in points]
            cells = [cell for _, cell in points]
            spreads = [cell.spread or 0.0 for cell in cells]
            axes.errorbar(x, [cell.value for cell in cells], spreads, fmt="o-", capsize=3, color=f"C{i}", label=name)
            low, high = zip(*(cell.interval for cell in cells if cell.interval is not None), strict=True)
            axes.fill_between(x, low, high, color=f"C{i}", alpha=0.15, linewidth=0)
        # a root that also takes the margin of the axis, which is below 0
        axes.set_xscale("function", functions=(lambda x: np.sign(x) * abs(x) ** 0.5, lambda x: np.sign(x) * x**2))
        ticks = sorted({share for points in curves.values() for share, _ in points})
        axes.set_xticks([100 * share for share in ticks], [f"{100 * share:.3g}" for share in ticks])
        axes.set(xlabel="train questions with a hint (%)", ylabel=f"accuracy, {where} (%)")
        axes.margins(x=0.03)
        if len(curves) > 1:
            axes.legend(frameon=False)

    return plot
