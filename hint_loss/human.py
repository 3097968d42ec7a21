r"""Human importance of proposals: where people looked, as one number in [0, 1] for each box.

The paper compares the mean human attention inside a proposal's box with the mean outside of it:

.. math:: s = \frac{E_{in}}{E_{in} + E_{out}}, \qquad E_{in} = \frac{e}{a}, \quad E_{out} = \frac{E - e}{A - a},

with :math:`e` the attention energy inside the box, :math:`a` the box's area, :math:`E` and :math:`A` the same of the
whole image. ``s = 0.5`` means that people looked inside as much as outside.

Each kind of human attention here is separable, what a box covers along x times what it covers along y, so :math:`e`
is exact at sub-pixel borders: a pixel map is one batched matrix product :math:`w_y^T M w_x` for all boxes, a gaze
point a product of two indicators or two Gaussian integrals, a drawn box a product of two overlaps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["human_importance", "human_importance_from_boxes", "human_importance_from_points", "two_level"]


def human_importance(
    attention_maps: Tensor, boxes: Tensor, *, image_size: Sequence[float] | Tensor | None = None
) -> Tensor:
    """Human importance ``s`` of proposals from attention maps (VQA-HAT) or segmentation masks (COCO).

    Args:
        attention_maps: ``(..., H, W)`` non-negative attention in any unit and dtype, or boolean masks. Cell
            ``[y, x]`` covers ``[x, x + 1] x [y, y + 1]``.
        boxes: ``(..., K, 4)`` corners ``x1, y1, x2, y2`` in pixels; what lies outside of the image is cut off.
        image_size: ``(height, width)`` of the images that the boxes refer to, or a ``(..., 2)`` tensor of them, where
            the maps have another resolution. Default: the maps' own.

    Returns:
        ``(..., K)`` in [0, 1], float32 (float64 for float64 maps). A box without area in the image, such as padding,
        has 0; one that covers the whole image has 0.5.

    Raises:
        ValueError: shapes that do not fit; inverted or non-finite boxes; a map that is all zero, non-finite, or
            negative inside or outside of a box, for it says nothing.

    Example:
        >>> attention_map = torch.zeros(4, 4)
        >>> attention_map[1, 1] = 1.0
        >>> human_importance(attention_map, torch.tensor([[0, 0, 2, 2], [2, 2, 4, 4], [0, 0, 1.5, 1.5]]))
        tensor([1.0000, 0.0000, 0.6707])

    References:
        Selvaraju et al., "Taking a HINT", ICCV 2019; Das et al., "Human Attention in VQA", EMNLP 2016.
    """
    _check_shapes("attention_maps", "(..., H, W)", attention_maps, boxes)
    maps = attention_maps if attention_maps.dtype == torch.float64 else attention_maps.float()
    cells = torch.tensor(maps.shape[-2:], dtype=torch.float64, device=boxes.device)
    size = cells if image_size is None else _image_size(image_size, boxes)
    corners = _clip(boxes, size, "boxes")
    x1, y1, x2, y2 = (corners * (cells / size)[..., None, [1, 0, 1, 0]]).unbind(-1)
    cover_x = _coverage(x1, x2, maps.shape[-1], maps.dtype)  # (..., K, W)
    cover_y = _coverage(y1, y2, maps.shape[-2], maps.dtype)  # (..., K, H)
    rows = cover_y @ maps
    energy_in = (rows * cover_x).sum(-1)
    # Beside the box, then above and below it: a difference to the whole would cancel for large boxes.
    energy_out = (rows * (1 - cover_x)).sum(-1) + ((1 - cover_y) @ maps.sum(-1, keepdim=True)).squeeze(-1)
    return _ratio(energy_in, energy_out, corners, size, "attention_maps").to(maps.dtype)


def human_importance_from_points(
    points: Tensor,
    boxes: Tensor,
    *,
    image_size: Sequence[float] | Tensor,
    weights: Tensor | None = None,
    sigma: float = 0.0,
) -> Tensor:
    """Human importance ``s`` of proposals from gaze points or clicks (SALICON), without rasterising them.

    Args:
        points: ``(..., N, 2)`` fixations ``x, y`` in pixels.
        boxes: ``(..., K, 4)`` corners ``x1, y1, x2, y2`` in pixels.
        image_size: ``(height, width)`` in pixels, or a ``(..., 2)`` tensor of them.
        weights: ``(..., N)`` weight of each point: its duration, or a boolean mask of padding. Default: 1 each.
        sigma: standard deviation in pixels of the Gaussian that each point stands for, integrated exactly; 0 counts
            points.

    Returns:
        ``(..., K)`` in [0, 1], with the conventions of :func:`human_importance`.

    Raises:
        ValueError: as :func:`human_importance`; a negative ``sigma``; no weight within an image.

    Example:
        >>> points = torch.tensor([[10.0, 10.0], [12.0, 8.0], [50.0, 50.0]])
        >>> boxes = torch.tensor([[0.0, 0.0, 20.0, 20.0], [40.0, 40.0, 60.0, 60.0]])
        >>> human_importance_from_points(points, boxes, image_size=(64, 64))
        tensor([0.9487, 0.8221])
    """
    _check_shapes("points", "(..., N, 2)", points, boxes)
    if not sigma >= 0:
        raise ValueError(f"Parameter `sigma` should be at least 0. Found `sigma = {sigma}`.")
    size = _image_size(image_size, boxes)
    corners = _clip(boxes, size, "boxes")
    points, weights = _present(points, weights)
    if not points.isfinite().all():
        raise ValueError("Parameter `points` should be finite wherever `weights` is not 0. Found a NaN or an infinity.")
    x, y = points.double().unbind(-1)
    inside, whole = (
        _point_mass(region[..., 0], region[..., 2], x, sigma) * _point_mass(region[..., 1], region[..., 3], y, sigma)
        for region in (corners, _whole_image(size, boxes))
    )
    return _ratio(*_energies(inside, whole, weights), corners, size, "points").to(_at_least_float32(points))


def human_importance_from_boxes(
    human_boxes: Tensor,
    boxes: Tensor,
    *,
    image_size: Sequence[float] | Tensor,
    weights: Tensor | None = None,
) -> Tensor:
    """Human importance ``s`` of proposals from boxes that people drew (GQA, VCR, object annotations).

    A drawn box is an area of uniform attention; where several overlap, their densities add up.

    Args:
        human_boxes: ``(..., M, 4)`` corners ``x1, y1, x2, y2`` in pixels.
        boxes: ``(..., K, 4)`` corners of the proposals in pixels.
        image_size: ``(height, width)`` in pixels, or a ``(..., 2)`` tensor of them.
        weights: ``(..., M)`` density of each drawn box, or a boolean mask of padding. Default: 1 each.

    Returns:
        ``(..., K)`` in [0, 1], with the conventions of :func:`human_importance`.

    Raises:
        ValueError: as :func:`human_importance`; no drawn box within an image.

    Example:
        >>> drawn = torch.tensor([[10.0, 10.0, 30.0, 30.0]])
        >>> boxes = torch.tensor([[10.0, 10.0, 30.0, 30.0], [20.0, 10.0, 40.0, 30.0], [50.0, 50.0, 60.0, 60.0]])
        >>> human_importance_from_boxes(drawn, boxes, image_size=(64, 64))
        tensor([1.0000, 0.9023, 0.0000])
    """
    _check_shapes("human_boxes", "(..., M, 4)", human_boxes, boxes)
    size = _image_size(image_size, boxes)
    corners = _clip(boxes, size, "boxes")
    human_boxes, weights = _present(human_boxes, weights)
    x1, y1, x2, y2 = _clip(human_boxes, size, "human_boxes").unbind(-1)
    inside, whole = (
        _overlap(region[..., 0], region[..., 2], x1, x2) * _overlap(region[..., 1], region[..., 3], y1, y2)
        for region in (corners, _whole_image(size, boxes))
    )
    return _ratio(*_energies(inside, whole, weights), corners, size, "human_boxes").to(_at_least_float32(human_boxes))


def two_level(s: Tensor, *, relevant: float, irrelevant: float | None = None) -> tuple[Tensor, Tensor]:
    """Reduce human importance to *relevant* or *not*, setting aside what lies between.

    People agree on which boxes matter, less on the order of those that do not. On two levels,
    ``hint_ranking_loss(alpha, levels, mask=mask, margin=m)`` is the ordinary hinge over relevant x irrelevant pairs.

    Args:
        s: ``(..., K)`` human importance.
        relevant: proposals with ``s >= relevant`` are relevant.
        irrelevant: proposals with ``s <= irrelevant`` are not; default: all that are not relevant.

    Returns:
        ``levels (..., K)``, 1 or 0 in the dtype of ``s``, and the boolean ``mask (..., K)`` of those that have one.

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


