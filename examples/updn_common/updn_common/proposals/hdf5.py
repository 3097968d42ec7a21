"""Bottom-up features in HDF5: the files of the UpDn reference code, and those of updown-baseline."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Float

from updn_common.errors import InputError
from updn_common.files.reading import read_json
from updn_common.proposals.entries import Entry, at, image_id_of
from updn_common.proposals.image_proposals import ImageProposals

Parse = Callable[[int], ImageProposals]
HDF5_SUFFIXES = (".hdf5", ".h5")
_HDF5_COLUMNS = {"image_features": None, "image_bb": 4, "spatial_features": 6}
"""How many numbers a proposal has in each data set; features may have any."""
_OWN_IDS = ("image_id", "width", "height", "num_boxes", "boxes", "features")
"""The data sets of updown-baseline, where each image has a row of numbers."""
_LAYOUTS = (", ".join(_HDF5_COLUMNS), ", ".join(_OWN_IDS))


def hdf5_entries(path: Path, *, skip: int = 0) -> Iterator[Entry]:
    """The images of an HDF5 file, in one of two layouts.

    * The UpDn reference code's: `image_features`, `image_bb` and `spatial_features`, with 36 proposals an image or,
      with `pos_boxes`, any number. The image's size is recovered from `spatial_features`, the boxes divided by it. That
      code keeps the order of rows in a pickle, which is never loaded: `<name>.ids.json` beside the file lists the ids.
    * updown-baseline's: `image_id`, `width`, `height`, `num_boxes`, `boxes` and `features`, with a row for each image.

    Args:
        path: The file.
        skip: Leave out so many images at the beginning.

    Raises:
        InputError: If it is no such file, or the ids do not fit the rows; and by `Entry.read` for a wrong row.
    """
    with _opened(path) as file:
        with _readable(f"{path}: "):
            images = _own_rows(file, path) if _holds_ids(file) else _reference_rows(file, path)
        for number, (image_id, parse) in islice(enumerate(images), skip, None):
            yield Entry(f"{path}, row {number}", str(image_id), parse)


def ids_path(path: Path) -> Path:
    """Where the ids of an HDF5 file's rows are, if it does not hold them."""
    return path.with_suffix(".ids.json")


def needs_ids(path: Path) -> bool:
    """Whether the ids of an HDF5 file's rows are in a file of their own."""
    try:
        with h5py.File(path, "r") as file:
            return not _holds_ids(file)
    except OSError:  # whoever reads it will say so
        return True


def read_image_ids(path: Path) -> list[int]:
    """Reads image ids, or COCO file names, from a JSON list."""
    names = read_json(path, expected="a JSON list of the image id of each row")
    if not isinstance(names, list):
        raise InputError(f"{path} holds a {type(names).__name__}; expected a list of image ids.")
    with at(str(path)):
        return [image_id_of(str(name)) for name in names]


def _holds_ids(file: h5py.File) -> bool:
    return "image_features" not in file and all(name in file for name in _OWN_IDS)


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise InputError(f"{path} is not a readable HDF5 file ({error}).") from None
    with file:
        yield file


def _reference_rows(file: h5py.File, path: Path) -> list[tuple[int, Parse]]:
    """The ids of images in the UpDn reference code's layout, and how each is read."""
    rows, ids = _rows(file, path), read_image_ids(ids_path(path))
    if len(ids) != len(rows):
        raise InputError(f"{path} holds {len(rows)} images, but {len(ids)} image ids were given.")
    return [(image_id, partial(_reference_image, file, row)) for image_id, row in zip(ids, rows, strict=True)]


def _rows(file: h5py.File, path: Path) -> Sequence[int | slice]:
    """The rows of each image in the data sets, whose shapes are checked."""
    if not any(name in file for name in (*_HDF5_COLUMNS, "features", "boxes")):
        raise InputError(f"{path} holds no features; it has {sorted(file)}. Expected {' or '.join(_LAYOUTS)}.")
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


def _own_rows(file: h5py.File, path: Path) -> list[tuple[int, Parse]]:
    """The ids of images in updown-baseline's layout, and how each is read."""
    shapes = {name: getattr(file[name], "shape", None) for name in _OWN_IDS}  # a group has none
    if len(set(shapes.values())) > 1 or len(shapes["image_id"] or ()) != 1:
        raise InputError(f"{path} has data sets of unlike shapes: {shapes}; expected one row for each image.")
    ids = np.asarray(file["image_id"])
    if ids.dtype.kind not in "iu":
        raise InputError(f"{path}: data set 'image_id' is of {ids.dtype}; expected integers.")
    return [(image_id, partial(_own_image, file, row)) for row, image_id in enumerate(ids.tolist())]


def _own_image(file: h5py.File, row: int, image_id: int) -> ImageProposals:
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
    except (OSError, RuntimeError, KeyError, TypeError, ValueError, MemoryError) as error:  # h5py's, of a damaged file
        raise InputError(f"{where}this part of the file cannot be read ({error}); fetch it again.") from None


def _reference_image(file: h5py.File, rows: int | slice, image_id: int) -> ImageProposals:
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
