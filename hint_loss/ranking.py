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

from typing import TYPE_CHECKING, Any, Literal, Self, TypedDict, Unpack

import torch
from torch import Tensor, nn

from hint_loss._checks import check_options, checked_mask
from hint_loss._slopes import partners, slope_by_comparing, slope_by_counting, slope_by_sorting

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
_FEW = 64  # up to so many proposals, comparing all pairs is faster than counting


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

    for each sample. The defaults, :math:`m = g = 0`, are the paper's loss. Pairs with equal human scores add nothing.

    The mean is over samples whose hint orders at least one pair (see :func:`hint_pairs`), so it does not depend on the
    batch size or on the share of samples with a hint. The paper's sum grows with the number of pairs, unless
    ``pair_reduction="mean"``, and with the scale of alpha, unless ``scale_free=True``. Under data parallelism, use
    ``reduction="sum"`` and divide by the number of such samples on *all* ranks.

    Args:
        alpha: ``(B, K)`` network importance from :func:`~hint_loss.proposal_importance`; with a mask, ``(..., K)``,
            such as ``(B, T, K)`` for T decisions.
        s: human importance, in the shape of ``alpha``, or booleans. Only its order matters, unless ``margin`` or
            ``min_gap`` is given. It is the target: detach it if a model made it.
        mask: boolean, ``(..., K)``: true for proposals that exist and have a human score; or ``(...)``: true for
            samples with a hint. Masked entries may hold any value. Default: all true.
        margin: how far apart alphas should be for each unit of human gap, in units of alpha.
        min_gap: leave out pairs whose human scores differ by no more than this.
        relative: rescale each sample's ``s`` to the range 0 to 1, so that the same ``margin`` and ``min_gap`` fit every
            kind of hint. A range below 1e-5 counts as rounding and orders nothing.
        scale_free: divide alpha by the sum of its absolute values over the sample. Alphas are then shares of
            importance, and shrinking all of them does not lower the loss.
        pair_reduction: ``"sum"`` over a sample's pairs (the paper), or their ``"mean"``.
        reduction: ``"mean"`` as above (0, attached to the graph, if no sample counts), ``"sum"``, or ``"none"``.

    Returns:
        A scalar, or ``(...)`` for ``reduction="none"``; float64 if ``alpha`` is, else float32. A NaN in an unmasked
        entry propagates to the loss and the gradient of its sample.

    Raises:
        ValueError: Shapes or devices do not match, the mask is not boolean or is ambiguous, an option is out of range,
            ``s`` and ``alpha`` are swapped, or ``alpha`` has no graph although gradients are enabled.
        TypeError: ``alpha`` is an integer tensor, or an argument is not a tensor.

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
    _check_roles(alpha, s, mask)
    x, s = _floating(alpha), _floating(s)
    s, low, high = _scores(s, mask, relative)
    present: Tensor | int = max(x.shape[-1], 1)
    if mask is not None:
        x, present = torch.where(mask, x, 0.0), mask.sum(-1, keepdim=True).clamp(min=1)
    if scale_free:
        norm = x.abs().sum(-1, keepdim=True)
        x = x / torch.where(norm > torch.finfo(x.dtype).tiny, norm, 1.0)  # a smaller one could have an infinite inverse
    if margin:
        x = x - margin * s.to(x.dtype)

    lower, order = partners(s, mask, min_gap) if min_gap or pair_reduction == "mean" else (s, s)
    with torch.no_grad():
        if not min_gap:
            slope = slope_by_sorting(x, s, mask)
        elif x.shape[-1] <= _FEW:
            slope = slope_by_comparing(x, s, mask, min_gap)
        else:
            slope = slope_by_counting(x, mask, lower, order)
        slope = slope.to(x.dtype) + 0 * (x + s.to(x.dtype)).sum(-1, keepdim=True)  # sorting would hide a NaN
        centre = x.sum(-1, keepdim=True) / present
    # The slopes of a sample sum to zero, so centring changes nothing but the rounding error.
    losses = ((x - centre) * slope).sum(-1)
    if pair_reduction == "mean":
        losses = losses / lower.sum(-1).clamp(min=1)
    if reduction == "none":
        return losses
    counts = (high - min_gap > low).sum().clamp(min=1)
    return losses.sum() if reduction == "sum" else losses.sum() / counts


