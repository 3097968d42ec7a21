"""The check of ``(alpha, s)`` and their mask that the loss and the metrics share."""

from __future__ import annotations

import torch
from torch import Tensor


def checked_mask(alpha: Tensor, other: Tensor, mask: Tensor | None, name: str) -> Tensor | None:
    """The mask as ``(..., K)``, whether it was given for proposals or for whole samples."""
    if alpha.dim() == 0 or other.shape != alpha.shape:
        raise ValueError(
            f"Parameters `alpha` and `{name}` should have the same shape (..., K). "
            f"Found `alpha.shape = {tuple(alpha.shape)}` and `{name}.shape = {tuple(other.shape)}`."
        )
    if mask is not None and (mask.dtype != torch.bool or mask.shape not in (alpha.shape, alpha.shape[:-1])):
        raise ValueError(
            f"Parameter `mask` should be boolean, of shape {tuple(alpha.shape)} or, for whole samples, "
            f"{tuple(alpha.shape[:-1])}. Found `mask.dtype = {mask.dtype}` and `mask.shape = {tuple(mask.shape)}`."
        )
    return mask[..., None].expand_as(alpha) if mask is not None and mask.dim() < alpha.dim() else mask
