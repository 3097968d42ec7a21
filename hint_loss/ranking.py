r"""The HINT ranking loss: network importance should rank proposals as human importance does.

The paper sums, over the pairs of proposals that the network orders wrongly, how far apart it puts them:

.. math:: L = \sum_{s_i > s_j} \max(0,\; \alpha_j - \alpha_i).

**Closed form.** Let :math:`p_i` be the position of proposal i when sorted by (s descending, then alpha descending), and
:math:`q_i` its position when sorted by (alpha descending, then s descending). The two sorts put a pair in opposite
orders exactly if it belongs to the sum, and i moves one place for each such pair, up or down, so

.. math:: L = \sum_i \alpha_i (p_i - q_i), \qquad \partial L / \partial \alpha_i = p_i - q_i,

ties included. That is O(K log K) time and O(K) memory, where comparing all pairs takes O(K^2) of both.

**Margin for free.** Asking pairs to be apart in proportion to the human gap, :math:`\max(0,\; m (s_i - s_j) -
(\alpha_i - \alpha_j))`, is the same loss on :math:`\alpha - m s`.

**Smallest gap.** Pairs with :math:`s_i - s_j > g` are not those of an order, but in the order of s, the partners of a
proposal are all that come before some place, or after. How many of these have a larger alpha, or a smaller one, a
wavelet matrix counts for all proposals at once: it takes the ranks of alpha apart bit by bit. That is O(K log K) again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self, TypedDict, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hint_loss._checks import check_options, check_roles, checked_mask

PairReduction = Literal["sum", "mean"]
Reduction = Literal["mean", "sum", "none"]


class _Options(TypedDict, total=False):
    margin: float
    min_gap: float
    relative: bool
    scale_free: bool
    pair_reduction: PairReduction
    reduction: Reduction


_RECOMMENDED: _Options = {"margin": 0.8, "relative": True, "scale_free": True, "pair_reduction": "mean"}
_FEW = 64  # proposals, of which all pairs are compared sooner than counted


def hint_ranking_loss(
    alpha: Tensor,
    s: Tensor,
    *,
    mask: Tensor | None = None,
    margin: float = 0.0,
    min_gap: float = 0.0,
    relative: bool = False,
    scale_free: bool = False,
    pair_reduction: PairReduction = "sum",
    reduction: Reduction = "mean",
) -> Tensor:
    r"""HINT ranking loss between network importance ``alpha`` and human importance ``s``.

    .. math:: L = \sum_{s_i - s_j > g} \max(0,\; m (s_i - s_j) - (\alpha_i - \alpha_j))

    for each sample; the defaults, :math:`m = g = 0`, are the paper's loss. Pairs that people score equal add nothing.

    What the loss's weight means: samples whose hint orders no pair (without a hint, with one proposal, or with scores
    that are all equal) do not count, so the mean does not depend on the batch size or on the share of hints;
    :func:`hint_pairs` tells how many do. The paper's sum grows with the number of pairs, unless
    ``pair_reduction="mean"``, and with the scale of alpha, unless ``scale_free=True``. Across data-parallel ranks,
    take ``reduction="sum"`` and divide by the number of samples that count on *all* ranks.

    Args:
        alpha: ``(B, K)`` network importance, as :func:`~hint_loss.proposal_importance` gives it; ``(..., K)`` with a
            mask, such as ``(B, T, K)`` for T decisions.
        s: human importance, in the shape of ``alpha``, or booleans. Its order matters; with ``margin`` or ``min_gap``,
            its gaps too. It is a target: with a margin, an s that requires a gradient gets one, so detach yours if a
            model made it.
        mask: boolean, ``(..., K)``: true for proposals that exist and have a human score; or ``(...)``: true for
            samples with a hint. Masked entries may hold anything. Default: all true.
        margin: how far apart alphas should be for each unit of human gap, in units of alpha.
        min_gap: leave out pairs whose human scores differ by no more than this.
        relative: take each sample's ``s`` relative to its own range, from 0 for the lowest to 1 for the highest, so
            that ``margin`` and ``min_gap`` fit every kind of hint. A range below 1e-5 is rounding and orders nothing.
        scale_free: divide alpha by the sum of its absolute values over the sample, so that alphas are shares of
            importance and shrinking all of them does not lower the loss.
        pair_reduction: ``"sum"`` over a sample's pairs (the paper), or their ``"mean"``.
        reduction: ``"mean"`` over samples that count (without any: 0, attached to the graph), ``"sum"``, or ``"none"``.

    Returns:
        A scalar, or ``(...)`` for ``reduction="none"``; float32, or float64 where ``alpha`` is. An unmasked NaN makes
        the loss of its sample and the gradient NaN.

    Raises:
        ValueError: shapes or devices that do not fit; a mask that is not boolean, or could be meant for samples or for
            proposals; an option out of range; ``s`` and ``alpha`` swapped; an alpha without a graph, where gradients
            are on.
        TypeError: an integer ``alpha``, or an array in place of a tensor.

    Example:
        >>> alpha = torch.tensor([[0.1, 0.5, 0.3]], requires_grad=True)
        >>> loss = hint_ranking_loss(alpha, torch.tensor([[0.9, 0.2, 0.2]]))
        >>> loss  # (0.5 - 0.1) + (0.3 - 0.1)
        tensor(0.6000, grad_fn=<DivBackward0>)
        >>> loss.backward()
        >>> alpha.grad
        tensor([[-2.,  1.,  1.]])

    References:
        Selvaraju et al., "Taking a HINT", ICCV 2019 (the pairwise sum). All options are ours.
    """
    check_options(margin, min_gap, pair_reduction, reduction)
    mask = checked_mask(alpha, s, mask, "s")
    check_roles(alpha, s, mask)
    x, s = _floating(alpha), _floating(s)
    s, low, high = _scores(s, mask, relative)
    present: Tensor | int = max(x.shape[-1], 1)
    if mask is not None:
        x, present = torch.where(mask, x, 0.0), mask.sum(-1, keepdim=True).clamp(min=1)
    if scale_free:
        norm = x.abs().sum(-1, keepdim=True)
        x = x / torch.where(norm > torch.finfo(x.dtype).tiny, norm, 1.0)  # the inverse of less may be infinite
    if margin:
        x = x - margin * s.to(x.dtype)

    lower, order = _partners(s, mask, min_gap) if min_gap or pair_reduction == "mean" else (s, s)
    with torch.no_grad():
        if not min_gap:
            slope = _slope_by_sorting(x, s, mask)
        elif x.shape[-1] <= _FEW:
            slope = _slope_by_comparing(x, s, mask, min_gap)
        else:
            slope = _slope_by_counting(x, mask, lower, order)
        slope = slope.to(x.dtype) + 0 * (x + s.to(x.dtype)).sum(-1, keepdim=True)  # a NaN has no order: let it show
        centre = x.sum(-1, keepdim=True) / present
    # A sample's slopes sum to zero and masked entries have none: centring changes the rounding error alone.
    losses = ((x - centre) * slope).sum(-1)
    if pair_reduction == "mean":
        losses = losses / lower.sum(-1).clamp(min=1)
    if reduction == "none":
        return losses
    counts = (high - min_gap > low).sum().clamp(min=1)
    return losses.sum() if reduction == "sum" else losses.sum() / counts


def hint_pairs(s: Tensor, *, mask: Tensor | None = None, min_gap: float = 0.0, relative: bool = False) -> Tensor:
    """How many pairs of proposals each sample's hint orders: 0 where it says nothing to the ranking loss.

    Args:
        s: ``(..., K)`` human importance, or booleans.
        mask: as in :func:`hint_ranking_loss`.
        min_gap: as there.
        relative: as there.

    Returns:
        ``(...)`` whole numbers; ``(hint_pairs(s) > 0).sum()`` is the number of samples that count.

    Raises:
        ValueError: a mask that does not fit.

    Example:
        >>> s = torch.tensor([[0.9, 0.5, 0.2], [0.6, 0.55, 0.4], [0.5, 0.5, 0.5]])
        >>> hint_pairs(s, min_gap=0.5).tolist(), hint_pairs(s, min_gap=0.5, relative=True).tolist()
        ([1, 0, 0], [2, 2, 0])
    """
    mask = checked_mask(s, s, mask, "s")
    s, _, _ = _scores(_floating(s), mask, relative)
    return _partners(s, mask, min_gap)[0].sum(-1)


class HintRankingLoss(nn.Module):
    """Module twin of :func:`hint_ranking_loss`: the Module holds the options, the function holds the truth.

    Attributes:
        margin, min_gap, relative, scale_free, pair_reduction, reduction: the options.

    Example:
        >>> loss = HintRankingLoss(margin=0.5)
        >>> with torch.no_grad():  # of constants
        ...     loss(torch.tensor([[0.5, 0.5]]), torch.tensor([[1.0, 0.0]]))
        tensor(0.5000)
    """

    def __init__(
        self,
        *,
        margin: float = 0.0,
        min_gap: float = 0.0,
        relative: bool = False,
        scale_free: bool = False,
        pair_reduction: PairReduction = "sum",
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        check_options(margin, min_gap, pair_reduction, reduction)
        self.margin, self.min_gap, self.relative, self.scale_free = margin, min_gap, relative, scale_free
        self.pair_reduction, self.reduction = pair_reduction, reduction

    @classmethod
    def recommended(cls, **overrides: Unpack[_Options]) -> Self:
        """The form to begin with; ``overrides`` replace its options.

        It goes with unsigned importance, ``reduction="norm"``, and a weight of 10 beside a task loss of weight 1, or of
        100 for a network that relies on wrong evidence already. Both were chosen on development splits of small
        rendered worlds, for one network. The manual shows what else was tried: too small a weight does nothing.

        Example:
            >>> HintRankingLoss.recommended(margin=0.2).margin
            0.2
        """
        return cls(**_RECOMMENDED | overrides)

    if TYPE_CHECKING:  # nn.Module's returns anything

        def __call__(self, alpha: Tensor, s: Tensor, *, mask: Tensor | None = None) -> Tensor:
            """See :func:`hint_ranking_loss`."""
            ...

    def forward(self, alpha: Tensor, s: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """See :func:`hint_ranking_loss`."""
        return hint_ranking_loss(alpha, s, mask=mask, **self._options())

    def pairs(self, s: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """How many pairs each sample's hint orders in this form: see :func:`hint_pairs`."""
        return hint_pairs(s, mask=mask, min_gap=self.min_gap, relative=self.relative)

    def extra_repr(self) -> str:
        """The options, for the module's representation."""
        return ", ".join(f"{name}={value!r}" for name, value in self._options().items())

    def _options(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _Options.__annotations__}


