"""Random boxes, and the human importance of a box from its energy."""

import torch
from torch import Tensor


def ratio(inside: float, total: float, area: float, whole: float) -> float:
    """The human importance s, as the paper defines it, from energies and areas."""
    if area == 0:
        return 0.0
    if area == whole:
        return 0.5
    density_in, density_out = inside / area, (total - inside) / (whole - area)
    return density_in / (density_in + density_out)


def clip(box: list[float], height: float, width: float) -> list[float]:
    return [min(max(v, 0.0), limit) for v, limit in zip(box, (width, height, width, height), strict=True)]


def random_boxes(*shape: int, height: float, width: float, beyond: float = 0.2, whole: bool = False) -> Tensor:
    """Boxes that overlap the image, and may begin and end ``beyond`` it."""
    within = torch.rand(*shape, 2, dtype=torch.float64)
    low = within - torch.rand_like(within) * (within + beyond)
    high = within + torch.rand_like(within) * (1 + beyond - within)
    size = torch.tensor([width, height], dtype=torch.float64)
    return torch.cat([(low * size).floor(), (high * size).ceil()] if whole else [low * size, high * size], -1)
