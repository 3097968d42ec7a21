"""Prepared directories as training reads them. Each pipeline adds its own arrays and vocabularies."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from updn_common.errors import InputError
from updn_common.files.reading import read_record
from updn_common.proposals.store import ProposalStore

RECORD_FILE = "prepared.json"
ARRAYS_FILE = "arrays.safetensors"

Arrays = dict[str, Tensor]
Limits = Mapping[str, tuple[int, str | int]]
"""Lowest value of each integer array, and the end (exclusive) of its values: a number, or an array with that length."""


class PreparedSplit:
    """The samples of one split. Made by `PreparedDirectory.split`.

    Attributes:
        directory: Directory of the split.
    """

    def __init__(
        self, directory: Path, store: ProposalStore, same_length: Sequence[Sequence[str]], limits: Limits
    ) -> None:
        """Read the arrays of a split; see `load_arrays` for ``same_length`` and ``limits``."""
        self.directory = directory
        self._store = store
        self._arrays = load_arrays(directory / ARRAYS_FILE, same_length, limits)

    @property
    def name(self) -> str:
        """Name of the split, such as ``"train"``."""
        return self.directory.name


Split = TypeVar("Split", bound=PreparedSplit)


class PreparedDirectory(ABC, Generic[Split]):
    """A directory that ``prepare`` wrote. Made by `open`; splits are read on request.

    Attributes:
        directory: The directory.
        record: Content of ``prepared.json``.
        store: The proposals of all images.
    """

    COMMAND: ClassVar[str]
    """The command that writes such a directory."""
    FORMAT_VERSION: ClassVar[int]
    SELECTION_SPLIT: ClassVar[str]
    """Name of the split that checkpoints are chosen on, which ``--development-share`` holds out of train."""

    def __init__(self, directory: Path, record: dict[str, Any]) -> None:
        self.directory = directory
        self.record = record
        self.store = ProposalStore.open(directory / "proposals")

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Open a prepared directory.

        Raises:
            InputError: It is not a prepared directory, is incomplete, or has another format version.
        """
        expected = f"a directory that `{cls.COMMAND}` wrote"
        return cls(directory, read_record(directory / RECORD_FILE, cls.FORMAT_VERSION, expected=expected))

    @property
    def split_names(self) -> list[str]:
        """Names of the splits."""
        return list(self.record["splits"])

    def check_split(self, name: str) -> None:
        """Raise an InputError if there is no such split."""
        if name not in self.split_names:
            remedy = "Give --split one of these."
            if name == self.SELECTION_SPLIT:
                remedy = "Prepare it again with --development-share above 0: that holds one out of train."
            raise InputError(f"{self.directory} has no split {name!r}; it has {', '.join(self.split_names)}. {remedy}")

    def split(self, name: str) -> Split:
        """Read one split.

        Raises:
            InputError: There is no such split, or it is damaged.
        """
        self.check_split(name)
        return self._read_split(self.directory / name)

    @abstractmethod
    def _read_split(self, directory: Path) -> Split: ...


def load_arrays(path: Path, same_length: Sequence[Sequence[str]], limits: Limits) -> Arrays:
    """Read the arrays of a split, and check their lengths and that indices are in range.

    Args:
        path: A safetensors file.
        same_length: Groups of arrays that have the same length.
        limits: The values that integer arrays may hold.

    Raises:
        InputError: The file is missing or damaged, or a check fails.
    """
    try:
        arrays: Arrays = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be read ({error}). Prepare it again.") from None
    if missing := {name for group in same_length for name in group} - arrays.keys():
        raise InputError(f"{path} has no {min(missing)!r}. Prepare it again.")
    for group in same_length:
        if len({len(arrays[name]) if arrays[name].dim() else -1 for name in group}) > 1:
            raise InputError(f"{path} has arrays of different lengths: {', '.join(group)}. Prepare it again.")
    for name, (low, high) in limits.items():
        array, end = arrays[name], len(arrays[high]) if isinstance(high, str) else high
        if array.is_floating_point() or array.is_complex() or array.dtype == torch.bool:
            raise InputError(f"{path}: {name!r} is of {array.dtype}, not of integers. Prepare it again.")
        if array.numel() and not (low <= array.min() and array.max() < end):
            raise InputError(f"{path}: {name!r} holds numbers outside {low} to {end - 1}. Prepare it again.")
    return arrays
