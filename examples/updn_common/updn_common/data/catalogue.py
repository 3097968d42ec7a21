"""Kinds of data files: under which names, how much there is of each, and where it is published.

What of others' data a pipeline can use is a sequence of `Group`; those of both pipelines are here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py

from updn_common.errors import InputError
from updn_common.files.layout import FEATURES, existing, feature_candidates
from updn_common.files.reading import check_is_itself
from updn_common.progress import open_tracked
from updn_common.proposals.npz import npz_files
from updn_common.proposals.tsv import is_tsv

Count = Callable[[Path], int]


@dataclass(frozen=True)
class Item:
    """One kind of file.

    Attributes:
        what: What it is.
        names: Its file name, or patterns of what it may be called.
        count: How many `units` a file holds; raises an InputError if it is damaged.
        units: What is counted.
        published: How many there are, where that is known.
        large: Whether counting reads many gigabytes.
        hashed: Whether a checksum is worth its time.
        find: Finds the files in a data directory; by default by their names.
    """

    what: str
    names: tuple[str, ...]
    count: Count
    units: str
    published: int | None = None
    large: bool = False
    hashed: bool = True
    find: Callable[[Path], list[Path]] | None = None

    def found(self, data: Path) -> list[Path]:
        """The files there are."""
        return self.find(data) if self.find else existing(data, *self.names)


@dataclass(frozen=True)
class Group:
    """Files that belong together.

    Attributes:
        name: What they are.
        purpose: What they are needed for.
        site: Where they are published.
        items: The files.
    """

    name: str
    purpose: str
    site: str
    items: tuple[Item, ...]


def count_lines(path: Path) -> int:
    """The lines of a text file, of any size.

    Raises:
        InputError: If it is no file, or cannot be read.
    """
    try:
        with open_tracked(path, f"counting {path.name}") as file:
            return sum(1 for _ in file)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}).") from None


def _images(path: Path) -> int:
    if path.is_dir():
        return len(npz_files(path))
    check_is_itself(path)
    if is_tsv(path):
        return count_lines(path)
    try:
        with h5py.File(path, "r") as file:
            return len(file[next((name for name in ("pos_boxes", "image_id") if name in file), "image_features")])
    except (OSError, KeyError, TypeError) as error:  # a data set without a length
        raise InputError(f"{path} is not a readable HDF5 file of features ({error}).") from None


def _photos(path: Path) -> int:
    return sum(1 for _ in path.glob("*.jpg"))


FEATURES_NAME = "bottom-up features"


def features(purpose: str) -> Group:
    """The features of proposals, and what a pipeline needs them for."""
    return Group(
        FEATURES_NAME,
        purpose,
        "https://github.com/peteanderson80/bottom-up-attention\nhttps://github.com/airsplay/lxmert (with objects)",
        (
            Item(
                "features of train2014 and val2014",
                (*FEATURES, "folder of *.npz"),
                _images,
                "images",
                123_287,
                large=True,
                find=feature_candidates,
            ),
        ),
    )


def photos(purpose: str) -> Group:
    """The photos themselves."""
    return Group(
        "photos",
        purpose,
        "https://cocodataset.org/#download",
        (
            Item("COCO train2014", ("train2014",), _photos, "photos", 82_783, hashed=False),
            Item("COCO val2014", ("val2014",), _photos, "photos", 40_504, hashed=False),
        ),
    )
