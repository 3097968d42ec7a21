"""What a study reports of its runs: accuracies and grounding, curves and a gallery."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes

from updn_common.reports.explanation import Choice
from updn_common.reports.figures import draw, find_images
from updn_common.reports.page import Figure, Section
from updn_common.reports.rows import Column
from updn_common.runs.importance import Importance
from updn_common.studies import report
from updn_common.studies.study import Arm, StudyRun
from updn_vqa.data.prepared import PreparedData
from updn_vqa.evaluation.explain import CHOSEN, READING_GUIDE, choose_questions, draw_explanations
from updn_vqa.studies.definitions import Study
from updn_vqa.training.measure import load_model
from updn_vqa.training.methods import Method, Scale

EVALUATION = "accuracy.json"
"""The file that an evaluation leaves in ``evaluation/<split>`` of a run's directory."""
GALLERY: dict[Choice, int] = {"most-improved": 6, "most-harmed": 4, "random": 6}
SPLIT_NAMES = {"val": "in distribution", "dev": "development", "test": "shifted test"}
GROUNDING = (
    Column("rank_correlation", "rank corr.", 2),
    Column("pointing", "pointing"),
    Column("flips_irrelevant", "flips"),
)
INTRODUCTION = (
    "Networks learn to answer from language priors, and from a context cue in worlds that have one. They are trained "
    "for equally many steps with and without hints on where people looked, from random weights or, in a table with a "
    '"start", from a trained network; beside them are controls, whose hints carry less information or none. In the '
    "development and test splits the priors are reversed and the cue is random. Because of this second shift the world "
    "tests grounding, and differs from VQA-CP."
)
GUIDE = (
    f"Accuracies are official VQA accuracies in percent. {report.TABLE_GUIDE} These columns are: accuracy by type of "
    "question; rank correlation (Spearman) of importance and human importance; pointing, the % of questions whose "
    "most important proposal shows the asked object; and flips, the % of answers that change when the irrelevant "
    "proposals are swapped for those of another image. Importance is taken as each run was trained: the norm of the "
    "gradient for unsigned, else its sum."
)


@dataclass(frozen=True)
class Outcome(report.Outcome):
    """What one run reached: official accuracies (%, 2016), and measures of the last split that it is evaluated on.

    Attributes:
        accuracy: Accuracy on each split.
        by_question_type: Accuracy on each type of question.
        rank_correlation: Rank correlation of importance and human importance.
        pointing: Questions (%) whose most important proposal shows the asked object.
        flips_irrelevant: Answers (%) that change when the irrelevant proposals are swapped for another image's.
        importance: The importance that the run was trained with, and that it is measured by.
    """

    accuracy: dict[str, float]
    by_question_type: dict[str, float]
    rank_correlation: float
    pointing: float
    flips_irrelevant: float
    importance: Importance

    @property
    def values(self) -> dict[str, float]:
        """The number for each column of the table."""
        by_question_type = {f'"{kind}"': value for kind, value in self.by_question_type.items()}
        grounding = {column.measure: getattr(self, column.measure) for column in GROUNDING}
        return self.accuracy | by_question_type | grounding


def columns(outcome: Outcome) -> list[Column]:
    """The columns of the table of a study with such outcomes."""
    splits = [Column(split, SPLIT_NAMES[split]) for split in outcome.accuracy]
    gain = splits[-1]._replace(header="gain", difference=True)
    return [*splits, gain, *(Column(f'"{kind}"', kind) for kind in outcome.by_question_type), *GROUNDING]


def main_arm(study: Study) -> Arm[Method, Scale]:
    """The arm that the report emphasises: HINT in the recommended form, or else in the signed one."""
    arms = {arm.name: arm for arm in study.arms}
    return arms.get("unsigned") or arms["hint"]


def write_report(out: Path, study: Study, runs: Sequence[StudyRun[Method, Scale]], images: Path | None) -> None:
    """Write ``results.json``, ``table.md``, figures and ``index.html`` into ``out``, and print the table."""
    outcomes = report.collect(runs, study.splits, EVALUATION, _outcome)
    page = report.Page(
        title="HINT in a small world of shifting priors",
        introduction=INTRODUCTION,
        guide=GUIDE,
        metric="development/accuracy",
        metric_label="development accuracy (%)",
        curves_caption="Accuracy on the shifted development split, by which the best checkpoint is chosen.",
        figures=_draw_shares(out, study, outcomes),
        sections=_gallery(out, study, runs, images) if images else (),
        units="accuracy and pointing in %",
    )
    report.write_report(out, study, runs, outcomes, columns(outcomes[0]), page, emphasised={main_arm(study).name})


def _outcome(run: StudyRun[Any, Any], evaluations: Mapping[str, Any]) -> Outcome:
    accuracies = {split: found["accuracy"]["2016"] for split, found in evaluations.items()}
    last = list(evaluations)[-1]
    return Outcome(
        arm=run.arm.name,
        world=run.data.name,
        seed=run.seed,
        accuracy={split: accuracy["overall"] for split, accuracy in accuracies.items()},
        by_question_type=accuracies[last]["by_question_type"],
        **{
            name: evaluations[last][name] for name in ("rank_correlation", "pointing", "flips_irrelevant", "importance")
        },
    )


def _draw_shares(out: Path, study: Study, outcomes: Sequence[Outcome]) -> list[Figure]:
    """Draw the accuracy against the share of questions with a hint, if the study varies it."""
    hints = [arm for arm in study.arms if arm.method == main_arm(study).method]
    if len(hints) < 2:
        return []
    shares = {report.BASE: 0.0} | {arm.name: arm.hint_share for arm in sorted(hints, key=lambda arm: arm.hint_share)}
    split = SPLIT_NAMES[study.splits[-1]]

    def plot(axes: Axes) -> None:
        reached = [
            [outcome.accuracy[study.splits[-1]] for outcome in outcomes if outcome.arm == name] for name in shares
        ]
        for i, values in enumerate(reached):
            axes.scatter([i] * len(values), values, s=14, alpha=0.5, color="C0")
        axes.plot([fmean(values) for values in reached], marker="o", color="C0")
        axes.set_xticks(range(len(shares)), [f"{100 * share:g}" for share in shares.values()])
        axes.set(xlabel="questions with a hint (%)", ylabel=f"{split} accuracy (%)")

    draw(out / "shares.png", plot)
    return [Figure("shares.png", f"Accuracy ({split}) against the share of questions with a hint.")]


def _gallery(out: Path, study: Study, runs: Sequence[StudyRun[Method, Scale]], image_folder: Path) -> list[Section]:
    """Draw questions before and after HINT, for the first world and seed; each way to choose them has its folder."""
    first = {run.arm.name: run for run in reversed(runs)}
    before, after = first[study.rows[0].name], first[main_arm(study).name]
    data = PreparedData.open(before.data)
    split = data.split(study.splits[-1])
    models = [load_model(run.directory, data) for run in (before, after)]
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
