"""Many runs, compared at equal budget: ``updn-captioning study``. It resumes where it was stopped."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import tyro

from updn_captioning.data.prepared import PreparedData
from updn_captioning.evaluation.evaluate import EvaluateConfig, evaluate
from updn_captioning.studies.definitions import STUDIES, Study
from updn_captioning.studies.report import write_report
from updn_captioning.training.config import TrainConfig
from updn_captioning.training.methods import Method, Scale
from updn_captioning.training.train import train
from updn_common.errors import InputError, check_range
from updn_common.files.writing import locked
from updn_common.runs.study import Arm, check_same, check_worlds, run_jobs, run_logged

PREPARE = "Prepare a captioning world of shapes_cp with --split {}."


@dataclass(frozen=True)
class StudyConfig:
    """Which study to run, in which captioning worlds of shapes_cp.

    Attributes:
        study: Its name: robust and standard are of the two splits of a world's images; from-start gives hints from the
            start of training, on the robust split; selection and selection-unsigned choose weights.
        data: Prepared directories, one for each world.
        out: Where all runs and the report go.
        processes: Runs at a time, each with one thread.
    """

    study: tyro.conf.Positional[Literal["robust", "standard", "from-start", "selection", "selection-unsigned"]]
    data: tuple[Path, ...]
    out: Path
    processes: int = os.cpu_count() or 1


@dataclass(frozen=True)
class Job:
    """One run of a study, and the splits to evaluate it on."""

    config: TrainConfig
    splits: tuple[str, ...]

    @property
    def finished(self) -> bool:
        """Whether it has been trained and evaluated."""
        return all((self.config.out / "evaluation" / split / "scores.json").exists() for split in self.splits)

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
        InputError: an option is wrong, a prepared directory is not of such a world, a run that is there already was
            trained with other options, or the study is running elsewhere. Then nothing is run.
    """
    check_range(1, processes=config.processes)
    chosen = STUDIES[config.study]
    _check_data(config.data, chosen)
    starts = [job for arm in chosen.starts for job in _jobs(config, chosen, arm)]
    arms = [job for arm in chosen.arms for job in _jobs(config, chosen, arm)]
    with locked(config.out):
        run_jobs({"base networks": starts, "runs": arms}, config.processes)
        write_report(config.out, config.data, chosen)


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


def _check_data(data: Sequence[Path], chosen: Study) -> None:
    check_worlds(data)
    for directory in data:
        record = PreparedData.open(directory).record
        kind = record["options"]["split"]
        if kind != chosen.kind:
            raise InputError(
                f"{directory} was prepared with --split {kind}, which this study is not of. {PREPARE}".format(
                    chosen.kind
                )
            )
        for split in dict.fromkeys(("train", "val", *chosen.splits)):
            counts = record["splits"].get(split, {})
            lacking = [name for name in ("captions", "hinted_captions") if not counts.get(name)]
            if lacking:
                what = " and no ".join(name.replace("_", " ") for name in lacking)
                raise InputError(
                    f"{directory} is not for a study: its split {split!r} has no {what}. {PREPARE}".format(chosen.kind)
                )
