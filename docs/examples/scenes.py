"""Little pictures: one of four shapes, and a patch whose colour can be a shortcut."""

from typing import NamedTuple

import torch
from torch import Tensor

SHAPES = ("square", "disc", "cross", "ring")
CELL, GRID = 12, 4  # a picture is 4 x 4 cells of 12 x 12 pixels
SIZE = CELL * GRID
COLOURS = torch.tensor(
    [[0.9, 0.2, 0.2], [0.2, 0.7, 0.3], [0.25, 0.4, 0.95], [0.95, 0.8, 0.2]]
)


class Scenes(NamedTuple):
    """N pictures of one shape each."""

    images: Tensor
    """``(N, 3, 48, 48)`` in [0, 1]."""
    labels: Tensor
    """``(N,)``: which of the SHAPES."""
    shape_mask: Tensor
    """``(N, 48, 48)`` boolean: where people would look."""


def make_scenes(count: int, *, shortcut: float, seed: int) -> Scenes:
    """Draw pictures; in a share ``shortcut``, the patch's colour gives the label."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(4, (count,), generator=random)
    cells = torch.rand(count, GRID * GRID, generator=random).argsort(1)[
        :, :2
    ]  # of the shape, and of the patch
    tells = torch.rand(count, generator=random) < shortcut
    hues = torch.where(tells, labels, torch.randint(4, (count,), generator=random))

    y, x = torch.meshgrid(*[torch.linspace(-1, 1, CELL)] * 2, indexing="ij")
    radius = (x.square() + y.square()).sqrt()
    outlines = torch.stack(
        [
            (x.abs() < 0.75) & (y.abs() < 0.75),
            radius < 0.9,
            (x.abs() < 0.3) | (y.abs() < 0.3),
            (radius < 0.95) & (radius > 0.5),
        ]
    )
    images = (0.5 + 0.12 * torch.randn(count, 1, SIZE, SIZE, generator=random)).repeat(
        1, 3, 1, 1
    )
    mask = torch.zeros(count, SIZE, SIZE, dtype=torch.bool)
    for n in range(count):
        (top, left), (top_patch, left_patch) = (
            [int(cell) // GRID * CELL, int(cell) % GRID * CELL] for cell in cells[n]
        )
        mask[n, top : top + CELL, left : left + CELL] = outlines[labels[n]]
        images[n, :, top_patch : top_patch + CELL, left_patch : left_patch + CELL] = (
            COLOURS[hues[n], :, None, None]
        )
    images = images - 0.3 * mask[:, None]  # darker than the noise around it
    return Scenes(images.clamp(0, 1), labels, mask)
