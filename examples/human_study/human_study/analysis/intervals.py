"""How many prefer the second network: the preference share, its intervals, and tests of no preference.

The **preference share** is the mean of an answer's points: 1 if it prefers the second network, 0 if the first, and a
half if it is neutral. A share of one half means that both networks are preferred equally often.

Answers are not independent: each rater gives several, and each item gets several. Raters and items are crossed, and
both are samples, from the people and the images that the study speaks about. `crossed_interval` allows for both.
It is the headline, because it has the coverage that it claims (``results/coverage.json``). The others are there for
comparison with published studies. Wilson's interval and the exact test take answers for independent, which makes the
interval too short. The bootstrap over raters or items alone ignores the other. The bootstrap over both is too long,
because it counts the variance of single answers up to three times (McCullagh, 2000; Owen, 2007).

References:
    Cameron, Gelbach and Miller (2011), Robust inference with multiway clustering, J. Bus. Econ. Stat. 29(2).
    Clopper and Pearson (1934), Biometrika 26(4).
    Korn and Graubard (1998), Confidence intervals for proportions estimated from survey data, Survey Methodology 24.
    McCullagh (2000), Resampling and exchangeable arrays, Bernoulli 6(2).
    Owen (2007), The pigeonhole bootstrap, Ann. Appl. Stat. 1(2).
    Wilson (1927), J. Am. Stat. Assoc. 22.
"""

import math
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from human_study.analysis.votes import Votes
from updn_common.reports.bootstrap import LEVEL, Interval

Resampled = Literal["raters", "items", "both"]
RESAMPLES = 2000
NOTHING = Interval(math.nan, math.nan)


class Share(NamedTuple):
    """A preference share with its interval, and the test of no preference that belongs to it."""

    value: float
    interval: Interval
    p_value: float
    """Probability of a share at least as far from one half if there is no preference."""
    effective_answers: float
    """Number of independent yes-or-no answers that would tell as much."""


def wilson_interval(successes: float, total: float, quantile: float | None = None) -> Interval:
    """Wilson's score interval: all shares p with |successes / total - p| <= quantile * sqrt(p (1 - p) / total).

    Args:
        successes: Number of successes; a fraction is allowed, for effective numbers.
        total: Number of trials; also a fraction.
        quantile: How many standard errors the interval reaches; by default the normal quantile of 95 %.
    """
    if total <= 0:
        return NOTHING
    q = float(stats.norm.ppf((1 + LEVEL) / 2)) if quantile is None else quantile
    share, square = successes / total, q * q / total
    centre = (share + square / 2) / (1 + square)
    half = q / (1 + square) * math.sqrt(share * (1 - share) / total + square / (4 * total))
    return Interval(max(0.0, centre - half), min(1.0, centre + half))


def exact_test(votes: Votes) -> float:
    """Two-sided p-value of the sign test: neutral answers are left out, and the others taken for independent."""
    first, _, second = votes.counts
    return float(stats.binomtest(second, first + second, 0.5).pvalue) if first + second else 1.0


def crossed_variance(
    points: Float[np.ndarray, " N"], raters: Int[np.ndarray, " N"], items: Int[np.ndarray, " N"]
) -> float:
    """Variance of the mean of answers that share raters and items.

    With residuals e and sums over the answers of a rater r or an item i (Cameron, Gelbach and Miller, 2011, with one
    answer for each rater and item),

        N^2 V = R/(R-1) sum_r e_r^2 + I/(I-1) sum_i e_i^2 - N/(N-1) sum_j e_j^2.

    This estimates the variance without bias, but where answers are in truth independent it may by chance come near 0,
    or below. So V is at least half of the last term, which is the variance of independent answers. The half was chosen
    among 1/4, 1/2, 3/4 and 1 as the one whose coverage is nearest to 95 % for independent answers; where raters and
    items matter, all four give the same.
    """
    residuals = points - points.mean()
    total = len(points)

    def squares(sums: Float[np.ndarray, " G"]) -> float:
        return float(sums @ sums) * len(sums) / (len(sums) - 1)

    alone = squares(residuals)
    together = squares(np.bincount(raters, residuals)) + squares(np.bincount(items, residuals)) - alone
    return max(together, alone / 2) / total**2


def crossed_interval(votes: Votes) -> Share:
    """The preference share with the interval and the test that allow for raters and items.

    Wilson's interval for the effective number of answers, share (1 - share) / V (as Korn and Graubard, 1998, do for
    surveys), with Student's quantile of min(R, I) - 1 degrees of freedom for R raters and I items. The test is its
    dual: p < 0.05 exactly where the 95 % interval excludes one half. Where all answers are the same, V is 0 and tells
    nothing; the effective number of answers then is min(R, I). Neutral answers alone have no interval, and p = 1.

    There is no interval for less than two raters or two items.
    """
    if not len(votes):
        return Share(math.nan, NOTHING, math.nan, math.nan)
    share, clusters = float(votes.points.mean()), min(votes.n_raters, votes.n_items)
    if clusters < 2:
        return Share(share, NOTHING, math.nan, math.nan)
    variance = crossed_variance(votes.points, votes.raters, votes.items)
    if variance == 0:
        effective = float(clusters) if share in (0.0, 1.0) else math.inf
    else:
        effective = share * (1 - share) / variance
    if math.isinf(effective):  # all answers are neutral
        return Share(share, NOTHING, 1.0, effective)
    student = stats.t(clusters - 1)
    interval = wilson_interval(share * effective, effective, float(student.ppf((1 + LEVEL) / 2)))
    p_value = 2 * float(student.sf(abs(share - 0.5) * 2 * math.sqrt(effective)))
    return Share(share, interval, p_value, effective)


def bootstrap_interval(votes: Votes, resampled: Resampled, *, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """Percentile bootstrap interval of the preference share.

    Args:
        votes: The answers.
        resampled: What is drawn with replacement: raters with all of their answers, items with all of theirs, or both
            independently of each other (the pigeonhole bootstrap).
        seed: Seed of the random draws.
        resamples: Number of resamples.
    """
    if min(votes.n_raters, votes.n_items) < 2:
        return NOTHING
    rng = np.random.default_rng(seed)

    def times(clusters: int) -> Float[np.ndarray, "S G"]:
        return rng.multinomial(clusters, np.full(clusters, 1 / clusters), resamples).astype(np.float64)

    raters, items = np.ones((1, votes.n_raters)), np.ones((1, votes.n_items))
    if resampled != "items":
        raters = times(votes.n_raters)
    if resampled != "raters":
        items = times(votes.n_items)

    def totals(values: Float[np.ndarray, " N"]) -> Float[np.ndarray, " S"]:
        table = np.zeros((votes.n_raters, votes.n_items))
        table[votes.raters, votes.items] = values
        found: Float[np.ndarray, " S"] = ((raters @ table) * items).sum(1)
        return found

    answers = totals(np.ones(len(votes)))
    drawn = answers > 0  # no answer may be left of raters and items drawn independently
    shares = totals(votes.points)[drawn] / answers[drawn]
    low, high = np.quantile(shares, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))


def holm(p_values: list[float]) -> list[float]:
    """Holm's (1979) adjusted p-values, which hold the chance of any false finding among all tests; NaN stays out.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = [k for k in sorted(range(len(p_values)), key=lambda k: p_values[k]) if not math.isnan(p_values[k])]
    adjusted, largest = list(p_values), 0.0
    for rank, k in enumerate(order):
        largest = max(largest, min(1.0, p_values[k] * (len(order) - rank)))
        adjusted[k] = largest
    return adjusted
