"""Properties of the ranking loss that hold for every input."""

from typing import Any, NamedTuple

import hypothesis.extra.numpy as hnp
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from hint_loss import hint_pairs

from .ranking import hint_ranking_loss, value_and_gradient


class Batch(NamedTuple):
    """Float64 inputs on small grids, which make many ties."""

    alpha: Tensor
    s: Tensor
    mask: Tensor


@st.composite
def batches(draw: st.DrawFn, min_samples: int = 1, min_k: int = 0) -> Batch:
    shape = draw(st.tuples(st.integers(min_samples, 4), st.integers(min_k, 8)))
    quarters = [hnp.arrays("int64", shape, elements=st.integers(low, high)) for low, high in ((-8, 8), (0, 4))]
    alpha, s = (torch.tensor(draw(values)).double() / 4 for values in quarters)
    return Batch(alpha, s, torch.tensor(draw(hnp.arrays("bool", shape))))


PAIRS = {"min_gap": st.sampled_from([0.0, 0.25]), "pair_reduction": st.sampled_from(["sum", "mean"])}
OPTIONS = st.fixed_dictionaries({"margin": st.sampled_from([0.0, 0.25]), **PAIRS})
SCALE_FREE = st.fixed_dictionaries(  # the margin never equals a difference of shares: see test_ranking.py
    {"margin": st.sampled_from([0.0, 2**0.5 / 8]), "scale_free": st.just(True), **PAIRS}
)


def losses(alpha: Tensor, s: Tensor, mask: Tensor | None = None, **options: Any) -> tuple[Tensor, Tensor]:
    """The loss of each sample, and the gradient of their sum."""
    alpha = alpha.detach().clone().requires_grad_()
    return value_and_gradient(hint_ranking_loss(alpha, s, mask=mask, reduction="none", **options), alpha)


def assert_same(actual: Any, expected: Any, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)


@given(batches(), OPTIONS | SCALE_FREE, st.randoms(use_true_random=False))
def test_permuting_proposals_permutes_the_gradient(batch: Batch, options: dict[str, Any], random: Any) -> None:
    order = torch.tensor(random.sample(range(batch.alpha.shape[1]), batch.alpha.shape[1]), dtype=torch.long)
    value, gradient = losses(*batch, **options)
    assert_same(losses(*(x[:, order] for x in batch), **options), (value, gradient[:, order]))


@given(batches(), OPTIONS | SCALE_FREE, st.sampled_from([float("nan"), float("inf"), -float("inf"), 1e300]))
def test_the_values_of_padding_do_not_matter(batch: Batch, options: dict[str, Any], filler: float) -> None:
    pad = torch.full((len(batch.alpha), 3), filler, dtype=torch.float64)
    padded = [torch.cat([x, pad], 1) for x in (batch.alpha, batch.s)]
    value, gradient = losses(*padded, torch.cat([batch.mask, torch.zeros_like(pad).bool()], 1), **options)
    assert_same((value, gradient[:, :-3]), losses(*batch, **options))
    assert (gradient[:, -3:] == 0).all()


@given(batches(), OPTIONS | SCALE_FREE)
def test_masking_a_proposal_equals_removing_it(batch: Batch, options: dict[str, Any]) -> None:
    value, gradient = losses(*batch, **options)
    for b, kept in enumerate(batch.mask):
        alone = losses(batch.alpha[b, kept], batch.s[b, kept], **options)
        assert_same((value[b], gradient[b, kept]), alone)
        assert (gradient[b, ~kept] == 0).all()


@given(batches(), OPTIONS)
def test_equal_human_scores_give_a_zero_loss(batch: Batch, options: dict[str, Any]) -> None:
    value, gradient = losses(batch.alpha, torch.full_like(batch.s, 0.5), batch.mask, **options)
    assert (value == 0).all()
    assert (gradient == 0).all()


