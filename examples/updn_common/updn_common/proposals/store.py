"""The proposal store: the proposals of all images in memory-mapped arrays, read in batches.

A store is a directory::

    features.npy   (rows, D)   float32 or float16, the proposals of all images one after another
    boxes.npy      (rows, 4)   float32, x1 y1 x2 y2 in pixels
    offsets.npy    (N + 1,)    int64, image i has the rows from offsets[i] to offsets[i + 1]
    image_ids.npy  (N,)        int64
    sizes.npy      (N, 2)      int32, width and height in pixels
    objects.npy    (rows,)     int32, class that the detector assigned to a proposal, -1 if unknown
    store.json     counts, and checksums of these files and of the sources

`updn_common.proposals.store_writer` writes stores.
"""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float32, Int32, Int64
from torch import Tensor

from updn_common.errors import InputError, first_few
from updn_common.files.reading import read_record, sha256

FORMAT_VERSION = 1
_MAPPED = ("features", "boxes", "objects")
_KINDS = {"features": "f", "boxes": "f", "offsets": "i", "image_ids": "i", "sizes": "i", "objects": "i"}
"""The arrays of a store, and whether they hold floats or integers."""


class ProposalBatch(NamedTuple):
    """The proposals of B images, padded with zeros to K, the largest number in the batch.

    Attributes:
        features: Feature vectors.
        boxes: Corners x1, y1, x2, y2 in pixels.
        mask: True for real proposals, False for padding.
        sizes: Image width and height in pixels.
    """

    features: Float32[Tensor, "B K D"]
    boxes: Float32[Tensor, "B K 4"]
    mask: Bool[Tensor, "B K"]
    sizes: Int32[Tensor, "B 2"]


class Geometry(NamedTuple):
    """The K proposals of an image without their features.

    Attributes:
        boxes: Corners x1, y1, x2, y2 in pixels.
        height: Image height in pixels.
        width: Image width in pixels.
        objects: Class that the detector assigned to each proposal, as an index into its list of names; None if unknown.
    """

    boxes: Float32[Tensor, "K 4"]
    height: int
    width: int
    objects: Int64[np.ndarray, " K"] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.height, self.width


class ProposalStore:
    """The proposals of images on disk. Made by `ProposalStore.open`.

    Opening reads the index only; features stay on disk until a batch needs them. A store can be passed to data-loading
    workers, which map the same files.

    Attributes:
        directory: Directory of the store.
        image_ids: The image ids in stored order.
        description: Content of `store.json`.
    """

    def __init__(self, directory: Path, description: dict[str, Any], arrays: dict[str, npt.NDArray[Any]]) -> None:
        self.directory = directory
        self.description = description
        self.image_ids: Int64[np.ndarray, " N"] = arrays["image_ids"]
        with warnings.catch_warnings(action="ignore"):  # torch warns of memory that must not be written
            self._features = torch.from_numpy(np.asarray(arrays["features"]))
        self._boxes = arrays["boxes"]
        self._offsets = arrays["offsets"]
        self._sizes = arrays["sizes"]
        self._objects = arrays.get("objects")  # the first stores have none
        self._order = np.argsort(self.image_ids)
        self._sorted_ids = self.image_ids[self._order]

    @classmethod
    def open(cls, directory: Path) -> "ProposalStore":
        """Open a store, and check that its files have the sizes they were written with.

        Raises:
            InputError: The directory is not a store or has another format version, a file is missing or has another
                size, or the shapes of the arrays do not agree.
        """
        expected = "the proposal store that the prepare command writes"
        description = read_record(directory / "store.json", FORMAT_VERSION, expected=expected)
        _check_description(directory / "store.json", description)
        for name, file in description["files"].items():
            found = (directory / name).stat().st_size if (directory / name).is_file() else "no"
            if found != file["bytes"]:
                raise InputError(f"{directory / name} has {found} bytes, not {file['bytes']}. Prepare it again.")
        arrays = {Path(name).stem: _load(directory / name) for name in description["files"]}
        _check_shapes(directory, arrays, description["feature_size"])
        return cls(directory, description, arrays)

    def __reduce__(self) -> tuple[Any, ...]:
        return ProposalStore.open, (self.directory,)  # pickling a memory map would copy the file

    def __len__(self) -> int:
        return len(self.image_ids)

    def __contains__(self, image_id: int) -> bool:
        return bool(self._found(np.array([image_id], dtype=np.int64))[1][0])

    @property
    def feature_size(self) -> int:
        """D, the length of a feature vector."""
        return int(self.description["feature_size"])

    @property
    def max_proposals(self) -> int:
        """The largest number of proposals of any image."""
        return int(self.description["max_proposals"])

    def geometry(self, image_id: int) -> Geometry:
        """The boxes and detected objects of an image's proposals.

        Raises:
            InputError: The store lacks the image.
        """
        row = int(self.rows([image_id])[0])
        start, end = self._offsets[row : row + 2].tolist()
        width, height = self._sizes[row].tolist()
        objects = None if self._objects is None or self._objects[start] < 0 else self._objects[start:end].astype(int)
        return Geometry(torch.from_numpy(self._boxes[start:end].copy()), height, width, objects)

    def verify(self) -> None:
        """Compare every file with its checksum.

        Raises:
            InputError: The content of a file has changed.
        """
        for name, file in self.description["files"].items():
            if sha256(self.directory / name) != file["sha256"]:
                raise InputError(f"{self.directory / name} does not match its checksum. Prepare it again.")

    def rows(self, image_ids: Sequence[int] | npt.NDArray[np.integer[Any]]) -> Int64[np.ndarray, " N"]:
        """The position in the store of each image id.

        Raises:
            InputError: The store lacks one of them.
        """
        wanted = np.asarray(image_ids, dtype=np.int64)
        rows, found = self._found(wanted)
        if not found.all():
            missing = np.unique(wanted[~found])
            first = ", ".join(map(str, missing[:5].tolist())) + (", ..." if len(missing) > 5 else "")
            raise InputError(f"{self.directory} lacks the proposals of {len(missing)} images: {first}.")
        return rows

    def _found(self, image_ids: Int64[np.ndarray, " N"]) -> tuple[Int64[np.ndarray, " N"], Bool[np.ndarray, " N"]]:
        position = np.searchsorted(self._sorted_ids, image_ids).clip(max=len(self) - 1)
        return self._order[position], self._sorted_ids[position] == image_ids

    def batch(self, rows: Sequence[int] | npt.NDArray[np.integer[Any]]) -> ProposalBatch:
        """Copy the proposals of the images at these rows (see `rows`) into new tensors."""
        rows = np.asarray(rows, dtype=np.int64)
        starts = self._offsets[rows]
        counts = self._offsets[rows + 1] - starts
        K = int(counts.max(initial=0))
        mask = np.arange(K) < counts[:, None]
        features = torch.empty(len(rows), K, self.feature_size)
        for i, (start, n) in enumerate(zip(starts.tolist(), counts.tolist(), strict=True)):
            features[i, :n] = self._features[start : start + n]  # torch converts float16 four times as fast as numpy
            features[i, n:] = 0
        boxes = np.zeros((len(rows), K, 4), dtype=np.float32)
        boxes[mask] = self._boxes[(starts[:, None] + np.arange(K))[mask]]
        return ProposalBatch(
            features, torch.from_numpy(boxes), torch.from_numpy(mask), torch.from_numpy(self._sizes[rows])
        )


