"""Write a proposal store in one pass and constant memory, and continue after an interruption.

An unfinished store has two more files::

    unfinished.json   digest of what the store is made from, and the columns of unfinished.bin
    unfinished.bin    a row of int64 numbers, `_INDEX`, for each image that is safely on disk
"""

import math
import os
from array import array
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Literal

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
"""Number of images after which everything is forced to disk: at most so many are converted again after a kill."""

Dtype = Literal["float32", "float16"]
_INDEX = ("image_id", "proposals", "width", "height", "entries")


def write_store(
    directory: Path,
    proposals: Iterable[ImageProposals],
    *,
    dtype: Dtype = "float32",
    total: int | None = None,
    sources: Sequence[Path] = (),
) -> None:
    """Write a store of the given images.

    Args:
        directory: An existing empty directory, such as one from `updn_common.files.writing.new_directory`, which
            leaves nothing behind on failure.
        proposals: The images, in the order in which they are stored.
        dtype: Type of stored features; `float16` halves the disk space and keeps three significant digits.
        total: Number of images if known, for the progress bar.
        sources: Files that the proposals were read from, recorded by name and checksum (see `source_record`).

    Raises:
        InputError: There are no images, an image id occurs twice, feature sizes differ, or a feature is too large for
            float16.
    """
    with StoreWriter(directory, dtype) as writer:
        for image in track(proposals, "proposals", total):
            writer.append(image)
    writer.finish([source_record(path) for path in sources])


def source_record(path: Path, checksum: str | None = None) -> dict[str, str]:
    """The name and SHA-256 of a file, or of a folder of npz files (see `sha256_of_all`)."""
    if checksum is None:
        checksum = sha256_of_all(npz_files(path)) if path.is_dir() else sha256(path)
    return {"name": path.name, "sha256": checksum}


class StoreWriter:
    """Appends images to a store, as a context manager; after it, `finish` completes the store.

    Attributes:
        entries_read: Number of entries of the sources up to the last image that is safely on disk.
    """

    def __init__(self, directory: Path, dtype: Dtype = "float32", made_from: str = "") -> None:
        """Begin a store, or continue an unfinished one.

        Args:
            directory: An existing directory. An unfinished store there is continued if `made_from` is the same.
            dtype: Type of stored features.
            made_from: Digest of everything that determines the content of the store; empty to begin a new store.
        """
        self._directory, self._dtype, self._made_from = directory, dtype, made_from
        self._journal_path, header_path = directory / "unfinished.bin", directory / "unfinished.json"
        header = {"made_from": made_from, "columns": list(_INDEX)}
        self._index = array("q")
        if made_from and header_path.exists() and read_json(header_path) == header and self._journal_path.exists():
            journal = self._journal_path.read_bytes()
            whole_rows = len(journal) - len(journal) % (self._index.itemsize * len(_INDEX))  # the last may be cut
            self._index.frombytes(journal[:whole_rows])
        if not self._index:
            for path in directory.glob("*.npy"):
                path.unlink()  # it may be a hard link to another store's file
        (directory / "store.json").unlink(missing_ok=True)
        write_json(header_path, header)
        self._seen = dict.fromkeys(self._column("image_id").tolist(), "an earlier part of the files")
        self._on_disk = len(self._seen)
        self.entries_read = self._index[-1] if self._index else 0

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

    def append(self, image: ImageProposals, entries_read: int = 0, where: str = "") -> None:
        """Store the proposals of one image.

        Args:
            image: The image.
            entries_read: Number of entries of the sources up to this image.
            where: Where it was read, such as ``"a.tsv, line 3"``, for error messages.

        Raises:
            InputError: The store has the image already, or the features have another size or do not fit the type.
        """
        name = f"image {image.image_id}"
        if image.image_id in self._seen:
            places = f", at {self._seen[image.image_id]} and {where}" if where else ""
            raise InputError(f"{name} occurs twice{places}; give each image's proposals once.")
        n = len(image.boxes)
        self._features.append(image.features, where or name)
        self._boxes.append(image.boxes, where or name)
        self._objects.append(np.full(n, -1) if image.objects is None else image.objects, where or name)
        self._index.extend((image.image_id, n, image.width, image.height, entries_read))
        self._seen[image.image_id] = where
        if len(self) - self._on_disk >= CHECKPOINT_EVERY:
            self._checkpoint()

    def _checkpoint(self) -> None:
        """Force the proposals to disk, and only then the rows of the journal that list them."""
        for file in (self._features, self._boxes, self._objects):
            file.sync()
        self._journal.write(self._index[self._on_disk * len(_INDEX) :].tobytes())
        self._journal.flush()
        os.fsync(self._journal.fileno())
        self._on_disk = len(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._open_files:
            if error is None:
                self._checkpoint()

    def finish(self, sources: Sequence[Mapping[str, str]]) -> None:
        """Write the index and the description of the store, with names and checksums of what it was made from.

        Raises:
            InputError: There is no image.
        """
        if not self._seen:
            raise InputError("No proposals to store: the input holds no image.")
        proposals = self._column("proposals")
        sizes = np.stack([self._column("width"), self._column("height")], axis=1)
        index = {
            "image_ids": self._column("image_id"),
            "offsets": np.concatenate([[0], np.cumsum(proposals)]),
            "sizes": sizes.astype(np.int32),
        }
        for name, values in index.items():
            np.save(self._directory / f"{name}.npy", values)
        files = [self._directory / f"{name}.npy" for name in ("features", "boxes", "objects", *index)]
        description = {
            "format_version": FORMAT_VERSION,
            "images": len(proposals),
            "proposals": int(proposals.sum()),
            "min_proposals": int(proposals.min()),
            "max_proposals": int(proposals.max()),
            "feature_size": self._features.columns,
            "dtype": self._dtype,
            "files": {path.name: {"bytes": path.stat().st_size, "sha256": sha256(path)} for path in files},
            "sources": list(sources),
        } | ({"made_from": self._made_from} if self._made_from else {})
        write_json(self._directory / "store.json", description, indent=1)
        remove_unfinished(self._directory)


def remove_unfinished(directory: Path) -> None:
    """Delete the files that only an unfinished store needs."""
    for name in ("unfinished.bin", "unfinished.json"):
        (directory / name).unlink(missing_ok=True)


class _ArrayFile:
    """A `.npy` file to which rows are appended; its header is completed at the end."""

    def __init__(self, path: Path, dtype: str, rows: int) -> None:
        """Create a file, or open one that holds at least `rows` rows and delete the rest."""
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
