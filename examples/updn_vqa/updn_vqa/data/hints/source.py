"""What all kinds of hints have in common."""

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
    """Where hints come from."""

    @property
    def files(self) -> Sequence[Path]:
        """The single files that hints were read from, for their checksums."""

    @property
    def question_ids(self) -> Collection[int]:
        """The questions that people left hints for; none where hints are about images."""

    def importance(self, question: Question, image: Geometry) -> Importance | None:
        """How important people find the proposals of an image for a question about it.

        Returns:
            ``s`` in [0, 1], or None where people left no hint.

        Raises:
            InputError: If the hint says nothing or does not fit the image.
        """

    def record(self) -> dict[str, Any]:
        """What ``prepared.json`` should say about this source."""


def fitting_scale(size: tuple[float, float], image: Geometry, image_id: int, where: str) -> Float32[Tensor, 2]:
    """What x and y of a hint are to be multiplied by, that was made on an image of another resolution.

    Raises:
        InputError: That has another aspect ratio.
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
    """What ``read`` finds in all of the files, by question or image.

    Raises:
        InputError: If two of them know one.
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
    """Paths as an error message names them."""
    return ", ".join(map(str, paths))
