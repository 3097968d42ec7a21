"""The plots of the report."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from human_study.analysis.answers import Answer
from human_study.analysis.compare import Comparison
from human_study.analysis.intervals import Share
from updn_common.reports.figures import plain_text

STEP_COLOURS = ("#b35806", "#f1a340", "#c9cdd4", "#998ec3", "#542788")
"""Colours of the five steps from the first network to the second (ColorBrewer's PuOr, safe for the colour-blind)."""
_INK, _SOFT = "#1d2330", "#5b6475"


def draw_shares(path: Path, comparisons: Sequence[Comparison], *, simulated: bool) -> None:
    """The headline shares, those of all participants, and those of groups, each with its 95 % interval."""
    rows: list[tuple[str, Share | None, str]] = []
    for comparison in comparisons:
        first, second = comparison.pair
        rows.append((f"{comparison.question}: {second} over {first}", comparison.share, _INK))
        rows.append(("nobody excluded", comparison.share_of_all, _SOFT))
        rows += [(group.name or "(no group)", group.share, STEP_COLOURS[4]) for group in comparison.groups]
        rows.append(("", None, _INK))
    rows.pop()
    figure, axes = _figure(height=1.2 + 0.3 * len(rows), simulated=simulated)
    for place, (_, share, colour) in enumerate(rows):
        if share is None or np.isnan(share.value):
            continue
        low, high = share.interval
        axes.plot([low, high], [place, place], color=colour, linewidth=2, solid_capstyle="butt")
        axes.plot(share.value, place, "o", color=colour, markersize=6)
    axes.axvline(0.5, color=_SOFT, linewidth=1, linestyle=(0, (4, 3)))
    labelled = [(place, label, colour) for place, (label, _, colour) in enumerate(rows) if label]
    axes.set_yticks([place for place, _, _ in labelled], [textwrap.fill(label, 30) for _, label, _ in labelled])
    for tick, (_, _, colour) in zip(axes.get_yticklabels(), labelled, strict=True):
        tick.set_fontweight("bold" if colour == _INK else "normal")
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0, 1)
    axes.set_xlabel("preference share", loc="right")
    _save(figure, path)


def draw_raters(path: Path, comparison: Comparison, *, simulated: bool) -> None:
    """How the preference differs among raters and among items."""
    figure, axes = _figure(height=3.2, simulated=simulated)
    votes = comparison.votes
    bins = np.linspace(0, 1, 11)
    for name, clusters, colour in (("raters", votes.raters, STEP_COLOURS[4]), ("items", votes.items, STEP_COLOURS[0])):
        means = np.bincount(clusters, votes.points) / np.bincount(clusters)
        shares = np.histogram(means, bins)[0] / max(len(means), 1)
        axes.stairs(shares, bins, color=colour, linewidth=2, label=f"{len(means)} {name}")
    axes.axvline(0.5, color=_SOFT, linewidth=1, linestyle=(0, (4, 3)))
    axes.set_xlim(0, 1)
    axes.set_xlabel(f"share that prefers {comparison.pair[1]} ({comparison.question})")
    axes.set_ylabel("part of raters, or of items")
    axes.legend(frameon=False)
    _save(figure, path)


def draw_seconds(path: Path, kept: Sequence[Answer], excluded: Sequence[Answer], *, simulated: bool) -> None:
    """The time that answers to main items took."""
    figure, axes = _figure(height=3.2, simulated=simulated)
    times = [
        np.array([max(answer.seconds, 0.1) for answer in answers if answer.kind == "main"])
        for answers in (kept, excluded)
    ]
    everything = np.concatenate(times)
    ends = (everything.min(), everything.max()) if len(everything) else (0.1, 10.0)
    bins = np.geomspace(ends[0], max(ends[1], 1.01 * ends[0]), 31)
    for values, name, colour in zip(times, ("analysed", "excluded"), (STEP_COLOURS[4], STEP_COLOURS[0]), strict=True):
        if len(values):
            axes.hist(
                values, bins.tolist(), histtype="step", linewidth=2, color=colour, label=f"{len(values)} answers {name}"
            )
    axes.set_xscale("log")
    ticks = [tick for tick in (0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000) if bins[0] <= tick <= bins[-1]]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.xaxis.minorticks_off()
    axes.set_xlabel("seconds for a main item")
    axes.set_ylabel("answers")
    axes.legend(frameon=False)
    _save(figure, path)


def _figure(*, height: float, simulated: bool) -> tuple[Figure, Axes]:
    figure, axes = plt.subplots(figsize=(6, height), layout="constrained")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    if simulated:
        axes.set_title("simulated answers", loc="right", fontsize=9, color=STEP_COLOURS[0], fontweight="bold")
    return figure, axes


def _save(figure: Figure, path: Path) -> None:
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "human-study"}), plain_text():
        figure.savefig(path, format="svg", metadata={"Date": None})
    plt.close(figure)