def _check_shapes(name: str, shape: str, human: Tensor, boxes: Tensor) -> None:
    fits = min(human.dim(), boxes.dim()) >= 2 and boxes.shape[:-2] == human.shape[:-2] and boxes.shape[-1] == 4
    if not fits or (shape[-2].isdigit() and human.shape[-1] != int(shape[-2])):
        raise ValueError(
            f"Parameters `{name}` {shape} and `boxes` (..., K, 4) should agree in their leading dimensions. "
            f"Found `{name}.shape = {tuple(human.shape)}` and `boxes.shape = {tuple(boxes.shape)}`."
        )


def _image_size(image_size: Sequence[float] | Tensor, boxes: Tensor) -> Tensor:
    """Height and width ``(2,)`` or ``(..., 2)`` in float64."""
    size = torch.as_tensor(image_size, dtype=torch.float64, device=boxes.device)
    if size.shape not in ((2,), (*boxes.shape[:-2], 2)) or not (size > 0).all():
        raise ValueError(
            f"Parameter `image_size` should be a positive (height, width), or a tensor of them of shape "
            f"{(*boxes.shape[:-2], 2)}. Found `image_size = {image_size}`."
        )
    return size


def _whole_image(size: Tensor, boxes: Tensor) -> Tensor:
    """The image as a box ``(..., 1, 4)``."""
    return torch.cat([torch.zeros_like(size), size.flip(-1)], -1).expand(*boxes.shape[:-2], 4)[..., None, :]