@given(batches(), OPTIONS)
def test_equal_importances_give_a_zero_loss_without_a_margin(batch: Batch, options: dict[str, Any]) -> None:
    """The derivative of the hinge at 0 is 0."""
    value, gradient = losses(torch.ones_like(batch.alpha), batch.s, batch.mask, **(options | {"margin": 0.0}))
    assert (value == 0).all()
    assert (gradient == 0).all()


@given(batches(), OPTIONS, st.integers(-1000, 1000))
def test_adding_a_constant_to_alpha_changes_nothing(batch: Batch, options: dict[str, Any], constant: int) -> None:
    assert_same(losses(batch.alpha + constant, *batch[1:], **options), losses(*batch, **options))


@given(batches(), OPTIONS | SCALE_FREE, st.integers(-1000, 1000))
def test_adding_a_constant_to_s_changes_nothing(batch: Batch, options: dict[str, Any], constant: int) -> None:
    assert_same(losses(batch.alpha, batch.s + constant, batch.mask, **options), losses(*batch, **options))


@given(batches(), OPTIONS, st.integers(-3, 3))
def test_scaling_alpha_and_margin_scales_the_loss(batch: Batch, options: dict[str, Any], exponent: int) -> None:
    scale = 2.0**exponent
    value, gradient = losses(*batch, **options)
    scaled = losses(batch.alpha * scale, *batch[1:], **(options | {"margin": options["margin"] * scale}))
    assert_same(scaled, (value * scale, gradient), 1e-11)


@given(batches(min_k=1), SCALE_FREE, st.integers(-3, 3))
def test_scale_free_loss_ignores_the_scale_of_alpha(batch: Batch, options: dict[str, Any], exponent: int) -> None:
    assume((batch.alpha * batch.mask).any(-1).all())  # all-zero importance has no scale
    value, gradient = losses(*batch, **options)
    assert_same(losses(batch.alpha * 2.0**exponent, *batch[1:], **options), (value, gradient / 2.0**exponent), 1e-11)


@given(batches(), SCALE_FREE)
def test_scale_free_gradient_is_orthogonal_to_alpha(batch: Batch, options: dict[str, Any]) -> None:
    """By Euler's theorem, because scaling alpha does not change the loss."""
    alpha = torch.where(batch.mask, batch.alpha, 0.0)
    _, gradient = losses(alpha, batch.s, batch.mask, **options)
    assert_same((gradient * alpha).sum(-1), torch.zeros(len(alpha)).double())


@given(batches(), OPTIONS | SCALE_FREE)
def test_the_loss_is_never_negative(batch: Batch, options: dict[str, Any]) -> None:
    value, _ = losses(*batch, **options)
    assert (value >= -1e-15).all()


@given(batches())
def test_the_loss_is_zero_exactly_when_no_pair_is_in_the_wrong_order(batch: Batch) -> None:
    alpha, s, mask = batch
    value, gradient = losses(*batch)
    both = mask[:, :, None] & mask[:, None, :]
    wrong = both & (s[:, :, None] > s[:, None, :]) & (alpha[:, :, None] < alpha[:, None, :])
    assert torch.equal(value > 0, wrong.any(-1).any(-1))
    assert torch.equal((gradient != 0).any(-1), wrong.any(-1).any(-1))


@given(batches())
def test_the_human_order_is_best_and_its_reverse_worst(batch: Batch) -> None:
    _, s, mask = batch
    best, _ = losses(s, s, mask)
    worst, _ = losses(-s, s, mask)
    pairs = torch.where(mask[:, :, None] & mask[:, None, :], s[:, :, None] - s[:, None, :], 0.0).clamp(min=0)
    assert (best == 0).all()
    assert_same(worst, pairs.sum((1, 2)))


@given(batches(), st.sampled_from([0.25, 0.5, 3.0]), st.sampled_from([0.0, 0.25]), st.sampled_from(["sum", "mean"]))
def test_a_margin_equals_a_shift_of_the_importance(
    batch: Batch, margin: float, min_gap: float, pair_reduction: str
) -> None:
    alpha, s, mask = batch
    options = {"min_gap": min_gap, "pair_reduction": pair_reduction}
    assert_same(losses(alpha, s, mask, margin=margin, **options), losses(alpha - margin * s, s, mask, **options))


