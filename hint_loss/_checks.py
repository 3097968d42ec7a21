"""The checks that the public functions share."""

from __future__ import annotations

import torch
from torch import Tensor


def check_tensors(**values: object) -> None:
    """Refuse arrays and lists, by the name of their parameter."""
    for name, value in values.items():
        if not isinstance(value, Tensor):
            found = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
            raise TypeError(
                f"Parameter `{name}` should be a torch.Tensor. Found a {found}: pass `torch.as_tensor({name})`."
            )


def checked_mask(alpha: Tensor, other: Tensor, mask: Tensor | None, name: str) -> Tensor | None:
    """The mask as ``(..., K)``, whether it was given for proposals or for whole samples."""
    check_tensors(**{"alpha": alpha, name: other})
    if alpha.dim() == 0 or other.shape != alpha.shape:
        raise ValueError(
            f"Parameters `alpha` and `{name}` should have the same shape (..., K). "
            f"Found `alpha.shape = {tuple(alpha.shape)}` and `{name}.shape = {tuple(other.shape)}`."
        )
    if mask is None:
        return None
    check_tensors(mask=mask)
    if mask.dtype != torch.bool or mask.shape not in (alpha.shape, alpha.shape[:-1]):
        raise ValueError(
            f"Parameter `mask` should be boolean, of shape {tuple(alpha.shape)} or, for whole samples, "
            f"{tuple(alpha.shape[:-1])}. Found `mask.dtype = {mask.dtype}` and `mask.shape = {tuple(mask.shape)}`."
        )
    return mask[..., None].expand_as(alpha) if mask.dim() < alpha.dim() else mask
