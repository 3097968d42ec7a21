"""Confidence intervals of means over questions, by the percentile bootstrap (Efron, 1979).

The questions are a sample, and another one would have given other means. The bootstrap draws as many questions from the
sample itself, with replacement, many times, and takes the range that 95 % of the means fall into. This is the
uncertainty that comes from *which questions were asked*. It says nothing of which weights training began with: that is
the spread over seeds, which no resampling of questions can see. Questions are drawn one by one, also where several are
about one image.
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


class Interval(NamedTuple):
    """A 95 % confidence interval."""

    low: float
    high: float


def bootstrap_means(
    columns: Float[np.ndarray, "N M"], *, seed: int | Sequence[int] = 0, resamples: int = RESAMPLES
) -> NDArray[np.float64]:
    """Means of M columns over resampled questions.

    Every resample is one draw of questions for all columns, and the same seed draws the same ones again. So the
    difference of two columns' means, in one call or in two, is a *paired* difference: of the same questions.

    Args:
        columns: One row for each of N questions; an entry that is NaN counts neither in a sum nor in a number.
        seed: Of the draws.
        resamples: Their number, R.

    Returns:
        ``(R, M)``; NaN where none of a column's known entries was drawn.
    """
    total = len(columns)
    known = ~np.isnan(columns)
    values, known = np.where(known, columns, 0.0), known.astype(np.float64)
    rng = np.random.default_rng(seed)
    means = np.empty((resamples, columns.shape[1]))
    for rows in np.array_split(np.arange(resamples), -(-resamples * total // _AT_A_TIME)):
        drawn = rng.integers(0, total, (len(rows), total)) + total * np.arange(len(rows))[:, None]
        times = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape).astype(np.float64)
        with np.errstate(invalid="ignore"):  # 0 / 0 where nothing is known
            means[rows] = (times @ values) / (times @ known)
    return means


def intervals(means: Float[np.ndarray, "R M"], level: float = LEVEL) -> list[Interval]:
    """The range that the middle ``level`` of each column's resampled means fall into; NaN where there is none."""
    found = []
    for column in means.T:
        column = column[~np.isnan(column)]
        tails = [(1 - level) / 2, (1 + level) / 2]
        found.append(Interval(*(np.quantile(column, tails).tolist() if len(column) else [np.nan, np.nan])))
    return found
