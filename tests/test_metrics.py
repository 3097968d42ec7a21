"""Rank correlation equals SciPy's, the pointing game equals a loop."""

import math
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hint_loss import pointing_game, rank_correlation

NAN = float("nan")
DEVICE = torch.zeros(()).device


@st.composite
def batches(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    """Importances and scores with many ties, and a mask."""
    shape = draw(st.tuples(st.integers(0, 4), st.integers(0, 8)))
    alpha, s = (torch.tensor(draw(hnp.arrays("int64", shape, elements=st.integers(-3, 3)))) / 4 for _ in range(2))
    return alpha, s, torch.tensor(draw(hnp.arrays("bool", shape)))


def spearman(alpha: Tensor, s: Tensor) -> float:
    """SciPy's rank correlation, NaN where SciPy would warn that it is undefined."""
    if len(alpha.unique()) < 2 or len(s.unique()) < 2:
        return NAN
    return float(scipy.stats.spearmanr(alpha.double().tolist(), s.double().tolist()).statistic)


@given(batches())
def test_rank_correlation_equals_scipy_with_ties_and_masks(batch: tuple[Tensor, Tensor, Tensor]) -> None:
    alpha, s, mask = batch
    rows = zip(alpha, s, mask, strict=True)
    expected = torch.tensor([spearman(a[m], b[m]) for a, b, m in rows], dtype=torch.float64)
    torch.testing.assert_close(rank_correlation(alpha, s, mask=mask), expected, rtol=0, atol=1e-14, equal_nan=True)


@given(batches())
def test_rank_correlation_does_not_read_masked_entries(batch: tuple[Tensor, Tensor, Tensor]) -> None:
    alpha, s, mask = batch
    expected = rank_correlation(alpha, s, mask=mask)
    for filler in (NAN, float("inf"), -float("inf")):
        filled = [torch.where(mask, x, filler) for x in (alpha, s)]
        torch.testing.assert_close(rank_correlation(*filled, mask=mask), expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64])
def test_rank_correlation_is_in_float64_for_any_dtype(dtype: torch.dtype) -> None:
    alpha, s = torch.randint(-9, 9, (5, 36)).to(dtype), torch.rand(5, 36)
    rho = rank_correlation(alpha, s)
    assert rho.dtype == torch.float64
    assert rho.tolist() == pytest.approx([spearman(a, b) for a, b in zip(alpha, s, strict=True)], abs=1e-14)


def test_rank_correlation_takes_leading_dimensions_and_boolean_scores() -> None:
    alpha, s = torch.randn(2, 3, 7), torch.rand(2, 3, 7) < 0.5
    rho = rank_correlation(alpha, s)
    assert rho.shape == (2, 3)
    assert rho[1, 2].item() == pytest.approx(spearman(alpha[1, 2], s[1, 2]), abs=1e-14, nan_ok=True)


def test_rank_correlation_is_one_for_the_same_order_only() -> None:
    s = torch.rand(4, 36)
    assert rank_correlation(s.exp(), s).tolist() == pytest.approx([1.0] * 4, abs=1e-15)
    assert rank_correlation(-s, s).tolist() == pytest.approx([-1.0] * 4, abs=1e-15)
    assert (rank_correlation(torch.randn(4, 36), s).abs() < 1).all()


@pytest.mark.parametrize(
    ("alpha", "s", "mask"),
    [
        ([], [], []),
        ([1.0], [1.0], [True]),
        ([1.0, 2.0], [1.0, 2.0], [True, False]),
        ([1.0, 2.0], [1.0, 2.0], [False, False]),
        ([1.0, 1.0, 1.0], [1.0, 2.0, 3.0], [True, True, True]),
        ([0.1, 0.2, 0.3], [0.1, 0.1, 0.1], [True, True, True]),
        ([0.0, -0.0, 9.0], [1.0, 2.0, 3.0], [True, True, False]),
        ([NAN, 0.2, 0.3], [0.1, 0.2, 0.3], [True, True, True]),
        ([0.1, 0.2, 0.3], [0.1, NAN, 0.3], [True, True, True]),
    ],
    ids=["none", "one", "one left", "all masked", "alpha tied", "s tied", "signed zeros", "alpha NaN", "s NaN"],
)
def test_rank_correlation_is_nan_where_undefined(alpha: list[float], s: list[float], mask: list[bool]) -> None:
    rho = rank_correlation(torch.tensor([alpha]), torch.tensor([s]), mask=torch.tensor([mask], dtype=torch.bool))
    assert rho.shape == (1,)
    assert rho.isnan().all()


def loop_pointing_game(alpha: list[float], relevant: list[bool], mask: list[bool]) -> float:
    real = [(a, r) for a, r, m in zip(alpha, relevant, mask, strict=True) if m]
    if not any(r for _, r in real):
        return NAN
    top = [r for a, r in real if a == max(a for a, _ in real)]
    return sum(top) / len(top)


