"""A run's directory: its configuration, metrics and checkpoints.

::

    config.json             the resolved configuration, and the machine and versions that it ran on
    metrics.jsonl           one JSON object a line, each with its `step`
    tensorboard/            the same metrics for TensorBoard, if it is installed
    <name>.safetensors      checkpoints
"""

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from updn_common.errors import InputError
from updn_common.files.reading import read_json
from updn_common.files.writing import LOCK_NAME, atomic_file, json_text, locked, write_json
from updn_common.runs.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


@dataclass(frozen=True, eq=False)
class RunDirectory:
    """The directory of a training run that is open for writing.

    The context managers `RunDirectory.create` and `RunDirectory.resume` make it, and hold its lock meanwhile: no other
    process can open it. In a data-parallel run only the main process does.

    Attributes:
        path: The directory.
    """

    path: Path
    _tensorboard: "SummaryWriter | None"

    @classmethod
    @contextmanager
    def create(cls, path: Path, config: Mapping[str, Any]) -> Iterator["RunDirectory"]:
        """Open a new run and write `config.json`.

        A run that was killed before its first checkpoint is replaced.

        Args:
            path: A directory that is empty or does not exist.
            config: The resolved configuration, seeds included, as JSON values and paths.

        Raises:
            InputError: The directory holds files, or is in use by another process.
        """
        with locked(path):
            names = {file.name for file in path.iterdir() if ".partial-" not in file.name}
            never_trained = "config.json" in names and names <= {LOCK_NAME, "config.json", "tensorboard"}
            if "config.json" in names and not never_trained:
                raise InputError(
                    f"{path} already holds a run: go on with it by --resume, choose another directory or delete it."
                )
            if names - {LOCK_NAME} and not never_trained:
                raise InputError(f"{path} already holds files: choose another directory or delete it.")
            write_json(path / "config.json", {"config": dict(config), **_environment()}, indent=1)
            yield from cls._opened(path, step=0)

    @classmethod
    @contextmanager
    def resume(cls, path: Path, step: int) -> Iterator["RunDirectory"]:
        """Open an existing run as it was after `step`; metrics of later steps are deleted.

        Args:
            path: The run's directory.
            step: The last step in the loaded checkpoint.

        Raises:
            InputError: The directory holds no run, or is in use by another process.
        """
        if not (path / "config.json").is_file():
            raise InputError(f"{path} holds no run to resume (no config.json).")
        with locked(path):
            lines = zip(_whole_lines(path / "metrics.jsonl"), read_metrics(path), strict=True)
            kept = [line for line, metrics in lines if metrics["step"] <= step]
            with atomic_file(path / "metrics.jsonl") as temporary:
                temporary.write_text("".join(kept), encoding="utf-8")
            yield from cls._opened(path, step)

    @classmethod
    def _opened(cls, path: Path, step: int) -> Iterator["RunDirectory"]:
        writer = _tensorboard_writer(path / "tensorboard", step)
        try:
            yield cls(path, writer)
        finally:
            if writer is not None:
                writer.close()

    def log(self, step: int, **values: float | str | None) -> None:
        """Append a line to `metrics.jsonl`, with null for a non-finite number, and log numbers to TensorBoard.

        Lines have no times, so that the file of a resumed run is the same as of an uninterrupted one.
        """
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json_text({"step": step, **values}) + "\n")
        if self._tensorboard is not None:
            for name, value in values.items():
                if isinstance(value, (int, float)):
                    self._tensorboard.add_scalar(name, value, step)

    def save_checkpoint(
        self,
        name: str,
        model_state: Mapping[str, Tensor],
        optimizer: torch.optim.Optimizer | None,
        progress: Mapping[str, Any],
        auxiliary: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Write `<name>.safetensors`; see `updn_common.runs.checkpoint.save_checkpoint`."""
        save_checkpoint(self.path / f"{name}.safetensors", model_state, optimizer, progress, auxiliary)


def read_config(path: Path) -> dict[str, Any]:
    """Read the configuration that the run in directory `path` was created with.

    Raises:
        InputError: The directory holds no run.
    """
    file = path / "config.json"
    record = read_json(file, expected="the configuration of a run")
    if not isinstance(record, dict) or not isinstance(config := record.get("config"), dict):
        raise InputError(f"{file} is not the configuration of a run. Give the --out of a training run.")
    return config


def read_checkpoint(
    path: Path, name: str, *, option: str, remedy: str = "Give the --out of a training run."
) -> Checkpoint:
    """Read a checkpoint of a run.

    Args:
        path: The run's directory.
        name: Name of the checkpoint.
        option: Flag that the directory was given by, for the error message.
        remedy: Advice in the error message if there is no such checkpoint.

    Raises:
        InputError: There is no run, it has no such checkpoint, or the checkpoint is damaged.
    """
    file = path / f"{name}.safetensors"
    if not file.is_file():
        found = "does not exist"
        if (path / "config.json").is_file():
            found = f"holds a run without {file.name}"
        elif path.exists():
            found = "holds no run" if path.is_dir() else "is a file, not the directory of a run"
        raise InputError(f"{option} {path} {found}. {remedy}")
    return load_checkpoint(file)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read the metrics that the run in directory `path` has logged so far, in order.

    A last line that is not finished is ignored: the run may still be writing it.

    Raises:
        InputError: Another line is damaged.
    """
    file, metrics = path / "metrics.jsonl", []
    for number, line in enumerate(_whole_lines(file), start=1):
        try:
            metrics.append(record := json.loads(line))
            known = isinstance(record, dict) and type(record.get("step")) is int
        except (ValueError, RecursionError):
            known = False
        if not known:
            raise InputError(f"{file}, line {number} is damaged: delete the line, or train the run again.")
    return metrics


def _whole_lines(path: Path) -> list[str]:
    """All finished lines of a file; none if there is no file."""
    if not path.exists():
        return []
    return [
        line
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
        if line.endswith("\n")
    ]


def _tensorboard_writer(path: Path, step: int) -> "SummaryWriter | None":
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(path), purge_step=step + 1)


def _environment() -> dict[str, Any]:
    return {
        "command": sys.argv,
        "git": _git_revision(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "cuda": torch.version.cuda,
        "packages": dict(sorted((item.metadata["Name"], item.version) for item in importlib.metadata.distributions())),
    }


@cache  # another revision that is checked out later does not change the code that this process has imported
def _git_revision() -> str | None:
    """The revision of the checkout that this code runs from, `-dirty` if changed; None outside of a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def check_vocabulary(run: Path, data: Path, checksum: str, *, option: str = "") -> None:
    """Check that a run was trained with the vocabulary of prepared data, which the network's indices stand for.

    Runs without a recorded checksum are accepted.

    Args:
        run: The run's directory.
        data: The prepared directory.
        checksum: Checksum of its vocabulary.
        option: Flag that the run was given by, for the error message.

    Raises:
        InputError: The run was trained with another vocabulary.
    """
    config = read_config(run)
    if config.get("vocabulary", checksum) == checksum:
        return
    remedy = f"Give --data {config['data']}, which it was trained on."
    if Path(config["data"]).resolve() == data.resolve():
        remedy = "It was prepared anew after that: prepare it as it was, or train from the beginning."
    raise InputError(f"{option} {run} was trained with another vocabulary than that of {data}. {remedy}".lstrip())
