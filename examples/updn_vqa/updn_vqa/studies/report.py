"""What a study found: one table, curves and a gallery, on a page, in the terminal and as JSON and Markdown."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from statistics import fmean

from matplotlib.axes import Axes
from rich.table import Table

from updn_common.console import plain_console
from updn_common.files.reading import read_json
from updn_common.files.writing import write_json
from updn_common.reports.explanation import Choice
from updn_common.reports.figures import draw, find_images
from updn_common.reports.page import Figure, Section, TableBlock, write_page
from updn_common.reports.tables import markdown, spread
from updn_common.runs.directory import read_metrics
from updn_common.runs.importance import Importance
from updn_common.runs.study import Arm, directories, made_by
from updn_vqa.data.prepared import PreparedData
from updn_vqa.evaluation.explain import CHOSEN, READING_GUIDE, choose_questions, draw_explanations
from updn_vqa.studies.definitions import Study
from updn_vqa.training.measure import load_model
from updn_vqa.training.methods import Method, Scale

CONTINUED = "base"
"""The arm that goes on without hints: what others are compared with, at equal budget."""
GALLERY: dict[Choice, int] = {"most-improved": 6, "most-harmed": 4, "random": 6}
COLUMNS = {"val": "in distribution", "dev": "development", "test": "shifted test"}


@dataclass(frozen=True)
class Outcome:
    """What one run reached: accuracies (%, official, 2016), and more of the last split that it is evaluated on."""

    arm: str
    world: str
    seed: int
    accuracy: dict[str, float]
    """For each split."""
    by_question_type: dict[str, float]
    rank_correlation: float
    pointing: float
    flips_irrelevant: float
    """Answers (%) that change with another image's proposals in place of the irrelevant ones."""
    importance: Importance
    """That which the run was trained with, and these are measured by."""

    @property
    def final(self) -> float:
        """The accuracy on the last split."""
        return list(self.accuracy.values())[-1]


def write_report(out: Path, data: Sequence[Path], images: Path | None, study: Study) -> None:
    """Write ``results.json``, ``table.md``, figures and ``index.html`` into ``out``, and print the table."""
    worlds = [path.name for path in data]
    outcomes = collect(out, worlds, study)
    results = {
        "made_by": made_by(directories(study, out, worlds)),
        "arms": [asdict(arm) for arm in study.rows],
        "outcomes": [asdict(outcome) for outcome in outcomes],
    }
    write_json(out / "results.json", results, indent=1)
    names = [arm.name for arm in study.rows]
    header, rows = table(outcomes, names)
    (out / "table.md").write_text(markdown(header, rows), encoding="utf-8")
    figures = _draw_figures(out, worlds, study, outcomes)

    seeds = f"{len(worlds)} world(s) x {study.model_seeds} model seeds"
    emphasised = [names.index(leading(study).name)]
    text = f"Mean ± standard deviation over {seeds}. {TABLE_GUIDE}"
    sections = [
        Section("All methods", text, TableBlock(header, rows, emphasised)),
        Section("Curves", figures=figures),
    ]
    if len(worlds) > 1:
        for world in worlds:
            part = [outcome for outcome in outcomes if outcome.world == world]
            sections.append(Section(f"World {world}", table=TableBlock(*table(part, names), emphasised)))
    if images:
        sections += _gallery(out, study, data[0], images)
    write_page(out / "index.html", "HINT in a small world of shifting priors", INTRODUCTION, sections)
    caption = f"{seeds}; accuracy and pointing in %; report: {out / 'index.html'}"
    _print(header, rows, leading(study).name, outcomes[0].by_question_type, caption)


INTRODUCTION = (
    "Networks learn to answer from language priors, and from a context cue in worlds that have one. They are trained "
    "for equally many steps with and without hints on where people looked, from random weights or, in a table with a "
    '"start", on from that; beside them are controls, whose hints say less or nothing. In the development and test '
    "splits the priors are reversed and the cue is random; this second shift makes the world a test of grounding, and "
    "it is not VQA-CP."
)
TABLE_GUIDE = (
    'Accuracies are official VQA accuracies in percent. "start" is the network that all others start from, "base" the '
    'same trained on without hints; without a "start", all begin with random weights. "gain" is the paired difference '
    "to base in the column before it, and all columns after it are of the same split: accuracy by type of question, "
    "and, for the gradient-based importance, rank correlation (Spearman) and pointing (% of questions whose most "
    "important proposal shows the asked object), by the importance that each run was trained with (the norm of the "
    "gradient for unsigned, else its sum). Flips: % of answers that change when the irrelevant proposals are swapped "
    "for those of another image."
)


