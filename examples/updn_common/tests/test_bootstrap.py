"""Confidence intervals, against SciPy's bootstrap and a loop."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import bootstrap

from updn_common.reports.bootstrap import Seed, bootstrap_sums, estimate, estimate_means, intervals, mean, ratio

RNG = np.random.default_rng(7)
ACCURACIES = RNG.choice([0.0, 30.0, 60.0, 90.0, 100.0], (50, 3))
NAN = float("nan")


def bootstrap_means(columns: NDArray[np.float64], *, seed: Seed = 0, resamples: int = 1000) -> NDArray[np.float64]:
    statistics = {str(i): mean(column) for i, column in enumerate(columns.T)}
    return np.stack(list(estimate(statistics, seed=seed, resamples=resamples).resampled.values()), axis=1)


@pytest.mark.parametrize("seed", [0, 5])
@pytest.mark.parametrize("column", [0, 1, 2])
def test_the_interval_is_scipys(column: int, seed: int) -> None:
    """Both draw the same rows, so the numbers are equal up to rounding."""
    expected = bootstrap(
        (ACCURACIES[:, column],), np.mean, n_resamples=500, method="percentile", rng=np.random.default_rng(seed)
    )
    means = bootstrap_means(ACCURACIES, seed=seed, resamples=500)
    np.testing.assert_allclose(means[:, column], expected.bootstrap_distribution, rtol=1e-12)
    np.testing.assert_allclose(intervals(means)[column], expected.confidence_interval, rtol=1e-12)


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_the_interval_of_another_level_is_scipys(level: float) -> None:
    expected = bootstrap(
        (ACCURACIES[:, 0],),
        np.mean,
        n_resamples=500,
        method="percentile",
        confidence_level=level,
        rng=np.random.default_rng(0),
    )
    (found,) = intervals(bootstrap_means(ACCURACIES[:, :1], resamples=500), level)
    np.testing.assert_allclose(found, expected.confidence_interval, rtol=1e-12)


def by_loop(column: NDArray[np.float64], resamples: int) -> list[float]:
    rng = np.random.default_rng(0)
    means = []
    for drawn in rng.integers(0, len(column), (resamples, len(column))):
        known = [column[i] for i in drawn if not np.isnan(column[i])]
        means.append(sum(known) / len(known) if known else NAN)
    return means


def test_means_are_over_known_entries() -> None:
    columns = ACCURACIES.copy()
    columns[RNG.random(columns.shape) < 0.5] = NAN
    columns[2:, 2] = NAN
    columns[:2, 2] = 30.0  # known for two questions, which some resamples do not draw
    means = bootstrap_means(columns, resamples=40)
    for column in range(3):
        np.testing.assert_allclose(means[:, column], by_loop(columns[:, column], 40))
    assert 0 < np.isnan(means[:, 2]).sum() < 40
    assert intervals(means)[2] == (30, 30)


def test_an_unknown_column_has_no_interval() -> None:
    (found,) = intervals(np.full((10, 1), NAN))
    assert np.isnan(found).all()


def test_differences_are_paired() -> None:
    """Two columns are averaged over the same questions, in one call or in two."""
    together = bootstrap_means(ACCURACIES, seed=(0, 3), resamples=20)
    apart = [bootstrap_means(ACCURACIES[:, i : i + 1], seed=(0, 3), resamples=20)[:, 0] for i in range(2)]
    difference = bootstrap_means(ACCURACIES[:, :1] - ACCURACIES[:, 1:2], seed=(0, 3), resamples=20)[:, 0]
    np.testing.assert_allclose(together[:, 0] - together[:, 1], difference, atol=1e-12)
    np.testing.assert_allclose(apart[0] - apart[1], difference, atol=1e-12)
    assert not np.allclose(bootstrap_means(ACCURACIES, seed=(0, 4), resamples=20), together)


@pytest.mark.parametrize("at_a_time", [1, 50, 120, 10**9])
def test_the_number_of_draws_at_once_does_not_change_the_result(
    at_a_time: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = bootstrap_means(ACCURACIES, resamples=33)
    monkeypatch.setattr("updn_common.reports.bootstrap._AT_A_TIME", at_a_time)
    np.testing.assert_array_equal(bootstrap_means(ACCURACIES, resamples=33), expected)


def test_95_percent_of_intervals_contain_the_true_mean() -> None:
    """For samples of 60 from a known distribution, within the error of 400 trials."""
    rng = np.random.default_rng(0)
    samples = rng.choice([0.0, 1.0], (60, 400), p=[0.4, 0.6])
    found = intervals(bootstrap_means(samples))
    assert 0.91 < np.mean([low <= 0.6 <= high for low, high in found]) < 0.98


def test_a_ratio_is_resampled_by_whole_rows() -> None:
    """For example a mean over words, of which an image has several."""
    words, total = RNG.integers(0, 4, 50), RNG.random(50)
    found = estimate({"a": ratio(total, words)}, seed=3, resamples=20)
    assert found.values["a"] == pytest.approx(total.sum() / words.sum())
    drawn = np.random.default_rng(3).integers(0, 50, (20, 50))
    np.testing.assert_allclose(found.resampled["a"], [total[rows].sum() / words[rows].sum() for rows in drawn])


def test_sums_of_integers() -> None:
    sums = bootstrap_sums(np.array([[2], [2]]), resamples=5)
    assert sums.tolist() == [[4.0]] * 5


def test_unknown_columns_have_no_estimate() -> None:
    column = ACCURACIES[:, 0]
    found = estimate_means({"a": column, "unknown": np.full(50, NAN)}, RNG.permutation(50), seed=(0, 3))
    assert found.values == {"a": column.mean()}
    resampled = bootstrap_means(column[:, None], seed=(0, 3))
    np.testing.assert_array_equal(found.resampled["a"], resampled[:, 0])
    (interval,) = intervals(resampled)
    assert found.numbers() == {"a": (column.mean(), interval)}
    assert estimate_means({"unknown": np.full(50, NAN)}, np.arange(50)).numbers() == {}


def test_units_are_drawn_with_all_of_their_rows() -> None:
    """Against a loop: if an image is drawn twice, each of its questions counts twice."""
    units = np.array([7, 7, 3, 9, 7, 3])
    column = np.array([1.0, 2.0, 4.0, NAN, 8.0, 16.0])
    found = estimate_means({"a": column}, units, seed=5)
    assert found.values == {"a": 31 / 5}
    rng = np.random.default_rng(5)
    means = []
    for drawn in rng.integers(0, 3, (1000, 3)):
        rows = [value for unit in np.array([7, 3, 9])[drawn] for value in column[units == unit] if not np.isnan(value)]
        means.append(np.mean(rows) if rows else NAN)
    np.testing.assert_allclose(found.resampled["a"], means, rtol=1e-12)


def test_a_single_known_row_has_no_interval() -> None:
    """Also if other rows are unknown, or belong to the same unit; rows with equal values do have an interval."""
    units = np.array([3, 3, 8])
    columns = {
        "one": np.array([NAN, 50.0, NAN]),
        "one unit": np.array([40.0, 60.0, NAN]),
        "agree": np.array([50.0, NAN, 50.0]),
        "zeros": np.zeros(3),
    }
    found = estimate_means(columns, units).numbers()
    assert {name: number.value for name, number in found.items()} == {
        "one": 50,
        "one unit": 50,
        "agree": 50,
        "zeros": 0,
    }
    assert all(np.isnan(found[name].interval).all() for name in ("one", "one unit"))
    assert (found["agree"].interval, found["zeros"].interval) == ((50, 50), (0, 0))
