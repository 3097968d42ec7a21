"""What a feature file holds, one image at a time: where it stands and which image it is of, before it is read."""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from updn_common.errors import InputError
from updn_common.proposals.image_proposals import ImageProposals

_IMAGE_NAME = re.compile(r"(?:COCO_(?:train|val|test)20\d\d_)?0*(\d{1,18})(?:\.(?:jpg|png))?")


class Entry(NamedTuple):
    """One image's place in a feature file."""

    where: str
    """For messages, such as ``"a.tsv, line 3"``."""
    name: str
    """What the file calls the image."""
    parse: Callable[[int], ImageProposals]
    """Reads it, given its id."""

    @property
    def image_id(self) -> int | None:
        """The COCO id that the name stands for, if it does."""
        match = _IMAGE_NAME.fullmatch(self.name)
        return int(match[1]) if match else None

    def read(self) -> ImageProposals:
        """Its proposals.

        Raises:
            InputError: Its name is no COCO image's, or it is malformed.
        """
        with at(self.where):
            return self.parse(image_id_of(self.name))


def image_id_of(name: str) -> int:
    """The COCO id that a number or file name stands for.

    Raises:
        InputError: It is neither.
    """
    match = _IMAGE_NAME.fullmatch(name)
    if not match:
        raise InputError(f"image {name[:60]!r} is neither an integer nor a COCO file name.")
    return int(match[1])


def read_all(entries: Iterable[Entry]) -> Iterator[ImageProposals]:
    """Reads entries, and requires one feature size of all.

    Raises:
        InputError: Whatever is wrong with the first wrong one.
    """
    feature_size = None
    for entry in entries:
        image = entry.read()
        D = image.features.shape[1]
        if (feature_size or D) != D:
            raise InputError(f"{entry.where}: feature size {D}; the images before it have {feature_size}.")
        feature_size = D
        yield image


@contextmanager
def at(where: str) -> Iterator[None]:
    """Say in an error where it was."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
