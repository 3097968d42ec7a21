r"""Human importance of proposals: where people looked, as one number in [0, 1] for each box.

The paper compares the mean human attention inside a proposal's box with the mean outside of it:

.. math:: s = \frac{E_{in}}{E_{in} + E_{out}}, \qquad E_{in} = \frac{e}{a}, \quad E_{out} = \frac{E - e}{A - a},

where :math:`e` is the attention inside the box, exact at sub-pixel borders, :math:`a` is the box's area, and :math:`E`
and :math:`A` are the attention and the area of the whole image. ``s = 0.5`` means equal density inside and outside.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from hint_loss._checks import check_attention, checked_boxes, checked_parts, checked_points, checked_size

BoxFormat = Literal["xyxy", "xywh"]


def human_importance(
    attention_maps: Tensor,
    boxes: Tensor,
    *,
    image_size: Sequence[float] | Tensor | None = None,
    box_format: BoxFormat = "xyxy",
) -> Tensor:
    """Human importance ``s`` of proposals from attention maps (VQA-HAT) or segmentation masks (COCO).

    Args:
        attention_maps: ``(..., H, W)`` non-negative attention in any unit and dtype, or boolean masks. Cell
            ``[y, x]`` covers ``[x, x + 1] x [y, y + 1]``.
        boxes: ``(..., K, 4)`` corners ``x1, y1, x2, y2`` in pixels. Parts outside of the image are cut off.
        image_size: ``(height, width)`` of the images that the boxes refer to, or a ``(..., 2)`` tensor of them.
            Default: the resolution of the maps.
        box_format: ``"xyxy"`` for corners, or ``"xywh"``: the first corner, width and height, as in COCO's files.

    Returns:
        ``(..., K)`` in [0, 1], float32 (float64 for float64 maps). A box without area, such as padding, has 0, and a
        box that covers the whole image 0.5.

    Raises:
        ValueError: Shapes do not match; a box is inverted, non-finite, outside of the image, or in normalised
            coordinates; a map is zero everywhere, non-finite, or negative inside or outside of a box.
        TypeError: An argument is not a tensor.

    Example:
        >>> attention_map = torch.zeros(4, 4)
        >>> attention_map[1, 1] = 1.0
        >>> human_importance(attention_map, torch.tensor([[0, 0, 2, 2], [2, 2, 4, 4], [0, 0, 1.5, 1.5]]))
        tensor([1.0000, 0.0000, 0.6707])

    References:
        Selvaraju et al., "Taking a HINT", ICCV 2019; Das et al., "Human Attention in VQA", EMNLP 2016.
    """
    check_attention("attention_maps", "(..., H, W)", attention_maps, None, boxes)
    cells = torch.tensor(attention_maps.shape[-2:], dtype=torch.float64, device=boxes.device)
    size = checked_size(cells.tolist() if image_size is None else image_size, boxes)
    corners = checked_boxes(boxes, size, "boxes", box_format)
    scaled = (corners * (cells / size)[..., None, [1, 0, 1, 0]]).minimum(cells[[1, 0, 1, 0]])  # despite rounding
    maps, scaled = attention_maps[None].flatten(0, -3), scaled[None].flatten(0, -3)
    samples = zip(torch.split(maps, 16), torch.split(scaled, 16), strict=True)  # small enough for a CPU's cache
    energies = [torch.cat([_map_energies(m, part) for part in torch.split(b, 64, 1)], 2) for m, b in samples]
    inside, outside = _checked_energies(attention_maps, *torch.cat(energies, 1).view(2, *boxes.shape[:-1]))
    return _ratio(inside, outside, corners, size).to(_at_least_float32(attention_maps))


def human_importance_from_points(
    points: Tensor,
    boxes: Tensor,
    *,
    image_size: Sequence[float] | Tensor,
    weights: Tensor | None = None,
    sigma: float = 0.0,
    box_format: BoxFormat = "xyxy",
) -> Tensor:
    """Human importance ``s`` of proposals from gaze points or clicks (SALICON), without rasterising them.

    Args:
        points: ``(..., N, 2)`` fixations ``x, y`` in pixels, counted from the image's corner: add 0.5 to whole pixel
            indices. Points outside of the image, or on its right or lower border, do not count.
        boxes: ``(..., K, 4)`` corners ``x1, y1, x2, y2`` in pixels.
        image_size: ``(height, width)`` in pixels, or a ``(..., 2)`` tensor of them.
        weights: ``(..., N)`` weight of each point, such as its duration, or a boolean mask that is false for padding.
            Default: 1 each.
        sigma: standard deviation, in pixels, of a Gaussian around each point, integrated exactly; 0 counts points.
        box_format: as in :func:`human_importance`.

    Returns:
        ``(..., K)`` in [0, 1], with the conventions of :func:`human_importance`.

    Raises:
        ValueError: Shapes do not match; boxes are wrong as in :func:`human_importance`; points are in normalised
            coordinates; ``sigma`` or a weight is negative; an image contains no point.
        TypeError: An argument is not a tensor.

    Example:
        >>> points = torch.tensor([[10.0, 10.0], [12.0, 8.0], [50.0, 50.0]])
        >>> boxes = torch.tensor([[0.0, 0.0, 20.0, 20.0], [40.0, 40.0, 60.0, 60.0]])
        >>> human_importance_from_points(points, boxes, image_size=(64, 64))
        tensor([0.9487, 0.8221])
    """
    check_attention("points", "(..., N, 2)", points, 2, boxes)
    if not sigma >= 0:
        raise ValueError(f"Parameter `sigma` should be at least 0. Found `sigma = {sigma}`.")
    size = checked_size(image_size, boxes)
    corners = checked_boxes(boxes, size, "boxes", box_format)
    points, weights = checked_parts(points, weights)
    at = checked_points(points, weights, size)

    def mass(low: Tensor, high: Tensor, axis: int) -> Tensor:
        return _point_mass(low, high, at[..., None, :, axis], sigma)

    return _separable("points", mass, weights, corners, size).to(_at_least_float32(points))


def human_importance_from_boxes(
    human_boxes: Tensor,
    boxes: Tensor,
    *,
    image_size: Sequence[float] | Tensor,
    weights: Tensor | None = None,
    box_format: BoxFormat = "xyxy",
) -> Tensor:
    """Human importance ``s`` of proposals from boxes that people drew (GQA, VCR, object annotations).

    A drawn box is an area of uniform attention. Where several overlap, their densities add up.

    Args:
        human_boxes: ``(..., M, 4)`` corners ``x1, y1, x2, y2`` in pixels.
        boxes: ``(..., K, 4)`` corners of the proposals in pixels.
        image_size: ``(height, width)`` in pixels, or a ``(..., 2)`` tensor of them.
        weights: ``(..., M)`` density of each drawn box, or a boolean mask that is false for padding. Default: 1 each.
        box_format: as in :func:`human_importance`, for both kinds of boxes.

    Returns:
        ``(..., K)`` in [0, 1], with the conventions of :func:`human_importance`.

    Raises:
        ValueError: Shapes do not match; boxes of either kind are wrong as in :func:`human_importance`; a weight is
            negative; an image contains no drawn box.
        TypeError: An argument is not a tensor.

    Example:
        >>> drawn = torch.tensor([[10.0, 10.0, 30.0, 30.0]])
        >>> boxes = torch.tensor([[10.0, 10.0, 30.0, 30.0], [20.0, 10.0, 40.0, 30.0], [50.0, 50.0, 60.0, 60.0]])
        >>> human_importance_from_boxes(drawn, boxes, image_size=(64, 64))
        tensor([1.0000, 0.9023, 0.0000])
    """
    check_attention("human_boxes", "(..., M, 4)", human_boxes, 4, boxes)
    size = checked_size(image_size, boxes)
    corners = checked_boxes(boxes, size, "boxes", box_format)
    human_boxes, weights = checked_parts(human_boxes, weights)
    drawn = checked_boxes(human_boxes, size, "human_boxes", box_format)

    def overlap(low: Tensor, high: Tensor, axis: int) -> Tensor:
        return (high.minimum(drawn[..., None, :, axis + 2]) - low.maximum(drawn[..., None, :, axis])).clamp(min=0)

    return _separable("human_boxes", overlap, weights, corners, size).to(_at_least_float32(human_boxes))


def grid_boxes(rows: int, columns: int, *, image_size: Sequence[float]) -> Tensor:
    """The cells of a regular grid as boxes: the positions of a feature map, or the patches of a ViT.

    Args:
        rows: number of rows.
        columns: number of columns.
        image_size: ``(height, width)`` of the image, in pixels.

    Returns:
        ``(rows * columns, 4)`` corners ``x1, y1, x2, y2``, row by row, in the order of ``feature_map.flatten(2)``. Use
        ``.expand(B, -1, -1)`` for a batch.

    Raises:
        ValueError: A number is not positive.

    Example:
        >>> grid_boxes(2, 2, image_size=(20, 40))
        tensor([[ 0.,  0., 20., 10.],
                [20.,  0., 40., 10.],
                [ 0., 10., 20., 20.],
                [20., 10., 40., 20.]])
    """
    height, width = image_size
    if not (rows > 0 and columns > 0 and height > 0 and width > 0):
        raise ValueError(
            "Parameters `rows`, `columns` and `image_size` should be positive. "
            f"Found `rows = {rows}`, `columns = {columns}`, `image_size = {tuple(image_size)}`."
        )
    y, x = (
        torch.tensor(range(n + 1), dtype=torch.float64) * size / n for n, size in ((rows, height), (columns, width))
    )
    first, last = torch.cartesian_prod(y[:-1], x[:-1]), torch.cartesian_prod(y[1:], x[1:])
    return torch.cat([first.flip(-1), last.flip(-1)], -1).float()


def two_level(s: Tensor, *, relevant: float, irrelevant: float | None = None) -> tuple[Tensor, Tensor]:
    """Reduce human importance to *relevant* (1) and *irrelevant* (0), and mask the proposals in between.

    People agree on which boxes matter, but less on the order of the others. With two levels,
    ``hint_ranking_loss(alpha, levels, mask=mask, margin=m)`` is the usual hinge over relevant-irrelevant pairs.

    Args:
        s: ``(..., K)`` human importance.
        relevant: proposals with ``s >= relevant`` are relevant.
        irrelevant: proposals with ``s <= irrelevant`` are irrelevant. Default: all that are not relevant.

    Returns:
        ``levels (..., K)``, 1 or 0 in the dtype of ``s``, and ``mask (..., K)``, false for proposals in between.

    Raises:
        ValueError: ``irrelevant`` is not below ``relevant``.

    Example:
        >>> two_level(torch.tensor([0.9, 0.5, 0.2]), relevant=0.7, irrelevant=0.4)
        (tensor([1., 0., 0.]), tensor([ True, False,  True]))
    """
    if irrelevant is not None and not irrelevant < relevant:
        raise ValueError(
            "Parameter `irrelevant` should be below `relevant`. "
            f"Found `irrelevant = {irrelevant}`, `relevant = {relevant}`."
        )
    high = s >= relevant
    low = s < relevant if irrelevant is None else s <= irrelevant
    return high.to(s.dtype), high | low


def _map_energies(maps: Tensor, boxes: Tensor) -> Tensor:
    """Attention inside and outside of boxes ``(N, K, 4)``, in units of map cells: ``(2, N, K)`` in float64.

    The edges of all boxes cut a map into tiles. Both results are sums over tiles. An integral image would subtract
    large numbers instead, and rounding would then order boxes that have equally little attention.
    """
    x1, y1, x2, y2 = boxes.unbind(-1)
    rows, in_rows = _cut(y1, y2, maps.shape[1])
    columns, in_columns = _cut(x1, x2, maps.shape[2])
    strips = _add_up(maps.to(_at_least_float32(maps)), *rows)  # the only pass over the maps
    tiles = _add_up(strips.mT.contiguous(), *columns).double()  # (N, strips along x, strips along y)
    across = in_rows @ tiles.mT  # (N, K, strips along x), between the box's upper and lower edge
    beyond = (1 - in_rows) @ tiles.sum(1)[..., None]
    return torch.stack([(across * in_columns).sum(-1), (across * (1 - in_columns)).sum(-1) + beyond[..., 0]])


def _checked_energies(maps: Tensor, inside: Tensor, outside: Tensor) -> tuple[Tensor, Tensor]:
    """Check that the attention ``(..., K)`` inside and outside of boxes is not negative, except for rounding."""
    total = inside + outside
    wrong = ~((inside.minimum(outside) >= -1e-12 * total) & (total > 0) & total.isfinite())
    if wrong.any():
        index = tuple(wrong.nonzero()[0, :-1].tolist())
        attention = maps[index]
        found = "a NaN or an infinity" if attention.any() else "zeros alone"
        if attention.min() < 0:
            found = f"a minimum of {attention.min().item()}, which is negative"
        raise ValueError(
            "Parameter `attention_maps` should hold finite, non-negative attention, and some of it in every image. "
            f"Found `attention_maps{list(index) or ''}` with {found}: correct it, or leave it out of the hints."
        )
    return inside.clamp(min=0), outside.clamp(min=0)


def _cut(low: Tensor, high: Tensor, length: int) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
    """Cut lines of ``length`` cells into S strips at the ends ``(N, K)`` of intervals.

    Returns:
        The strips and which of them are in which interval ``(N, K, S)``. Strips consist of slices, each part of one
        cell; they are given by the cell of each slice and its share of the cell, both ``(N, slices)``, and the first
        slice of each strip ``(N, S)``.
    """
    regular = torch.arange(0, length + 64, 64, device=low.device).clamp(max=length)  # long float32 sums lose digits
    edges = torch.cat([low, high, regular.expand(len(low), -1)], 1).sort(1).values
    # Slices lie between neighbours in the sorted list of all edges and all borders of cells.
    first = edges.ceil().long() + torch.arange(edges.shape[1], device=low.device)  # an edge precedes an equal border
    border = low.new_ones(len(low), edges.shape[1] + length + 1).scatter(1, first, 0.0).cumsum(1) - 1
    cell, share = border[:, :-1].clamp(min=0).long(), border.scatter(1, first, edges).diff()
    within = (edges[:, None, :-1] >= low[..., None]) & (edges[:, None, 1:] <= high[..., None])
    return (cell, share, first[:, :-1]), within.double()


def _add_up(values: Tensor, cell: Tensor, share: Tensor, first: Tensor) -> Tensor:
    """Sums of ``values (N, length, D)`` over strips, ``(N, S, D)``, for all samples in one call."""
    sample = torch.arange(len(values), device=values.device)[:, None]
    sums = F.embedding_bag(
        (cell + sample * values.shape[1]).flatten(),
        values.flatten(0, 1),
        (first + sample * cell.shape[1]).flatten(),
        mode="sum",
        per_sample_weights=share.flatten().to(values.dtype),
    )
    return sums.view(*first.shape, values.shape[2])


def _point_mass(low: Tensor, high: Tensor, points: Tensor, sigma: float) -> Tensor:
    """The mass that points, or Gaussians around them, have in half-open intervals."""
    if sigma == 0:
        return ((points >= low) & (points < high)).double()
    scale = 1 / (sigma * math.sqrt(2))
    return (torch.erf((high - points) * scale) - torch.erf((low - points) * scale)) / 2


def _separable(
    name: str, mass: Callable[[Tensor, Tensor, int], Tensor], weights: Tensor, corners: Tensor, size: Tensor
) -> Tensor:
    """``s`` for N points or drawn boxes, whose mass in a box is the product of a mass along x and a mass along y."""
    image = torch.cat([torch.zeros_like(size), size.flip(-1)], -1)[..., None, :]
    inside, whole = (
        mass(x1, x2, 0) * mass(y1, y2, 1) * weights[..., None, :]  # (..., K, N) and (..., 1, N)
        for x1, y1, x2, y2 in (region[..., None].unbind(-2) for region in (corners, image))
    )
    absent = whole.sum((-2, -1)) <= 0
    if absent.any():
        index = tuple(absent.nonzero()[0].tolist())
        raise ValueError(
            f"Parameter `{name}` should lie within the image, one at least. Found all of `{name}{list(index) or ''}` "
            f"outside of an image of (height, width) = {tuple(size[index].tolist())}, or without weight or size: pass "
            "the size that they refer to, `image_size=(height, width)`, or leave the sample out of the hints."
        )
    return _ratio(inside.sum(-1), (whole - inside).clamp(min=0).sum(-1), corners, size)


def _ratio(inside: Tensor, outside: Tensor, corners: Tensor, size: Tensor) -> Tensor:
    """The paper's ``s`` from the attention inside and outside of boxes ``(..., K)``."""
    area_in = (corners[..., 2:] - corners[..., :2]).prod(-1)
    area_out = size.prod(-1)[..., None] - area_in
    density_in, density_out = inside * area_out, outside * area_in  # both densities times both areas
    return (density_in / (density_in + density_out)).masked_fill(area_out == 0, 0.5).masked_fill(area_in == 0, 0.0)


def _at_least_float32(human: Tensor) -> torch.dtype:
    return torch.promote_types(human.dtype, torch.float32)
