"""The proposal store: every image's proposals in memory-mapped arrays, read in batches.

A store is a directory::

    features.npy   (rows, D)   float32 or float16, the proposals of all images one after another
    boxes.npy      (rows, 4)   float32, x1 y1 x2 y2 in pixels
    offsets.npy    (N + 1,)    int64, image i has the rows offsets[i] to offsets[i + 1]
    image_ids.npy  (N,)        int64
    sizes.npy      (N, 2)      int32, width and height in pixels
    store.json     counts, and the checksum of every file and of what it was made from
"""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float32, Int32, Int64
from torch import Tensor

from updn_common.errors import InputError
from updn_common.files import read_record, sha256, sha256_of_all, write_json
from updn_common.progress import track
from updn_common.readers import ImageProposals

FORMAT_VERSION = 1
_ARRAYS = ("features", "boxes", "image_ids", "offsets", "sizes")


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


def write_store(
    directory: Path,
    proposals: Iterable[ImageProposals],
    *,
    dtype: Literal["float32", "float16"] = "float32",
    total: int | None = None,
    sources: Sequence[Path] = (),
) -> None:
    """Writes a store in one pass and constant memory.

    Args:
        directory: An existing empty directory; give one from `updn_common.files.new_directory`, so that a
            failure leaves nothing.
        proposals: The images, in the order they are to be stored.
        dtype: How features are stored; `float16` halves the disk and keeps three significant digits.
        total: The number of images if known, for the progress bar.
        sources: What the proposals were read from, recorded by name and checksum: files, or folders of npz, which
            have one checksum of all (`updn_common.files.sha256_of_all`).

    Raises:
        InputError: If there are no images, an image id occurs twice, feature sizes differ, or a feature is too
            large for float16.
    """
    image_ids: dict[int, None] = {}  # keeps the order, finds duplicates
    counts: list[int] = []
    sizes: list[tuple[int, int]] = []
    with ExitStack() as stack:
        features = stack.enter_context(_ArrayFile(directory / "features.npy", dtype))
        boxes = stack.enter_context(_ArrayFile(directory / "boxes.npy", "float32"))
        for image in track(proposals, "proposals", total):
            where = f"image {image.image_id}"
            if image.image_id in image_ids:
                raise InputError(f"{where} occurs twice; give each image's proposals once.")
            features.append(image.features, where)
            boxes.append(image.boxes, where)
            image_ids[image.image_id] = None
            counts.append(len(image.boxes))
            sizes.append((image.width, image.height))
    if not counts:
        raise InputError("No proposals to store: the input holds no image.")
    np.save(directory / "image_ids.npy", np.array(list(image_ids), dtype=np.int64))
    np.save(directory / "offsets.npy", np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))
    np.save(directory / "sizes.npy", np.array(sizes, dtype=np.int32))
    files = [directory / f"{name}.npy" for name in _ARRAYS]
    description = {
        "format_version": FORMAT_VERSION,
        "images": len(counts),
        "proposals": sum(counts),
        "min_proposals": min(counts),
        "max_proposals": max(counts),
        "feature_size": features.columns,
        "dtype": dtype,
        "files": {path.name: {"bytes": path.stat().st_size, "sha256": sha256(path)} for path in files},
        "sources": [{"name": path.name, "sha256": _checksum(path)} for path in sources],
    }
    write_json(directory / "store.json", description, indent=1)


def _checksum(source: Path) -> str:
    return sha256_of_all(source.glob("*.npz")) if source.is_dir() else sha256(source)


