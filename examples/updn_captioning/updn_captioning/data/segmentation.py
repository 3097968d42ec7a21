"""The mask of one object in COCO's formats: polygons, run lengths, and run lengths as compressed text.

``pycocotools`` does not check its input: run lengths that end early decode to whatever is in memory, a polygon of two
points counts as a box, and one with points far away crashes the process. So everything is checked here first.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float64
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from torch import Tensor

from updn_common.errors import InputError
from updn_common.files.json_fields import kind_of

_MIN_POINTS = 3


@dataclass(frozen=True, slots=True, eq=False)
class Segmentation:
    """The mask of one object, either as polygons or as run lengths.

    Attributes:
        size: Height and width of the image in pixels.
        polygons: x1, y1, x2, y2, ... of each polygon, in pixels.
        runs: Lengths of runs of pixels along the columns: outside, inside, outside, ...
    """

    size: tuple[int, int]
    polygons: tuple[Float64[np.ndarray, " 2N"], ...] = ()
    runs: NDArray[np.uint32] | None = None

    def encoded(self) -> list[dict[str, Any]]:
        """Masks in the encoding of `pycocotools.mask`, whose union is this mask."""
        if self.runs is not None:
            return [coco_mask.frPyObjects({"size": list(self.size), "counts": self.runs.tolist()}, *self.size)]
        outlines: list[dict[str, Any]] = coco_mask.frPyObjects(list(self.polygons), *self.size)
        return outlines


def union(segmentations: Iterable[Segmentation], size: tuple[int, int]) -> Bool[Tensor, "H W"]:
    """The union of masks in an image of the given height and width."""
    parts = [part for segmentation in segmentations for part in segmentation.encoded()]
    if not parts:
        return torch.zeros(size, dtype=torch.bool)
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # pycocotools is written for NumPy 1
        return torch.from_numpy(coco_mask.decode(coco_mask.merge(parts))).bool()


def compact(record: dict[str, Any]) -> dict[str, Any]:
    """Replace lists of numbers in a segmentation by arrays, which take a quarter of the memory; see `read_json`.

    Malformed lists are left unchanged, and `read_segmentation` refuses them.
    """
    try:
        if isinstance(counts := record.get("counts"), list):
            record["counts"] = _whole_numbers(counts)
        if isinstance(polygons := record.get("segmentation"), list):
            record["segmentation"] = [_numbers(polygon) for polygon in polygons]
    except (TypeError, ValueError, OverflowError):
        pass
    return record


def read_segmentation(value: Any, size: tuple[int, int], where: str) -> Segmentation:
    """Check polygons, ``[[x1, y1, x2, y2, ...], ...]``, or run lengths in the format of COCO's files.

    Run lengths are ``{"size": [height, width], "counts": [...]}``, where ``counts`` may be compressed text.

    Raises:
        InputError: The value is neither, or does not fit the height and width of the image.
    """
    if isinstance(value, dict):
        return Segmentation(size, runs=_runs(value, size, where))
    if not isinstance(value, list) or not value:
        raise InputError(
            f"{where}: 'segmentation' should be a list of polygons, or run lengths, found "
            f"{'an empty list' if value == [] else kind_of(value)}."
        )
    for polygon in value:
        if not isinstance(polygon, np.ndarray) or not np.isfinite(polygon).all():
            found = polygon.tolist() if isinstance(polygon, np.ndarray) else polygon
            raise InputError(f"{where}: a polygon should be a list of numbers x1, y1, x2, y2, ..., found {found!r}.")
        if len(polygon) % 2 or len(polygon) < 2 * _MIN_POINTS:
            raise InputError(
                f"{where}: a polygon has {len(polygon)} numbers; expected x and y of at least {_MIN_POINTS} points."
            )
        x, y = polygon[::2], polygon[1::2]
        if not nearby(x.min(), x.max(), size[1]) or not nearby(y.min(), y.max(), size[0]):
            raise InputError(
                f"{where}: a polygon has x from {x.min():.15g} to {x.max():.15g} and y from {y.min():.15g} to "
                f"{y.max():.15g}: far outside of its image of {size[1]} x {size[0]} pixels. Fetch the file again."
            )
    return Segmentation(size, polygons=tuple(value))


def nearby(low: float, high: float, length: int) -> bool:
    """Whether an interval extends beyond a side of the image by at most the length of that side."""
    return -length <= low and high <= 2 * length


def _runs(value: dict[str, Any], size: tuple[int, int], where: str) -> NDArray[np.uint32]:
    found = value.get("counts")
    counts = decompress(found) if isinstance(found, str) else found
    if not isinstance(counts, np.ndarray):
        raise InputError(f"{where}: 'counts' should be run lengths from 0, as a list or compressed, found {found!r}.")
    if value.get("size") != list(size):
        raise InputError(
            f"{where}: its run lengths are of [height, width] {value.get('size')}, but its image is {list(size)}."
        )
    covered, pixels = int(counts.sum(dtype=np.uint64)), size[0] * size[1]
    if covered != pixels:
        raise InputError(
            f"{where}: its run lengths add up to {covered}, but its image has {pixels} pixels. Fetch the file again."
        )
    return counts


def decompress(text: str) -> NDArray[np.uint32] | None:
    """Decode COCO's compressed run lengths; None if they are damaged.

    A character holds five bits of a number, lowest bits first, and whether more follow. From the fourth number on, the
    difference to the number before the previous one is stored.
    """
    counts: list[int] = []
    number = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            return None
        number |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                number -= 1 << shift
            counts.append(number + counts[-2] if len(counts) > 2 else number)
            number = shift = 0
    try:
        return None if shift else _whole_numbers(counts)
    except OverflowError:
        return None


def _numbers(values: Any) -> Float64[np.ndarray, " N"]:
    """Convert a list of numbers; raises a TypeError or ValueError for other values."""
    if not {*map(type, values)} <= {int, float}:  # numpy would take True for 1
        raise TypeError
    return np.array(values, dtype=np.float64)


def _whole_numbers(values: Sequence[Any]) -> NDArray[np.uint32]:
    """Convert integers; raises a TypeError or OverflowError unless all of them fit."""
    if not all(type(value) is int for value in values):
        raise TypeError
    return np.array(values, dtype=np.uint32)
