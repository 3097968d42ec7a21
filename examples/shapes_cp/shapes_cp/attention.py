"""Synthetic human attention: a noisy blob on the asked object and weaker blobs elsewhere."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shapes_cp.scene import IMAGE_SIZE, Item

GRID = 32
STRAY_BLOBS = 1.0  # mean number


def attention_map(asked: Item, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Sample an attention map of a person who was asked about an object.

    Returns:
        Grey levels (IMAGE_SIZE, IMAGE_SIZE), computed on a GRID x GRID lattice with a maximum of 255 and enlarged with
        bilinear interpolation.
    """
    x, y = rng.normal((asked.x, asked.y), 0.12 * asked.size)
    attention = rng.uniform(0.7, 1.0) * _blob(x, y, asked.size * rng.uniform(0.35, 0.55))
    for _ in range(rng.poisson(STRAY_BLOBS)):
        x, y = rng.uniform(0, IMAGE_SIZE, 2)
        attention += rng.uniform(0.1, 0.5) * _blob(x, y, 8.0)
    attention += 0.15 * np.abs(rng.normal(0, 0.3, attention.shape))
    grid = Image.fromarray((attention / attention.max()).astype(np.float32))
    enlarged = np.asarray(grid.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BILINEAR))
    return (255 * enlarged + 0.5).astype(np.uint8)


def _blob(x: float, y: float, deviation: float) -> NDArray[np.float64]:
    """An unnormalised Gaussian around a point of the image, on the lattice (GRID, GRID)."""
    centers = (np.arange(GRID) + 0.5) * (IMAGE_SIZE / GRID)
    across = np.exp(-((centers - x) ** 2) / (2 * deviation**2))
    down = np.exp(-((centers - y) ** 2) / (2 * deviation**2))
    return np.outer(down, across)
