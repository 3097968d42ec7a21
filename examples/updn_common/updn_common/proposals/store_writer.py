"""Writes a proposal store in one pass and constant memory, and goes on where a killed process stopped.

While it is written, a store has two more files::

    unfinished.json   what it is made from: only the same is gone on with
    unfinished.bin    the index so far: the int64 numbers of `_INDEX` for each image that is safely on disk
"""

import math
import os
from array import array
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from jaxtyping import Shaped

from updn_common.errors import InputError
from updn_common.files.reading import read_json, sha256, sha256_of_all
from updn_common.files.writing import write_json
from updn_common.progress import track
from updn_common.proposals.image_proposals import ImageProposals
from updn_common.proposals.npz import npz_files
from updn_common.proposals.store import FORMAT_VERSION

CHECKPOINT_EVERY = 512
"""Images after which what was written is forced to disk; at most so many are converted again after a kill."""

Dtype = Literal["float32", "float16"]
_INDEX = ("image_id", "proposals", "width", "height", "source", "position")


class Position(NamedTuple):
    """How far the sources were read: `images` of the source of this number, and all sources before it."""

    source: int = 0
    images: int = 0


def write_store(
    directory: Path,
    proposals: Iterable[ImageProposals],
    *,
    dtype: Dtype = "float32",
    total: int | None = None,
    sources: Sequence[Path] = (),
) -> None:
    """Writes a store of given images.

    Args:
        directory: An existing empty directory; give one from `updn_common.files.writing.new_directory`, so that a
            failure leaves nothing.
        proposals: The images, in the order they are to be stored.
        dtype: How features are stored; `float16` halves the disk and keeps three significant digits.
        total: The number of images if known, for the progress bar.
        sources: What the proposals were read from, recorded by name and checksum (see `source_record`).

    Raises:
        InputError: If there are no images, an image id occurs twice, feature sizes differ, or a feature is too
            large for float16.
    """
    with StoreWriter(directory, dtype) as writer:
        for image in track(proposals, "proposals", total):
            writer.append(image)
    writer.finish([source_record(path) for path in sources])


def source_record(path: Path, checksum: str | None = None) -> dict[str, str]:
    """The name and SHA-256 of a file, or of a folder of npz, which have one of all (`sha256_of_all`)."""
    if checksum is None:
        checksum = sha256_of_all(npz_files(path)) if path.is_dir() else sha256(path)
    return {"name": path.name, "sha256": checksum}


