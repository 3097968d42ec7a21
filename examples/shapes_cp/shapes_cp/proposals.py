"""Thirty-six proposals for a picture, as inaccurate as those of a detector."""

import numpy as np
from numpy.typing import NDArray

from shapes_cp.scene import IMAGE_SIZE, Box, Picture

PROPOSALS = 36
BOXES_PER_ITEM = 2
JITTER = 0.05  # standard deviation of an edge, in units of the item's size


def propose(picture: Picture, rng: np.random.Generator) -> NDArray[np.float32]:
    """Two jittered boxes for each object and the sign, one for each piece of clutter, and boxes in the background.

    Returns:
        Boxes (PROPOSALS, 4) in random order: x1, y1, x2, y2 in pixels, inside the image.
    """
    items = [
        np.add(item.box, rng.normal(0, JITTER * item.size, 4)) for item in picture.items for _ in range(BOXES_PER_ITEM)
    ]
    clutter = [np.array(clutter.box) for clutter in picture.clutter]
    background = [_background_box(rng) for _ in range(PROPOSALS - len(items) - len(clutter))]
    boxes = np.stack([*items, *clutter, *background]).clip(0, IMAGE_SIZE).astype(np.float32)
    return rng.permutation(boxes)


def iou(boxes: NDArray[np.float32], box: Box) -> NDArray[np.float32]:
    """Intersection over union of boxes (K, 4) with one box; returns (K,)."""
    low, high = np.maximum(boxes[:, :2], box[:2]), np.minimum(boxes[:, 2:], box[2:])
    intersection = (high - low).clip(0).prod(1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    union = areas + (box[2] - box[0]) * (box[3] - box[1]) - intersection
    return np.asarray(intersection / union, dtype=np.float32)


def _background_box(rng: np.random.Generator) -> NDArray[np.float64]:
    size = rng.uniform(12, 60, 2)
    corner = rng.uniform(0, IMAGE_SIZE - size)
    return np.concatenate([corner, corner + size])
