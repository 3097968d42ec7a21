"""Readers of bottom-up proposals in their public formats; each yields one image at a time."""

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np
import numpy.typing as npt
from jaxtyping import Float

from updn_common.errors import InputError
from updn_common.files import read_json
from updn_common.proposals import ImageProposals

T = TypeVar("T")
N = TypeVar("N", np.float32, np.int64)


_IMAGE_NAME = re.compile(r"(?:COCO_(?:train|val|test)20\d\d_)?0*(\d{1,18})(?:\.(?:jpg|png))?")
_HDF5_SUFFIXES = (".hdf5", ".h5")
_ORIGINAL_COLUMNS = ("image_id", "image_w", "image_h", "num_boxes", "boxes", "features")
_LXMERT_COLUMNS = (
    *("image_id", "image_h", "image_w", "objects_id", "objects_conf", "attrs_id", "attrs_conf"),
    *("num_boxes", "boxes", "features"),
)
_HDF5_COLUMNS = {"image_features": None, "image_bb": 4, "spatial_features": 6}
"""How many numbers a proposal has in each data set; features may have any."""
_NPZ_ENTRIES = ("x", "bbox", "num_bbox", "image_h", "image_w")
_TSV_COLUMNS = {len(columns): columns for columns in (_ORIGINAL_COLUMNS, _LXMERT_COLUMNS)}


def read_proposals(
    path: Path, *, skip: int = 0, on_bytes: Callable[[bytes], object] | None = None
) -> Iterator[ImageProposals]:
    """Reads whatever `path` is: a TSV (also `.tsv.0`), an HDF5 file (`.hdf5`, `.h5`), a folder of npz files.

    Beside an HDF5 file, `<name>.ids.json` lists the image id of each row; see `read_image_ids`.

    Args:
        path: The file or folder.
        skip: Leave out so many images at the beginning, without a look at what they hold.
        on_bytes: For a TSV, is called with every piece of it, skipped or not: to compute a checksum on the way.

    Raises:
        InputError: If `path` is missing or none of these; and, while reading, whatever the reader raises.
    """
    if path.is_dir():
        return read_npz(path, skip=skip)
    if not path.exists():
        raise InputError(f"{path} does not exist; expected a TSV or HDF5 file, or a folder of npz files.")
    if path.suffix in _HDF5_SUFFIXES:
        return read_hdf5(path, read_image_ids(path.with_suffix(".ids.json")), skip=skip)
    if is_tsv(path):
        return read_tsv(path, skip=skip, on_bytes=on_bytes)
    raise InputError(f"{path} has an unknown kind; expected .tsv, .hdf5 or .h5, or a folder of npz files.")


def proposal_sources(path: Path) -> list[Path]:
    """What `read_proposals` reads by default: `path` and, for HDF5, the file of image ids beside it."""
    return [path, path.with_suffix(".ids.json")] if path.suffix in _HDF5_SUFFIXES else [path]


def is_tsv(path: Path) -> bool:
    """Whether `read_proposals` takes `path` for a TSV."""
    return ".tsv" in path.suffixes


def read_tsv(
    path: Path, *, skip: int = 0, on_bytes: Callable[[bytes], object] | None = None
) -> Iterator[ImageProposals]:
    """Reads a bottom-up TSV, one line at a time, in either public column order; see `read_proposals`.

    Six columns are the original order (width before height), ten are LXMERT's (height before width, and detected
    objects; attributes and confidences are not read). The last two columns are base64 of little-endian float32.
    Empty lines are left out.

    Raises:
        InputError: For the first wrong line, by its number: column count, a number, base64, a length, a value
            that is not finite, a box, or a feature size unlike the lines before.
    """
    with path.open("rb") as file:
        lines = ((f"{path}, line {number}", line) for number, line in enumerate(_seen(file, on_bytes), start=1))
        yield from _images(islice((line for line in lines if line[1].strip()), skip, None), _tsv_image)


def _seen(lines: Iterable[bytes], on_bytes: Callable[[bytes], object] | None) -> Iterator[bytes]:
    for line in lines:
        if on_bytes:
            on_bytes(line)
        yield line


def read_hdf5(path: Path, image_ids: Sequence[int], *, skip: int = 0) -> Iterator[ImageProposals]:
    """Reads the HDF5 file of the UpDn reference code: 36 proposals an image or, with `pos_boxes`, any number.

    The image's size is recovered from `spatial_features`, the boxes divided by it. That code keeps the order
    of rows in a pickle, which is never loaded: give the ids in the order of the rows.

    Args:
        path: The file, with `image_features`, `image_bb` and `spatial_features`.
        image_ids: The image id of each row.
        skip: Leave out so many images at the beginning.

    Raises:
        InputError: If a data set is missing, the ids do not fit the rows, or a row is wrong.
    """
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise InputError(f"{path} is not a readable HDF5 file ({error}).") from None
    with file:
        with _readable(f"{path}: "):
            rows = _hdf5_rows(file, path)
        if len(image_ids) != len(rows):
            raise InputError(f"{path} holds {len(rows)} images, but {len(image_ids)} image ids were given.")
        located = ((f"{path}, row {i}", pair) for i, pair in enumerate(zip(image_ids, rows, strict=True)))
        yield from _images(islice(located, skip, None), partial(_hdf5_image, file))