class StoreWriter:
    """Appends images to a store; used as a context, then finished.

    Attributes:
        position: How far the sources had been read when what is there already was forced to disk.
    """

    def __init__(self, directory: Path, dtype: Dtype = "float32", made_from: str = "") -> None:
        """Begins a store, or goes on with one that was begun in the directory.

        Args:
            directory: An existing directory.
            dtype: How features are stored.
            made_from: A digest of all that decides what the store will be; another one begins a new store.
        """
        self._directory, self._dtype, self._made_from = directory, dtype, made_from
        self._journal_path, made_from_path = directory / "unfinished.bin", directory / "unfinished.json"
        self._index = array("q")
        if made_from and made_from_path.exists() and read_json(made_from_path) == made_from:
            self._index.frombytes(self._whole_rows())
        if not self._index:
            for path in directory.glob("*.npy"):
                path.unlink()  # it may be a link to another store's
        (directory / "store.json").unlink(missing_ok=True)
        write_json(made_from_path, made_from)
        self._seen = dict.fromkeys(self._column("image_id").tolist(), "an earlier part of the files")
        self._noted = len(self._seen)
        self.position = Position(*self._index[-2:]) if self._index else Position()

    def _whole_rows(self) -> bytes:
        """The index so far; a row that was not finished is left out."""
        noted = self._journal_path.read_bytes() if self._journal_path.exists() else b""
        return noted[: len(noted) - len(noted) % (8 * len(_INDEX))]

    def _column(self, name: str) -> npt.NDArray[np.int64]:
        return np.array(self._index, dtype=np.int64).reshape(-1, len(_INDEX))[:, _INDEX.index(name)]

    def __len__(self) -> int:
        return len(self._seen)

    def __enter__(self) -> "StoreWriter":
        rows = int(self._column("proposals").sum())
        with ExitStack() as stack:
            self._features, self._boxes, self._objects = (
                stack.enter_context(_ArrayFile(self._directory / f"{name}.npy", dtype, rows))
                for name, dtype in (("features", self._dtype), ("boxes", "float32"), ("objects", "int32"))
            )
            self._journal = stack.enter_context(self._journal_path.open("r+b" if rows else "wb"))
            self._journal.seek(len(self._index) * self._index.itemsize)
            self._open_files = stack.pop_all()
        return self

    def append(self, image: ImageProposals, position: Position | None = None, where: str = "") -> None:
        """Stores the proposals of one image.

        Args:
            image: The image.
            position: How far the sources are read with it.
            where: Where it was read, such as ``"a.tsv, line 3"``.

        Raises:
            InputError: If it is there already, or does not fit the others or the type of the features.
        """
        name = f"image {image.image_id}"
        if image.image_id in self._seen:
            places = f", at {self._seen[image.image_id]} and {where}" if where else ""
            raise InputError(f"{name} occurs twice{places}; give each image's proposals once.")
        n = len(image.boxes)
        self._features.append(image.features, where or name)
        self._boxes.append(image.boxes, where or name)
        self._objects.append(np.full(n, -1) if image.objects is None else image.objects, where or name)
        self._index.extend((image.image_id, n, image.width, image.height, *(position or Position())))
        self._seen[image.image_id] = where
        if len(self) - self._noted >= CHECKPOINT_EVERY:
            self._checkpoint()

    def _checkpoint(self) -> None:
        """Forces the proposals to disk, and then the index that says that they are there."""
        for file in (self._features, self._boxes, self._objects):
            file.sync()
        self._journal.write(self._index[self._noted * len(_INDEX) :].tobytes())
        self._journal.flush()
        os.fsync(self._journal.fileno())
        self._noted = len(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._open_files:
            if error is None:
                self._checkpoint()

    def finish(self, sources: Sequence[Mapping[str, str]]) -> None:
        """Completes the store: the index, and the description with the checksums.

        Raises:
            InputError: If there is no image.
        """
        if not self._seen:
            raise InputError("No proposals to store: the input holds no image.")
        counts = self._column("proposals")
        sizes = np.stack([self._column("width"), self._column("height")], axis=1)
        index = {
            "image_ids": self._column("image_id"),
            "offsets": np.concatenate([[0], np.cumsum(counts)]),
            "sizes": sizes.astype(np.int32),
        }
        for name, values in index.items():
            np.save(self._directory / f"{name}.npy", values)
        files = [self._directory / f"{name}.npy" for name in ("features", "boxes", "objects", *index)]
        description = {
            "format_version": FORMAT_VERSION,
            "images": len(counts),
            "proposals": int(counts.sum()),
            "min_proposals": int(counts.min()),
            "max_proposals": int(counts.max()),
            "feature_size": self._features.columns,
            "dtype": self._dtype,
            "files": {path.name: {"bytes": path.stat().st_size, "sha256": sha256(path)} for path in files},
            "sources": list(sources),
        } | ({"made_from": self._made_from} if self._made_from else {})
        write_json(self._directory / "store.json", description, indent=1)
        remove_unfinished(self._directory)


def remove_unfinished(directory: Path) -> None:
    """Removes what a finished store no longer needs."""
    for name in ("unfinished.bin", "unfinished.json"):
        (directory / name).unlink(missing_ok=True)


class _ArrayFile:
    """A `.npy` file to which rows are appended; its header is completed at the end."""

    def __init__(self, path: Path, dtype: str, rows: int) -> None:
        """Opens a new file, or one that holds `rows` and perhaps more, which are cut off."""
        self._dtype = np.dtype(dtype).newbyteorder("<")
        self._rows = rows
        self._row_shape: tuple[int, ...] = ()
        self._file = path.open("r+b" if rows else "wb")
        if rows:
            np.lib.format.read_magic(self._file)
            self._row_shape = np.lib.format.read_array_header_1_0(self._file)[0][1:]
            end = self._file.tell() + rows * self._dtype.itemsize * math.prod(self._row_shape)
            if self._file.seek(0, os.SEEK_END) < end:
                self._file.close()
                raise InputError(f"{path} is shorter than the index beside it says: delete {path.parent}.")
            self._file.truncate(end)
            self._file.seek(end)

    @property
    def columns(self) -> int:
        return self._row_shape[0]

    def __enter__(self) -> "_ArrayFile":
        return self

    def append(self, rows: Shaped[np.ndarray, "n ..."], where: str) -> None:
        if not self._rows:
            self._row_shape = rows.shape[1:]
            self._write_header()
        if rows.shape[1:] != self._row_shape:
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
            "shape": (self._rows, *self._row_shape),
        }
        # NumPy pads a header so that the first dimension may grow in place.
        np.lib.format.write_array_header_1_0(self._file, header)

    def sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file:
            if error is None and self._rows:
                self._file.seek(0)
                self._write_header()
