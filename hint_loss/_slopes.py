"""The derivative of the ranking loss: for each proposal, how many wrongly ordered pairs it is in, with a sign.

The proposal with the lower human score of a wrongly ordered pair counts it as 1, the one with the higher score as -1.
Without a smallest gap two sorts give this, as ``ranking.py`` shows.

With a smallest gap, :math:`s_i - s_j > g`, the two sorts no longer suffice. But once proposals are sorted by s, the
partners of each are a prefix or a suffix of that list. A wavelet matrix, which splits the ranks of alpha bit by bit,
counts for all proposals at once how many of these have a larger or a smaller alpha, in O(K log K).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def slope_by_sorting(x: Tensor, s: Tensor, mask: Tensor | None) -> Tensor:
    """``p - q``: one call sorts by (s, x) and by (x, s), with both 32-bit keys packed into an int64."""
    dtype = torch.promote_types(x.dtype, s.dtype)
    key = _order_key(torch.stack([x.to(dtype), s.to(dtype)]))
    key = (key.flip(0) << 32) + key  # by s then x, by x then s
    if mask is not None:
        key = key.masked_fill(~mask, torch.iinfo(torch.int64).min)  # at the same last places in both orders: slope 0
    order = key.sort(stable=True, dim=-1, descending=True).indices
    position = torch.arange(x.shape[-1], dtype=x.dtype, device=x.device).expand_as(order)
    positions = torch.empty_like(order, dtype=x.dtype).scatter_(-1, order, position)
    return positions[0] - positions[1]


def slope_by_comparing(x: Tensor, s: Tensor, mask: Tensor | None, min_gap: float) -> Tensor:
    """For each proposal, its wrongly ordered pairs as the lower-scored partner minus those as the higher-scored one.

    Pairs count if ``s_i - min_gap > s_j``.
    """
    wrong = (s[..., :, None] - min_gap > s[..., None, :]) & (x[..., :, None] < x[..., None, :])
    if mask is not None:
        wrong &= mask[..., :, None] & mask[..., None, :]
    return wrong.sum(-2) - wrong.sum(-1)


def slope_by_counting(x: Tensor, mask: Tensor | None, before: Tensor, order: Tensor) -> Tensor:
    """The same as :func:`slope_by_comparing`, by counting in prefixes and suffixes of the proposals sorted by s."""
    size, places = x.shape[-1], torch.arange(x.shape[-1], device=x.device).expand_as(order)
    if mask is not None:  # masked entries come last in every order
        x, before = x.masked_fill(~mask, torch.inf), before.masked_fill(~mask, size)
    x, before = x.gather(-1, order), before.gather(-1, order)
    # Prefix sums find the ends of runs several times faster than `searchsorted`.
    histogram = torch.zeros_like(F.pad(before, (0, 1))).scatter_add_(-1, before, torch.ones_like(before))
    after = histogram.cumsum(-1)[..., :-1]
    values, by_x = x.sort(-1)
    new = F.pad(values[..., 1:] != values[..., :-1], (1, 1), value=True)  # true where a run of equal values begins
    first = torch.where(new[..., :-1], places, 0).cummax(-1).values
    last = torch.where(new[..., 1:], places + 1, size).flip(-1).cummin(-1).values.flip(-1)
    rank, smaller, not_larger = (torch.empty_like(order).scatter_(-1, by_x, y) for y in (places, first, last))
    counts = _count(rank, torch.cat([before, after], -1), torch.cat([not_larger, smaller], -1))
    slope = (smaller - counts[..., size:]) - (before - counts[..., :size])
    slope = torch.empty_like(slope).scatter_(-1, order, slope)
    return slope if mask is None else slope * mask


def partners(s: Tensor, mask: Tensor | None, min_gap: float) -> tuple[Tensor, Tensor]:
    """For each score, how many are lower by more than ``min_gap``; and the order of all, masked entries last."""
    values, order = (s if mask is None else s.masked_fill(~mask, torch.inf)).sort(-1)
    lower = torch.searchsorted(values, s.contiguous() - min_gap)
    return (lower if mask is None else lower * mask), order


def _count(ranks: Tensor, ends: Tensor, bounds: Tensor) -> Tensor:
    """Number of the first ``ends (..., Q)`` entries of the permutation ``ranks (..., K)`` below ``bounds (..., Q)``.

    This is a wavelet matrix. From the highest bit to the lowest, each group of ranks that agree in all higher bits is
    split stably into those with a 0 and those with a 1 in this bit. If a bound has a 1 there, the ranks of its group
    with a 0 are below it. Because every number below K occurs once, a group starts at the position of its smallest
    number, and half of the ranks before that start have a 1.
    """
    size = ranks.shape[-1]
    ranks, ends, bounds = ranks.int(), ends.int(), bounds.int()  # takes half the time of int64
    count, starts = torch.zeros_like(ends), torch.zeros_like(bounds)
    place = torch.arange(size, dtype=torch.int32, device=ranks.device)
    for bit in reversed(range(size.bit_length())):
        half, is_one, passes = 1 << bit, ranks >> bit & 1, bounds >> bit & 1
        ones = F.pad(is_one.cumsum(-1, dtype=torch.int32), (1, 0))
        ones_before = ones.gather(-1, (starts + ends).long()) - (starts >> 1)
        zeros_before = ends - ones_before
        count.addcmul_(passes, zeros_before)
        ends = torch.addcmul(zeros_before, passes, ones_before - zeros_before)
        starts = starts.add(passes, alpha=half)
        group = ranks >> bit + 1 << bit + 1
        earlier = ones[..., :-1] - (group >> 1)
        if_zero, if_one = place - earlier, group + half + earlier
        moved = torch.addcmul(if_zero, is_one, if_one - if_zero)
        ranks = torch.empty_like(ranks).scatter_(-1, moved.long(), ranks)
    return count.long()


def _order_key(x: Tensor) -> Tensor:
    """Integer keys of at most 32 bits, as int64, in the order of ``x``; ``-0.0`` equals ``0.0``."""
    if x.dtype == torch.float64:  # the keys are dense ranks
        values, order = x.sort(-1)
        step = torch.zeros_like(order)
        step[..., 1:] = values[..., 1:] != values[..., :-1]
        return torch.empty_like(order).scatter_(-1, order, step.cumsum(-1))
    bits = (x.float() + 0.0).view(torch.int32)  # IEEE 754 stores sign and magnitude, integers two's complement
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)).long()
