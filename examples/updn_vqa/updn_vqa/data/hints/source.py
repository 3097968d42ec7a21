"""The interface of hints, and functions that several kinds share."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar

import torch
from jaxtyping import Float32
from torch import Tensor

from updn_common.errors import InputError
from updn_common.proposals.store import Geometry
from updn_vqa.data.questions import Question

Importance: TypeAlias = Float32[Tensor, " K"]
Item = TypeVar("Item")
ASPECT_TOLERANCE = 0.02


class HintSource(Protocol):
    """Hints for questions."""

    @property
    def files(self) -> Sequence[Path]:
        """The files that were read, apart from folders; their checksums are recorded."""

    @property
    def question_ids(self) -> Collection[int]:
        """The questions that have hints; empty if hints are about images."""

    def importance(self, question: Question, image: Geometry) -> Importance | None:
        """Human importance of the proposals of an image for a question about it.

        Returns:
            ``s`` in [0, 1], or None if there is no hint.

        Raises:
            InputError: The hint is empty or does not fit the image.
        """

    def record(self) -> dict[str, Any]:
        """A description of the hints for ``prepared.json``."""


def fitting_scale(size: tuple[float, float], image: Geometry, image_id: int, where: str) -> Float32[Tensor, 2]:
    """The factors that scale x and y of a hint, made on an image of the given size, to the image of the proposals.

    Raises:
        InputError: The aspect ratios differ.
    """
    width, height = size
    if abs(width * image.height / (height * image.width) - 1) > ASPECT_TOLERANCE:
        raise InputError(
            f"{where}: a hint on {width:g} x {height:g} pixels does not fit image {image_id} of {image.width} x "
            f"{image.height}. Resize it to the image, or remove it."
        )
    return torch.tensor([image.width / width, image.height / height])


def read_all(
    read: Callable[[Path], Mapping[int, Item]], paths: Iterable[Path], *, of: str = "question"
) -> dict[int, Item]:
    """Read several files and merge their items, which are keyed by question or image (``of``, for error messages).

    Raises:
        InputError: Two files have the same key.
    """
    found: dict[int, Item] = {}
    home: dict[int, Path] = {}
    for path in paths:
        for key, item in read(path).items():
            if key in found:
                raise InputError(f"{path} has {of} {key}, which {home[key]} has too. Keep one of the two.")
            found[key], home[key] = item, path
    return found


def joined(paths: Iterable[Path]) -> str:
    """Paths separated by commas, for error messages."""
    return ", ".join(map(str, paths))
