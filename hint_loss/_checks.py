"""Checks of arguments that several public functions share. Each error names the parameter, its value and a remedy."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real

import torch
from torch import Tensor


def check_tensors(**values: object) -> None:
    """Refuse arrays and lists; the keywords are the parameters' names."""
    for name, value in values.items():
        if not isinstance(value, Tensor):
            found = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
            raise TypeError(
                f"Parameter `{name}` should be a torch.Tensor. Found a {found}: pass `torch.as_tensor({name})`."
            )


def check_features(name: str, features: Tensor, feature_dim: int, reduction: str) -> None:
    """Check what is to be tracked."""
    if reduction not in ("sum", "input", "norm"):
        raise ValueError(
            f"Parameter `reduction` should be 'sum', 'input' or 'norm' for tracked proposals. Found {reduction!r}: "
            f"give the model `{name}.requires_grad_()` instead, and take `proposal_importance` of it."
        )
    check_tensors(**{name: features})
    if not features.is_floating_point():
        raise TypeError(
            f"Parameter `{name}` should be a floating point tensor. "
            f"Found `{name}.dtype = {features.dtype}`: pass `{name}.float()`."
        )
    check_feature_dim(name, features, feature_dim)


def check_feature_dim(name: str, features: Tensor, feature_dim: int) -> None:
    """Check that the features have this dimension."""
    if not hasattr(feature_dim, "__index__") or not -features.dim() <= feature_dim < features.dim():
        raise ValueError(
            f"Parameter `feature_dim` should be a dimension of `{name}`. "
            f"Found `feature_dim = {feature_dim}` and `{name}.shape = {tuple(features.shape)}`."
        )


def checked_mask(alpha: Tensor, other: Tensor, mask: Tensor | None, name: str) -> Tensor | None:
    """The mask as ``(..., K)``, whether it was given for proposals or for whole samples."""
    check_tensors(**{"alpha": alpha, name: other})
    if alpha.dim() == 0 or other.shape != alpha.shape or other.device != alpha.device:
        raise ValueError(
            f"Parameters `alpha` and `{name}` should have the same shape (..., K), on one device. "
            f"Found `alpha.shape = {tuple(alpha.shape)}` on {alpha.device} and "
            f"`{name}.shape = {tuple(other.shape)}` on {other.device}."
        )
    if mask is None:
        return None
    check_tensors(mask=mask)
    if mask.dtype != torch.bool or mask.shape not in (alpha.shape, alpha.shape[:-1]) or mask.device != alpha.device:
        raise ValueError(
            f"Parameter `mask` should be boolean, of shape {tuple(alpha.shape)} or, for whole samples, "
            f"{tuple(alpha.shape[:-1])}. Found `mask.dtype = {mask.dtype}` and `mask.shape = {tuple(mask.shape)}` on "
            f"{mask.device}."
        )
    if mask.dim() == alpha.dim():
        return mask
    if mask.dim() > 1 and mask.shape[-1] == alpha.shape[-1]:
        raise ValueError(
            f"Parameter `mask` of shape {tuple(mask.shape)} could be meant for decisions or for proposals, because "
            f"`alpha.shape = {tuple(alpha.shape)}` has as many of both: pass `mask[..., None].expand_as(alpha)` or "
            "`mask[..., None, :].expand_as(alpha)`."
        )
    return mask[..., None].expand_as(alpha)


def check_options(margin: float, min_gap: float, pair_reduction: str, reduction: str) -> None:
    """Check the options of the ranking loss."""
    found = f"Found `margin = {margin!r}`, `min_gap = {min_gap!r}`."
    if not (isinstance(margin, Real) and isinstance(min_gap, Real)):
        raise TypeError(f"Parameters `margin` and `min_gap` should be numbers. {found}")
    if not (margin >= 0 and min_gap >= 0):
        raise ValueError(f"Parameters `margin` and `min_gap` should be at least 0. {found}")
    if pair_reduction not in ("sum", "mean"):
        raise ValueError(f"Parameter `pair_reduction` should be 'sum' or 'mean'. Found {pair_reduction!r}.")
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"Parameter `reduction` should be 'mean', 'sum' or 'none'. Found {reduction!r}.")


def check_attention(name: str, shape: str, attention: Tensor, last: int | None, boxes: Tensor) -> None:
    """Check that human attention, whose last dimension has the size ``last``, and boxes are of the same samples."""
    check_tensors(**{name: attention, "boxes": boxes})
    fits = min(attention.dim(), boxes.dim()) >= 2 and boxes.shape[:-2] == attention.shape[:-2]
    if not fits or boxes.shape[-1] != 4 or attention.shape[-1] != (last or attention.shape[-1]):
        raise ValueError(
            f"Parameters `{name}` {shape} and `boxes` (..., K, 4) should agree in their leading dimensions. "
            f"Found `{name}.shape = {tuple(attention.shape)}` and `boxes.shape = {tuple(boxes.shape)}`."
        )