def _floating(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _scores(s: Tensor, mask: Tensor | None, relative: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Human scores, 0 where masked, with the lowest and the highest ``(...)`` of each sample."""
    if s.shape[-1] == 0:
        return s, s.sum(-1), s.sum(-1)
    low = (s if mask is None else s.masked_fill(~mask, torch.inf)).amin(-1)
    high = (s if mask is None else s.masked_fill(~mask, -torch.inf)).amax(-1)
    if relative:
        span = (high - low)[..., None]
        orders = span > 1e-5 * torch.maximum(high.abs(), low.abs())[..., None]
        s = torch.where(orders | ~s.isfinite(), (s - low[..., None]) / torch.where(orders, span, 1.0), 0.0)
        low, high = torch.zeros_like(low), orders.squeeze(-1).to(high.dtype)
    return (s if mask is None else torch.where(mask, s, 0.0)), low, high


def _slope_by_sorting(x: Tensor, s: Tensor, mask: Tensor | None) -> Tensor:
    """``p - q`` from two lexicographic sorts in one: both 32-bit keys are packed in an int64, each way round."""
    dtype = torch.promote_types(x.dtype, s.dtype)
    key = _order_key(torch.stack([x.to(dtype), s.to(dtype)]))
    key = (key.flip(0) << 32) + key  # by s then x, by x then s
    if mask is not None:
        key = key.masked_fill(~mask, torch.iinfo(torch.int64).min)  # last in both, in the same order: no slope
    order = key.sort(stable=True, dim=-1, descending=True).indices
    position = torch.arange(x.shape[-1], dtype=x.dtype, device=x.device).expand_as(order)
    positions = torch.empty_like(order, dtype=x.dtype).scatter_(-1, order, position)
    return positions[0] - positions[1]


def _slope_by_comparing(x: Tensor, s: Tensor, mask: Tensor | None, min_gap: float) -> Tensor:
    """The same over the pairs with ``s_i - min_gap > s_j``: how many j push i down, less how many i push j up."""
    wrong = (s[..., :, None] - min_gap > s[..., None, :]) & (x[..., :, None] < x[..., None, :])
    if mask is not None:
        wrong &= mask[..., :, None] & mask[..., None, :]
    return wrong.sum(-2) - wrong.sum(-1)


def _slope_by_counting(x: Tensor, mask: Tensor | None, before: Tensor, order: Tensor) -> Tensor:
    """The same, in the order of s: there, the partners of each proposal are those before and after some place."""
    size, places = x.shape[-1], torch.arange(x.shape[-1], device=x.device).expand_as(order)
    if mask is not None:  # last in every order
        x, before = x.masked_fill(~mask, torch.inf), before.masked_fill(~mask, size)
    before = before.gather(-1, order)
    after = (
        torch.zeros_like(F.pad(before, (0, 1))).scatter_add_(-1, before, torch.ones_like(before)).cumsum(-1)[..., :-1]
    )
    values, by_x = x.gather(-1, order).sort(-1)
    new = F.pad(values[..., 1:] != values[..., :-1], (1, 1), value=True)  # where equal values begin
    first = torch.where(new[..., :-1], places, 0).cummax(-1).values
    last = torch.where(new[..., 1:], places + 1, size).flip(-1).cummin(-1).values.flip(-1)
    rank, smaller, not_larger = (torch.empty_like(order).scatter_(-1, by_x, y) for y in (places, first, last))
    counts = _count(rank, torch.cat([before, after], -1), torch.cat([not_larger, smaller], -1))
    slope = (smaller - counts[..., size:]) - (before - counts[..., :size])
    slope = torch.empty_like(slope).scatter_(-1, order, slope)
    return slope if mask is None else slope * mask


def _partners(s: Tensor, mask: Tensor | None, min_gap: float) -> tuple[Tensor, Tensor]:
    """How many scores are lower than each by more than the gap, and the order of all, masked ones last."""
    values, order = (s if mask is None else s.masked_fill(~mask, torch.inf)).sort(-1)
    lower = torch.searchsorted(values, s.contiguous() - min_gap)
    return (lower if mask is None else lower * mask), order


def _count(ranks: Tensor, ends: Tensor, bounds: Tensor) -> Tensor:
    """How many of the first ``ends (..., Q)`` of ``ranks (..., K)``, a permutation, are below ``bounds (..., Q)``.

    A wavelet tree: from the highest bit to the lowest, the ranks that agree in all bits above come to lie together, in
    their old order, those with a 0 in this bit before those with a 1. Of those that agree with a bound up to where it
    has a 1, the ones with a 0 are below it. As all numbers below K are there, a group begins at its smallest one, and
    half of all that lie before it have a 1.
    """
    size = ranks.shape[-1]
    ranks, ends, bounds = ranks.int(), ends.int(), bounds.int()  # half the time of int64
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
    """Keys of at most 32 bits, as int64, that order as ``x`` does; ``-0.0`` equals ``0.0``."""
    if x.dtype == torch.float64:  # dense ranks
        values, order = x.sort(-1)
        step = torch.zeros_like(order)
        step[..., 1:] = values[..., 1:] != values[..., :-1]
        return torch.empty_like(order).scatter_(-1, order, step.cumsum(-1))
    bits = (x.float() + 0.0).view(torch.int32)  # IEEE 754 orders as sign and magnitude, integers do not
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)).long()
