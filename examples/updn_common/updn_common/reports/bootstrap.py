"""Confidence intervals by the percentile bootstrap (Efron, 1979).

An evaluation uses a sample of questions or images, and another sample would have given other numbers. The bootstrap
draws samples of the same size from the sample itself, with replacement, many times, and takes the range of the middle
95 % of the numbers. This is the uncertainty that comes from *which questions were asked* (or which images were shown).
It does not include the uncertainty that comes from the initial weights: that is the spread over seeds.

Rows are drawn one by one, so each row should be an independent sample: what belongs together, such as all questions
about an image or all words of its captions, is summed in one row.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

RESAMPLES = 1000
LEVEL = 0.95
_AT_A_TIME = 2**22
"""Number of draws that are in memory at once."""

Seed = int | Sequence[int]
Columns = dict[str, NDArray[np.float64]]
"""For each measure, one number per row; NaN if it is unknown."""


class Interval(NamedTuple):
    """A 95 % confidence interval."""

    low: float
    high: float


class Number(NamedTuple):
    """An estimate with its confidence interval."""

    value: float
    interval: Interval


class Estimates(NamedTuple):
    """Numbers by their names, and the same numbers for each of R resamples."""

    values: dict[str, float]
    resampled: dict[str, NDArray[np.float64]]

    def numbers(self) -> dict[str, Number]:
        """Each number with its interval."""
        if not self.values:
            return {}
        found = intervals(np.stack(list(self.resampled.values()), axis=1))
        return {
            name: Number(value, interval) for (name, value), interval in zip(self.values.items(), found, strict=True)
        }


class Statistic(NamedTuple):
    """A number that is a function of sums over N rows, such as a mean, or a ratio of two of them."""

    columns: Float[np.ndarray, "N M"]
    of_sums: Callable[[Float[np.ndarray, "*S M"]], Float[np.ndarray, "*S"]]
    """Computes the number; NaN if there is none."""


def mean(column: Float[np.ndarray, " N"]) -> Statistic:
    """The mean of the known entries of a column."""
    known = ~np.isnan(column)
    return ratio(np.where(known, column, 0.0), known)


def ratio(
    numerator: Float[np.ndarray, " N"] | Int[np.ndarray, " N"] | Bool[np.ndarray, " N"],
    denominator: Float[np.ndarray, " N"] | Int[np.ndarray, " N"] | Bool[np.ndarray, " N"],
) -> Statistic:
    """The sum of one column divided by the sum of another, such as a mean over words of which a row has several."""
    return Statistic(np.stack([numerator, denominator], axis=1).astype(np.float64), _quotient)


def _quotient(sums: Float[np.ndarray, "*S 2"]) -> Float[np.ndarray, "*S"]:
    with np.errstate(invalid="ignore"):  # 0 / 0 if nothing is known
        found: Float[np.ndarray, "*S"] = sums[..., 0] / sums[..., 1]
    return found


def estimate(statistics: Mapping[str, Statistic], *, seed: Seed = 0, resamples: int = RESAMPLES) -> Estimates:
    """Compute statistics of N rows and of resamples of these rows; statistics that are NaN are left out.

    A statistic that depends on a single row has no interval: all its resamples are NaN.

    A resample draws the same rows for all statistics, and the same seed draws the same resamples. So the difference of
    two numbers, from one call or from two, is a *paired* difference: it is over the same questions.
    """
    totals = {name: statistic.of_sums(statistic.columns.sum(0)) for name, statistic in statistics.items()}
    known = {name: statistics[name] for name, value in totals.items() if not np.isnan(value)}
    if not known:
        return Estimates({}, {})
    sums = bootstrap_sums(
        np.hstack([statistic.columns for statistic in known.values()]), seed=seed, resamples=resamples
    )
    ends = np.cumsum([statistic.columns.shape[1] for statistic in known.values()])
    parts = zip(known.items(), np.split(sums, ends[:-1], axis=1), strict=True)
    resampled = {name: statistic.of_sums(part) for (name, statistic), part in parts}
    for name, statistic in known.items():
        if np.count_nonzero(statistic.columns.any(1)) < 2:  # every resample of a single row is that row
            resampled[name] = np.full(resamples, np.nan)
    return Estimates({name: float(totals[name]) for name in known}, resampled)


def estimate_means(columns: Columns, units: Int[np.ndarray, " N"], *, seed: Seed = 0) -> Estimates:
    """Compute the means of the known entries of columns; columns without any are left out.

    Args:
        columns: The columns, of N rows.
        units: The unit that each row belongs to, such as the image that a question is about. Whole units are drawn.
        seed: Seed of the random draws.
    """
    _, first, row = np.unique(units, return_index=True, return_inverse=True)
    places = np.argsort(np.argsort(first))[row]  # of each row's unit, in the order of first occurrence

    def by_unit(statistic: Statistic) -> Statistic:
        sums = np.zeros((len(first), statistic.columns.shape[1]))
        np.add.at(sums, places, statistic.columns)
        return statistic._replace(columns=sums)

    return estimate({name: by_unit(mean(column)) for name, column in columns.items()}, seed=seed)


def bootstrap_sums(
    columns: Float[np.ndarray, "N M"], *, seed: Seed = 0, resamples: int = RESAMPLES
) -> NDArray[np.float64]:
    """Sums of M columns over R resamples of N rows, ``(R, M)``; the same seed draws the same rows again."""
    total = len(columns)
    columns = columns.astype(np.float64)
    rng = np.random.default_rng(seed)
    sums = np.empty((resamples, columns.shape[1]))
    for rows in np.array_split(np.arange(resamples), -(-resamples * total // _AT_A_TIME)):
        drawn = rng.integers(0, total, (len(rows), total)) + total * np.arange(len(rows))[:, None]
        times = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape).astype(np.float64)
        sums[rows] = times @ columns
    return sums


def intervals(resampled: Float[np.ndarray, "R M"], level: float = LEVEL) -> list[Interval]:
    """The range of the middle ``level`` of each column's resampled numbers; NaN if there are none."""
    found = []
    for column in resampled.T:
        column = column[~np.isnan(column)]
        tails = [(1 - level) / 2, (1 + level) / 2]
        found.append(Interval(*(np.quantile(column, tails).tolist() if len(column) else [np.nan, np.nan])))
    return found