def hint_pairs(s: Tensor, *, mask: Tensor | None = None, min_gap: float = 0.0, relative: bool = False) -> Tensor:
    """Number of pairs of proposals that each sample's hint orders; samples with 0 pairs do not train the ranking.

    Args:
        s: ``(..., K)`` human importance, or booleans.
        mask: as in :func:`hint_ranking_loss`.
        min_gap: as in :func:`hint_ranking_loss`.
        relative: as in :func:`hint_ranking_loss`.

    Returns:
        ``(...)`` integers. ``(hint_pairs(s) > 0).sum()`` is the number of samples in the mean of the loss.

    Raises:
        ValueError: The mask does not match.

    Example:
        >>> s = torch.tensor([[0.9, 0.5, 0.2], [0.6, 0.55, 0.4], [0.5, 0.5, 0.5]])
        >>> hint_pairs(s, min_gap=0.5).tolist(), hint_pairs(s, min_gap=0.5, relative=True).tolist()
        ([1, 0, 0], [2, 2, 0])
    """
    mask = checked_mask(s, s, mask, "s")
    s, _, _ = _scores(_floating(s), mask, relative)
    return partners(s, mask, min_gap)[0].sum(-1)


class HintRankingLoss(nn.Module):
    """The options of :func:`hint_ranking_loss` as a module.

    Attributes:
        margin, min_gap, relative, scale_free, pair_reduction, reduction: the options.

    Example:
        >>> loss = HintRankingLoss(margin=0.5)
        >>> with torch.no_grad():  # these alphas are constants
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
        """The options to begin with; ``overrides`` replace some of them.

        Use them with unsigned importance (``reduction="norm"``) and with a weight on this loss of 10, or of 100 for a
        trained network that already relies on wrong evidence, where the task loss has the weight 1. Both weights were
        chosen on development splits of small rendered worlds, for one network. Too small a weight has no effect.

        Example:
            >>> HintRankingLoss.recommended(margin=0.2).margin
            0.2
        """
        return cls(**_RECOMMENDED | overrides)

    if TYPE_CHECKING:  # `nn.Module.__call__` returns Any

        def __call__(self, alpha: Tensor, s: Tensor, *, mask: Tensor | None = None) -> Tensor:
            """See :func:`hint_ranking_loss`."""
            ...

    def forward(self, alpha: Tensor, s: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """See :func:`hint_ranking_loss`."""
        return hint_ranking_loss(alpha, s, mask=mask, **self._options())

    def pairs(self, s: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """Number of pairs that each sample's hint orders with these options: see :func:`hint_pairs`."""
        return hint_pairs(s, mask=mask, min_gap=self.min_gap, relative=self.relative)

    def extra_repr(self) -> str:
        """The options, for ``repr``."""
        return ", ".join(f"{name}={value!r}" for name, value in self._options().items())

    def _options(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _Options.__annotations__}


def _check_roles(alpha: Tensor, s: Tensor, mask: Tensor | None) -> None:
    """Check that ``alpha`` can be trained and that ``s`` can be its target."""
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
            "mask of the decisions that count, `torch.ones_like(alpha, dtype=torch.bool)` for all."
        )
    if torch.is_grad_enabled() and not alpha.requires_grad:
        raise ValueError(
            "Parameter `alpha` should carry a graph, or nothing is trained. Found `alpha.requires_grad = False`: take "
            "the importance with `differentiable=True`, or only measure the loss, under `torch.no_grad()`."
        )


def _floating(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _scores(s: Tensor, mask: Tensor | None, relative: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Human scores, 0 where masked, and the lowest and highest score ``(...)`` of each sample."""
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