@given(batches())
def test_a_margin_on_two_levels_is_the_hinge_over_pairs_of_relevant_and_irrelevant(batch: Batch) -> None:
    alpha, s, mask = batch
    relevant = s > 0.5
    value, _ = losses(alpha, relevant, mask, margin=0.75)
    hinge = (0.75 - alpha[:, :, None] + alpha[:, None, :]).relu()
    pairs = (mask & relevant)[:, :, None] & (mask & ~relevant)[:, None, :]
    assert_same(value, (hinge * pairs).sum((1, 2)))


@given(batches(min_samples=0), OPTIONS | SCALE_FREE, st.sampled_from(["mean", "sum"]))
def test_no_hints_give_a_zero_that_back_propagates_zeros(batch: Batch, options: dict[str, Any], reduction: Any) -> None:
    alpha = batch.alpha.clone().requires_grad_()
    loss = hint_ranking_loss(alpha, batch.s, mask=torch.zeros_like(batch.mask), reduction=reduction, **options)
    loss.backward()
    assert loss == 0
    assert alpha.grad is not None
    assert (alpha.grad == 0).all()


@pytest.mark.parametrize("shape", [(0, 5), (3, 0), (0, 0), (3, 1), (1,), (0,), (2, 0, 4), (2, 3, 0)])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("options", [{}, {"min_gap": 0.1, "pair_reduction": "mean"}, {"scale_free": True}])
def test_no_pairs_give_a_zero_that_back_propagates_zeros(shape: Any, reduction: Any, options: dict[str, Any]) -> None:
    for dtype in (torch.float32, torch.float64):
        alpha = torch.ones(shape, dtype=dtype, requires_grad=True)
        mask = torch.ones(shape, dtype=torch.bool) if len(shape) > 2 else None
        loss = hint_ranking_loss(alpha, torch.rand(shape), mask=mask, reduction=reduction, **options)
        loss.backward()
        assert loss == 0
        assert alpha.grad is not None
        assert (alpha.grad == 0).all()


@given(batches(), OPTIONS)
def test_float32_equals_float64_on_a_grid(batch: Batch, options: dict[str, Any]) -> None:
    """They sort by different keys: packed bits and dense ranks."""
    single = losses(batch.alpha.float(), batch.s.float(), batch.mask, **options)
    double = losses(*batch, **options)
    assert_same([x.double() for x in single], list(double), 1e-4)
    assert torch.equal(single[1].sign(), double[1].sign().float())


@given(
    hnp.arrays("float32", (2, 6), elements=st.floats(-(2.0**100), 2.0**100, width=32)),
    hnp.arrays("float32", (2, 6), elements=st.floats(0, 1, width=32)),
)
def test_float32_bits_sort_as_the_numbers_do(alpha: Any, s: Any) -> None:
    """Values have any magnitude and sign, and may be subnormal; the slopes are whole numbers, so they are exact."""
    _, single = losses(torch.tensor(alpha), torch.tensor(s))
    _, double = losses(torch.tensor(alpha).double(), torch.tensor(s).double())
    assert torch.equal(single.double(), double)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_negative_zero_ties_with_zero(dtype: torch.dtype) -> None:
    for zeros in ([-0.0, 0.0], [0.0, -0.0]):
        tied = torch.tensor([zeros], dtype=dtype)
        distinct = torch.tensor([[0.0, 1.0]], dtype=dtype)
        assert (losses(tied, distinct)[1] == 0).all()
        assert (losses(distinct, tied)[1] == 0).all()


@given(batches(), OPTIONS)
def test_boolean_and_integer_scores_equal_floating_point_ones(batch: Batch, options: dict[str, Any]) -> None:
    alpha, s, mask = batch
    relevant = s > 0.5
    expected = losses(alpha, relevant.double(), mask, **options)
    assert_same(losses(alpha, relevant, mask, **options), expected)
    assert_same(losses(alpha, relevant.long(), mask, **options), expected)


