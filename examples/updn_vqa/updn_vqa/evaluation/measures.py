"""Measurements on each question of a split, which are kept with the run, and their means.

``evaluation/<split>/questions.safetensors`` in a run's directory has one number for each question and measure, and
identifies the checkpoint and the data: a comparison of many runs need not answer the questions again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from jaxtyping import Int64
from torch import Tensor

from updn_common.reports.bootstrap import Columns, Number, estimate_means
from updn_common.runs.measurements import CheckpointName, keep_measurements, kept_measurements, origin
from updn_vqa.data.accuracy import AccuracyReport, AccuracyVersion
from updn_vqa.data.accuracy import evaluate as official_accuracy
from updn_vqa.data.prepared import PreparedData, VqaSplit
from updn_vqa.data.questions import Annotation
from updn_vqa.evaluation.faithfulness import RelevantBy, measure_faithfulness
from updn_vqa.training.measure import load_model, measure

VERSIONS: tuple[AccuracyVersion, ...] = ("2016", "2021")
CORRECT = 0.5
"""Least soft score of a correct answer, where answers are either correct or wrong."""
_FORMAT = "3"
"""Version of the file; measurements in another version are measured again."""


@dataclass(frozen=True)
class Evaluation:
    """Answers to the questions of a split, their accuracy, and other measurements.

    Attributes:
        answers: The answer to each question, in their order.
        reports: The official accuracies in both versions.
        annotations: Answers of people.
        measured: Measurements, by the names of the fields of ``Measured`` and ``Faithfulness``.
    """

    answers: Sequence[str]
    reports: Mapping[AccuracyVersion, AccuracyReport]
    annotations: Sequence[Annotation]
    measured: Mapping[str, Tensor]

    @property
    def images(self) -> Int64[np.ndarray, " N"]:
        """The image that each question is about."""
        return np.array([annotation.image_id for annotation in self.annotations])

    def accuracy(self, version: AccuracyVersion = "2016") -> Columns:
        """Official accuracies in percent on all questions, on each answer type and on each question type."""
        by_question = self.reports[version].by_question
        every = np.array([by_question[annotation.question_id] for annotation in self.annotations])
        answer_types = np.array([annotation.answer_type for annotation in self.annotations])
        question_types = np.array([annotation.question_type for annotation in self.annotations])
        columns = {"all": every}
        columns |= {
            kind: np.where(answer_types == kind, every, np.nan) for kind in self.reports[version].by_answer_type
        }
        for kind in self.reports[version].by_question_type:
            columns[f'"{kind}"'] = np.where(question_types == kind, every, np.nan)
        return columns

    def grounding(self) -> Columns:
        """Measures of grounding: FPVG, its parts, pointing and flips in percent, and the others from -1 to 1."""
        if not self.measured:
            return {}
        measured = {name: column.double().numpy() for name, column in self.measured.items()}
        good, correct = measured["stays"] * measured["changes"], measured["scores"] >= CORRECT
        return {
            "rank_correlation": measured["rank_correlation"],
            "pointing": 100 * measured["pointing"],
            "fpvg": 100 * good,
            "ggc": 100 * good * correct,
            "ggw": 100 * good * ~correct,
            "bgc": 100 * (1 - good) * correct,
            "bgw": 100 * (1 - good) * ~correct,
            "sufficiency": measured["sufficiency"],
            "comprehensiveness": measured["comprehensiveness"],
            "flips_irrelevant": 100 * measured["flips_irrelevant"],
            "flips_relevant": 100 * measured["flips_relevant"],
        }


def numbers(columns: Columns, images: Int64[np.ndarray, " N"]) -> dict[str, Number]:
    """Mean of each column over the questions where it is known, with intervals from resampling whole images."""
    return estimate_means(columns, images).numbers()


def evaluate_answers(
    answers: Sequence[str], split: VqaSplit, measured: Mapping[str, Tensor] | None = None
) -> Evaluation:
    """Evaluate given answers, in the order of the split's questions."""
    results = dict(zip(split.question_ids, answers, strict=True))
    reports = {version: official_accuracy(results, split.annotations, version=version) for version in VERSIONS}
    return Evaluation(answers, reports, split.annotations, measured or {})


def evaluate_run(
    run: Path,
    data: PreparedData,
    split: VqaSplit,
    accelerator: Accelerator,
    *,
    checkpoint: CheckpointName = "best",
    option: str = "--run",
    reuse: bool = False,
) -> Evaluation:
    """Answer a split with a run's network, measure it, and keep the measurements in the run's directory.

    Args:
        run: The run's directory.
        data: The prepared data.
        split: One of its splits.
        accelerator: Knows the device and the processes.
        checkpoint: The best checkpoint on the development split, or the last.
        option: Flag that the run was given by, for error messages.
        reuse: Take measurements that were kept, if they are of the same checkpoint and data.

    Raises:
        InputError: The run or the checkpoint does not exist or does not belong to this data.
    """
    weights, path = run / f"{checkpoint}.safetensors", run / "evaluation" / split.name / "questions.safetensors"
    kept = None
    if reuse and weights.is_file():
        kept = kept_measurements(path, origin(_FORMAT, weights, data.directory))
    if kept is None:
        model = load_model(run, data, checkpoint, option=option).to(accelerator.device)
        measured = measure(model, split, accelerator)
        faithful = measure_faithfulness(model, split, accelerator, relevant_by=relevant_by(data, split.name))
        kept = measured._asdict() | faithful._asdict()
        if accelerator.is_main_process:
            keep_measurements(path, kept, origin(_FORMAT, weights, data.directory))
    return evaluate_answers([data.answers.answers[i] for i in kept["answers"].tolist()], split, kept)


def relevant_by(data: PreparedData, split: str) -> RelevantBy:
    """Whether relevant proposals of a split are defined by annotated boxes, if it has any, or by hints."""
    return "boxes" if data.record["splits"][split]["grounded"] else "hints"