def _check_description(path: Path, description: dict[str, Any]) -> None:
    """Check the content of `store.json`; in a store from elsewhere, names could be paths that lead out of it."""
    counts = [description.get(name) for name in ("feature_size", "max_proposals")]
    if not all(isinstance(count, int) and count > 0 for count in counts):
        raise InputError(f"{path}: `feature_size` and `max_proposals` are {counts}, not above 0. Prepare it again.")
    files = description.get("files")
    names = set(files) if isinstance(files, dict) else set()
    known = {f"{name}.npy" for name in _KINDS}
    if not known - {"objects.npy"} <= names <= known:
        wrong = first_few(sorted(names ^ known)) if names else repr(files)[:80]
        raise InputError(f"{path}: `files` do not list the files of a store: {wrong}. Prepare it again.")
    for name, file in files.items() if isinstance(files, dict) else ():
        if not isinstance(file, dict) or type(file.get("bytes")) is not int or not isinstance(file.get("sha256"), str):
            raise InputError(f"{path}: {name} lacks its size in bytes or its checksum. Prepare it again.")


def _load(path: Path) -> npt.NDArray[Any]:
    try:
        array = np.load(path, mmap_mode="r" if path.stem in _MAPPED else None, allow_pickle=False)
    except Exception as error:  # NumPy parses a header as Python, so a damaged one may raise anything
        raise InputError(f"{path} is damaged ({type(error).__name__}: {error}). Prepare it again.") from None
    if not isinstance(array, np.ndarray) or array.dtype.kind != _KINDS[path.stem]:
        raise InputError(f"{path} does not hold the type of numbers that a store has there. Prepare it again.")
    return array


def _check_shapes(directory: Path, arrays: Mapping[str, npt.NDArray[Any]], feature_size: int) -> None:
    images, offsets = arrays["image_ids"].size, arrays["offsets"]
    ordered = offsets.shape == (images + 1,) and images and offsets[0] == 0 and (np.diff(offsets) >= 0).all()
    rows = int(offsets[-1]) if ordered else -1
    shapes = {
        "image_ids": (images,),
        "sizes": (images, 2),
        "features": (rows, feature_size),
        "boxes": (rows, 4),
        "objects": (rows,),
    }
    for name, array in arrays.items():
        if array.shape != shapes.get(name, array.shape) or not ordered:
            raise InputError(
                f"{directory}: {name}.npy has shape {array.shape}, which does not fit the {images} images in "
                "image_ids.npy and their numbers of proposals in offsets.npy. Prepare it again."
            )
