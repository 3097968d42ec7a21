"""Data files that others publish and a pipeline reads: names, numbers of entries, and where to find them.

A pipeline lists all its files as a sequence of `FileGroup`; those that both pipelines read are here.
"""

from collections.abc import Callable, Sized
from dataclasses import dataclass
from pathlib import Path

import h5py

from updn_common.errors import InputError
from updn_common.files.finding import FEATURES, existing, feature_candidates
from updn_common.files.reading import check_not_stand_in
from updn_common.progress import open_tracked
from updn_common.proposals.npz import npz_files
from updn_common.proposals.tsv import is_tsv

Count = Callable[[Path], int]


@dataclass(frozen=True)
class FileKind:
    """One kind of file.

    Attributes:
        names: File name, or patterns that the name may match.
        count: Counts the entries of a file; raises an InputError if the file is damaged.
        units: What is counted, such as ``"questions"``.
        published: Published number of entries, where it is known.
        large: Whether counting reads many gigabytes.
        hashed: Whether a checksum is computed.
        find: Finds the files in a data directory; by default by their names.
    """

    names: tuple[str, ...]
    count: Count
    units: str
    published: int | None = None
    large: bool = False
    hashed: bool = True
    find: Callable[[Path], list[Path]] | None = None

    def found(self, data: Path) -> list[Path]:
        """The files of this kind in a data directory."""
        return self.find(data) if self.find else existing(data, *self.names)


@dataclass(frozen=True)
class FileGroup:
    """Files that belong together.

    Attributes:
        name: Name of the group.
        purpose: What the files are needed for.
        site: Where they are published.
        kinds: The files.
    """

    name: str
    purpose: str
    site: str
    kinds: tuple[FileKind, ...]


def length_of(read: Callable[[Path], Sized]) -> Count:
    """Count the entries of a file by reading it."""
    return lambda path: len(read(path))


def count_lines(path: Path) -> int:
    """Number of lines in a text file of any size.

    Raises:
        InputError: The file cannot be read.
    """
    try:
        with open_tracked(path, f"counting {path.name}") as file:
            return sum(1 for _ in file)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}).") from None


def _count_images(path: Path) -> int:
    if path.is_dir():
        return len(npz_files(path))
    check_not_stand_in(path)
    if is_tsv(path):
        return count_lines(path)
    try:
        with h5py.File(path, "r") as file:
            return len(file[next((name for name in ("pos_boxes", "image_id") if name in file), "image_features")])
    except (OSError, KeyError, TypeError) as error:  # TypeError: a data set without a length
        raise InputError(f"{path} is not a readable HDF5 file of features ({error}).") from None


def _count_photos(path: Path) -> int:
    return sum(1 for _ in path.glob("*.jpg"))


FEATURES_NAME = "bottom-up features"


def features(purpose: str) -> FileGroup:
    """Bottom-up features."""
    return FileGroup(
        FEATURES_NAME,
        purpose,
        "https://github.com/peteanderson80/bottom-up-attention\nhttps://github.com/airsplay/lxmert (with objects)",
        (
            FileKind(
                (*FEATURES, "folder of *.npz"), _count_images, "images", 123_287, large=True, find=feature_candidates
            ),
        ),
    )


def photos(purpose: str) -> FileGroup:
    """The photos of COCO."""
    return FileGroup(
        "photos",
        purpose,
        "https://cocodataset.org/#download",
        (
            FileKind(("train2014",), _count_photos, "photos", 82_783, hashed=False),
            FileKind(("val2014",), _count_photos, "photos", 40_504, hashed=False),
        ),
    )
