"""What the trainers share: the options that a run was made with, its directory, and steps cut among processes."""

import json
import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from jaxtyping import Shaped
from torch import Tensor, nn
from torch.optim import Optimizer

from updn_common.console import plain_console
from updn_common.errors import InputError
from updn_common.files.writing import json_text
from updn_common.runs.directory import RunDirectory, check_vocabulary, read_checkpoint, read_config


class RunOptions(Protocol):
    """What this module needs to know of a trainer's options."""

    @property
    def data(self) -> Path:
        """The prepared directory."""

    @property
    def out(self) -> Path:
        """The run's directory."""

    @property
    def start_from(self) -> Path | None:
        """A run whose best checkpoint to start from."""

    @property
    def resume(self) -> bool:
        """Whether to go on with the run in ``out``."""

    def record(self, processes: int) -> dict[str, Any]:
        """The options as JSON values, and the checksum of the words under ``vocabulary``."""

    def differences(self, processes: int = 1) -> list[str]:
        """What the run in ``out`` was trained with instead."""


def options_record(config: Any, processes: int) -> dict[str, Any]:
    """A dataclass of options, and the number of processes, as JSON values."""
    record: dict[str, Any] = json.loads(json_text(asdict(config) | {"processes": processes}))
    return record


def options_changed(
    out: Path, now: Mapping[str, Any], defaults: Mapping[str, Any], *, unused: Collection[str]
) -> list[str]:
    """What the run in ``out`` was trained with instead, such as ``"seed = 0, not 1"``; empty if with the same.

    Its vocabulary is left to `check_vocabulary`.

    Args:
        out: The run's directory.
        now: Records of options, which may hold others.
        defaults: What options had that the run's revision of the code did not know.
        unused: Names of options that do not count, such as ``method.weight``.

    Raises:
        InputError: There is no run.
    """
    ignored = {"vocabulary", *unused}
    was, now = flat(defaults) | flat(read_config(out)), flat(now)
    return [f"{name} = {was[name]}, not {now[name]}" for name in now if name not in ignored and was[name] != now[name]]


def flat(record: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Names such as ``method.weight`` and their values."""
    result: dict[str, Any] = {}
    for name, value in record.items():
        result |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return result


def load_start(
    config: RunOptions,
    model: nn.Module,
    optimizer: Optimizer,
    *,
    processes: int,
    auxiliary: nn.Module | None = None,
    kept: float = 1.0,
) -> tuple[int, float]:
    """Load what a run goes on or starts from, if anything; returns the steps done and the best score so far.

    A run that starts from another has ``kept`` of its weights, and ``1 - kept`` of those that the model had before.

    Raises:
        InputError: It does not exist or does not fit, or the run was trained with other options.
    """
    vocabulary = config.record(processes)["vocabulary"]
    if config.resume:
        remedy = "Leave out --resume to start a run, or give the --out of the run to go on with."
        checkpoint = read_checkpoint(config.out, "last", option="There is nothing to resume: --out", remedy=remedy)
        if changed := config.differences(processes):
            raise InputError(f"{config.out} was trained with {'; '.join(changed)}: resume with the same.")
        check_vocabulary(config.out, config.data, vocabulary)
        checkpoint.restore_model(model)
        if auxiliary is not None:
            checkpoint.restore_auxiliary(auxiliary)
        checkpoint.restore_optimizer(optimizer)
        return checkpoint.progress["step"], checkpoint.progress["best"]
    if config.start_from is not None:
        remedy = "Give the directory of a run that has been evaluated, or leave out --start-from for random weights."
        checkpoint = read_checkpoint(config.start_from, "best", option="--start-from", remedy=remedy)
        if (config.start_from / "config.json").is_file():
            check_vocabulary(config.start_from, config.data, vocabulary, option="--start-from")
        before = [parameter.detach().clone() for parameter in model.parameters()]
        checkpoint.restore_model(model)
        with torch.no_grad():
            for parameter, random in zip(model.parameters(), before, strict=True):
                parameter.lerp_(random, 1 - kept)
    return 0, -math.inf


@contextmanager
def open_run(
    config: RunOptions, accelerator: Accelerator, done: int, *, for_trained: str = ""
) -> Iterator[RunDirectory | None]:
    """The run's directory in the main process, None in the others.

    Args:
        config: The options.
        accelerator: Tells which process this is.
        done: The steps that the loaded checkpoint contains.
        for_trained: What in the options is meant for a network that is trained already; if it is not, the user is
            warned.
    """
    if not accelerator.is_main_process:
        yield None
    elif config.resume:
        with RunDirectory.resume(config.out, done) as run:
            yield run
    else:
        with RunDirectory.create(config.out, config.record(accelerator.num_processes)) as run:
            if for_trained and config.start_from is None:
                plain_console(stderr=True, soft_wrap=True).print(
                    f"warning: this run starts from random weights, but {for_trained} for fine-tuning a trained "
                    "network: give a base run with --start-from."
                )
            yield run


def check_clip(clip: float) -> None:
    """Check the largest norm of the gradient.

    Raises:
        InputError: It is not above 0: nothing would be learned.
    """
    if not clip > 0:
        raise InputError(f"--clip should be above 0, found {clip:g}: give inf to leave gradients as they are.")


def check_finite(out: Path, step: int, losses: Mapping[str, float]) -> None:
    """Refuse to go on with a run that has diverged.

    Raises:
        InputError: It has.
    """
    if not all(map(math.isfinite, losses.values())):
        raise InputError(
            f"{out} diverged by step {step}: {losses}. Lower --learning-rate or --weight; the checkpoints are of "
            "earlier steps."
        )


def check_cut(accelerator: Accelerator, micro_batches: int, **sizes: int) -> None:
    """Check that batches can be cut evenly among processes and micro-batches.

    Args:
        accelerator: Tells how many processes there are.
        micro_batches: Parts of each process's share.
        sizes: Of the batches, by the names of their flags with `_` for `-`.

    Raises:
        InputError: One cannot.
    """
    parts = accelerator.num_processes * micro_batches
    for name, size in sizes.items():
        if size % parts:
            raise InputError(
                f"--{name.replace('_', '-')} {size} cannot be cut evenly into {accelerator.num_processes} process(es) "
                f"x {micro_batches} micro-batch(es): choose a multiple of {parts}."
            )


def cut(samples: Shaped[Tensor, " N *D"], rank: int, ranks: int, micro_batches: int) -> list[Shaped[Tensor, " B *D"]]:
    """One process's share of something about each of a step's samples, in micro-batches."""
    return list(samples[rank::ranks].chunk(micro_batches))
