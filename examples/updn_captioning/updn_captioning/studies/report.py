"""What a study reports of its runs: scores and grounding, and curves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from updn_captioning.studies.definitions import Study
from updn_captioning.training.methods import METHODS, Method, Scale
from updn_common.reports.rows import Column
from updn_common.studies import report
from updn_common.studies.study import StudyRun

EVALUATION = "scores.json"
"""The file that an evaluation leaves in ``evaluation/<split>`` of a run's directory."""
SPLIT_NAMES = {
    "robust": {"val": "in distribution", "dev": "development", "test": "shifted test"},
    "karpathy": {"val": "val", "test": "test"},
}
POINTING = Column("reference_gradient_pointing", "pointing")
MEASURES = (
    Column("CHAIRi", "hallucinated (%)"),
    POINTING,
    POINTING._replace(header="gain", difference=True),
    Column("reference_attention_pointing", "by attention"),
    Column("reference_gradient_rank_correlation", "rank corr.", 3),
    Column("generated_gradient_pointing", "own words"),
)
"""The measures of the last split that are reported beside CIDEr."""
COMPARED = (
    "UpDn captioners of pictures of two objects are trained for the same number of steps: without hints, with hints on "
    "where the objects are that visual words name, and with controls whose hints carry no information. "
)
INTRODUCTION = {
    "robust": COMPARED + "In train and val, shapes go together. In the development and test splits they do not, so the "
    "language prior misleads.",
    "karpathy": COMPARED + "All splits have the same distribution.",
}
GUIDE = (
    f"Scores are CIDEr-D of captions by beam search. {report.TABLE_GUIDE} Hallucinated: mentions of objects that are "
    "not in the image, in percent of all mentions (CHAIRi). Pointing: % of the visual words of people's captions whose "
    "most important proposal overlaps an object that the word names by more than half, where importance is the "
    "gradient's or, by attention, the attention weight; words without any such proposal, as for thin bars and pillars, "
    "are left out. Own words: the same for words of the network's captions whose object is in the image. Rank "
    "correlation (Spearman's) is of the gradient's importance and human importance. The gradient's importance is taken "
    "as each run was trained: the norm for unsigned, else the sum."
)


@dataclass(frozen=True)
class Outcome(report.Outcome):
    """What one run reached.

    Attributes:
        scores: All scores of each split that the run is evaluated on.
    """

    scores: dict[str, dict[str, float]]

    @property
    def values(self) -> dict[str, float]:
        """The number for each column of the table."""
        return {split: found["CIDEr"] for split, found in self.scores.items()} | list(self.scores.values())[-1]


def columns(study: Study) -> list[Column]:
    """The columns of a study's table."""
    scores = [Column(split, SPLIT_NAMES[study.kind][split], 3) for split in study.splits]
    return [*scores, scores[-1]._replace(header="gain", difference=True), *MEASURES]


def write_report(out: Path, study: Study, runs: Sequence[StudyRun[Method, Scale]]) -> None:
    """Write ``results.json``, ``table.md``, curves and ``index.html`` into ``out``, and print the table."""
    outcomes = report.collect(runs, study.splits, EVALUATION, _outcome)
    page = report.Page(
        title="HINT for captions in a small world",
        introduction=INTRODUCTION[study.kind],
        guide=GUIDE,
        metric="val/cider",
        metric_label="CIDEr on val",
        curves_caption="CIDEr on the split val, by which the best checkpoint is chosen.",
    )
    emphasised = {arm.name for arm in study.arms if arm.method == METHODS["unsigned"]}
    report.write_report(out, study, runs, outcomes, columns(study), page, emphasised=emphasised)


def _outcome(run: StudyRun[Method, Scale], evaluations: Mapping[str, Any]) -> Outcome:
    scores = {split: found["scores"] for split, found in evaluations.items()}
    return Outcome(run.arm.name, run.data.name, run.seed, scores)