def checked_size(image_size: Sequence[float] | Tensor, boxes: Tensor) -> Tensor:
    """Height and width of each sample's image, ``(..., 2)`` in float64."""
    size = torch.as_tensor(image_size, dtype=torch.float64, device=boxes.device)
    samples = (*boxes.shape[:-2], 2)
    if size.shape not in ((2,), samples) or not (size > 0).all():
        raise ValueError(
            f"Parameter `image_size` should be a positive (height, width), or a tensor of them of shape {samples}. "
            f"Found `image_size = {image_size}`."
        )
    return size.expand(samples)


def checked_boxes(boxes: Tensor, size: Tensor, name: str, box_format: str) -> Tensor:
    """Corners ``(..., K, 4)`` in float64, cut off at the borders of the images. Boxes may be empty: padding is."""
    if box_format not in _FORMATS:
        raise ValueError(f"Parameter `box_format` should be 'xyxy' or 'xywh'. Found {box_format!r}.")
    corners = boxes.double()
    if box_format == "xywh":
        corners = torch.cat([corners[..., :2], corners[..., :2] + corners[..., 2:]], -1)
    inverted = (corners[..., 2:] < corners[..., :2]).any(-1)
    _refuse(inverted | ~corners.isfinite().all(-1), name, boxes, _FORMATS[box_format])
    cut = corners.clamp(min=0).minimum(size[..., None, [1, 0, 1, 0]])
    real, visible = ((x[..., 2:] > x[..., :2]).all(-1) for x in (corners, cut))
    _refuse(real & ~visible, name, boxes, "overlap the image", size, _OTHER_SIZE)
    small = real & ((cut[..., 2:] - cut[..., :2]).prod(-1) < 1)
    _refuse(small & _all_in_first_pixel(cut, real, size), name, boxes, _IN_PIXELS, size, _MULTIPLY)
    return cut


def checked_points(points: Tensor, weights: Tensor, size: Tensor) -> Tensor:
    """Points ``(..., N, 2)`` in pixels, in float64."""
    _refuse(~points.isfinite().all(-1), "points", points, "be finite wherever `weights` is not 0")
    at, present = points.double(), weights > 0
    fractional = (at >= 0).all(-1) & (at % 1 != 0).any(-1)  # clicks may all be at (0, 1), but not all at (0.2, 0.7)
    wrong = fractional & present & _all_in_first_pixel(at, present, size)
    _refuse(wrong, "points", points, _IN_PIXELS, size, _MULTIPLY)
    return at


def checked_parts(parts: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
    """Points or drawn boxes ``(..., N, D)`` with their weights. Those of weight 0 may hold anything, such as NaN."""
    if weights is None:
        return parts, torch.ones_like(parts[..., 0], dtype=torch.float64)
    check_tensors(weights=weights)
    if weights.shape != parts.shape[:-1]:
        raise ValueError(
            f"Parameter `weights` should have shape {tuple(parts.shape[:-1])}. "
            f"Found `weights.shape = {tuple(weights.shape)}`."
        )
    _refuse(~(weights.isfinite() & (weights >= 0)), "weights", weights, "be finite and at least 0")
    return torch.where(weights[..., None] == 0, 0.0, parts), weights.double()


_FORMATS = {
    "xyxy": "hold finite corners with x1 <= x2 and y1 <= y2, or be of `box_format='xywh'`",
    "xywh": "hold finite corners and sizes of at least 0",
}
_OTHER_SIZE = ": pass the size that they refer to, `image_size=(height, width)`"
_IN_PIXELS = "be in pixels, but all of a sample are in [0, 1]"
_MULTIPLY = ": multiply x by the width and y by the height"


def _all_in_first_pixel(coordinates: Tensor, present: Tensor, size: Tensor) -> Tensor:
    """Whether all boxes or points ``(..., N)`` of a sample are in [0, 1], where an image has more than one pixel."""
    inside = (~present | (coordinates <= 1).all(-1)).all(-1) & (size > 1).all(-1)
    return inside[..., None]


def _refuse(
    wrong: Tensor, name: str, values: Tensor, should: str, size: Tensor | None = None, remedy: str = ""
) -> None:
    """Raise an error that shows the first wrong box, point or weight, and the size of its image if that matters."""
    if wrong.any():
        index = tuple(wrong.nonzero()[0].tolist())
        image = "" if size is None else f" in an image of (height, width) = {tuple(size[index[:-1]].tolist())}"
        found = f"`{name}{list(index)} = {values[index].tolist()}`{image}{remedy}"
        raise ValueError(f"Parameter `{name}` should {should}. Found {found}.")
