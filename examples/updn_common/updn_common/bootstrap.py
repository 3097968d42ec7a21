"""Confidence intervals by the percentile bootstrap (Efron, 1979).

What was evaluated, such as questions or images, is a sample, and another one would have given other numbers. The
bootstrap draws as many from the sample itself, with replacement, many times, and takes the range that 95 % of the
numbers fall into. This is the uncertainty that comes from *which questions were asked* (or which images were shown). It
says nothing of which weights training began with: that is the spread over seeds, which no resampling can see.

Each row is drawn by itself. So rows should be what was sampled independently: what belongs together, such as the words
of an image's captions, goes into the sums of one row.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

RESAMPLES = 1000
LEVEL = 0.95
_AT_A_TIME = 2**22
"""Draws in memory."""

Seed = int | Sequence[int]
Columns = dict[str, NDArray[np.float64]]
"""One number for each row, NaN where there is none; by the name of what it is."""


class Interval(NamedTuple):
    """A 95 % confidence interval."""

    low: float
    high: float


class Number(NamedTuple):
    """An estimate with its confidence interval."""

    value: float
    interval: Interval


class Estimates(NamedTuple):
    """Numbers by their names, and the same numbers of R resamples."""

    values: dict[str, float]
    resampled: dict[str, NDArray[np.float64]]

    def numbers(self) -> dict[str, Number]:
        """Each with its interval."""
        if not self.values:
            return {}
        found = intervals(np.stack(list(self.resampled.values()), axis=1))
        return {
            name: Number(value, interval) for (name, value), interval in zip(self.values.items(), found, strict=True)
        }


def estimate_means(columns: Columns, *, seed: Seed = 0) -> Estimates:
    """The means of columns over what they know; without columns that know nothing."""
    known = {name: column for name, column in columns.items() if not np.isnan(column).all()}
    if not known:
        return Estimates({}, {})
    resampled = bootstrap_means(np.stack(list(known.values()), axis=1), seed=seed)
    values = {name: float(np.nanmean(column)) for name, column in known.items()}
    return Estimates(values, dict(zip(known, resampled.T, strict=True)))


def bootstrap_means(
    columns: Float[np.ndarray, "N M"], *, seed: Seed = 0, resamples: int = RESAMPLES
) -> NDArray[np.float64]:
    """Means of M columns over resampled rows.

    Every resample is one draw of rows for all columns, and the same seed draws the same ones again. So the difference
    of two columns' means, in one call or in two, is a *paired* difference: of the same questions.

    Args:
        columns: One row for each of N questions; an entry that is NaN counts neither in a sum nor in a number.
        seed: Of the draws.
        resamples: Their number, R.

    Returns:
        ``(R, M)``; NaN where none of a column's known entries was drawn.
    """
    known = ~np.isnan(columns)
    sums = bootstrap_sums(np.hstack([np.where(known, columns, 0.0), known]), seed=seed, resamples=resamples)
    totals, numbers = np.hsplit(sums, 2)
    with np.errstate(invalid="ignore"):  # 0 / 0 where nothing is known
        means: NDArray[np.float64] = totals / numbers
    return means


def bootstrap_sums(
    columns: Float[np.ndarray, "N M"], *, seed: Seed = 0, resamples: int = RESAMPLES
) -> NDArray[np.float64]:
    """Sums of M columns over resampled rows, ``(R, M)``: for numbers that are functions of sums over the rows.

    The draws are those of :func:`bootstrap_means`.
    """
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
    """The range that the middle ``level`` of each column's resampled numbers fall into; NaN where there is none."""
    found = []
    for column in resampled.T:
        column = column[~np.isnan(column)]
        tails = [(1 - level) / 2, (1 + level) / 2]
        found.append(Interval(*(np.quantile(column, tails).tolist() if len(column) else [np.nan, np.nan])))
    return found
