"""Human attention: VQA-HAT maps (question driven) and SALICON fixations (free viewing)."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from updn_common.errors import InputError
from updn_common.files.images import read_image
from updn_common.files.json_fields import field
from updn_common.files.reading import read_json

_HAT_NAME = re.compile(r"(\d+)_(\d+)\.png")


def read_attention_map(path: Path, size: tuple[int, int] | None = None) -> Float32[np.ndarray, "H W"]:
    """Read a greyscale attention map; 1 is the brightest value that its format can hold.

    Args:
        path: A greyscale image, such as a PNG of VQA-HAT; colour images must have grey pixels only.
        size: Required width and height in pixels; by default any.

    Raises:
        InputError: The file is missing or damaged, has colours or another size, or is zero everywhere.
    """
    with read_image(path, expected="a greyscale attention map") as image:
        largest = {"1": 1, "I": 65535, "I;16": 65535}.get(image.mode, 255)
        values = np.asarray(image.convert("RGB") if image.mode in ("P", "PA") else image)
    if values.ndim == 3 and values.shape[2] >= 3 and (values[..., :3] != values[..., :1]).any():
        raise InputError(f"{path} has colours; an attention map is greyscale, as VQA-HAT's are.")
    grey = values[..., 0] if values.ndim == 3 else values
    height, width = grey.shape
    if size is not None and (width, height) != size:
        raise InputError(f"{path} is {width} x {height} pixels, but its image is {size[0]} x {size[1]}.")
    if not grey.any():
        raise InputError(f"{path} ({width} x {height} pixels) is zero everywhere: it shows no attention.")
    return grey.astype(np.float32) / np.float32(largest)


def mean_attention_map(paths: Sequence[Path], size: tuple[int, int] | None = None) -> Float32[np.ndarray, "H W"]:
    """The mean of several people's maps for one question.

    Raises:
        InputError: A map cannot be used (see `read_attention_map`), or its size differs from that of the first.
    """
    first, *others = paths
    total = read_attention_map(first, size)
    size = total.shape[1], total.shape[0]
    for path in others:
        total = total + read_attention_map(path, size)
    return total / np.float32(len(paths))


def find_vqa_hat(folder: Path) -> dict[int, list[Path]]:
    """Find the maps of a VQA-HAT folder, `<VQA v1 question id>_<number of the map>.png`.

    Returns:
        The maps of each question, both in ascending order.

    Raises:
        InputError: The folder is missing, holds no maps, or holds a PNG with another name.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; expected VQA-HAT maps, <v1 question id>_<k>.png.")
    found = defaultdict(list)
    for path in folder.glob("*.png"):
        match = _HAT_NAME.fullmatch(path.name)
        if not match:
            raise InputError(f"{path} is not named as VQA-HAT maps are, <v1 question id>_<k>.png.")
        found[int(match[1])].append((int(match[2]), path))
    if not found:
        raise InputError(f"{folder} holds no attention maps, <v1 question id>_<k>.png.")
    return {question: [path for _, path in sorted(found[question])] for question in sorted(found)}


@dataclass(frozen=True, eq=False)
class Fixations:
    """Where people looked in one image.

    Attributes:
        points: x, y in pixels from the centre of the top left pixel, of all viewers.
        width: Image width in pixels.
        height: Image height in pixels.
    """

    points: Float32[np.ndarray, "N 2"]
    width: int
    height: int


def read_salicon(path: Path) -> dict[int, Fixations]:
    """Read a SALICON fixation file (COCO-like JSON, fixations as [row, column] from 1).

    Returns:
        The fixations of each image that has any, of all trials in file order.

    Raises:
        InputError: The file has another format, or a fixation is outside its image.
    """
    data = read_json(path, expected="SALICON fixations")
    sizes = {}
    for index, image in enumerate(field(data, "images", list, str(path))):
        where = f"{path}, image {index}"
        sizes[field(image, "id", int, where)] = field(image, "width", int, where), field(image, "height", int, where)
    trials = defaultdict(list)
    for index, annotation in enumerate(field(data, "annotations", list, str(path))):
        where = f"{path}, annotation {index}"
        image_id = field(annotation, "image_id", int, where)
        if image_id not in sizes:
            raise InputError(f"{where} is about image {image_id}, which is not among the images of the file.")
        trials[image_id].extend(field(annotation, "fixations", list, where))
    return {
        image_id: _fixations(trial, *sizes[image_id], f"{path}: image {image_id}")
        for image_id, trial in trials.items()
        if trial
    }


def _fixations(trial: list[Any], width: int, height: int, where: str) -> Fixations:
    try:
        rows_columns = np.array(trial)
    except ValueError:  # rows of different lengths
        rows_columns = np.empty(0)
    if rows_columns.shape != (len(trial), 2) or rows_columns.dtype.kind not in "if":
        raise InputError(f"{where}: fixations should be a list of [row, column] in numbers, found {str(trial)[:60]}.")
    inside = np.all((rows_columns >= 1) & (rows_columns <= (height, width)), axis=1)
    if not np.all(inside):
        outside = rows_columns[np.argmin(inside)].tolist()
        raise InputError(
            f"{where}: fixation [row, column] {outside} is outside {height} rows x {width} columns (from 1)."
        )
    return Fixations(np.ascontiguousarray(rows_columns[:, ::-1], dtype=np.float32) - 1, width, height)
