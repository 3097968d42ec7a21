"""What a study found: one table and curves, on a page, in the terminal and as JSON and Markdown."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from statistics import fmean

from matplotlib.axes import Axes
from rich.table import Table

from updn_captioning.studies.definitions import Study
from updn_captioning.training.methods import METHODS, Method, Scale
from updn_common.console import plain_console
from updn_common.files.reading import read_json
from updn_common.files.writing import write_json
from updn_common.reports.figures import draw
from updn_common.reports.page import Figure, Section, TableBlock, write_page
from updn_common.reports.tables import markdown, spread
from updn_common.runs.directory import read_metrics
from updn_common.runs.study import Arm, directories, made_by

RECOMMENDED = METHODS["unsigned"]
CONTINUED = "base"
"""The arm that goes on without hints: what others are compared with, at equal budget."""
COLUMNS = {
    "robust": {"val": "in distribution", "dev": "development", "test": "shifted test"},
    "karpathy": {"val": "val", "test": "test"},
}
MEASURES = {
    "CHAIRi": "hallucinated (%)",
    "reference_gradient_pointing": "pointing",
    "reference_attention_pointing": "by attention",
    "reference_gradient_rank_correlation": "rank corr.",
    "generated_gradient_pointing": "own words",
}
"""What is told of the last split beside CIDEr."""


@dataclass(frozen=True)
class Outcome:
    """What one run reached: all scores of each split that it is evaluated on."""

    arm: str
    world: str
    seed: int
    scores: dict[str, dict[str, float]]

    @property
    def final(self) -> dict[str, float]:
        """The scores of the last split."""
        return list(self.scores.values())[-1]


def write_report(out: Path, data: Sequence[Path], study: Study) -> None:
    """Write ``results.json``, ``table.md``, curves and ``index.html`` into ``out``, and print the table."""
    worlds = [path.name for path in data]
    outcomes = collect(out, worlds, study)
    results = {
        "made_by": made_by(directories(study, out, worlds)),
        "arms": [asdict(arm) for arm in study.rows],
        "outcomes": [asdict(outcome) for outcome in outcomes],
    }
    write_json(out / "results.json", results, indent=1)
    header, rows = table(outcomes, study)
    (out / "table.md").write_text(markdown(header, rows), encoding="utf-8")
    draw(out / "curves.png", lambda axes: _curves(axes, out, worlds, study))
    seeds = f"{len(worlds)} world(s) x {study.model_seeds} model seeds"
    emphasised = [i for i, arm in enumerate(study.rows) if arm.method == RECOMMENDED]
    sections = [
        Section(
            "All methods", f"Mean ± standard deviation over {seeds}. {GUIDE}", TableBlock(header, rows, emphasised)
        ),
        Section(
            "Curves", figures=[Figure("curves.png", "CIDEr on the split val, by which the best checkpoint is chosen.")]
        ),
    ]
    write_page(out / "index.html", "HINT for captions in a small world", INTRODUCTION[study.kind], sections)
    _print(header, rows, emphasised, f"{seeds}; report: {out / 'index.html'}")


COMPARED = (
    "UpDn captioners of pictures of two objects are trained for the same number of steps, with and without hints on "
    "where the objects are that visual words name, and with controls whose hints carry no information. "
)
INTRODUCTION = {
    "robust": COMPARED
    + "In train and val, shapes go together; in the development and test splits they do not, so that "
    "the language prior misleads.",
    "karpathy": COMPARED + "All splits are of one distribution.",
}
GUIDE = (
    'Scores are CIDEr-D of captions by beam search. "start" is the network that all others start from, "base" the same '
    'trained on without hints; without a "start", all begin with random weights. Gains are paired differences to base. '
    "All columns after the first gain are of the same "
    "split as the one before it. Hallucinated: mentions of objects that are not there, of all mentions (CHAIRi). "
    "Pointing: % of the visual words of people's captions whose most important proposal, by gradient or by attention, "
    "overlaps an object that they name by more than half, of those words where any proposal does (the thin bars and "
    "pillars have none); own words: the same of words of the network's captions whose object is there. "
    "Rank correlation is Spearman's, of gradients and human importance. A gradient's importance is that which a run "
    "was trained with: the norm for unsigned, else the sum."
)


def table(outcomes: Sequence[Outcome], study: Study) -> tuple[list[str], list[list[str]]]:
    """Header and rows of mean ± standard deviation over runs."""
    columns = [COLUMNS[study.kind][split] for split in study.splits]
    header = ["method", *columns, "gain"]
    for name in MEASURES.values():
        header += [name, "gain"] if name == "pointing" else [name]
    base = {(o.world, o.seed): o.final for o in outcomes if o.arm == CONTINUED}
    rows = []
    for arm in study.rows:
        runs = [outcome for outcome in outcomes if outcome.arm == arm.name]

        def cells(measure: str, digits: int, runs: Sequence[Outcome] = runs) -> list[str]:
            known = [o for o in runs if measure in o.final]  # captions without visual words have no share of errors
            pairs = [(o, base.get((o.world, o.seed), {})) for o in known if o.arm != CONTINUED]
            gains = [o.final[measure] - other[measure] for o, other in pairs if measure in other]
            return [spread([o.final[measure] for o in known], digits), spread(gains, digits)]

        row = [arm.name, *(spread([o.scores[split]["CIDEr"] for o in runs], 3) for split in study.splits)]
        row += cells("CIDEr", 3)[1:]
        for measure, name in MEASURES.items():
            row += cells(measure, 3 if "correlation" in measure else 1)[: 2 if name == "pointing" else 1]
        rows.append(row)
    return header, rows


def collect(out: Path, worlds: Sequence[str], study: Study) -> list[Outcome]:
    """Read the outcome of every run of a finished study."""
    return [_outcome(out, *run, study.splits) for run in product(study.rows, worlds, range(study.model_seeds))]


def _outcome(out: Path, arm: Arm[Method, Scale], world: str, seed: int, splits: Sequence[str]) -> Outcome:
    evaluation = arm.directory(out, world, seed) / "evaluation"
    scores = {split: read_json(evaluation / split / "scores.json")["scores"] for split in splits}
    return Outcome(arm.name, world, seed, scores)


def _curves(axes: Axes, out: Path, worlds: Sequence[str], study: Study) -> None:
    for arm in study.arms:
        seeds = range(study.model_seeds)
        metrics = [read_metrics(arm.directory(out, world, seed)) for world, seed in product(worlds, seeds)]
        steps = [line["step"] for line in metrics[0]]
        means = [fmean(run[i]["val/cider"] for run in metrics) for i in range(len(steps))]
        width = 2.5 if arm.method == RECOMMENDED else 1.5
        axes.plot(steps, means, marker="o", markersize=3, label=arm.name, linewidth=width)
    axes.set(xlabel="step", ylabel="CIDEr on val")
    axes.figure.legend(fontsize=8, ncols=4, loc="outside upper center", frameon=False)


def _print(header: Sequence[str], rows: Sequence[Sequence[str]], emphasised: Sequence[int], caption: str) -> None:
    """Print tables that fit a terminal of 80 columns: scores, then the rest, three columns at a time."""
    at = header.index("gain") + 1
    for columns in (range(1, at), *(range(i, min(i + 3, len(header))) for i in range(at, len(header), 3))):
        shown = Table(caption=caption if columns.stop == len(header) else None, box=None, pad_edge=False)
        shown.add_column(header[0], no_wrap=True)
        for column in columns:
            shown.add_column(header[column], justify="right")
        for i, row in enumerate(rows):
            shown.add_row(row[0], *(row[column] for column in columns), style="bold" if i in emphasised else "")
        plain_console().print(shown)
