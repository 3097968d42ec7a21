"""A study: many runs at equal budget, each trained and evaluated once, in a process of its own."""

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

from updn_common.errors import InputError, check_range
from updn_common.files.reading import read_json
from updn_common.files.writing import locked
from updn_common.progress import track
from updn_common.runs.directory import check_vocabulary
from updn_common.runs.options import RunOptions
from updn_common.signals import sigterm_as_exit

M = TypeVar("M")
S = TypeVar("S")
C = TypeVar("C", bound=RunOptions)


@dataclass(frozen=True)
class Arm(Generic[M, S]):
    """One row of a study's table.

    Attributes:
        name: Name of the row.
        method: What is learned.
        hint_share: Share of the hints that are used.
        scale: Sizes of the network and training schedule.
        from_start: Whether to fine-tune the study's base network; otherwise training begins with random weights.
    """

    name: str
    method: M
    hint_share: float
    scale: S
    from_start: bool = True

    @property
    def directory_name(self) -> str:
        return self.name.replace(" %", "").replace(",", "").replace(" ", "-")


@dataclass(frozen=True)
class StudyRun(Generic[M, S]):
    """One run of a study; its world has the name of the prepared directory."""

    arm: Arm[M, S]
    data: Path
    seed: int
    directory: Path
    start_from: Path | None
    """Directory of the base network that the run fine-tunes; None for random weights."""


@dataclass(frozen=True)
class Study(Generic[M, S]):
    """Arms that are run in each world with each seed.

    Attributes:
        arms: The rows of the table, without the base network.
        model_seeds: Number of seeds.
        splits: The splits that each run is evaluated on; measures of a single split, such as gains, are of the last.
        start: How the base network is trained that other arms start from; None if all arms start from random weights.
    """

    arms: tuple[Arm[M, S], ...]
    model_seeds: int
    splits: tuple[str, ...]
    start: Arm[M, S] | None

    @property
    def rows(self) -> tuple[Arm[M, S], ...]:
        return self.arms if self.start is None else (self.start, *self.arms)

    def runs(self, out: Path, data: Sequence[Path]) -> list[StudyRun[M, S]]:
        """All runs in the study's directory ``out``, in the order of the table."""
        return [
            self._run(out / world.name / f"seed{seed}", arm, world, seed)
            for arm in self.rows
            for world in data
            for seed in range(self.model_seeds)
        ]

    def _run(self, folder: Path, arm: Arm[M, S], world: Path, seed: int) -> StudyRun[M, S]:
        fine_tuned = self.start if arm.from_start and arm is not self.start else None
        start = None if fine_tuned is None else folder / fine_tuned.directory_name
        return StudyRun(arm, world, seed, folder / arm.directory_name, start)


@dataclass(frozen=True, kw_only=True)
class StudyOptions:
    """Options of the command ``study`` that both pipelines have.

    Attributes:
        data: Prepared directories, one for each world.
        out: Directory for all runs and the report.
        processes: Number of runs at the same time; each has one thread.
    """

    data: tuple[Path, ...]
    out: Path
    processes: int = os.cpu_count() or 1


@dataclass(frozen=True)
class Trainer(Generic[M, S, C]):
    """How a pipeline trains and evaluates a run. The functions are sent to other processes, by their names."""

    options: Callable[[StudyRun[M, S], bool], C]
    """The options of a training run; the flag is whether to resume it."""
    train: Callable[[C], None]
    evaluate: Callable[[Path, Path, str], None]
    """Evaluates on a split, given the prepared directory, the run's directory and the name of the split."""
    evaluation: str
    """Name of the file that an evaluation leaves in ``evaluation/<split>`` of the run's directory."""


