"""Bottom-up features in a TSV file, in either public order of columns."""

import base64
import binascii
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from updn_common.errors import InputError
from updn_common.proposals.feature_entry import FeatureEntry
from updn_common.proposals.image_proposals import ImageProposals

N = TypeVar("N", np.float32, np.int64)

_ORIGINAL_COLUMNS = ("image_id", "image_w", "image_h", "num_boxes", "boxes", "features")
_LXMERT_COLUMNS = (
    *("image_id", "image_h", "image_w", "objects_id", "objects_conf", "attrs_id", "attrs_conf"),
    *("num_boxes", "boxes", "features"),
)
_TSV_COLUMNS = {len(columns): columns for columns in (_ORIGINAL_COLUMNS, _LXMERT_COLUMNS)}

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_MARKS = (
    (b"b'", "Python's b'...' of bytes", "call .decode() on base64"),
    (b'b"', 'Python\'s b"..." of bytes', "call .decode() on base64"),
    (b'"', 'in quotes ("...")', "use csv.QUOTE_NONE, and base64 without line breaks,"),
)
"""What wrongly written cells begin with, what that is, and the remedy."""


def is_tsv(path: Path) -> bool:
    """Whether a file has the name of a TSV, which may end in `.tsv.0`."""
    return ".tsv" in path.suffixes


def tsv_entries(path: Path, *, on_bytes: Callable[[bytes], object] | None = None) -> Iterator[FeatureEntry]:
    """The images of a TSV, one for each line; ``on_bytes`` is called with every piece of the file.

    Files have either six columns in the original order (width before height), or ten in LXMERT's (height before width,
    and detected objects; attributes and confidences are not read). The last two columns are base64 of little-endian
    float32. Empty lines, a header and a byte order mark are skipped.

    Raises:
        InputError: The header has another order; `FeatureEntry.read` reports malformed lines.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if on_bytes:
                on_bytes(line)
            where, text = f"{path}, line {number}", line if number > 1 else line.removeprefix(_BYTE_ORDER_MARK)
            if text.strip() and not (number == 1 and _is_header(text, where)):
                name = text.partition(b"\t")[0].decode("utf-8", "replace")
                yield FeatureEntry(where, name, partial(_tsv_image, text))


def _is_header(line: bytes, where: str) -> bool:
    """Whether a line is a header. Raises an InputError if its columns are in neither of the two orders."""
    names = [cell.decode("utf-8", "replace") for cell in line.strip().split(b"\t")]
    if len(names) not in _TSV_COLUMNS or not all(name.isidentifier() for name in names):
        return False
    for column, name in zip(_TSV_COLUMNS[len(names)], names, strict=True):
        if column in ("image_w", "image_h") and name.lower().rpartition("_")[2][:1] != column[-1]:
            order = ", ".join(_TSV_COLUMNS[len(names)])
            raise InputError(f"{where}: the header has {name!r} where {column} should be; expected {order}.")
    return True


def _tsv_image(line: bytes, image_id: int) -> ImageProposals:
    cells = line.rstrip(b"\r\n").split(b"\t")
    for mark, found, remedy in _MARKS:
        if any(cell.startswith(mark) for cell in cells):
            raise InputError(f"cells are {found}: {remedy} when the file is written.")
    if len(cells) not in _TSV_COLUMNS:
        raise InputError(
            f"{len(cells)} columns; expected 6 (original order) or 10 (LXMERT order). The file is not a "
            "bottom-up TSV, or was truncated here."
        )
    row = dict(zip(_TSV_COLUMNS[len(cells)], cells, strict=True))
    width, height, n = (_positive(row[name], name) for name in ("image_w", "image_h", "num_boxes"))
    boxes, features = (_numbers(row[name], name, np.float32) for name in ("boxes", "features"))
    if boxes.size != 4 * n:
        raise InputError(f"boxes hold {boxes.size} numbers; num_boxes {n} needs {4 * n}.")
    if features.size % n or not features.size:
        raise InputError(f"features hold {features.size} numbers, not a multiple of num_boxes {n}.")
    objects = _numbers(row["objects_id"], "objects_id", np.int64) if "objects_id" in row else None
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