def read_npz(folder: Path, *, skip: int = 0) -> Iterator[ImageProposals]:
    """Reads a folder of `<image name>.npz`, the layout of OpenVQA and of the usual extraction scripts.

    Each file holds `x` (features, (n, D) or transposed), `bbox` (n, 4), `num_bbox`, `image_h` and `image_w`;
    other entries (`info` is often a pickle) are never read. Files come in the order of their names.

    Raises:
        InputError: If the folder holds no npz, a file is damaged or lacks an entry, or a value is wrong.
    """
    paths = sorted(folder.glob("*.npz"))
    if not paths:
        raise InputError(f"{folder} holds no .npz file; expected one for each image.")
    yield from _images(((str(path), path) for path in paths[skip:]), _npz_image)


def read_image_ids(path: Path) -> list[int]:
    """Reads image ids, or COCO file names, from a JSON list."""
    names = read_json(path, expected="a JSON list of the image id of each row")
    if not isinstance(names, list):
        raise InputError(f"{path} holds a {type(names).__name__}; expected a list of image ids.")
    with _at(str(path)):
        return [_image_id(str(name)) for name in names]


def _images(items: Iterable[tuple[str, T]], parse: Callable[[T], ImageProposals]) -> Iterator[ImageProposals]:
    """Parses located items, and requires one feature size of all."""
    feature_size = None
    for where, item in items:
        with _at(where):
            image = parse(item)
            D = image.features.shape[1]
            if (feature_size or D) != D:
                raise InputError(f"feature size {D}; the images before it have {feature_size}.")
            feature_size = D
        yield image


@contextmanager
def _at(where: str) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _tsv_image(line: bytes) -> ImageProposals:
    cells = line.rstrip(b"\r\n").split(b"\t")
    if len(cells) not in _TSV_COLUMNS:
        raise InputError(
            f"{len(cells)} columns; expected 6 (original order) or 10 (LXMERT order). The file is no bottom-up "
            "TSV, or was truncated here."
        )
    row = dict(zip(_TSV_COLUMNS[len(cells)], cells, strict=True))
    width, height, n = (_positive(row[name], name) for name in ("image_w", "image_h", "num_boxes"))
    boxes, features = (_numbers(row[name], name, np.float32) for name in ("boxes", "features"))
    if boxes.size != 4 * n:
        raise InputError(f"boxes hold {boxes.size} numbers; num_boxes {n} needs {4 * n}.")
    if features.size % n or not features.size:
        raise InputError(f"features hold {features.size} numbers, not a multiple of num_boxes {n}.")
    objects = _numbers(row["objects_id"], "objects_id", np.int64) if "objects_id" in row else None
    image_id = _image_id(row["image_id"].decode("utf-8", "replace"))
    return ImageProposals(image_id, width, height, boxes.reshape(n, 4), features.reshape(n, -1), objects)


def _numbers(cell: bytes, name: str, dtype: type[N]) -> npt.NDArray[N]:
    try:
        data = base64.b64decode(cell, validate=True)
    except binascii.Error:
        raise InputError(f"{name} are not base64; the line is damaged or truncated.") from None
    little_endian = np.dtype(dtype).newbyteorder("<")
    if len(data) % little_endian.itemsize:
        raise InputError(f"{name} are {len(data)} bytes, not a whole number of {dtype.__name__} values.")
    return np.frombuffer(data, dtype=little_endian).astype(dtype)  # a writable copy


def _positive(cell: bytes, name: str) -> int:
    if not cell.isdigit() or len(cell) > 9 or int(cell) == 0:
        found = cell[:20].decode("utf-8", "replace")
        raise InputError(f"{name} is {found!r}; expected a positive integer.")
    return int(cell)


def _image_id(name: str) -> int:
    match = _IMAGE_NAME.fullmatch(name)
    if not match:
        raise InputError(f"image {name[:60]!r} is neither an integer nor a COCO file name.")
    return int(match[1])


