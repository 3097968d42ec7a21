"""How boxes overlap."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


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
