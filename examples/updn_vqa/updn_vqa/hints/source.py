"""What all kinds of hints have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar

from jaxtyping import Float32
from torch import Tensor

from updn_common.store import Geometry
from updn_vqa.questions import Question

Importance: TypeAlias = Float32[Tensor, " K"]
Item = TypeVar("Item")


class HintSource(Protocol):
    """Where hints come from."""

    @property
    def files(self) -> Sequence[Path]:
        """The single files that hints were read from, for their checksums."""

    def importance(self, question: Question, image: Geometry) -> Importance | None:
        """How important people find the proposals of an image for a question about it.

        Returns:
            ``s`` in [0, 1], or None where people left no hint.

        Raises:
            InputError: If the hint says nothing or does not fit the image.
        """

    def record(self) -> dict[str, Any]:
        """What ``prepared.json`` should say about this source."""


def read_all(read: Callable[[Path], Mapping[int, Item]], paths: Iterable[Path]) -> dict[int, Item]:
    """What ``read`` finds in all of the files, by question or image; of two that know one, the last is believed."""
    return {key: item for path in paths for key, item in read(path).items()}


def joined(paths: Iterable[Path]) -> str:
    """Paths as an error message names them."""
    return ", ".join(map(str, paths))