def _hdf5_rows(file: h5py.File, path: Path) -> Sequence[int | slice]:
    """The rows of each image in the data sets, whose shapes are checked."""
    for name in _HDF5_COLUMNS:
        if name not in file:
            raise InputError(f"{path} has no data set {name!r}; it has {sorted(file)}.")
    several = "pos_boxes" in file  # images have any number of proposals, one after another
    for name, columns in _HDF5_COLUMNS.items():
        data = file[name]
        shape = getattr(data, "shape", None)  # a group has none
        fits = shape is not None and len(shape) == (2 if several else 3) and columns in (None, shape[-1])
        if not fits or data.dtype.kind not in "fiu":
            found = f"{shape} of {data.dtype}" if isinstance(data, h5py.Dataset) else "a group"
            expected = f"({'rows' if several else 'images, proposals'}, {columns or 'size'})"
            raise InputError(f"{path}: data set {name!r} is {found}; expected {expected} of numbers.")
    lengths = {name: len(file[name]) for name in _HDF5_COLUMNS}
    if len(set(lengths.values())) > 1:
        raise InputError(f"{path} has data sets of unlike lengths: {lengths}; it was not finished.")
    total = lengths["image_bb"]
    if not several:
        return range(total)
    ends = np.asarray(file["pos_boxes"])
    if ends.ndim != 2 or ends.shape[1] != 2 or ends.dtype.kind not in "iu":
        raise InputError(f"{path}: data set 'pos_boxes' is {ends.shape} of {ends.dtype}; expected (images, 2) of int.")
    wrong = (ends[:, 0] < 0) | (ends[:, 0] >= ends[:, 1]) | (ends[:, 1] > total)
    if wrong.any():
        i = int(wrong.argmax())
        raise InputError(f"{path}, row {i}: pos_boxes {ends[i].tolist()} are no rows of {total}.")
    return [slice(*pair) for pair in ends.tolist()]


@contextmanager
def _readable(where: str = "") -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except (OSError, RuntimeError, KeyError, TypeError, ValueError, MemoryError) as error:  # h5py's, of a damaged file
        raise InputError(f"{where}this part of the file cannot be read ({error}); fetch it again.") from None


def _hdf5_image(file: h5py.File, item: tuple[int, int | slice]) -> ImageProposals:
    image_id, rows = item
    columns = ("image_bb", "image_features", "spatial_features")
    with _readable(), np.errstate(over="ignore"):  # what is not finite is refused
        boxes, features, spatial = (np.asarray(file[name][rows], dtype=np.float32) for name in columns)
    width, height = _image_size(boxes, spatial)
    return ImageProposals(image_id, width, height, boxes, features)


def _image_size(boxes: Float[np.ndarray, "n 4"], spatial: Float[np.ndarray, "n 6"]) -> tuple[int, int]:
    """The width and height by which the boxes were divided."""
    corners, scaled = boxes[:, 2:4].astype(np.float64), spatial[:, 2:4].astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        size = np.rint(corners.max(axis=0, initial=0) / scaled.max(axis=0, initial=0))
        agrees = np.abs(scaled * size - corners) <= 0.5
    if not (np.isfinite(size).all() and agrees.all()):
        raise InputError("spatial_features are not the corners of image_bb divided by the image's size.")
    width, height = size.astype(int).tolist()
    return width, height


def _npz_image(path: Path) -> ImageProposals:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as entries:
            if missing := [name for name in _NPZ_ENTRIES if name not in entries]:
                raise KeyError(*missing)
            x, boxes = (_real(entries[name]) for name in ("x", "bbox"))
            n, height, width = (_whole(entries[name], name) for name in ("num_bbox", "image_h", "image_w"))
    except KeyError as error:
        raise InputError(f"has no {', '.join(error.args)}; expected {', '.join(_NPZ_ENTRIES)}.") from None
    except Exception as error:  # numpy and zipfile raise many kinds for a damaged archive
        raise InputError(f"not a readable npz of plain arrays ({error}).") from None
    if boxes.shape != (n, 4) or x.ndim != 2 or n not in x.shape:
        shapes = f"x {x.shape} and bbox {boxes.shape}"
        raise InputError(f"{shapes} do not fit num_bbox {n}; expected (n, D) or (D, n), and (n, 4).")
    if x.shape == (n, n):
        raise InputError(f"x {x.shape} is square, so whether it is transposed cannot be told.")
    features = np.ascontiguousarray(x if x.shape[0] == n else x.T)
    return ImageProposals(_image_id(path.stem), width, height, boxes, features)


def _whole(array: npt.NDArray[Any], name: str) -> int:
    number = array.item()
    if not float(number).is_integer():
        raise ValueError(f"{name} should be a whole number, found {number}")
    return int(number)


def _real(array: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    if array.dtype.kind != "f":
        raise TypeError(f"expected floating-point values, found {array.dtype}")
    return array.astype(np.float32, copy=False)
