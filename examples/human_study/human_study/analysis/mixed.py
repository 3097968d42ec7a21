"""A logistic model with crossed random effects of raters and items, fitted by the Laplace approximation.

For answer j by rater r to item i, with the design x (an intercept, and the side on which an arm was shown),

    logit P(y_j = 1) = x_j . beta + sd_raters * u_r + sd_items * v_i,     u_r, v_i ~ N(0, 1) independent.

The likelihood integrates u and v out. The Laplace approximation replaces this integral by that of the Gaussian at the
joint mode (Breslow and Clayton, 1993, section 2.1); it is what R's ``lme4::glmer`` computes by default
(Bates, Maechler, Bolker and Walker, 2015), and the tests compare both to five digits.

statsmodels has this model as ``BinomialBayesMixedGLM``. Its variational posterior is too narrow for an interval:
``results/coverage.json`` has the measured coverage of both.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray
from scipy import linalg, optimize, special

_NEWTON_STEPS = 100
_LARGEST = 15.0
"""Coefficients and standard deviations beyond this, in log-odds, mean that there is no finite estimate."""
_Objective = Callable[[NDArray[np.float64]], tuple[float, NDArray[np.float64]]]
"""The negative log-likelihood of parameters, and its gradient."""


@dataclass(frozen=True)
class MixedFit:
    """A fitted model."""

    coefficients: NDArray[np.float64]
    """beta, in log-odds."""
    standard_errors: NDArray[np.float64]
    """From the inverse Hessian of the approximate log-likelihood in all parameters; NaN without a finite estimate."""
    deviations: NDArray[np.float64]
    """Standard deviation of the random effects of each grouping, in log-odds."""
    log_likelihood: float
    finite: bool
    """False if the likelihood grows without bound, for example because all answers are the same."""


class _Model(NamedTuple):
    """The data, with the random effects of all groupings in one vector."""

    successes: NDArray[np.float64]
    trials: NDArray[np.float64]
    design: NDArray[np.float64]
    columns: list[NDArray[np.int64]]
    """For each grouping, the place of each observation's random effect in the vector."""
    grouping: NDArray[np.int64]
    """The grouping of each random effect."""

    def of_observations(self, effects: NDArray[np.float64]) -> NDArray[np.float64]:
        """Z effects: for each observation, the sum of its random effects."""
        found: NDArray[np.float64] = np.sum([effects[column] for column in self.columns], axis=0)
        return found

    def of_effects(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Z^T values: for each random effect, the sum over its observations."""
        size = len(self.grouping)
        found: NDArray[np.float64] = np.sum([np.bincount(column, values, size) for column in self.columns], axis=0)
        return found

    def hessian(self, weights: NDArray[np.float64], scale: NDArray[np.float64]) -> NDArray[np.float64]:
        """I + scale Z^T W Z scale: the Hessian of the joint density in the random effects."""
        size = len(self.grouping)
        pairs = [one * size + other for one in self.columns for other in self.columns]
        product = np.sum([np.bincount(pair, weights, size * size) for pair in pairs], axis=0).reshape(size, size)
        found: NDArray[np.float64] = np.eye(size) + scale[:, None] * product * scale
        return found


def fit_mixed_logistic(
    successes: Float[np.ndarray, " N"],
    design: Float[np.ndarray, "N P"],
    groupings: Sequence[Int[np.ndarray, " N"]],
    trials: Float[np.ndarray, " N"] | None = None,
) -> MixedFit:
    """Maximise the Laplace approximation of the likelihood.

    Args:
        successes: Number of successes of each observation, 0 or 1 for a single answer.
        design: The fixed effects' columns.
        groupings: For each random intercept, the group of each observation, numbered from 0.
        trials: Number of trials of each observation; 1 if not given.
    """
    sizes = [int(groups.max()) + 1 for groups in groupings]
    starts = np.cumsum([0, *sizes[:-1]])
    model = _Model(
        successes.astype(np.float64),
        np.ones(len(successes)) if trials is None else trials.astype(np.float64),
        design.astype(np.float64),
        [groups + start for groups, start in zip(groupings, starts, strict=True)],
        np.repeat(np.arange(len(sizes)), sizes),
    )
    count = design.shape[1]
    effects = np.zeros(sum(sizes))  # the mode at one point is a good start at the next

    def objective(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        value, gradient, effects[:] = _negative_log_likelihood(model, parameters, effects)
        return value, gradient

    def minimise(begin: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        bounds = [(-_LARGEST, _LARGEST)] * len(begin)
        found = optimize.minimize(
            objective, begin, jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-12, "gtol": 1e-6}
        )
        return float(found.fun), found.x

    # The sign of a deviation means nothing, so the gradient at 0 is 0 even where 0 is not the best: begin again there.
    value, reached = minimise(np.concatenate([np.zeros(count), np.full(len(sizes), 0.5)]))
    near_zero = np.abs(reached[count:]) < 0.01
    if near_zero.any():
        other = minimise(np.concatenate([reached[:count], np.where(near_zero, 0.5, reached[count:])]))
        value, reached = min((value, reached), other, key=lambda result: result[0])
    parameters = np.concatenate([reached[:count], np.abs(reached[count:])])
    finite = bool(np.abs(parameters).max() < 0.99 * _LARGEST)
    errors = _standard_errors(objective, parameters, count) if finite else np.full(count, np.nan)
    return MixedFit(parameters[:count], errors, parameters[count:], -value, finite)


def _mode(
    model: _Model, offset: NDArray[np.float64], scale: NDArray[np.float64], effects: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The random effects that maximise the joint density, by Newton's method with step halving."""

    def joint(candidate: NDArray[np.float64]) -> float:
        eta = offset + model.of_observations(scale * candidate)
        penalty = 0.5 * candidate @ candidate
        return float(model.trials @ np.logaddexp(0, eta) - model.successes @ eta + penalty)

    value = joint(effects)
    for _ in range(_NEWTON_STEPS):
        eta = offset + model.of_observations(scale * effects)
        mean = special.expit(eta)
        gradient = effects - scale * model.of_effects(model.successes - model.trials * mean)
        hessian = model.hessian(model.trials * mean * (1 - mean), scale)
        step = linalg.cho_solve(linalg.cho_factor(hessian), gradient)
        size = 1.0
        while (following := joint(effects - size * step)) > value + 1e-12 * abs(value) and size > 1e-6:
            size /= 2
        effects, value = effects - size * step, following
        if np.abs(step).max() < 1e-9:
            break
    return effects


def _negative_log_likelihood(
    model: _Model, parameters: NDArray[np.float64], effects: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """The approximation, its gradient, and the mode.

    With f the negative joint log-density, H its Hessian in the effects u at the mode, and theta the parameters,

        F = f + 1/2 log det H,
        dF/dtheta = df/dtheta + 1/2 tr(H^-1 dH/dtheta),

    where H depends on theta directly through the scale, and through the weights at the linear predictor eta, whose
    derivative includes that of the mode, du/dtheta = -H^-1 d2f/(du dtheta).
    """
    count = model.design.shape[1]
    beta, deviations = parameters[:count], parameters[count:]
    scale, offset = deviations[model.grouping], model.design @ beta
    effects = _mode(model, offset, scale, effects)
    eta = offset + model.of_observations(scale * effects)
    mean = special.expit(eta)
    weights = model.trials * mean * (1 - mean)
    residuals = model.successes - model.trials * mean
    factor = linalg.cho_factor(model.hessian(weights, scale), lower=True)
    inverse = linalg.cho_solve(factor, np.eye(len(scale)))
    log_choose = special.gammaln(model.trials + 1) - special.gammaln(model.successes + 1)
    log_choose -= special.gammaln(model.trials - model.successes + 1)
    value = model.trials @ np.logaddexp(0, eta) - model.successes @ eta - log_choose.sum() + 0.5 * effects @ effects
    value += np.log(np.diag(factor[0])).sum()

    # Of each observation j: rows[g][j] = sum_k (H^-1 scale)[column_g(j), column_k(j)]
    rows = [np.sum([inverse[one, other] * scale[other] for other in model.columns], axis=0) for one in model.columns]
    leverage = np.sum([scale[column] * row for column, row in zip(model.columns, rows, strict=True)], axis=0)
    half_slope = 0.5 * leverage * weights * (1 - 2 * mean)  # d(1/2 log det H) / d eta_j, by the weights
    direct = [model.design[:, p] for p in range(count)] + [effects[column] for column in model.columns]
    gradient = np.empty(len(parameters))
    for p, column in enumerate(direct):
        mixed = scale * model.of_effects(weights * column)  # d2f / (du dtheta)
        explicit = 0.0
        if p >= count:
            of_group = model.grouping == p - count
            mixed = mixed - np.where(of_group, model.of_effects(residuals), 0.0)
            explicit = float(weights @ rows[p - count])  # 1/2 tr(H^-1 dH/dscale)
        moved = scale * (inverse @ mixed)
        change = column - model.of_observations(moved)  # d eta / dtheta
        gradient[p] = -residuals @ column + explicit + half_slope @ change
    return float(value), gradient, effects


def _standard_errors(objective: _Objective, parameters: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Standard errors of the coefficients, from central differences of the gradient; a deviation of 0 is held there."""
    free = [p for p in range(len(parameters)) if p < count or parameters[p] > 1e-3]
    step = 1e-4
    hessian = np.empty((len(free), len(free)))
    for row, p in enumerate(free):
        move = step * np.eye(len(parameters))[p]
        hessian[row] = (objective(parameters + move)[1] - objective(parameters - move)[1])[free] / (2 * step)
    try:
        variances = np.diag(linalg.inv((hessian + hessian.T) / 2))[:count]
    except linalg.LinAlgError:
        return np.full(count, np.nan)
    found: NDArray[np.float64] = np.sqrt(np.where(variances > 0, variances, np.nan))
    return found
