"""Bottom-up features in HDF5, as the UpDn reference code and updown-baseline write them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Float

from updn_common.errors import InputError
from updn_common.files.reading import read_json
from updn_common.proposals.feature_entry import FeatureEntry, errors_at, image_id_of
from updn_common.proposals.image_proposals import ImageProposals

Parse = Callable[[int], ImageProposals]
HDF5_SUFFIXES = (".hdf5", ".h5")
_REFERENCE_COLUMNS = {"image_features": None, "image_bb": 4, "spatial_features": 6}
"""The data sets of the UpDn reference code, and their numbers of columns; features may have any."""
_BASELINE_COLUMNS = ("image_id", "width", "height", "num_boxes", "boxes", "features")
"""The data sets of updown-baseline, which have one row for each image."""
_LAYOUTS = (", ".join(_REFERENCE_COLUMNS), ", ".join(_BASELINE_COLUMNS))


def hdf5_entries(path: Path) -> Iterator[FeatureEntry]:
    """The images of an HDF5 file in one of two layouts.

    * UpDn reference code: `image_features`, `image_bb` and `spatial_features`, with 36 proposals for each image, or any
      number where there is `pos_boxes`. The size of an image is recovered from `spatial_features`, which are the
      boxes divided by it. The reference code keeps the image ids in a pickle, which is never loaded: `<name>.ids.json`
      beside the file lists the id of each row.
    * updown-baseline: `image_id`, `width`, `height`, `num_boxes`, `boxes` and `features`, with a row for each image.

    Raises:
        InputError: The file is neither, or the ids do not fit the rows; `FeatureEntry.read` reports malformed rows.
    """
    with _opened(path) as file:
        with _readable(f"{path}: "):
            images = _baseline_rows(file, path) if _is_baseline(file) else _reference_rows(file, path)
        for number, (image_id, parse) in enumerate(images):
            yield FeatureEntry(f"{path}, row {number}", str(image_id), parse)


def ids_path(path: Path) -> Path:
    """The file of image ids that belongs to an HDF5 file in the layout of the reference code."""
    return path.with_suffix(".ids.json")


def needs_ids(path: Path) -> bool:
    """Whether the image ids of an HDF5 file are in a file of their own."""
    try:
        with h5py.File(path, "r") as file:
            return not _is_baseline(file)
    except OSError:  # reading the file will report it
        return True


def read_image_ids(path: Path) -> list[int]:
    """Read a JSON list of image ids or COCO file names."""
    names = read_json(path, expected="a JSON list of the image id of each row")
    if not isinstance(names, list):
        raise InputError(f"{path} holds a {type(names).__name__}; expected a list of image ids.")
    with errors_at(str(path)):
        return [image_id_of(str(name)) for name in names]


def _is_baseline(file: h5py.File) -> bool:
    return "image_features" not in file and all(name in file for name in _BASELINE_COLUMNS)


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise InputError(f"{path} is not a readable HDF5 file ({error}).") from None
    with file:
        yield file


def _reference_rows(file: h5py.File, path: Path) -> list[tuple[int, Parse]]:
    """Image ids in the layout of the UpDn reference code, and functions that read the images."""
    rows, ids = _rows(file, path), read_image_ids(ids_path(path))
    if len(ids) != len(rows):
        raise InputError(f"{path} holds {len(rows)} images, but {len(ids)} image ids were given.")
    return [(image_id, partial(_reference_image, file, row)) for image_id, row in zip(ids, rows, strict=True)]


def _rows(file: h5py.File, path: Path) -> Sequence[int | slice]:
    """The row or rows of each image in the data sets, after a check of their shapes."""
    if not any(name in file for name in (*_REFERENCE_COLUMNS, "features", "boxes")):
        raise InputError(f"{path} holds no features; it has {sorted(file)}. Expected {' or '.join(_LAYOUTS)}.")
    for name in _REFERENCE_COLUMNS:
        if name not in file:
            raise InputError(f"{path} has no data set {name!r}; it has {sorted(file)}.")
    adaptive = "pos_boxes" in file  # images have any number of proposals, one row for each
    for name, columns in _REFERENCE_COLUMNS.items():
        data = file[name]
        shape = getattr(data, "shape", None)  # a group has none
        fits = shape is not None and len(shape) == (2 if adaptive else 3) and columns in (None, shape[-1])
        if not fits or data.dtype.kind not in "fiu":
            found = f"{shape} of {data.dtype}" if isinstance(data, h5py.Dataset) else "a group"
            expected = f"({'rows' if adaptive else 'images, proposals'}, {columns or 'size'})"
            raise InputError(f"{path}: data set {name!r} is {found}; expected {expected} of numbers.")
    lengths = {name: len(file[name]) for name in _REFERENCE_COLUMNS}
    if len(set(lengths.values())) > 1:
        raise InputError(f"{path} has data sets of different lengths: {lengths}; it was not finished.")
    total = lengths["image_bb"]
    if not adaptive:
        return range(total)
    ends = np.asarray(file["pos_boxes"])
    if ends.ndim != 2 or ends.shape[1] != 2 or ends.dtype.kind not in "iu":
        raise InputError(f"{path}: data set 'pos_boxes' is {ends.shape} of {ends.dtype}; expected (images, 2) of int.")
    wrong = (ends[:, 0] < 0) | (ends[:, 0] >= ends[:, 1]) | (ends[:, 1] > total)
    if wrong.any():
        i = int(wrong.argmax())
        raise InputError(f"{path}, row {i}: pos_boxes {ends[i].tolist()} are not rows from 0 to {total}.")
    return [slice(*pair) for pair in ends.tolist()]


def _baseline_rows(file: h5py.File, path: Path) -> list[tuple[int, Parse]]:
    """Image ids in the layout of updown-baseline, and functions that read the images."""
    shapes = {name: getattr(file[name], "shape", None) for name in _BASELINE_COLUMNS}  # a group has none
    if len(set(shapes.values())) > 1 or len(shapes["image_id"] or ()) != 1:
        raise InputError(f"{path} has data sets of different shapes: {shapes}; expected one row for each image.")
    ids = np.asarray(file["image_id"])
    if ids.dtype.kind not in "iu":
        raise InputError(f"{path}: data set 'image_id' is of {ids.dtype}; expected integers.")
    return [(image_id, partial(_baseline_image, file, row)) for row, image_id in enumerate(ids.tolist())]


def _baseline_image(file: h5py.File, row: int, image_id: int) -> ImageProposals:
    with _readable():
        width, height, n = (int(file[name][row]) for name in ("width", "height", "num_boxes"))
        boxes, features = (np.asarray(file[name][row], dtype=np.float32).ravel() for name in ("boxes", "features"))
    if n < 1 or boxes.size != 4 * n or features.size % n or not features.size:
        raise InputError(f"boxes hold {boxes.size} numbers, features {features.size}; num_boxes is {n}.")
    return ImageProposals(image_id, width, height, boxes.reshape(n, 4), features.reshape(n, -1))


@contextmanager
def _readable(where: str = "") -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except (OSError, RuntimeError, KeyError, TypeError, ValueError, MemoryError) as error:  # from h5py, if damaged
        raise InputError(f"{where}this part of the file cannot be read ({error}); fetch it again.") from None


def _reference_image(file: h5py.File, rows: int | slice, image_id: int) -> ImageProposals:
    columns = ("image_bb", "image_features", "spatial_features")
    with _readable(), np.errstate(over="ignore"):  # infinities are refused below
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