@given(batches())
def test_pointing_game_equals_a_loop(batch: tuple[Tensor, Tensor, Tensor]) -> None:
    alpha, s, mask = batch
    rows = zip(alpha.tolist(), (s > 0).tolist(), mask.tolist(), strict=True)
    expected = torch.tensor([loop_pointing_game(*row) for row in rows], dtype=torch.float64)
    filled = torch.where(mask, alpha, NAN)
    for values in (alpha, filled):
        actual = pointing_game(values, s > 0, mask=mask)
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-15, equal_nan=True)


def test_pointing_game_gives_known_values() -> None:
    alpha = torch.tensor([[0.9, 0.1, 0.9, 0.9], [-3.0, -2.0, -1.0, -5.0], [1.0, 2.0, 3.0, 4.0]])
    relevant = torch.tensor([[True, False, False, True], [False, True, False, False], [False] * 4])
    first, second, third = pointing_game(alpha, relevant).tolist()
    assert (first, second) == (2 / 3, 0.0)
    assert math.isnan(third)


def test_pointing_game_does_not_take_padding_for_a_tie() -> None:
    infinitely_low = torch.tensor([[-float("inf"), 5.0]])
    assert pointing_game(infinitely_low, torch.tensor([[True, False]]), mask=torch.tensor([[True, False]])) == 1.0


def test_an_infinite_importance_ranks_first_but_padding_does_not_count() -> None:
    alpha, s = torch.tensor([[1.0, float("inf"), 2.0, 9.0, 9.0]]), torch.tensor([[1.0, 3.0, 2.0, 9.0, 9.0]])
    mask = torch.tensor([[True, True, True, False, False]])
    assert rank_correlation(alpha, s, mask=mask).item() == pytest.approx(1.0, abs=1e-14)


def test_a_mask_may_leave_out_whole_samples() -> None:
    alpha, s = torch.rand(3, 5), torch.rand(3, 5)
    rho = rank_correlation(alpha, s, mask=torch.tensor([True, False, True]))
    assert rho.isnan().tolist() == [False, True, False]
    assert torch.equal(rho[[0, 2]], rank_correlation(alpha, s)[[0, 2]])


def test_inputs_need_not_be_contiguous() -> None:
    alpha, s, mask = torch.rand(5, 3), torch.rand(5, 3), torch.rand(5, 3) < 0.8
    rho = rank_correlation(alpha.T, s.T, mask=mask.T)  # torch warns if it has to copy
    expected = rank_correlation(alpha.T.contiguous(), s.T.contiguous(), mask=mask.T.contiguous())
    torch.testing.assert_close(rho, expected, equal_nan=True)


@pytest.mark.parametrize(
    ("metric", "name", "other"),
    [(rank_correlation, "s", torch.zeros(3, 2)), (pointing_game, "relevant", torch.zeros(3, 2).bool())],
)
def test_inputs_of_other_shapes_raise(raises: Any, metric: Any, name: str, other: Tensor) -> None:
    message = (
        f"Parameters `alpha` and `{name}` should have the same shape (..., K), on one device. "
        f"Found `alpha.shape = (2, 3)` on {DEVICE} and `{name}.shape = (3, 2)` on {DEVICE}."
    )
    with raises(ValueError, message):
        metric(torch.zeros(2, 3), other)


@pytest.mark.parametrize("metric", [rank_correlation, pointing_game])
def test_a_mask_of_another_dtype_raises(raises: Any, metric: Any) -> None:
    message = (
        "Parameter `mask` should be boolean, of shape (2, 3) or, for whole samples, (2,). "
        f"Found `mask.dtype = torch.float32` and `mask.shape = (2, 3)` on {DEVICE}."
    )
    with raises(ValueError, message):
        metric(torch.zeros(2, 3), torch.zeros(2, 3).bool(), mask=torch.ones(2, 3))


def test_relevance_that_is_not_boolean_raises(raises: Any) -> None:
    with raises(ValueError, "Parameter `relevant` should be boolean. Found `relevant.dtype = torch.float32`."):
        pointing_game(torch.zeros(2, 3), torch.zeros(2, 3))


@pytest.mark.parametrize(
    ("metric", "name"),
    [(rank_correlation, "alpha"), (pointing_game, "alpha"), (rank_correlation, "s"), (pointing_game, "relevant")],
)
def test_an_array_or_a_list_raises(raises: Any, metric: Any, name: str) -> None:
    kind, value = ("list", [0.0]) if name == "alpha" else ("numpy.ndarray", np.zeros(1))
    arguments = [value, torch.zeros(1)] if name == "alpha" else [torch.zeros(1), value]
    message = f"Parameter `{name}` should be a torch.Tensor. Found a {kind}: pass `torch.as_tensor({name})`."
    with raises(TypeError, message):
        metric(*arguments)