class _ArrayFile:
    """A two-dimensional `.npy` file to which rows are appended; its header is completed at the end."""

    def __init__(self, path: Path, dtype: str) -> None:
        self.columns = 0
        self._rows = 0
        self._dtype = np.dtype(dtype).newbyteorder("<")
        self._file = path.open("wb")

    def __enter__(self) -> "_ArrayFile":
        return self

    def append(self, rows: npt.NDArray[np.float32], where: str) -> None:
        if not self._rows:
            self.columns = rows.shape[1]
            self._write_header()
        if rows.shape[1] != self.columns:
            raise InputError(f"{where}: feature size {rows.shape[1]}; the images before it have {self.columns}.")
        with np.errstate(over="ignore"):
            stored = np.ascontiguousarray(rows, dtype=self._dtype)
        if self._dtype.itemsize < rows.itemsize and not np.isfinite(stored).all():
            largest = np.abs(rows).max()
            raise InputError(f"{where}: a feature of {largest:g} is too large for {self._dtype}; use float32.")
        self._file.write(stored.data)
        self._rows += len(rows)

    def _write_header(self) -> None:
        header = {
            "descr": np.lib.format.dtype_to_descr(self._dtype),
            "fortran_order": False,
            "shape": (self._rows, self.columns),
        }
        # NumPy pads a header so that the first dimension may grow in place.
        np.lib.format.write_array_header_1_0(self._file, header)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file:
            if error is None and self._rows:
                self._file.seek(0)
                self._write_header()


class ProposalStore:
    """Reads a store; see the module for its files. Made by `ProposalStore.open`.

    Opening reads the index only (features stay on disk until a batch needs them), and a store may be handed
    to data-loading workers: they map the same files.

    Attributes:
        directory: Where the store is.
        image_ids: The image ids in stored order.
        description: The content of `store.json`.
    """

    def __init__(self, directory: Path, description: dict[str, Any], arrays: dict[str, npt.NDArray[Any]]) -> None:
        self.directory = directory
        self.description = description
        self.image_ids: Int64[np.ndarray, " N"] = arrays["image_ids"]
        self._features = arrays["features"]
        self._boxes = arrays["boxes"]
        self._offsets = arrays["offsets"]
        self._sizes = arrays["sizes"]
        self._order = np.argsort(self.image_ids)
        self._sorted_ids = self.image_ids[self._order]

    @classmethod
    def open(cls, directory: Path) -> "ProposalStore":
        """Opens a store, and checks that its files have the sizes they were written with.

        Raises:
            InputError: If the directory is not a store, is of another format version, or a file is missing or
                has another size.
        """
        expected = "the proposal store that the prepare command writes"
        description = read_record(directory / "store.json", FORMAT_VERSION, expected=expected)
        for name, file in description["files"].items():
            found = (directory / name).stat().st_size if (directory / name).is_file() else "no"
            if found != file["bytes"]:
                raise InputError(f"{directory / name} has {found} bytes, not {file['bytes']}. Prepare it again.")
        arrays = {
            name: np.load(
                directory / f"{name}.npy", mmap_mode="r" if name in ("features", "boxes") else None, allow_pickle=False
            )
            for name in _ARRAYS
        }
        return cls(directory, description, arrays)

    def __reduce__(self) -> tuple[Any, ...]:
        return ProposalStore.open, (self.directory,)  # a memory map would be pickled as a copy of the file

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

    def verify(self) -> None:
        """Compares every file with its checksum.

        Raises:
            InputError: If a file's content differs from what was written.
        """
        for name, file in self.description["files"].items():
            if sha256(self.directory / name) != file["sha256"]:
                raise InputError(f"{self.directory / name} does not match its checksum. Prepare it again.")

    def rows(self, image_ids: Sequence[int] | npt.NDArray[np.integer[Any]]) -> Int64[np.ndarray, " N"]:
        """The position in the store of each image id.

        Raises:
            InputError: If the store lacks any of them.
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
        """Copies the proposals of the images at these rows (see `rows`) into new tensors."""
        rows = np.asarray(rows, dtype=np.int64)
        starts = self._offsets[rows]
        counts = self._offsets[rows + 1] - starts
        K = int(counts.max(initial=0))
        mask = np.arange(K) < counts[:, None]
        features = torch.empty(len(rows), K, self.feature_size)
        target = features.numpy()  # the same memory
        for i, (start, n) in enumerate(zip(starts.tolist(), counts.tolist(), strict=True)):
            target[i, :n] = self._features[start : start + n]
            target[i, n:] = 0
        boxes = np.zeros((len(rows), K, 4), dtype=np.float32)
        boxes[mask] = self._boxes[(starts[:, None] + np.arange(K))[mask]]
        return ProposalBatch(
            features, torch.from_numpy(boxes), torch.from_numpy(mask), torch.from_numpy(self._sizes[rows])
        )
