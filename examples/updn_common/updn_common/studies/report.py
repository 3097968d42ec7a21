"""The report of a study: a table and curves on a page, in the terminal, as JSON and as Markdown."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, TypeVar

from matplotlib.axes import Axes

from updn_common.console import plain_console
from updn_common.files.reading import read_json
from updn_common.files.writing import write_json
from updn_common.reports.bootstrap import Estimates
from updn_common.reports.figures import draw
from updn_common.reports.page import Figure, Section, write_page
from updn_common.reports.rows import Column, make_row, row_line
from updn_common.reports.tables import Block, block_markdown, print_blocks
from updn_common.runs.directory import read_metrics
from updn_common.studies.study import M, S, Study, StudyRun

BASE = "base"
"""The arm without hints, trained for as many steps as the others; gains are over it."""
TABLE_GUIDE = (
    '"start" is the network that all others start from, "base" the same trained on without hints; without a "start", '
    "all begin with random weights. A gain is the paired difference to base in the column before it, and all columns "
    "after the first gain are of the same split."
)


@dataclass(frozen=True)
class Outcome(ABC):
    """What one run reached; a pipeline adds its measures."""

    arm: str
    world: str
    seed: int

    @property
    @abstractmethod
    def values(self) -> dict[str, float]:
        """The number for each column of the table, by the column's measure; unknown ones are left out."""


AnOutcome = TypeVar("AnOutcome", bound=Outcome)


@dataclass(frozen=True)
class Page:
    """What a report shows beside its table."""

    title: str
    introduction: str
    guide: str
    """How to read the table."""
    metric: str
    """The metric in ``metrics.jsonl`` that is drawn over the steps of training."""
    metric_label: str
    curves_caption: str
    figures: Sequence[Figure] = ()
    """Figures below the curves."""
    sections: Sequence[Section] = ()
    """Sections at the end of the page."""
    units: str = ""
    """The units of the table, for the terminal."""


def write_report(
    out: Path,
    study: Study[Any, Any],
    runs: Sequence[StudyRun[Any, Any]],
    outcomes: Sequence[Outcome],
    columns: Sequence[Column],
    page: Page,
    *,
    emphasised: Collection[str],
) -> None:
    """Write ``results.json``, ``table.md``, ``curves.png`` and ``index.html`` into ``out``, and print the table."""
    results = {
        "made_by": code_versions([run.directory for run in runs]),
        "arms": [asdict(arm) for arm in study.rows],
        "outcomes": [asdict(outcome) for outcome in outcomes],
    }
    write_json(out / "results.json", results, indent=1)
    names, worlds = [arm.name for arm in study.rows], list(dict.fromkeys(outcome.world for outcome in outcomes))
    table = study_table(outcomes, names, columns, emphasised)
    (out / "table.md").write_text(block_markdown(table), encoding="utf-8")
    draw(out / "curves.png", lambda axes: _draw_curves(axes, study, runs, page, emphasised))
    repetitions = f"{len(worlds)} world(s) x {study.model_seeds} model seeds"
    sections = [
        Section("All methods", f"Mean ± standard deviation over {repetitions}. {page.guide}", table),
        Section("Curves", figures=[Figure("curves.png", page.curves_caption), *page.figures]),
    ]
    for world in worlds if len(worlds) > 1 else ():
        part = [outcome for outcome in outcomes if outcome.world == world]
        sections.append(Section(f"World {world}", table=study_table(part, names, columns, emphasised)))
    write_page(out / "index.html", page.title, page.introduction, [*sections, *page.sections])
    print_blocks(table.pieces(first=table.header.index("gain"), width=3))
    console = plain_console(soft_wrap=True)
    console.print("; ".join(filter(None, (repetitions, page.units))))
    console.print(f"report: {out / 'index.html'}")


def study_table(
    outcomes: Sequence[Outcome], names: Sequence[str], columns: Sequence[Column], emphasised: Collection[str] = ()
) -> Block:
    """Means over runs, and differences to the run of the arm ``base`` in the same world with the same seed."""

    def estimates(outcome: Outcome) -> Estimates:
        return Estimates(outcome.values, {})

    base = {(outcome.world, outcome.seed): estimates(outcome) for outcome in outcomes if outcome.arm == BASE}
    lines = []
    for name in names:
        runs = [outcome for outcome in outcomes if outcome.arm == name]
        partners = [None if name == BASE else base.get((run.world, run.seed)) for run in runs]
        row = make_row(name, runs, [estimates(run) for run in runs], partners)
        lines.append(row_line(row, columns, "emphasised" if name in emphasised else ""))
    return Block("", ["method", *(column.header for column in columns)], lines)


def collect(
    runs: Sequence[StudyRun[M, S]],
    splits: Sequence[str],
    file: str,
    outcome: Callable[[StudyRun[M, S], dict[str, Any]], AnOutcome],
) -> list[AnOutcome]:
    """Read what every run reached; ``outcome`` gets the content of ``file`` for each split."""
    return [
        outcome(run, {split: read_json(run.directory / "evaluation" / split / file) for split in splits})
        for run in runs
    ]


def code_versions(runs: Sequence[Path]) -> dict[str, list[str | None]]:
    """The revisions of the code that runs were trained with, and the versions of its packages, each once."""
    records = [read_json(run / "config.json") for run in runs]
    found = {"git": [record["git"] for record in records]}
    found |= {package: [record["packages"].get(package) for record in records] for package in ("torch", "hint-loss")}
    return {name: list(dict.fromkeys(values)) for name, values in found.items()}


def _draw_curves(
    axes: Axes, study: Study[Any, Any], runs: Sequence[StudyRun[Any, Any]], page: Page, emphasised: Collection[str]
) -> None:
    """Draw the mean of a metric over the runs of each arm."""
    for row, arm in enumerate(study.arms):
        metrics = [read_metrics(run.directory) for run in runs if run.arm is arm]
        steps = [line["step"] for line in metrics[0]]
        means = [fmean(lines[i][page.metric] for lines in metrics) for i in range(len(steps))]
        width = 2.5 if arm.name in emphasised else 1.5
        style = "-" if row < 10 else "--"  # matplotlib has ten colours, then the same again
        axes.plot(steps, means, style, marker="o", markersize=3, label=arm.name, linewidth=width)
    axes.set(xlabel="step", ylabel=page.metric_label)
    axes.figure.legend(fontsize=8, ncols=4, loc="outside upper center", frameon=False)
