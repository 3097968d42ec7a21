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
"""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from hint_loss._checks import check_options, check_roles, checked_mask

__all__ = ["HintRankingLoss", "hint_ranking_loss"]

PairReduction = Literal["sum", "mean"]
Reduction = Literal["mean", "sum", "none"]


def hint_ranking_loss(
    alpha: Tensor,
    s: Tensor,
    *,
    mask: Tensor | None = None,
    margin: float = 0.0,
    min_gap: float = 0.0,
    scale_free: bool = False,
    pair_reduction: PairReduction = "sum",
    reduction: Reduction = "mean",
) -> Tensor:
    r"""HINT ranking loss between network importance ``alpha`` and human importance ``s``.

    .. math:: L = \sum_{s_i - s_j > g} \max(0,\; m (s_i - s_j) - (\alpha_i - \alpha_j))

    for each sample; the defaults, :math:`m = g = 0`, are the paper's loss. Pairs that people score equal add nothing.

    What the loss's weight means: samples without a hint (an all-false row of ``mask``) do not count, so the mean does
    not depend on the batch size or on the share of hints. The paper's sum grows with the number of pairs, unless
    ``pair_reduction="mean"``, and with the scale of alpha, unless ``scale_free=True``. Across data-parallel ranks,
    take ``reduction="sum"`` and divide by the number of hinted samples on *all* ranks.

    Args:
        alpha: ``(..., K)`` network importance, as :func:`~hint_loss.proposal_importance` gives it.
        s: ``(..., K)`` human importance, or booleans. Its order matters; with ``margin`` or ``min_gap``, its gaps too.
        mask: boolean, ``(..., K)``: true for proposals that exist and have a human score; or ``(...)``: true for
            samples with a hint. Masked entries may hold anything. Default: all true.
        margin: how far apart alphas should be for each unit of human gap, in units of alpha.
        min_gap: leave out pairs whose human scores differ by no more than this. Above 0 it compares all pairs: O(K^2).
        scale_free: divide alpha by the sum of its absolute values over the sample, so that alphas are shares of
            importance and shrinking all of them does not lower the loss.
        pair_reduction: ``"sum"`` over a sample's pairs (the paper), or their ``"mean"``.
        reduction: ``"mean"`` over hinted samples (without any: 0, attached to the graph), ``"sum"``, or ``"none"``.

    Returns:
        A scalar, or ``(...)`` for ``reduction="none"``; float32, or float64 where ``alpha`` is. An unmasked NaN shows.

    Raises:
        ValueError: shapes that do not fit, a mask that is not boolean, an option out of range, ``s`` for ``alpha``.
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
        Selvaraju et al., "Taking a HINT", ICCV 2019 (the pairwise sum). Margin, gap and scale-free form are ours.
    """
    check_options(margin, min_gap, pair_reduction, reduction)
    mask = checked_mask(alpha, s, mask, "s")
    check_roles(alpha, s)
    x = alpha if alpha.dtype == torch.float64 else alpha.float()
    s = s if s.dtype == torch.float64 else s.float()
    present: Tensor | int = max(x.shape[-1], 1)
    hinted: Tensor | int = max(x.shape[:-1].numel(), 1)
    if mask is not None:
        x, s = torch.where(mask, x, 0.0), torch.where(mask, s, 0.0)
        present, hinted = mask.sum(-1, keepdim=True).clamp(min=1), mask.any(-1).sum().clamp(min=1)
    if scale_free:
        norm = x.abs().sum(-1, keepdim=True)
        x = x / torch.where(norm > 0, norm, 1.0)
    if margin:
        x = x - margin * s.to(x.dtype)

    with torch.no_grad():
        slope = _slope_by_comparing(x, s, mask, min_gap) if min_gap else _slope_by_sorting(x, s, mask)
        centre = x.sum(-1, keepdim=True) / present
        centre = centre + 0 * s.sum(-1, keepdim=True)  # a NaN has no order: let it show
    # A sample's slopes sum to zero and masked entries have none: centring changes the rounding error alone.
    losses = ((x - centre) * slope.to(x.dtype)).sum(-1)
    if pair_reduction == "mean":
        losses = losses / _count_pairs(s, mask, min_gap).clamp(min=1)
    if reduction == "none":
        return losses
    return losses.sum() if reduction == "sum" else losses.sum() / hinted


class HintRankingLoss(nn.Module):
    """Module twin of :func:`hint_ranking_loss`: the Module holds the options, the function holds the truth.

    Example:
        >>> HintRankingLoss(margin=0.5)(torch.tensor([[0.5, 0.5]]), torch.tensor([[1.0, 0.0]]))
        tensor(0.5000)
    """

    def __init__(
        self,
        *,
        margin: float = 0.0,
        min_gap: float = 0.0,
        scale_free: bool = False,
        pair_reduction: PairReduction = "sum",
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        check_options(margin, min_gap, pair_reduction, reduction)
        self.loss = partial(
            hint_ranking_loss,
            margin=margin,
            min_gap=min_gap,
            scale_free=scale_free,
            pair_reduction=pair_reduction,
            reduction=reduction,
        )

    def forward(self, alpha: Tensor, s: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """See :func:`hint_ranking_loss`."""
        return self.loss(alpha, s, mask=mask)

    def extra_repr(self) -> str:
        """The options, for the module's representation."""
        return ", ".join(f"{name}={value!r}" for name, value in self.loss.keywords.items())


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


def _count_pairs(s: Tensor, mask: Tensor | None, min_gap: float) -> Tensor:
    """Each sample's number of pairs with ``s_i - min_gap > s_j``."""
    others = s if mask is None else torch.where(mask, s, torch.inf)
    pairs = torch.searchsorted(others.sort(-1).values.contiguous(), s.contiguous() - min_gap)
    return pairs.sum(-1) if mask is None else (pairs * mask).sum(-1)


def _order_key(x: Tensor) -> Tensor:
    """Keys of at most 32 bits, as int64, that order as ``x`` does; ``-0.0`` equals ``0.0``."""
    if x.dtype == torch.float64:  # dense ranks
        values, order = x.sort(-1)
        step = torch.zeros_like(order)
        step[..., 1:] = values[..., 1:] != values[..., :-1]
        return torch.empty_like(order).scatter_(-1, order, step.cumsum(-1))
    bits = (x.float() + 0.0).view(torch.int32)  # IEEE 754 orders as sign and magnitude, integers do not
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)).long()