def _clip(boxes: Tensor, size: Tensor, name: str) -> Tensor:
    """Boxes cut to the image, in float64."""
    corners = boxes.double()
    wrong = ~corners.isfinite().all(-1) | (corners[..., 2:] < corners[..., :2]).any(-1)
    if wrong.any():
        index = wrong.nonzero()[0].tolist()
        raise ValueError(
            f"Parameter `{name}` should hold finite corners with x1 <= x2 and y1 <= y2. "
            f"Found `{name}{index} = {boxes[tuple(index)].tolist()}`."
        )
    return corners.clamp(min=0).minimum(size[..., None, [1, 0, 1, 0]])


def _coverage(low: Tensor, high: Tensor, cells: int, dtype: torch.dtype) -> Tensor:
    """How much of each unit cell ``(..., K, cells)`` lies within K intervals."""
    index = torch.arange(cells, device=low.device, dtype=dtype)

    def below(edge: Tensor) -> Tensor:  # whole cells and a fraction apart: nothing is lost in float32
        whole = edge.floor()
        return (whole[..., None].to(dtype) - index + (edge - whole)[..., None].to(dtype)).clamp(0, 1)

    return below(high) - below(low)


def _overlap(low: Tensor, high: Tensor, other_low: Tensor, other_high: Tensor) -> Tensor:
    """Lengths ``(..., K, N)`` that K intervals share with N others."""
    upper = high[..., None].minimum(other_high[..., None, :])
    return (upper - low[..., None].maximum(other_low[..., None, :])).clamp(min=0)


def _point_mass(low: Tensor, high: Tensor, points: Tensor, sigma: float) -> Tensor:
    """Mass ``(..., K, N)`` that N points, or Gaussians, have within K half-open intervals."""
    low, high, points = low[..., None], high[..., None], points[..., None, :]
    if sigma == 0:
        return ((points >= low) & (points < high)).double()
    scale = 1 / (sigma * math.sqrt(2))
    return (torch.erf((high - points) * scale) - torch.erf((low - points) * scale)) / 2


def _present(parts: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
    """The N parts of human attention with their weights; a part of weight 0 may hold anything, NaN included."""
    if weights is None:
        weights = torch.ones_like(parts[..., 0])
    if weights.shape != parts.shape[:-1]:
        raise ValueError(
            f"Parameter `weights` should have shape {tuple(parts.shape[:-1])}. "
            f"Found `weights.shape = {tuple(weights.shape)}`."
        )
    return torch.where(weights[..., None] == 0, 0.0, parts), weights.double()


def _energies(inside: Tensor, whole: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted sums over the N parts of what is inside K boxes and what is outside of them."""
    outside = (whole - inside).clamp(min=0)
    return (inside * weights[..., None, :]).sum(-1), (outside * weights[..., None, :]).sum(-1)


def _ratio(energy_in: Tensor, energy_out: Tensor, corners: Tensor, size: Tensor, name: str) -> Tensor:
    total = energy_in + energy_out
    wrong = ~(total.isfinite() & (total > 0) & (energy_in >= 0) & (energy_out >= 0))
    if wrong.any():
        index = wrong.nonzero()[0].tolist()
        raise ValueError(
            f"Parameter `{name}` should hold finite, non-negative attention, and some of it in every image. "
            f"Found `{name}{index[:-1] or ''}` with a sum of {total[tuple(index)].item()}: leave it out of the hints."
        )
    area_in = (corners[..., 2:] - corners[..., :2]).prod(-1)
    area_out = size.prod(-1)[..., None] - area_in
    inside, outside = energy_in.double() * area_out, energy_out.double() * area_in  # densities, times both areas
    return (inside / (inside + outside)).masked_fill(area_out == 0, 0.5).masked_fill(area_in == 0, 0.0)


def _at_least_float32(human: Tensor) -> torch.dtype:
    return torch.promote_types(human.dtype, torch.float32)
