"""Boxes in an image: their validity and their overlap."""

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor

BOX_TOLERANCE = 1.0
"""Pixels by which a box may extend beyond its image: detectors disagree on whether the last pixel counts."""


def box_fault(boxes: Float32[np.ndarray, "n 4"], width: float, height: float) -> str:
    """What is wrong with the boxes of an image, x1, y1, x2, y2 in pixels, and with which of them; empty if nothing is.

    A box must not be inverted or extend beyond its image by more than `BOX_TOLERANCE`, and a box with an area must lie
    at least partly in the image. Boxes that are all in [0, 1] have been divided by the size of the image.
    """
    limit = np.array([width, height], dtype=np.float32) + BOX_TOLERANCE
    inside = np.all((boxes[:, :2] >= -BOX_TOLERANCE) & (boxes[:, 2:] <= limit), axis=1)
    visible = np.all((boxes[:, 2:] > 0) & (boxes[:, :2] < limit - BOX_TOLERANCE), axis=1)
    inside &= visible | np.any(boxes[:, :2] == boxes[:, 2:], axis=1)  # a box without an area may be anywhere
    upright = np.all(boxes[:, :2] <= boxes[:, 2:], axis=1)
    if not np.all(inside & upright):
        i = int(np.argmin(inside & upright))
        fault = "is inverted" if inside[i] else f"leaves the {width} x {height} image"
        return f"box {i} {_shown(boxes[i])} {fault}; expected x1 y1 x2 y2 in pixels"
    real = np.all(boxes[:, :2] < boxes[:, 2:], axis=1)
    if real.any() and boxes.max() <= 1:
        found = f"all boxes are in [0, 1], such as {_shown(boxes[real.argmax()])}"
        return f"{found}; expected pixels: multiply x by the image's width, y by its height"
    return ""


def _shown(box: Float32[np.ndarray, "4"]) -> list[float]:
    return [float(f"{number:.6g}") for number in box]  # float32 has about seven digits


def relevant_proposals(
    boxes: Float[Tensor, "K 4"], truth: Float[Tensor, "M 4"], min_overlap: float = 0.5
) -> Bool[Tensor, " K"]:
    """Whether each proposal overlaps one of the true boxes with an intersection over union above `min_overlap`."""
    low = torch.maximum(boxes[:, None, :2], truth[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], truth[None, :, 2:])
    shared = (high - low).clamp(min=0).prod(-1)  # (K, M)
    union = _area(boxes)[:, None] + _area(truth)[None, :] - shared
    return (shared > min_overlap * union).any(1)


def _area(boxes: Float[Tensor, "N 4"]) -> Float[Tensor, " N"]:
    return (boxes[:, 2:] - boxes[:, :2]).prod(-1)
