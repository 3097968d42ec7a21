"""One image of a feature file before its proposals are read."""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from updn_common.errors import InputError
from updn_common.proposals.image_proposals import ImageProposals

_IMAGE_NAME = re.compile(r"(?:COCO_(?:train|val|test)20\d\d_)?0*(\d{1,18})(?:\.(?:jpg|png))?")


class FeatureEntry(NamedTuple):
    """One image of a feature file.

    Attributes:
        where: Place in the file for error messages, such as ``"a.tsv, line 3"``.
        name: Name of the image in the file.
        parse: Reads the proposals, given the image id.
    """

    where: str
    name: str
    parse: Callable[[int], ImageProposals]

    @property
    def image_id(self) -> int | None:
        """The COCO id in the name, or None if the name is not that of a COCO image."""
        match = _IMAGE_NAME.fullmatch(self.name)
        return int(match[1]) if match else None

    def read(self) -> ImageProposals:
        """Read the proposals.

        Raises:
            InputError: The name is not that of a COCO image, or the entry is malformed.
        """
        with errors_at(self.where):
            return self.parse(image_id_of(self.name))


def image_id_of(name: str) -> int:
    """The COCO id in an image's name: a number, or a COCO file name.

    Raises:
        InputError: The name is neither.
    """
    match = _IMAGE_NAME.fullmatch(name)
    if not match:
        raise InputError(f"image {name[:60]!r} is neither an integer nor a COCO file name.")
    return int(match[1])


def read_all(entries: Iterable[FeatureEntry]) -> Iterator[ImageProposals]:
    """Read the proposals of entries, which must all have the same feature size.

    Raises:
        InputError: An entry is malformed or has another feature size.
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
def errors_at(where: str) -> Iterator[None]:
    """Put the place where an InputError occurred before its message."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
