"""What surrounds the training loops of both pipelines: where a run starts, and what is kept of it."""

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from accelerate import Accelerator
from torch import nn
from torch.optim import Optimizer

from updn_common.console import plain_console
from updn_common.errors import InputError
from updn_common.progress import track
from updn_common.runs.directory import RunDirectory, check_vocabulary, read_checkpoint
from updn_common.runs.options import RunOptions

T = TypeVar("T")


@dataclass(eq=False)
class TrainingState:
    """Everything that a run's checkpoints hold.

    Attributes:
        model: The network.
        optimizer: Its optimiser.
        auxiliary: A network that is trained beside it, such as an adversary.
        step: Number of steps that were done.
        best: The highest score so far on the split that chooses the best checkpoint.
    """

    model: nn.Module
    optimizer: Optimizer
    auxiliary: nn.Module | None = None
    step: int = 0
    best: float = -math.inf

    def load(self, options: RunOptions, *, processes: int, kept: float = 1.0) -> None:
        """Load the checkpoint that a run continues, or the weights that it starts from, if there are any.

        Args:
            options: The run's options.
            processes: Number of processes.
            kept: Share of the loaded weights in those to start from; the random weights of ``model`` have the rest.

        Raises:
            InputError: There is no such checkpoint, it does not fit, or the run was trained with other options.
        """
        if options.resume:
            self._resume(options, processes)
        elif options.start_from is not None:
            self._start_from(options.start_from, options, kept)

    def _resume(self, options: RunOptions, processes: int) -> None:
        remedy = "Leave out --resume to start a run, or give the --out of the run to go on with."
        checkpoint = read_checkpoint(options.out, "last", option="There is nothing to resume: --out", remedy=remedy)
        if changed := options.differences(processes):
            raise InputError(f"{options.out} was trained with {'; '.join(changed)}: resume with the same.")
        check_vocabulary(options.out, options.data, options.vocabulary_checksum())
        checkpoint.restore_model(self.model)
        if self.auxiliary is not None:
            checkpoint.restore_auxiliary(self.auxiliary)
        checkpoint.restore_optimizer(self.optimizer)
        self.step, self.best = checkpoint.progress["step"], checkpoint.progress["best"]

    def _start_from(self, start: Path, options: RunOptions, kept: float) -> None:
        remedy = "Give the directory of a run that has been evaluated, or leave out --start-from for random weights."
        checkpoint = read_checkpoint(start, "best", option="--start-from", remedy=remedy)
        if (start / "config.json").is_file():
            check_vocabulary(start, options.data, options.vocabulary_checksum(), option="--start-from")
        random = [parameter.detach().clone() for parameter in self.model.parameters()]
        checkpoint.restore_model(self.model)
        with torch.no_grad():
            for parameter, before in zip(self.model.parameters(), random, strict=True):
                parameter.lerp_(before, 1 - kept)


@dataclass(frozen=True, eq=False)
class OpenRun:
    """A run that is being trained: the main process writes its files, and the others write nothing.

    Attributes:
        directory: The run's directory; None except in the main process.
        state: What checkpoints hold.
    """

    directory: RunDirectory | None
    state: TrainingState

    def track(self, steps: Iterable[T], total: int) -> Iterable[T]:
        """The remaining steps, behind a progress bar if this is the main process."""
        if self.directory is None:
            return steps
        return track(steps, self.directory.path.name, total=total - self.state.step)

    def keep(self, step: int, score: float, metrics: Mapping[str, float]) -> None:
        """Log the metrics of an evaluation, and save the last checkpoint; also as the best if its score is highest."""
        state, improved = self.state, score > self.state.best
        state.step, state.best = step, max(state.best, score)
        if self.directory is not None:
            self.directory.log(step, **metrics)
            if improved:
                self.directory.save_checkpoint("best", state.model.state_dict(), None, self._progress())
            self.save_last()

    def save_last(self) -> None:
        """Save the checkpoint that a run is continued from."""
        if self.directory is not None:
            state = self.state
            auxiliary = None if state.auxiliary is None else state.auxiliary.state_dict()
            self.directory.save_checkpoint(
                "last", state.model.state_dict(), state.optimizer, self._progress(), auxiliary
            )

    def _progress(self) -> dict[str, float]:
        return {"step": self.state.step, "best": self.state.best}


@contextmanager
def open_run(
    options: RunOptions, accelerator: Accelerator, state: TrainingState, *, for_trained: str = ""
) -> Iterator[OpenRun]:
    """Create the directory of a run, with a checkpoint of its start, or open it to continue the run.

    Args:
        options: The run's options.
        accelerator: Knows which process this is.
        state: What was loaded.
        for_trained: Subject and verb, such as ``"this scale is"``, of what is meant for networks that are trained
            already: the user is warned if this network is not.
    """
    if not accelerator.is_main_process:
        yield OpenRun(None, state)
    elif options.resume:
        with RunDirectory.resume(options.out, state.step) as directory:
            yield OpenRun(directory, state)
    else:
        with RunDirectory.create(options.out, options.record(accelerator.num_processes)) as directory:
            if for_trained and options.start_from is None:
                plain_console(stderr=True, soft_wrap=True).print(
                    f"warning: this run starts from random weights, but {for_trained} for fine-tuning a trained "
                    "network: give a base run with --start-from."
                )
            run = OpenRun(directory, state)
            run.save_last()
            yield run


def check_finite(out: Path, step: int, losses: Mapping[str, float]) -> None:
    """Refuse to continue a run that has diverged.

    Raises:
        InputError: A loss is not finite.
    """
    if not all(map(math.isfinite, losses.values())):
        raise InputError(
            f"{out} diverged by step {step}: {losses}. Lower --learning-rate or --weight; the checkpoints are "
            "of earlier steps."
        )
