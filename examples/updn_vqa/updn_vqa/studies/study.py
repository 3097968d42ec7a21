"""Many runs, compared at equal budget: ``updn-vqa study``. It resumes where it was stopped."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import tyro

from updn_common.errors import InputError, check_range
from updn_common.files.writing import locked
from updn_common.reports.figures import find_images
from updn_common.runs.study import Arm, check_same, check_worlds, run_jobs, run_logged
from updn_vqa.data.prepared import PreparedData
from updn_vqa.evaluation.evaluate import EvaluateConfig, evaluate
from updn_vqa.studies.definitions import STUDIES, Study
from updn_vqa.studies.report import write_report
from updn_vqa.training.config import TrainConfig
from updn_vqa.training.methods import Method, Scale
from updn_vqa.training.train import train

NEEDED = {"questions": "questions", "hinted": "hints", "grounded": "boxes of asked objects"}
"""What a study needs of every split, by its name among the counts of ``prepared.json``."""


@dataclass(frozen=True)
class StudyConfig:
    """Which study to run, in which worlds of shapes_cp: other data lack splits, hints or boxes that it measures with.

    Attributes:
        study: Name of the study.
        data: Prepared directories, one for each world.
        out: Where all runs and the report go.
        images: The first world's folder, for a gallery of its images; default: no gallery.
        processes: Runs at a time, each with one thread.
    """

    study: tyro.conf.Positional[
        Literal[
            "demo",
            "from-start",
            "fine-tuned",
            "trained",
            "light",
            "prior",
            "transformer",
            "updn-bypass",
            "updn-mean",
            "updn-concat",
            "san",
            "table1",
            "supervision",
            "selection",
            "selection-unsigned",
            "selection-trained",
            "selection-trained-mean",
            "selection-trained-transformer",
            "selection-others",
        ]
    ]
    data: tuple[Path, ...]
    out: Path
    images: Path | None = None
    processes: int = os.cpu_count() or 1


@dataclass(frozen=True)
class Job:
    """One run of a study, and the splits to evaluate it on."""

    config: TrainConfig
    splits: tuple[str, ...]

    @property
    def finished(self) -> bool:
        """Whether it has been trained and evaluated."""
        return all((self.config.out / "evaluation" / split / "accuracy.json").exists() for split in self.splits)

    def check(self) -> None:
        """Refuse what is there already, if it was trained with other options."""
        check_same(self.config)

    def run(self) -> None:
        """Train and evaluate, or go on with it where it was interrupted; what is printed goes to a log beside it."""

        def work(resume: bool) -> None:
            train(replace(self.config, resume=resume))
            for split in self.splits:
                evaluate(EvaluateConfig(data=self.config.data, run=self.config.out, split=split, cpu=True))

        run_logged(self.config.out, work)


def study(config: StudyConfig) -> None:
    """Run what is not finished yet, then write the report.

    Raises:
        InputError: an option is wrong, a prepared directory is not of a world of shapes_cp, the images are missing, a
            run that is there already was trained with other options, or the study is running elsewhere. Then nothing
            is run.
    """
    check_range(1, processes=config.processes)
    chosen = STUDIES[config.study]
    _check_worlds(config.data, chosen.splits)
    if config.images:
        find_images(config.images)
    starts = [job for arm in chosen.starts for job in _jobs(config, chosen, arm)]
    arms = [job for arm in chosen.arms for job in _jobs(config, chosen, arm)]
    with locked(config.out):
        run_jobs({"base networks": starts, "runs": arms}, config.processes)
        write_report(config.out, config.data, config.images, chosen)


def _jobs(config: StudyConfig, chosen: Study, arm: Arm[Method, Scale]) -> list[Job]:
    """The runs of an arm, in all worlds with all seeds."""

    def job(data: Path, seed: int) -> Job:
        options = TrainConfig(
            data=data,
            out=arm.directory(config.out, data.name, seed),
            method=arm.method,
            scale=arm.scale,
            start_from=chosen.starts_from(arm, config.out, data.name, seed),
            hint_share=arm.hint_share,
            seed=seed,
            cpu=True,
        )
        return Job(options, chosen.splits)

    return [job(data, seed) for data in config.data for seed in range(chosen.model_seeds)]


def _check_worlds(data: Sequence[Path], splits: Sequence[str]) -> None:
    check_worlds(data)
    for directory in data:
        there = PreparedData.open(directory).record["splits"]
        for split in ("train", "dev", *splits):
            lacking = [name for count, name in NEEDED.items() if not there.get(split, {}).get(count)]
            if lacking:
                raise InputError(
                    f"{directory} is not for a study: its split {split!r} has no {', '.join(lacking)}. "
                    "Prepare a world of shapes_cp with --hints hat."
                )