def table(outcomes: Sequence[Outcome], arms: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of mean ± standard deviation over runs."""
    splits, kinds = list(outcomes[0].accuracy), list(outcomes[0].by_question_type)
    header = ["method", *(COLUMNS[split] for split in splits), "gain", *kinds, "rank corr.", "pointing", "flips"]
    base = {(o.world, o.seed): o.final for o in outcomes if o.arm == CONTINUED}
    rows = []
    for arm in arms:
        runs = [outcome for outcome in outcomes if outcome.arm == arm]
        gains = [o.final - base[o.world, o.seed] for o in runs] if base and arm != CONTINUED else []
        row = [arm, *(spread([o.accuracy[split] for o in runs]) for split in splits), spread(gains)]
        row += [spread([o.by_question_type[kind] for o in runs]) for kind in kinds]
        row += [spread([o.rank_correlation for o in runs], 2), spread([o.pointing for o in runs])]
        rows.append([*row, spread([o.flips_irrelevant for o in runs])])
    return header, rows


def leading(study: Study) -> Arm[Method, Scale]:
    """The arm that is told of most: HINT in the recommended form, or else in the signed one."""
    arms = {arm.name: arm for arm in study.arms}
    return arms.get("unsigned") or arms["hint"]


def collect(out: Path, worlds: Sequence[str], study: Study) -> list[Outcome]:
    """Read the outcome of every run of a finished study."""
    return [_outcome(out, *run, study.splits) for run in product(study.rows, worlds, range(study.model_seeds))]


def _outcome(out: Path, arm: Arm[Method, Scale], world: str, seed: int, splits: Sequence[str]) -> Outcome:
    evaluation = arm.directory(out, world, seed) / "evaluation"
    measured = [read_json(evaluation / split / "accuracy.json") for split in splits]
    accuracies = [content["accuracy"]["2016"] for content in measured]
    return Outcome(
        arm=arm.name,
        world=world,
        seed=seed,
        accuracy={split: accuracy["overall"] for split, accuracy in zip(splits, accuracies, strict=True)},
        by_question_type=accuracies[-1]["by_question_type"],
        rank_correlation=measured[-1]["rank_correlation"],
        pointing=measured[-1]["pointing"],
        flips_irrelevant=measured[-1]["flips_irrelevant"],
        importance=measured[-1]["importance"],
    )


def _print(
    header: Sequence[str], rows: Sequence[Sequence[str]], emphasised: str, kinds: Collection[str], caption: str
) -> None:
    """Print two tables that fit a terminal of 80 columns; the development split is left to the page."""
    by_kind = [column for column, name in enumerate(header) if name in kinds]
    left_out = {header[0], *kinds} | ({"development"} if "shifted test" in header else set())
    others = [column for column, name in enumerate(header) if name not in left_out]
    for columns, text in ((others, caption), (by_kind, "by type of question")):
        shown = Table(caption=text, box=None, padding=(0, 1, 0, 0), pad_edge=False)
        shown.add_column(header[0], no_wrap=True)
        for column in columns:
            shown.add_column(header[column], justify="right")
        for row in rows:
            shown.add_row(row[0], *(row[column] for column in columns), style="bold" if row[0] == emphasised else "")
        plain_console().print(shown)


def _draw_figures(out: Path, worlds: Sequence[str], study: Study, outcomes: Sequence[Outcome]) -> list[Figure]:
    """Curves, and the accuracy against the share of hints where the study varies it."""

    def curves(axes: Axes) -> None:
        for row, arm in enumerate(study.arms):
            seeds = range(study.model_seeds)
            metrics = [read_metrics(arm.directory(out, world, seed)) for world, seed in product(worlds, seeds)]
            steps = [line["step"] for line in metrics[0]]
            means = [fmean(run[i]["development/accuracy"] for run in metrics) for i in range(len(steps))]
            width = 2.5 if arm is leading(study) else 1.5
            style = "-" if row < 10 else "--"  # ten colours, then again
            axes.plot(steps, means, style, marker="o", markersize=3, label=arm.name, linewidth=width)
        axes.set(xlabel="step", ylabel="development accuracy (%)")
        axes.figure.legend(fontsize=8, ncols=4, loc="outside upper center", frameon=False)

    hints = [arm for arm in study.arms if arm.method == leading(study).method]
    shares = {CONTINUED: 0.0} | {arm.name: arm.hint_share for arm in sorted(hints, key=lambda arm: arm.hint_share)}
    last = COLUMNS[study.splits[-1]]

    def scatter(axes: Axes) -> None:
        reached = [[outcome.final for outcome in outcomes if outcome.arm == name] for name in shares]
        for i, values in enumerate(reached):
            axes.scatter([i] * len(values), values, s=14, alpha=0.5, color="C0")
        axes.plot([fmean(values) for values in reached], marker="o", color="C0")
        axes.set_xticks(range(len(shares)), [f"{100 * share:g}" for share in shares.values()])
        axes.set(xlabel="questions with a hint (%)", ylabel=f"{last} accuracy (%)")

    draw(out / "curves.png", curves)
    chosen_by = "Accuracy on the shifted development split, by which the best checkpoint is chosen."
    figures = [Figure("curves.png", chosen_by)]
    if len(hints) > 1:
        draw(out / "shares.png", scatter)
        figures.append(Figure("shares.png", f"Accuracy ({last}) against the share of questions with a hint."))
    return figures


def _gallery(out: Path, study: Study, data_directory: Path, image_folder: Path) -> list[Section]:
    """Before and after of the first world's first network; one folder of figures a choice."""
    data = PreparedData.open(data_directory)
    split = data.split(study.splits[-1])
    models = [load_model(arm.directory(out, data_directory.name, 0), data) for arm in (study.rows[0], leading(study))]
    images = find_images(image_folder)
    sections: list[Section] = []
    for choose, count in GALLERY.items():
        folder = out / "gallery" / choose
        folder.mkdir(parents=True, exist_ok=True)
        positions = choose_questions(models, split, choose, count, seed=0)
        cards = draw_explanations(models, data, split, positions, images, folder)
        figures = [Figure(f"gallery/{choose}/{card.path}", card.caption) for card in cards]
        guide = "" if sections else READING_GUIDE
        sections.append(Section(f"Before and after HINT: {CHOSEN[choose].lower()}", guide, figures=figures))
    return sections
