"""Boxes in an image: what they can be, and how they overlap."""

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor

BOX_TOLERANCE = 1.0
"""Pixels by which a box may leave its image: detectors differ on whether the last pixel counts."""


def box_fault(boxes: Float32[np.ndarray, "n 4"], width: float, height: float) -> str:
    """What is wrong with corners x1, y1, x2, y2 in pixels of an image, and which box it is; empty if nothing is.

    None may be inverted or leave its image by more than `BOX_TOLERANCE`, and one with an area has to lie in it at least
    in part. If all are in [0, 1], they have been divided by the image's size.
    """
    limit = np.array([width, height], dtype=np.float32) + BOX_TOLERANCE
    inside = np.all((boxes[:, :2] >= -BOX_TOLERANCE) & (boxes[:, 2:] <= limit), axis=1)
    visible = np.all((boxes[:, 2:] > 0) & (boxes[:, :2] < limit - BOX_TOLERANCE), axis=1)
    inside &= visible | np.any(boxes[:, :2] == boxes[:, 2:], axis=1)  # one without an area may be anywhere
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
    return [float(f"{number:.6g}") for number in box]  # float32 has no more digits


def relevant_proposals(
    boxes: Float[Tensor, "K 4"], truth: Float[Tensor, "M 4"], min_overlap: float = 0.5
) -> Bool[Tensor, " K"]:
    """Which proposals overlap any of the true boxes with an intersection over union above `min_overlap`."""
    low = torch.maximum(boxes[:, None, :2], truth[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], truth[None, :, 2:])
    shared = (high - low).clamp(min=0).prod(-1)  # (K, M)
    union = _area(boxes)[:, None] + _area(truth)[None, :] - shared
    return (shared > min_overlap * union).any(1)


def _area(boxes: Float[Tensor, "N 4"]) -> Float[Tensor, " N"]:
    return (boxes[:, 2:] - boxes[:, :2]).prod(-1)
