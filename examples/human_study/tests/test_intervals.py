"""Preference shares, their intervals and tests."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.sandwich_covariance import cov_cluster_2groups

from human_study.analysis.intervals import (
    bootstrap_interval,
    crossed_interval,
    crossed_variance,
    exact_test,
    holm,
    wilson_interval,
)
from human_study.analysis.votes import Votes


def votes_of(steps: list[int], raters: list[int], items: list[int]) -> Votes:
    return Votes(np.array(steps), np.array(raters), np.array(items), np.zeros(len(steps), bool))


@st.composite
def any_votes(draw: st.DrawFn) -> Votes:
    """Some of the answers of 2 to 6 raters to 2 to 7 items, at least one by each and to each."""
    raters, items = draw(st.integers(2, 6)), draw(st.integers(2, 7))
    cells = [(r, i) for r in range(raters) for i in range(items)]
    chosen = [
        cell for cell in cells if cell[0] % items == cell[1] or cell[1] % raters == cell[0] or draw(st.booleans())
    ]
    steps = draw(st.lists(st.integers(-2, 2), min_size=len(chosen), max_size=len(chosen)))
    return votes_of(steps, [r for r, _ in chosen], [i for _, i in chosen])


def random_votes(seed: int = 0, raters: int = 9, items: int = 12) -> Votes:
    rng = np.random.default_rng(seed)
    r, i = np.divmod(np.flatnonzero(rng.random(raters * items) < 0.6), items)
    steps = np.rint(0.4 + rng.normal(size=raters)[r] + rng.normal(size=items)[i] + rng.normal(size=len(r)))
    return Votes(np.clip(steps, -2, 2).astype(int), r, i, rng.random(len(r)) < 0.5)


@pytest.mark.parametrize(
    ("successes", "total", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_interval_equals_published_values(successes: int, total: int, low: float, high: float) -> None:
    """Newcombe (1998), Two-sided confidence intervals for the single proportion, Stat. Med. 17, table I, method 3."""
    assert wilson_interval(successes, total) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_equals_scipy(counts: tuple[int, int]) -> None:
    expected = stats.binomtest(*counts).proportion_ci(method="wilson")
    assert wilson_interval(*counts) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_interval_of_nothing_is_unknown() -> None:
    assert all(map(math.isnan, wilson_interval(0, 0)))


@given(any_votes())
def test_exact_test_sums_binomial_probabilities(votes: Votes) -> None:
    first, _, second = votes.counts
    total = first + second
    as_far = [k for k in range(total + 1) if abs(k - total / 2) >= abs(second - total / 2)]
    assert exact_test(votes) == pytest.approx(sum(math.comb(total, k) for k in as_far) / 2**total)


@given(any_votes())
def test_crossed_variance_equals_a_sum_over_pairs_of_answers(votes: Votes) -> None:
    residuals = votes.points - votes.points.mean()
    total, raters, items = len(votes), votes.n_raters, votes.n_items
    sums = dict.fromkeys(("rater", "item", "same"), 0.0)
    for j in range(total):
        for k in range(total):
            product = residuals[j] * residuals[k]
            sums["rater"] += product * (votes.raters[j] == votes.raters[k])
            sums["item"] += product * (votes.items[j] == votes.items[k])
            sums["same"] += product * (j == k)
    alone = sums["same"] * total / (total - 1)
    together = sums["rater"] * raters / (raters - 1) + sums["item"] * items / (items - 1) - alone
    found = crossed_variance(votes.points, votes.raters, votes.items)
    assert found * total**2 == pytest.approx(max(together, alone / 2), abs=1e-9)


def test_crossed_variance_equals_statsmodels() -> None:
    votes = random_votes()
    fit = OLS(votes.points, np.ones(len(votes))).fit()
    both, _, _ = cov_cluster_2groups(fit, votes.raters, votes.items)
    assert crossed_variance(votes.points, votes.raters, votes.items) == pytest.approx(both.item(), rel=1e-10)


def test_crossed_interval_of_answers_without_common_raters_or_items_is_wilsons() -> None:
    """With Student's quantile, and N - 1 answers: the variance is estimated."""
    steps = [1] * 30 + [-2] * 10
    share = crossed_interval(votes_of(steps, list(range(40)), list(range(40))))
    assert share.value == 0.75
    assert share.effective_answers == pytest.approx(39)
    quantile = float(stats.t.ppf(0.975, 39))
    assert share.interval == pytest.approx(wilson_interval(0.75 * 39, 39, quantile))


