"""human_importance against public implementations (loops over boxes, an integral image), and against lower bounds."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from _measure import interleaved_times, run
from torch import Tensor

from hint_loss import human_importance

MAPS, HEIGHT, WIDTH, BOXES = 64, 480, 640, 36


def from_sums(inside: Tensor, area: Tensor, total: Tensor) -> Tensor:
    """The paper's ratio of the mean attention inside and outside."""
    e_in, e_out = inside / area, (total - inside) / (HEIGHT * WIDTH - area)
    return e_in / (e_in + e_out)


def boolean_masks(maps: Tensor, boxes: Tensor) -> Tensor:
    """Make a mask of the image for each box, and index the map by it."""
    s = torch.empty(boxes.shape[:-1])
    for b, row in enumerate(boxes.long().tolist()):
        for k, (x1, y1, x2, y2) in enumerate(row):
            mask = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
            mask[y1:y2, x1:x2] = True
            e_in, e_out = maps[b][mask].mean(), maps[b][~mask].mean()
            s[b, k] = e_in / (e_in + e_out)
    return s


def slicing_loop(maps: Tensor, boxes: Tensor) -> Tensor:
    """Slice the map for each box, and compute the paper's ratio for each."""
    s = torch.empty(boxes.shape[:-1])
    for b, row in enumerate(boxes.long().tolist()):
        total = maps[b].sum()
        for k, (x1, y1, x2, y2) in enumerate(row):
            inside, area = maps[b, y1:y2, x1:x2].sum(), (x2 - x1) * (y2 - y1)
            e_in, e_out = inside / area, (total - inside) / (HEIGHT * WIDTH - area)
            s[b, k] = e_in / (e_in + e_out)
    return s


def slices(maps: Tensor, boxes: Tensor) -> Tensor:
    """Sum a slice of the map for each box, and compute the ratio for all boxes at once."""
    total, whole = maps.sum((1, 2)), boxes.long().tolist()
    inside = [[maps[b, y1:y2, x1:x2].sum() for x1, y1, x2, y2 in row] for b, row in enumerate(whole)]
    area = (boxes[..., 2:] - boxes[..., :2]).prod(-1)
    return from_sums(torch.stack([torch.stack(row) for row in inside]), area, total[:, None])


def exact_slicing_loop(maps: Tensor, boxes: Tensor) -> Tensor:
    """Slice the map with sub-pixel borders: rows and columns that are partly covered count by their share."""

    def shares(low: float, high: float) -> tuple[int, int, Tensor]:
        first, last = math.floor(low), math.ceil(high)
        share = torch.ones(last - first)
        share[0] -= low - first
        share[-1] -= last - high
        return first, last, share

    s = torch.empty(boxes.shape[:-1])
    for b, row in enumerate(boxes.tolist()):
        total = maps[b].sum()
        for k, (x1, y1, x2, y2) in enumerate(row):
            (left, right, across), (top, bottom, down) = shares(x1, x2), shares(y1, y2)
            inside, area = down @ maps[b, top:bottom, left:right] @ across, (x2 - x1) * (y2 - y1)
            e_in, e_out = inside / area, (total - inside) / (HEIGHT * WIDTH - area)
            s[b, k] = e_in / (e_in + e_out)
    return s


def integral_image(maps: Tensor, boxes: Tensor) -> Tensor:
    """Four look-ups in a table of cumulative sums, for all boxes at once."""
    table = torch.nn.functional.pad(maps.cumsum(-1).cumsum(-2), (1, 0, 1, 0)).flatten(1)
    x1, y1, x2, y2 = boxes.long().unbind(-1)

    def up_to(x: Tensor, y: Tensor) -> Tensor:
        return table.gather(1, y * (WIDTH + 1) + x)

    inside = up_to(x2, y2) - up_to(x1, y2) - up_to(x2, y1) + up_to(x1, y1)
    return from_sums(inside, ((x2 - x1) * (y2 - y1)).float(), table[:, -1:])


def benchmark() -> list[dict[str, Any]]:
    """Boxes have integer borders, as most other implementations have no fractions of a pixel."""
    maps = torch.rand(MAPS, HEIGHT, WIDTH).pow(4)
    corners = (torch.rand(MAPS, BOXES, 2, 2) * torch.tensor([WIDTH - 2, HEIGHT - 2])).sort(-2).values.floor()
    boxes = (corners + torch.tensor([[0.0, 0.0], [2.0, 2.0]])).flatten(-2)
    reference = slices(maps.double(), boxes.double())
    programs: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "human_importance": human_importance,
        "integral image": integral_image,
        "slicing loop, ratio outside of it": slices,
        "slicing loop": slicing_loop,
        "slicing loop, exact at sub-pixel borders": exact_slicing_loop,
        "boolean mask loop": boolean_masks,
    }
    cover = torch.rand(MAPS, BOXES, HEIGHT)
    floors: dict[str, Callable[[], Tensor]] = {
        "floor: one pass over the maps, their sum": maps.sum,
        "floor of a dense product: cover @ maps": lambda: cover @ maps,
    }
    closures: dict[str, Callable[[], Tensor]] = {name: partial(f, maps, boxes) for name, f in programs.items()}
    times = interleaved_times(closures | floors, seconds=60)
    rows: list[dict[str, Any]] = [
        {"program": name, **quartiles, "over_ours": quartiles["median_ms"] / times["human_importance"]["median_ms"]}
        for name, quartiles in times.items()
    ]
    for row, program in zip(rows, programs.values(), strict=False):  # lower bounds do not compute s
        row["max_error"] = (program(maps, boxes).double() - reference).abs().max().item()
    return rows


if __name__ == "__main__":
    run("human_importance", f"s of {BOXES} boxes on {MAPS} maps of {HEIGHT} x {WIDTH}, float32", benchmark)