@dataclass(frozen=True)
class Job(Generic[M, S, C]):
    """Trains one run of a study and evaluates it on the study's splits, in a process of its own."""

    run: StudyRun[M, S]
    splits: tuple[str, ...]
    trainer: Trainer[M, S, C]

    @property
    def finished(self) -> bool:
        evaluations = (self.run.directory / "evaluation" / split / self.trainer.evaluation for split in self.splits)
        return all(file.exists() for file in evaluations)

    def check(self) -> None:
        """Raise an InputError if the run exists but was trained with other options."""
        check_same_options(self.trainer.options(self.run, False))

    def work(self) -> None:
        """Train and evaluate with one thread, from the last checkpoint if there is one; print into a log file."""
        torch.set_num_threads(1)
        out = self.run.directory
        resume = (out / "last.safetensors").exists()
        out.parent.mkdir(parents=True, exist_ok=True)
        with out.with_name(f"{out.name}.log").open("a") as log, redirect_stdout(log), redirect_stderr(log):
            self.trainer.train(self.trainer.options(self.run, resume))
            for split in self.splits:
                self.trainer.evaluate(self.run.data, out, split)


def run_study(
    options: StudyOptions,
    study: Study[M, S],
    trainer: Trainer[M, S, C],
    report: Callable[[Sequence[StudyRun[M, S]]], None],
) -> None:
    """Train and evaluate all runs that are not finished yet, then report on all of them.

    Raises:
        InputError: An option is wrong, a run was trained with other options, or the study is running elsewhere. Then
            nothing is run.
    """
    check_range(1, processes=options.processes)
    names = [directory.name for directory in options.data]
    if not names or len(set(names)) < len(names):
        raise InputError(f"--data should be directories of different names, found {', '.join(names) or 'none'}.")
    runs = study.runs(options.out, options.data)
    jobs = [Job(run, study.splits, trainer) for run in runs]
    stages = {
        "base networks": [job for job in jobs if job.run.arm is study.start],
        "runs": [job for job in jobs if job.run.arm is not study.start],
    }
    with locked(options.out):
        run_jobs(stages, options.processes)
        report(runs)


def run_jobs(stages: Mapping[str, Sequence[Job[Any, Any, Any]]], processes: int) -> None:
    """Run the jobs that are not finished, one stage after the other; the first error stops all of them.

    Ctrl-C and SIGTERM end the jobs at once; a second call continues them. The progress bar shows the names of stages.

    Raises:
        InputError: A run exists but was trained with other options. Then nothing is run.
    """
    for jobs in stages.values():
        for job in jobs:
            job.check()
    context = get_context("spawn")  # a forked process would inherit torch's threads
    ignore = signal.SIGINT, signal.SIG_IGN  # Ctrl-C reaches this process too, and it ends the others
    with sigterm_as_exit(), ProcessPoolExecutor(processes, context, signal.signal, ignore) as pool:
        for description, jobs in stages.items():
            _run_stage(jobs, pool, description)


def _run_stage(jobs: Sequence[Job[Any, Any, Any]], pool: Executor, description: str) -> None:
    futures = [pool.submit(job.work) for job in jobs if not job.finished]
    try:
        for future in track(as_completed(futures), description, total=len(futures)):
            future.result()
    except Exception:
        pool.shutdown(cancel_futures=True)
        raise
    except BaseException:
        for worker in active_children():
            worker.terminate()
        raise


def check_same_options(config: RunOptions) -> None:
    """Raise an InputError if the run in ``config.out`` exists but was trained with other options."""
    if not (config.out / "config.json").exists():
        return
    if changed := config.differences():
        raise InputError(f"{config.out} was trained with {'; '.join(changed)}: delete it or choose another --out.")
    check_vocabulary(config.out, config.data, config.record(processes=1)["vocabulary"])


def check_splits(directory: Path, splits: Sequence[str], needed: Mapping[str, str], remedy: str) -> None:
    """Raise an InputError if a split of prepared data lacks something that a study measures with.

    Args:
        directory: The prepared directory.
        splits: Names of the splits.
        needed: The counts in ``prepared.json`` that should not be 0, and what they count.
        remedy: What to do, for the error message.
    """
    found = read_json(directory / "prepared.json")["splits"]
    for split in splits:
        if lacking := [what for count, what in needed.items() if not found.get(split, {}).get(count)]:
            raise InputError(
                f"{directory} cannot be used for a study: its split {split!r} has no {', '.join(lacking)}. {remedy}"
            )
