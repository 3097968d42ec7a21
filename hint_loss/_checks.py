"""What the public functions refuse, and how they say it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from numbers import Real

import torch
from torch import Tensor


def check_tensors(**values: object) -> None:
    """Refuse arrays and lists, by the names of their parameters."""
    for name, value in values.items():
        if not isinstance(value, Tensor):
            found = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
            raise TypeError(
                f"Parameter `{name}` should be a torch.Tensor. Found a {found}: pass `torch.as_tensor({name})`."
            )


def check_features(name: str, features: Tensor, feature_dim: int, reduction: str) -> None:
    """What proposals can be tracked, and along what."""
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
    """A dimension of the proposals."""
    if not hasattr(feature_dim, "__index__") or not -features.dim() <= feature_dim < features.dim():
        raise ValueError(
            f"Parameter `feature_dim` should be a dimension of `{name}`. "
            f"Found `feature_dim = {feature_dim}` and `{name}.shape = {tuple(features.shape)}`."
        )


def checked_probes(probes: int | Tensor, features: int) -> int | Tensor:
    """Random directions: their number, or themselves."""
    if isinstance(probes, Tensor):
        fits = probes.dim() == 2 and len(probes) == features and probes.shape[1] > 0
    else:
        fits = hasattr(probes, "__index__") and probes is not True and probes > 0
    if not fits:
        found = f"`probes.shape = {tuple(probes.shape)}`" if isinstance(probes, Tensor) else f"`probes = {probes!r}`"
        raise ValueError(
            "Parameter `probes` should be the number of random directions, at least 1, or a tensor of them, of shape "
            f"({features}, m). Found {found}."
        )
    return probes


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
            f"Parameter `mask` of shape {tuple(mask.shape)} could be meant for decisions or for proposals, of which "
            f"there are as many in {tuple(alpha.shape)}: pass `mask[..., None].expand_as(alpha)` or "
            "`mask[..., None, :].expand_as(alpha)`."
        )
    return mask[..., None].expand_as(alpha)


def check_options(margin: float, min_gap: float, pair_reduction: str, reduction: str) -> None:
    """Options of the ranking loss."""
    found = f"Found `margin = {margin!r}`, `min_gap = {min_gap!r}`."
    if not (isinstance(margin, Real) and isinstance(min_gap, Real)):
        raise TypeError(f"Parameters `margin` and `min_gap` should be numbers. {found}")
    if not (margin >= 0 and min_gap >= 0):
        raise ValueError(f"Parameters `margin` and `min_gap` should be at least 0. {found}")
    if pair_reduction not in ("sum", "mean"):
        raise ValueError(f"Parameter `pair_reduction` should be 'sum' or 'mean'. Found {pair_reduction!r}.")
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"Parameter `reduction` should be 'mean', 'sum' or 'none'. Found {reduction!r}.")


def check_roles(alpha: Tensor, s: Tensor, mask: Tensor | None) -> None:
    """What is trained and what is the target."""
    if not alpha.is_floating_point():
        raise TypeError(f"Parameter `alpha` should be a floating point tensor. Found `alpha.dtype = {alpha.dtype}`.")
    if s.requires_grad and not alpha.requires_grad:
        raise ValueError(
            "Parameter `alpha` is what the loss trains, `s` its target. Found `alpha.requires_grad = False` and "
            "`s.requires_grad = True`: swap them if they are the wrong way round, or else pass `s.detach()`."
        )
    if alpha.dim() > 2 and mask is None:
        raise ValueError(
            f"Parameter `alpha` should have shape (B, K) or, with a mask, (..., K). Found `alpha.shape = "
            f"{tuple(alpha.shape)}` without one: pass `alpha.flatten(1)` and `s.flatten(1)` if these are maps, or the "
            "mask of those decisions that count, `torch.ones_like(alpha, dtype=torch.bool)` for all."
        )
    if torch.is_grad_enabled() and not alpha.requires_grad:
        raise ValueError(
            "Parameter `alpha` should carry a graph, or nothing is trained. Found `alpha.requires_grad = False`: take "
            "the importance with `differentiable=True`, or only measure the loss, under `torch.no_grad()`."
        )


def check_human(name: str, shape: str, human: Tensor, boxes: Tensor) -> None:
    """Human attention of a given shape, such as ``(..., N, 2)``, and boxes ``(..., K, 4)`` of the same samples."""
    check_tensors(**{name: human, "boxes": boxes})
    fits = min(human.dim(), boxes.dim()) >= 2 and boxes.shape[:-2] == human.shape[:-2] and boxes.shape[-1] == 4
    if not fits or (shape[-2].isdigit() and human.shape[-1] != int(shape[-2])):
        raise ValueError(
            f"Parameters `{name}` {shape} and `boxes` (..., K, 4) should agree in their leading dimensions. "
            f"Found `{name}.shape = {tuple(human.shape)}` and `boxes.shape = {tuple(boxes.shape)}`."
        )


def checked_size(image_size: Sequence[float] | Tensor, boxes: Tensor) -> Tensor:
    """Height and width of each sample ``(..., 2)`` in float64."""
    size = torch.as_tensor(image_size, dtype=torch.float64, device=boxes.device)
    samples = (*boxes.shape[:-2], 2)
    if size.shape not in ((2,), samples) or not (size > 0).all():
        raise ValueError(
            f"Parameter `image_size` should be a positive (height, width), or a tensor of them of shape {samples}. "
            f"Found `image_size = {image_size}`."
        )
    return size.expand(samples)


def _refuse(name: str, values: Tensor, size: Tensor, wrong: Tensor, should: str, remedy: str = "") -> None:
    if wrong.any():
        index = tuple(wrong.nonzero()[0].tolist())
        image = f" in an image of (height, width) = {tuple(size[index[:-1]].tolist())}" if remedy else ""
        found = f"`{name}{list(index)} = {values[index].tolist()}`{image}{remedy}"
        raise ValueError(f"Parameter `{name}` should {should}. Found {found}.")


_FORMATS = {
    "xyxy": "hold finite corners with x1 <= x2 and y1 <= y2, or be of `box_format='xywh'`",
    "xywh": "hold finite corners and sizes of at least 0",
}


def clipped(boxes: Tensor, size: Tensor, name: str, box_format: str) -> Tensor:
    """Corners ``(..., K, 4)`` cut to images of ``size (..., 2)``, in float64. A box may be empty, as padding is."""
    if box_format not in _FORMATS:
        raise ValueError(f"Parameter `box_format` should be 'xyxy' or 'xywh'. Found {box_format!r}.")
    refuse, corners = partial(_refuse, name, boxes, size), boxes.double()
    if box_format == "xywh":
        corners = torch.cat([corners[..., :2], corners[..., :2] + corners[..., 2:]], -1)
    inverted = (corners[..., 2:] < corners[..., :2]).any(-1)
    refuse(inverted | ~corners.isfinite().all(-1), _FORMATS[box_format])
    cut = corners.clamp(min=0).minimum(size[..., None, [1, 0, 1, 0]])
    real, visible = ((x[..., 2:] > x[..., :2]).all(-1) for x in (corners, cut))
    refuse(real & ~visible, "overlap the image", ": pass the size that they refer to, `image_size=(height, width)`")
    in_corner = (~real | (cut <= 1).all(-1)).all(-1) & (size > 1).all(-1)  # of one pixel, where no real box would fit
    small = real & ((cut[..., 2:] - cut[..., :2]).prod(-1) < 1)
    refuse(small & in_corner[..., None], *_NORMALISED)
    return cut


_NORMALISED = ("be in pixels, but all of a sample are in [0, 1]", ": multiply x by the width and y by the height")


def checked_points(points: Tensor, weights: Tensor, size: Tensor) -> Tensor:
    """Points ``(..., N, 2)`` in pixels of images of ``size (..., 2)``, in float64."""
    if not points.isfinite().all():
        raise ValueError("Parameter `points` should be finite wherever `weights` is not 0. Found a NaN or an infinity.")
    counts, at = weights > 0, points.double()
    in_corner = (~counts | (at <= 1).all(-1)).all(-1) & (size > 1).all(-1)  # below 0 they are outside of any image
    between = (at >= 0).all(-1) & (at % 1 != 0).any(-1)  # a click may be at (0, 1), not all at (0.2, 0.7)
    _refuse("points", points, size, in_corner[..., None] & counts & between, *_NORMALISED)
    return at


def checked_parts(parts: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
    """The N parts of human attention with their weights; a part of weight 0 may hold anything, NaN included."""
    if weights is None:
        return parts, torch.ones_like(parts[..., 0], dtype=torch.float64)
    check_tensors(weights=weights)
    if weights.shape != parts.shape[:-1]:
        raise ValueError(
            f"Parameter `weights` should have shape {tuple(parts.shape[:-1])}. "
            f"Found `weights.shape = {tuple(weights.shape)}`."
        )
    wrong = ~(weights.isfinite() & (weights >= 0))
    if wrong.any():
        index = tuple(wrong.nonzero()[0].tolist())
        raise ValueError(
            "Parameter `weights` should be finite and at least 0. "
            f"Found `weights{list(index)} = {weights[index].item()}`."
        )
    return torch.where(weights[..., None] == 0, 0.0, parts), weights.double()


def check_present(name: str, total: Tensor, size: Tensor) -> None:
    """Parts of human attention by their ``total (...)`` within images of ``size (..., 2)``."""
    absent = total <= 0
    if absent.any():
        index = tuple(absent.nonzero()[0].tolist())
        raise ValueError(
            f"Parameter `{name}` should lie within the image, one at least. Found all of `{name}{list(index) or ''}` "
            f"outside of an image of (height, width) = {tuple(size[index].tolist())}, or without weight or size: pass "
            "the size that they refer to, `image_size=(height, width)`, or leave the sample out of the hints."
        )


def checked_energies(maps: Tensor, inside: Tensor, outside: Tensor) -> tuple[Tensor, Tensor]:
    """Energies ``(..., K)`` of maps ``(..., H, W)`` inside and outside of boxes, but for rounding not negative."""
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
