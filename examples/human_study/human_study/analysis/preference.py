"""The mixed logistic model of which network an answer prefers.

Neutral answers are left out: under Davidson's model of neutral answers (`human_study.simulation.population`), the
others follow the logistic model exactly, given rater and item. There are two fixed effects. The intercept is the
log-odds that a typical rater prefers the second network on a typical item. The side is 1/2 if the second network was on
the left, else -1/2; so a leaning of raters to one side does not enter the intercept.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from human_study.analysis.mixed import fit_mixed_logistic
from human_study.analysis.votes import Votes
from updn_common.reports.bootstrap import LEVEL, Interval


class Preference(NamedTuple):
    """The fitted preference, in log-odds."""

    log_odds: float
    error: float
    interval: Interval
    """With Student's quantile of min(R, I) - 1 degrees of freedom for R raters and I items."""
    p_value: float
    left_log_odds: float
    """How much the left side is preferred, whichever network is there."""
    rater_sd: float
    item_sd: float


def fit_preference(votes: Votes) -> Preference | None:
    """Fit the model; None where there is no finite estimate, for example because all prefer one network."""
    preferred, design, raters, items = mixed_design(votes)
    clusters = min(len(np.unique(raters)), len(np.unique(items)))
    if clusters < 2 or len(np.unique(preferred)) < 2 or len(np.unique(design[:, 1])) < 2:
        return None
    fit = fit_mixed_logistic(preferred, design, [raters, items])
    value, error = float(fit.coefficients[0]), float(fit.standard_errors[0])
    if not fit.finite or np.isnan(error):
        return None
    student = stats.t(clusters - 1)
    half = float(student.ppf((1 + LEVEL) / 2)) * error
    return Preference(
        log_odds=value,
        error=error,
        interval=Interval(value - half, value + half),
        p_value=2 * float(student.sf(abs(value) / error)),
        left_log_odds=float(fit.coefficients[1]),
        rater_sd=float(fit.deviations[0]),
        item_sd=float(fit.deviations[1]),
    )


def mixed_design(
    votes: Votes,
) -> tuple[Float[np.ndarray, " N"], Float[np.ndarray, "N 2"], Int[np.ndarray, " N"], Int[np.ndarray, " N"]]:
    """Whether each answer that is not neutral prefers the second network, fixed effects, raters and items."""
    chosen = votes.where(votes.steps != 0)
    side = np.where(chosen.second_left, 0.5, -0.5)
    preferred = (chosen.steps > 0).astype(np.float64)
    return preferred, np.stack([np.ones(len(chosen)), side], axis=1), chosen.raters, chosen.items
