"""Twelve shapes, eight colours and four textures.

A shape is *one* polygon in unit coordinates (x to the right, y down, inside the square from -1 to 1), so that the
official segmentation of an instance is exactly the polygon that was drawn. Holes are keyhole cuts.
"""

import numpy as np
from numpy.typing import NDArray

Polygon = NDArray[np.float64]  # (N, 2) x and y
RGB = tuple[float, float, float]  # each in [0, 1]


def _arc(radius: float, start: float, stop: float, points: int, center: float = 0.0) -> Polygon:
    """Points of a circle around ``(center, 0)`` between two angles in radians, including both ends."""
    angle = np.linspace(start, stop, points)
    return np.stack([center + radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def _rectangle(half_width: float, half_height: float) -> Polygon:
    """A rectangle as a closed path of five points, for `_ring`."""
    corners = np.array([(1, 1), (-1, 1), (-1, -1), (1, -1), (1, 1)], dtype=np.float64)
    return corners * (half_width, half_height)


def _ring(*outlines: Polygon) -> Polygon:
    """Closed paths from outside to inside, joined by keyhole cuts: filled, hole, filled, ..."""
    inward = [walk if i % 2 == 0 else walk[::-1] for i, walk in enumerate(outlines)]
    return np.concatenate([*inward, *[walk[:1] for walk in inward[-2::-1]]])


def _star(points: int) -> Polygon:
    """Five round lobes, the first at the top."""
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    radius = 0.62 + 0.35 * np.cos(5 * angle)
    return np.stack([radius * np.sin(angle), -radius * np.cos(angle)], axis=1)


def _moon(radius: float = 0.95, bite: float = 0.62, offset: float = 0.45) -> Polygon:
    """A disc without the disc of radius ``bite`` around ``(offset, 0)``: a crescent that opens to the right."""
    x = (radius**2 - bite**2 + offset**2) / (2 * offset)  # the circles meet at (x, +-y)
    y = np.sqrt(radius**2 - x**2)
    outer, inner = np.arctan2(y, x), np.arctan2(y, x - offset)
    back = _arc(bite, 2 * np.pi - inner, inner, 24, center=offset)
    return np.concatenate([_arc(radius, outer, 2 * np.pi - outer, 40), back[1:-1]])


def _cross(arm: float, half_width: float) -> Polygon:
    """Two bars of equal length, one across the other."""
    corner = np.array([(arm, -half_width), (arm, half_width), (half_width, half_width)])
    quarter_turn = np.array([(0, 1), (-1, 0)])
    return np.concatenate([corner @ np.linalg.matrix_power(quarter_turn, k) for k in range(4)])


def _bowtie(half: float, waist: float) -> Polygon:
    """Two triangles, one above the other, that meet at their tips; ``waist`` is half the width of the joint."""
    right = np.array([(half, -half), (half, waist - half), (waist, 0), (half, half - waist), (half, half)])
    return np.concatenate([right, right[::-1] * (-1, 1)])


SHAPES: dict[str, Polygon] = {
    "circle": _arc(0.95, 0, 2 * np.pi, 49)[:-1],
    "square": _rectangle(0.85, 0.85)[:-1],
    "triangle": np.array([(0, -0.95), (0.954, 0.85), (-0.954, 0.85)]),
    "diamond": np.array([(0, -1.0), (1, 0), (0, 1), (-1, 0)]),
    "cross": _cross(0.95, 0.32),
    "ring": _ring(_arc(0.97, 0, 2 * np.pi, 49), _arc(0.55, 0, 2 * np.pi, 33)),
    "star": _star(60),
    "bar": _rectangle(0.97, 0.36)[:-1],
    "pillar": _rectangle(0.36, 0.97)[:-1],
    "moon": _moon(),
    "bowtie": _bowtie(0.9, 0.08),
    "ell": np.array([(-0.9, -0.9), (-0.25, -0.9), (-0.25, 0.25), (0.9, 0.25), (0.9, 0.9), (-0.9, 0.9)]),
}
"""The polygon of each shape, in the order of category ids (1 to 12)."""

SIGN: Polygon = _ring(_rectangle(0.97, 0.97), _rectangle(0.72, 0.72), _rectangle(0.4, 0.4))
"""The sign that shows the cue: a square frame around a smaller square. No question asks about it."""

COLORS: dict[str, RGB] = {
    "red": (0.85, 0.15, 0.15),
    "green": (0.15, 0.70, 0.20),
    "blue": (0.15, 0.25, 0.85),
    "yellow": (0.90, 0.85, 0.15),
    "purple": (0.60, 0.15, 0.75),
    "cyan": (0.15, 0.80, 0.85),
    "orange": (0.95, 0.55, 0.10),
    "white": (0.95, 0.95, 0.95),
}
TEXTURES: tuple[str, ...] = ("plain", "striped", "dotted", "checked")


def place(polygon: Polygon, x: float, y: float, size: float, angle: float) -> Polygon:
    """Place a unit polygon in an image: centre ``(x, y)`` and ``size`` in pixels, ``angle`` in radians.

    Pixel coordinates are continuous: the pixel in column ``i`` covers ``[i, i + 1)``.
    """
    cos, sin = np.cos(angle), np.sin(angle)
    turned: Polygon = polygon @ np.array([(cos, sin), (-sin, cos)])
    return turned * (size / 2) + (x, y)


def polygon_area(polygon: Polygon) -> float:
    """The enclosed area without holes, by the shoelace formula."""
    x, y = polygon.T
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)