@given(batches(), OPTIONS | SCALE_FREE)
def test_leading_dimensions_are_flattened_into_the_batch(batch: Batch, options: dict[str, Any]) -> None:
    value, gradient = losses(*batch, **options)
    decisions = [torch.stack([x, x.flip(0), x], 1) for x in batch]  # (B, T, K)
    assert_same(
        losses(*decisions, **options),
        (torch.stack([value, value.flip(0), value], 1), torch.stack([gradient, gradient.flip(0), gradient], 1)),
    )
    flat = [x.flatten(0, 1) for x in decisions]
    for reduction in ("mean", "sum"):
        expected = hint_ranking_loss(flat[0], flat[1], mask=flat[2], reduction=reduction, **options)
        actual = hint_ranking_loss(decisions[0], decisions[1], mask=decisions[2], reduction=reduction, **options)
        assert_same(actual, expected)


@given(batches(min_k=1), OPTIONS | SCALE_FREE, st.randoms(use_true_random=False))
def test_a_mask_of_samples_equals_one_of_whole_rows(batch: Batch, options: dict[str, Any], random: Any) -> None:
    alpha, s, _ = batch
    flags = torch.tensor([random.random() < 0.5 for _ in alpha])
    rows = flags[:, None].expand_as(alpha)
    assert_same(losses(alpha, s, flags, **options), losses(alpha, s, rows, **options))
    mean = hint_ranking_loss(alpha, s, mask=flags, **options)
    assert_same(mean, hint_ranking_loss(alpha, s, mask=rows, **options))
    assert_same(mean, hint_ranking_loss(alpha[flags], s[flags], **options))


@given(batches(), OPTIONS | SCALE_FREE)
def test_the_mean_is_over_samples_whose_hint_orders_a_pair(batch: Batch, options: dict[str, Any]) -> None:
    """Samples without a hint change nothing, so a weight of the loss is right for any number of hints."""
    gap = options.get("min_gap", 0.0)
    hinted = hint_pairs(batch.s, mask=batch.mask, min_gap=gap) > 0
    ordered = (batch.s[:, :, None] - gap > batch.s[:, None]) & batch.mask[:, :, None] & batch.mask[:, None]
    assert torch.equal(hint_pairs(batch.s, mask=batch.mask, min_gap=gap), ordered.sum((1, 2)))
    value, _ = losses(*batch, **options)
    mean = hint_ranking_loss(batch.alpha, batch.s, mask=batch.mask, **options)
    assert_same(mean, value[hinted].mean() if hinted.any() else torch.tensor(0.0).double())
    more = [torch.cat([x, x, x]) for x in batch]
    more[2][len(batch.mask) :] = False
    assert_same(hint_ranking_loss(more[0], more[1], mask=more[2], **options), mean)


@given(batches(min_samples=2), OPTIONS | SCALE_FREE)
def test_summing_over_ranks_equals_the_joined_batch(batch: Batch, options: dict[str, Any]) -> None:
    """Each rank divides its sum by the number of samples with an ordered pair on all ranks."""
    pairs = hint_pairs(batch.s, mask=batch.mask, min_gap=options.get("min_gap", 0.0))
    count = (pairs > 0).sum().clamp(min=1)
    ranks = [[x[:1] for x in batch], [x[1:] for x in batch]]  # uneven
    parts = [hint_ranking_loss(a, s, mask=m, reduction="sum", **options) / count for a, s, m in ranks]
    assert_same(parts[0] + parts[1], hint_ranking_loss(batch.alpha, batch.s, mask=batch.mask, **options))


@given(batches(), OPTIONS | SCALE_FREE)
def test_inputs_are_left_as_they_were(batch: Batch, options: dict[str, Any]) -> None:
    before = [x.clone() for x in batch]
    losses(*batch, **options)
    assert all(torch.equal(x, y) for x, y in zip(batch, before, strict=True))
