"""Measurements of a run, kept in its directory, so that a comparison of many runs need not repeat them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from updn_common.files.reading import sha256
from updn_common.files.writing import atomic_file

CheckpointName = Literal["best", "last"]
Origin = Mapping[str, str]
"""The format of the file, and checksums of the checkpoint and of the data that were measured."""


def origin(format_version: str, weights: Path, prepared: Path) -> Origin:
    """Identify measurements by the version of their format, the checkpoint and the prepared data."""
    return {"format": format_version, "checkpoint": sha256(weights), "data": sha256(prepared / "prepared.json")}


def keep_measurements(path: Path, measurements: Mapping[str, Tensor], origin: Origin) -> None:
    """Write measurements and their origin to a file, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as temporary:
        save_file(dict(measurements), temporary, metadata=dict(origin))


def kept_measurements(path: Path, origin: Origin) -> dict[str, Tensor] | None:
    """Read measurements; None if the file does not exist, is damaged or has another origin."""
    try:
        with safe_open(path, framework="pt") as file:
            if file.metadata() != origin:
                return None
            return {name: file.get_tensor(name) for name in list(file.keys())}
    except (OSError, SafetensorError):
        return None