@given(any_votes())
def test_p_value_is_below_5_percent_where_the_interval_excludes_one_half(votes: Votes) -> None:
    share = crossed_interval(votes)
    low, high = share.interval
    if not math.isnan(low) and abs(share.p_value - 0.05) > 1e-9:
        assert (share.p_value < 0.05) == (not low <= 0.5 <= high)


@given(any_votes())
def test_swapping_the_networks_mirrors_the_share(votes: Votes) -> None:
    share = crossed_interval(votes)
    mirrored = crossed_interval(Votes(-votes.steps, votes.raters, votes.items, ~votes.second_left))
    assert mirrored.value == pytest.approx(1 - share.value)
    assert mirrored.p_value == pytest.approx(share.p_value, nan_ok=True)
    low, high = share.interval
    assert mirrored.interval == pytest.approx((1 - high, 1 - low), nan_ok=True)


def test_neutral_answers_count_as_a_half() -> None:
    votes = votes_of([0, 0, 2, 1], [0, 1, 0, 1], [0, 1, 1, 0])
    assert crossed_interval(votes).value == 0.75
    assert votes.counts == (0, 2, 2)


def test_unanimous_answers_tell_as_much_as_the_fewer_of_raters_and_items() -> None:
    share = crossed_interval(votes_of([1] * 6, [0, 0, 0, 1, 1, 1], [0, 1, 2, 0, 1, 2]))
    assert share.value == 1
    assert share.effective_answers == 2
    assert share.interval.high == 1


@pytest.mark.parametrize(
    ("steps", "raters", "items", "value"),
    [([], [], [], math.nan), ([1, -1], [0, 0], [0, 1], 0.5), ([1, 1], [0, 1], [0, 0], 1.0)],
)
def test_less_than_two_raters_or_items_have_no_interval(
    steps: list[int], raters: list[int], items: list[int], value: float
) -> None:
    votes = votes_of(steps, raters, items)
    share = crossed_interval(votes)
    assert share.value == pytest.approx(value, nan_ok=True)
    assert math.isnan(share.interval.low)
    assert math.isnan(share.p_value)
    assert math.isnan(bootstrap_interval(votes, "both").low)


def test_neutral_answers_alone_find_no_preference() -> None:
    share = crossed_interval(votes_of([0] * 4, [0, 0, 1, 1], [0, 1, 0, 1]))
    assert (share.value, share.p_value) == (0.5, 1.0)


@pytest.mark.parametrize("resampled", ["raters", "items", "both"])
def test_bootstrap_draws_clusters_with_all_of_their_answers(resampled: str) -> None:
    votes = random_votes(raters=4, items=5)
    rng = np.random.default_rng(3)
    draws = {}
    for name, clusters in (("raters", 4), ("items", 5)):
        if resampled in (name, "both"):
            draws[name] = rng.multinomial(clusters, np.full(clusters, 1 / clusters), 50)
    shares = []
    for k in range(50):
        drawn = []
        for point, rater, item in zip(votes.points, votes.raters, votes.items, strict=True):
            times = draws["raters"][k][rater] if "raters" in draws else 1
            times *= draws["items"][k][item] if "items" in draws else 1
            drawn += [point] * times
        if drawn:
            shares.append(np.mean(drawn))
    expected = np.quantile(shares, [0.025, 0.975])
    found = bootstrap_interval(votes, resampled, seed=3, resamples=50)  # type: ignore[arg-type]
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(5))
def test_holm_equals_statsmodels(seed: int) -> None:
    p_values = (np.random.default_rng(seed).random(seed + 2) ** 3).round(2).tolist()
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])


def test_holm_leaves_out_comparisons_without_answers() -> None:
    assert holm([math.nan, 0.02, 0.03]) == pytest.approx([math.nan, 0.04, 0.04], nan_ok=True)
