"""Agreement of network importance with human importance: rank correlation and the pointing game."""

from __future__ import annotations

import torch
from torch import Tensor

from hint_loss._checks import checked_mask


def rank_correlation(alpha: Tensor, s: Tensor, *, mask: Tensor | None = None) -> Tensor:
    r"""Spearman's rank correlation of network and human importance, for each sample.

    .. math:: \rho = \mathrm{corr}\big(\mathrm{rank}(\alpha), \mathrm{rank}(s)\big)

    This is Pearson's correlation of average ranks (ties share the mean of their positions) over unmasked proposals.

    Args:
        alpha: ``(..., K)`` network importance.
        s: ``(..., K)`` human importance.
        mask: boolean, ``(..., K)`` or ``(...)``: true for proposals, or samples, that count. Default: all.

    Returns:
        ``(...)`` in [-1, 1], float64. NaN where the correlation is undefined: with fewer than two proposals, with equal
        alphas or equal human scores throughout, or with a NaN among them. Average with :func:`torch.nanmean`.

    Raises:
        ValueError: Shapes do not match, or the mask is not boolean.

    Example:
        >>> rank_correlation(torch.tensor([[0.1, 0.2, 0.9]]), torch.tensor([[0.0, 0.5, 0.4]]))
        tensor([0.5000], dtype=torch.float64)

    References:
        Selvaraju et al., "Taking a HINT", ICCV 2019, section 5.3.
    """
    mask = _full_mask(alpha, s, mask, "s")
    a, b = (_centred(_average_ranks(x, mask), mask) for x in (alpha, s))
    correlation = (a * b).sum(-1) / (a.square().sum(-1) * b.square().sum(-1)).sqrt()  # 0 / 0 where constant
    return correlation.clamp(-1.0, 1.0)


def pointing_game(alpha: Tensor, relevant: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """Pointing game on proposals: is the most important proposal a relevant one?

    Args:
        alpha: ``(..., K)`` network importance.
        relevant: boolean ``(..., K)``, true for relevant proposals, such as those that overlap the object asked for.
        mask: boolean, ``(..., K)`` or ``(...)``: true for proposals, or samples, that count. Default: all.

    Returns:
        ``(...)`` float64: 1 for a hit, 0 for a miss, or the share of relevant proposals among those that tie for the
        first place. NaN where no unmasked proposal is relevant.

    Raises:
        ValueError: Shapes do not match, or ``relevant`` or ``mask`` is not boolean.

    Example:
        >>> relevant = torch.tensor([[True, False, False], [False, False, True]])
        >>> pointing_game(torch.tensor([[0.9, 0.2, 0.1], [0.4, 0.1, 0.4]]), relevant)
        tensor([1.0000, 0.5000], dtype=torch.float64)

    References:
        Zhang et al., "Top-down Neural Attention by Excitation Backprop", ECCV 2016, for pixels.
    """
    mask = _full_mask(alpha, relevant, mask, "relevant")
    if relevant.dtype != torch.bool:
        raise ValueError(f"Parameter `relevant` should be boolean. Found `relevant.dtype = {relevant.dtype}`.")
    scores = torch.where(mask, alpha, -torch.inf)
    top = mask & (scores == scores.amax(-1, keepdim=True)) if alpha.shape[-1] else mask
    hit = (top & relevant).sum(-1).double() / top.sum(-1)
    return torch.where((relevant & mask).any(-1), hit, torch.nan)


def _average_ranks(x: Tensor, mask: Tensor) -> Tensor:
    """Ranks of the unmasked entries, from 1; ties share their mean rank, and a NaN has the rank NaN."""
    filled = torch.where(mask, x if x.is_floating_point() else x.double(), torch.inf).contiguous()
    ordered = filled.sort(-1).values.contiguous()
    below = torch.searchsorted(ordered, filled)
    up_to = torch.searchsorted(ordered, filled, right=True).minimum(mask.sum(-1, keepdim=True))
    return torch.where(filled.isnan(), torch.nan, (below + up_to + 1).double() / 2)


def _centred(ranks: Tensor, mask: Tensor) -> Tensor:
    ranks = torch.where(mask, ranks, 0.0)
    return torch.where(mask, ranks - ranks.sum(-1, keepdim=True) / mask.sum(-1, keepdim=True), 0.0)


def _full_mask(alpha: Tensor, other: Tensor, mask: Tensor | None, name: str) -> Tensor:
    mask = checked_mask(alpha, other, mask, name)
    return torch.ones_like(alpha, dtype=torch.bool) if mask is None else mask
