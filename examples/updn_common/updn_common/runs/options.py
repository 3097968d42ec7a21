"""The options of a training run that both pipelines share, and their record in the run's directory."""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from updn_common.errors import InputError, check_range
from updn_common.files.writing import json_text
from updn_common.runs.directory import read_config
from updn_common.runs.importance import HintOptions


@dataclass(frozen=True)
class Schedule:
    """How long, how fast, and on how much a network is trained."""

    learning_rate: float
    """Learning rate, the same in every step."""
    clip: float
    """Largest norm of the gradient; inf leaves it as it is."""
    steps: int
    """Number of steps."""
    evaluate_every: int
    """Steps between evaluations on the split that chooses the best checkpoint; a checkpoint is written with each."""
    batch_size: int
    """Questions or captions in a step, over all processes."""
    continues: bool = False
    """This schedule is for networks that are trained already: without --start-from, there is a warning."""

    def check(self) -> None:
        """Check the ranges of the options.

        Raises:
            InputError: An option is out of range.
        """
        check_range(1, steps=self.steps, evaluate_every=self.evaluate_every, batch_size=self.batch_size)
        check_range(0, learning_rate=self.learning_rate)
        if not self.clip > 0:
            raise InputError(f"--clip should be above 0, found {self.clip:g}: give inf to leave gradients as they are.")


@dataclass(frozen=True)
class RunOptions(ABC):
    """What to train, and on which data.

    Attributes:
        data: The prepared directory.
        out: The run's directory.
        method: What is learned, and from which hints.
        scale: Sizes of the network and the schedule.
        start_from: Path of a run whose best checkpoint to start from; default: random weights.
        hint_share: Use the hints of this share of all train questions (for captions, of all train images), or of all
            that have hints if these are fewer; 0.06 is 6 %.
        seed: Seed of the weights, the order of samples, dropout, all random draws, and the choice of hints.
        micro_batches: Split each process's share of a step into so many parts, for less memory; the result is the same.
        precision: Precision of the forward pass.
        workers: Number of processes that load proposals.
        cpu: Train on the CPU even where there is a GPU.
        resume: Continue the run in --out from its last checkpoint.
    """

    data: Path
    out: Path
    method: HintOptions
    scale: Schedule
    start_from: Path | None = None
    hint_share: float = 1.0
    seed: int = 0
    micro_batches: int = 1
    precision: Literal["no", "bf16"] = "no"
    workers: int = 0
    cpu: bool = False
    resume: bool = False

    def check(self) -> None:
        """Check the options that can be judged without the data.

        Raises:
            InputError: An option is out of range.
        """
        self.method.check()
        self.scale.check()
        check_range(1, micro_batches=self.micro_batches)
        check_range(0, seed=self.seed, workers=self.workers)
        if not 0 < self.hint_share <= 1:
            raise InputError(f"--hint-share should be a share in (0, 1], found {self.hint_share:g}: 6 % is 0.06.")

    @abstractmethod
    def vocabulary_checksum(self) -> str:
        """Checksum of the prepared data's vocabulary, which the network's indices stand for."""

    @abstractmethod
    def matters(self, option: str) -> bool:
        """Whether an option, such as ``"method.weight"``, changes what is learned."""

    def record(self, processes: int) -> dict[str, Any]:
        """The options, the number of processes and the checksum of the vocabulary, as JSON values."""
        record: dict[str, Any] = json.loads(json_text(asdict(self) | {"processes": processes}))
        return record | {"vocabulary": self.vocabulary_checksum()}

    def differences(self, processes: int = 1) -> list[str]:
        """How the run in ``out`` was trained differently, such as ``["seed = 0, not 1"]``.

        Options that do not matter are left out, and so is the vocabulary, which `check_vocabulary` compares. Options
        that the code did not have when the run was trained count as trained with their defaults.

        Raises:
            InputError: There is no run.
        """
        defaults = replace(self, method=type(self.method)(), scale=type(self.scale)())  # type: ignore[call-arg]  # subclasses have defaults
        was, now = flat(defaults.record(processes=1)) | flat(read_config(self.out)), flat(self.record(processes))
        ignored = {"out", "workers", "cpu", "resume", "vocabulary"}
        compared = [name for name in now if name not in ignored and self.matters(name)]
        return [f"{name} = {was[name]}, not {now[name]}" for name in compared if was[name] != now[name]]


def flat(record: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turn nested records into one with names such as ``"method.weight"``."""
    result: dict[str, Any] = {}
    for name, value in record.items():
        result |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return result
