"""Many runs, compared at equal budget: ``updn-vqa study``. It resumes where it was stopped."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import tyro

from updn_common.reports.figures import find_images
from updn_common.studies.study import StudyOptions, StudyRun, Trainer, check_splits, run_study
from updn_vqa.data.prepared import PreparedData
from updn_vqa.evaluation.evaluate import EvaluateConfig, evaluate
from updn_vqa.studies.definitions import STUDIES
from updn_vqa.studies.report import EVALUATION, write_report
from updn_vqa.training.config import TrainConfig
from updn_vqa.training.methods import Method, Scale
from updn_vqa.training.train import train

MEASURED = {"questions": "questions", "hinted": "hints", "grounded": "boxes of asked objects"}
"""What a study measures with, by the names of the counts in ``prepared.json``."""

if TYPE_CHECKING:
    StudyName: TypeAlias = str
else:
    StudyName = tyro.extras.literal_type_from_choices(STUDIES)


@dataclass(frozen=True, kw_only=True)
class StudyConfig(StudyOptions):
    """Which study to run, in which worlds of shapes_cp: other data lack splits, hints or boxes that it measures with.

    Attributes:
        study: Name of the study.
        images: Folder of the first world's images, for a gallery; default: no gallery.
    """

    study: tyro.conf.Positional[StudyName]
    images: Path | None = None


def study(config: StudyConfig) -> None:
    """Run what is not finished yet, then write the report.

    Raises:
        InputError: An option is wrong, a prepared directory is not of a world of shapes_cp, the images are missing, a
            run was trained with other options, or the study is running elsewhere. Then nothing is run.
    """
    chosen = STUDIES[config.study]
    for directory in config.data:
        PreparedData.open(directory)
        splits = ("train", "dev", *chosen.splits)
        check_splits(directory, splits, MEASURED, "Prepare a world of shapes_cp with --hints hat.")
    if config.images:
        find_images(config.images)

    def report(runs: Sequence[StudyRun[Method, Scale]]) -> None:
        write_report(config.out, chosen, runs, config.images)

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
