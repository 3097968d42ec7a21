"""Many runs, compared at equal budget: ``updn-captioning study``. It resumes where it was stopped."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import tyro

from updn_captioning.data.prepared import PreparedData
from updn_captioning.evaluation.evaluate import EvaluateConfig, evaluate
from updn_captioning.studies.definitions import STUDIES
from updn_captioning.studies.report import EVALUATION, write_report
from updn_captioning.training.config import TrainConfig
from updn_captioning.training.methods import Method, Scale
from updn_captioning.training.train import train
from updn_common.errors import InputError
from updn_common.studies.study import StudyOptions, StudyRun, Trainer, check_splits, run_study

MEASURED = {"captions": "captions", "hinted_captions": "hinted captions"}
"""What a study measures with, by the names of the counts in ``prepared.json``."""

if TYPE_CHECKING:
    StudyName: TypeAlias = str
else:
    StudyName = tyro.extras.literal_type_from_choices(STUDIES)


@dataclass(frozen=True, kw_only=True)
class StudyConfig(StudyOptions):
    """Which study to run, in which captioning worlds of shapes_cp.

    Attributes:
        study: Name of the study: robust and standard are of the two splits of a world's images; from-start gives hints
            from the start of training, on the robust split; selection and selection-unsigned choose weights.
    """

    study: tyro.conf.Positional[StudyName]


def study(config: StudyConfig) -> None:
    """Run what is not finished yet, then write the report.

    Raises:
        InputError: An option is wrong, a prepared directory is not of such a world, a run was trained with other
            options, or the study is running elsewhere. Then nothing is run.
    """
    chosen = STUDIES[config.study]
    remedy = f"Prepare a captioning world of shapes_cp with --split {chosen.kind}."
    for directory in config.data:
        kind = PreparedData.open(directory).record["options"]["split"]
        if kind != chosen.kind:
            raise InputError(f"{directory} was prepared with --split {kind}, but this study needs another. {remedy}")
        check_splits(directory, list(dict.fromkeys(("train", "val", *chosen.splits))), MEASURED, remedy)

    def report(runs: Sequence[StudyRun[Method, Scale]]) -> None:
        write_report(config.out, chosen, runs)

    run_study(config, chosen, TRAINER, report)


def _train_config(run: StudyRun[Method, Scale], resume: bool) -> TrainConfig:
    arm = run.arm
    return TrainConfig(
        run.data,
        run.directory,
        arm.method,
        arm.scale,
        run.start_from,
        arm.hint_share,
        run.seed,
        cpu=True,
        resume=resume,
    )


def _evaluate(data: Path, run: Path, split: str) -> None:
    evaluate(EvaluateConfig(data, run, split=split, cpu=True))


TRAINER = Trainer(_train_config, train, _evaluate, EVALUATION)
