"""Many runs, compared at equal budget: each is trained and evaluated in a process of its own, once."""

import signal
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from itertools import product
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import torch

from updn_common.errors import InputError
from updn_common.files.reading import read_json
from updn_common.files.writing import sigterm_as_exit
from updn_common.progress import track
from updn_common.runs.directory import check_vocabulary
from updn_common.runs.options import RunOptions

M = TypeVar("M")
S = TypeVar("S")


@dataclass(frozen=True)
class Arm(Generic[M, S]):
    """One row of a study's table.

    Attributes:
        name: Name of the row.
        method: What is learned.
        hint_share: Share of the hints that are used.
        scale: Sizes and schedule.
        from_start: Fine-tune the study's start; otherwise train from random weights.
    """

    name: str
    method: M
    hint_share: float
    scale: S
    from_start: bool = True

    def directory(self, study: Path, world: str, seed: int) -> Path:
        """Where its run in a world, with a model seed, is in a study's directory."""
        return study / world / f"seed{seed}" / self.name.replace(" %", "").replace(",", "").replace(" ", "-")


@dataclass(frozen=True)
class Study(Generic[M, S]):
    """Arms to be run for each world and each model seed, from random weights or the network that ``start`` trains.

    All are evaluated on ``splits``. What is told of one split alone, such as gains, is of the last.
    """

    arms: tuple[Arm[M, S], ...]
    model_seeds: int
    splits: tuple[str, ...]
    start: Arm[M, S] | None

    @property
    def rows(self) -> tuple[Arm[M, S], ...]:
        """All that its table shows."""
        return (*self.starts, *self.arms)

    @property
    def starts(self) -> tuple[Arm[M, S], ...]:
        """The start, if there is one."""
        return () if self.start is None else (self.start,)

    def starts_from(self, arm: Arm[M, S], study: Path, world: str, seed: int) -> Path | None:
        """The run that an arm's run starts from."""
        if self.start is None or arm is self.start or not arm.from_start:
            return None
        return self.start.directory(study, world, seed)


class Job(Protocol):
    """One run of a study. It is sent to another process."""

    @property
    def finished(self) -> bool:
        """Whether it has been trained and evaluated."""

    def check(self) -> None:
        """Refuse what is there already, if it was trained with other options."""

    def run(self) -> None:
        """Train and evaluate."""


def check_same(config: RunOptions) -> None:
    """Check that a run, if it is there already, was trained with these options.

    Raises:
        InputError: It was not.
    """
    if not (config.out / "config.json").exists():
        return
    if changed := config.differences():
        raise InputError(f"{config.out} was trained with {'; '.join(changed)}: delete it or choose another --out.")
    check_vocabulary(config.out, config.data, config.record(processes=1)["vocabulary"])


def run_logged(out: Path, work: Callable[[bool], None]) -> None:
    """Do a run's work with one thread; what is printed goes to a log beside its directory.

    Args:
        out: The run's directory.
        work: Trains and evaluates; it is told whether to resume.
    """
    torch.set_num_threads(1)
    resume = (out / "last.safetensors").exists()
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.with_name(f"{out.name}.log").open("a") as log, redirect_stdout(log), redirect_stderr(log):
        work(resume)


def run_jobs(stages: Mapping[str, Sequence[Job]], processes: int) -> None:
    """Run the jobs that are not finished, one stage after the other; the first that fails stops all.

    Ctrl-C and SIGTERM end the jobs at once; the same call goes on with them.

    Args:
        stages: The jobs of each, by what to call them.
        processes: Jobs at a time.

    Raises:
        InputError: A run that is there already was trained with other options. Then nothing is run.
    """
    for jobs in stages.values():
        for job in jobs:
            job.check()
    context = get_context("spawn")  # a fork would inherit torch's threads
    deaf = signal.SIGINT, signal.SIG_IGN  # Ctrl-C reaches this process too, which ends the others
    with sigterm_as_exit(), ProcessPoolExecutor(processes, context, signal.signal, deaf) as pool:
        for description, jobs in stages.items():
            _run(jobs, pool, description)


def _run(jobs: Sequence[Job], pool: Executor, description: str) -> None:
    futures = [pool.submit(job.run) for job in jobs if not job.finished]
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


def check_worlds(data: Sequence[Path]) -> None:
    """Check that prepared directories can be told apart by their names.

    Raises:
        InputError: They cannot, or there is none.
    """
    names = [directory.name for directory in data]
    if not names or len(set(names)) < len(names):
        raise InputError(f"--data should be directories of different names, found {', '.join(names) or 'none'}.")


def directories(study: Study[M, S], out: Path, worlds: Sequence[str]) -> list[Path]:
    """Those of all runs, in the order of the table."""
    runs = product(study.rows, worlds, range(study.model_seeds))
    return [arm.directory(out, world, seed) for arm, world, seed in runs]


def made_by(runs: Sequence[Path]) -> dict[str, list[str | None]]:
    """Which revision of the code trained runs, with which packages: one of each, unless they differ."""
    records = [read_json(run / "config.json") for run in runs]
    found = {"git": [record["git"] for record in records]}
    found |= {package: [record["packages"].get(package) for record in records] for package in ("torch", "hint-loss")}
    return {name: list(dict.fromkeys(values)) for name, values in found.items()}
