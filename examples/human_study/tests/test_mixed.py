"""The mixed logistic model against R's lme4, statsmodels and scipy."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import optimize
from statsmodels.discrete.discrete_model import Logit

from human_study.analysis import mixed
from human_study.analysis.mixed import fit_mixed_logistic
from human_study.analysis.preference import fit_preference
from human_study.analysis.votes import Votes

# Contagious bovine pleuropneumonia, the example of lme4's glmer (Bates et al., 2015): cases and size of 15 herds in up
# to four periods.
CASES = (
    "2 3 4 0 3 1 1 8 2 0 2 2 0 2 0 5 0 0 1 3 0 0 1 8 1 3 0 12 2 0 0 0 1 1 0 2 0 5 3 1 2 1 0 0 1 2 0 0 11 0 0 0 1 1 1 0"
)
SIZES = (
    "14 12 9 5 22 18 21 22 16 16 20 10 10 9 6 18 25 24 4 17 17 18 20 16 10 9 5 34 9 6 8 6 22 22 18 22 25 27 "
    "22 22 10 8 6 5 21 24 19 23 19 2 3 2 19 15 15 15"
)
PERIODS = [4, 3, 4, 4, 4, 4, 4, 1, 4, 4, 4, 4, 4, 4, 4]

# 12 raters answer 10 of 15 items each; made by numpy with the seed 1993.
ANSWERS = "".join(
    (
        "111011111100011111111101000001111110111000001010010011100111",
        "110011110100111010111111000100111111011101011100111111101111",
    )
)


def crossed_data() -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    order = np.arange(120)
    raters, items = order // 10, (order * 7) % 15
    side = np.where((raters + order) % 2, 0.5, -0.5)
    return np.array([float(x) for x in ANSWERS]), np.stack([np.ones(120), side], axis=1), raters, items


def test_one_grouping_equals_published_values() -> None:
    """The example of lme4's manual, which prints -1.3983, -0.9919, -1.1282 and -1.5797, and 0.6421 for herds.

    The digits here are those of lme4 1.1-31 with the tolerances tolPwrss = 1e-12 and rhoend = 1e-10.
    """
    periods = np.concatenate([np.arange(number) for number in PERIODS])
    design = np.stack([np.ones(56), periods == 1, periods == 2, periods == 3], axis=1)
    cases, sizes = (np.array(text.split(), dtype=np.float64) for text in (CASES, SIZES))
    fit = fit_mixed_logistic(cases, design, [np.repeat(np.arange(15), PERIODS)], sizes)
    assert fit.coefficients == pytest.approx([-1.398532, -0.992333, -1.128672, -1.580314], abs=5e-6)
    assert fit.standard_errors == pytest.approx([0.232472, 0.306642, 0.326637, 0.427436], abs=5e-6)
    assert fit.deviations == pytest.approx([0.642261], abs=5e-6)
    assert fit.log_likelihood == pytest.approx(-92.026282, abs=1e-6)


def test_crossed_groupings_equal_lme4() -> None:
    """Glmer(y ~ side + (1 | rater) + (1 | item), family = binomial) of lme4 1.1-31, tolerances as above."""
    answers, design, raters, items = crossed_data()
    fit = fit_mixed_logistic(answers, design, [raters, items])
    assert fit.coefficients == pytest.approx([0.854805, 0.688571], abs=5e-6)
    assert fit.standard_errors == pytest.approx([0.411690, 0.455432], abs=1e-5)
    assert fit.deviations == pytest.approx([0.602517, 1.100420], abs=5e-6)
    assert fit.log_likelihood == pytest.approx(-71.100744, abs=1e-6)


def test_likelihood_is_that_of_the_gaussian_at_the_mode() -> None:
    """The Laplace approximation by a general optimiser, and a Hessian by finite differences."""
    answers, design, raters, items = crossed_data()
    beta, deviations = np.array([0.4, -0.3]), np.array([0.7, 1.3])

    def joint(effects: NDArray[np.float64]) -> float:
        eta = design @ beta + deviations[0] * effects[:12][raters] + deviations[1] * effects[12:][items]
        return float(0.5 * effects @ effects + (np.log1p(np.exp(eta)) - answers * eta).sum())

    mode = optimize.minimize(joint, np.zeros(27), method="BFGS", options={"gtol": 1e-7}).x
    step = 1e-3 * np.eye(27)
    hessian = np.array(
        [
            [joint(mode + a + b) - joint(mode + a - b) - joint(mode - a + b) + joint(mode - a - b) for b in step]
            for a in step
        ]
    ) / (4e-6)
    expected = joint(mode) + 0.5 * np.linalg.slogdet(hessian)[1]
    model = mixed._Model(answers, np.ones(120), design, [raters, items + 12], np.repeat([0, 1], [12, 15]))
    parameters = np.concatenate([beta, deviations])
    value, gradient, _ = mixed._negative_log_likelihood(model, parameters, np.zeros(27))
    assert value == pytest.approx(expected, abs=1e-4)
    numeric = optimize.approx_fprime(
        parameters, lambda at: mixed._negative_log_likelihood(model, at, np.zeros(27))[0], 1e-6
    )
    assert gradient == pytest.approx(numeric, abs=1e-4)


def test_answers_without_rater_and_item_effects_equal_a_plain_logistic_model() -> None:
    """Each rater and each item has as many answers of each kind, so that the deviations are 0."""
    order = np.arange(64)
    raters, items = order // 8, order % 8
    answers = ((raters + items) % 4 != 0).astype(np.float64)
    design = np.ones((64, 1))
    fit = fit_mixed_logistic(answers, design, [raters, items])
    plain = Logit(answers, design).fit(disp=False)
    assert fit.deviations == pytest.approx([0, 0], abs=1e-3)
    assert fit.coefficients == pytest.approx(plain.params, abs=1e-4)
    assert fit.standard_errors == pytest.approx(plain.bse, rel=1e-3)
    assert fit.log_likelihood == pytest.approx(plain.llf, abs=1e-4)


def test_unanimous_answers_have_no_finite_estimate() -> None:
    order = np.arange(20)
    fit = fit_mixed_logistic(np.ones(20), np.ones((20, 1)), [order // 5, order % 5])
    assert not fit.finite
    assert np.isnan(fit.standard_errors).all()


def test_preference_leaves_neutral_answers_out_and_swaps_with_the_networks() -> None:
    answers, design, raters, items = crossed_data()
    steps = np.where(answers > 0, 2, -1)
    votes = Votes(steps, raters, items, design[:, 1] > 0)
    with_neutral = Votes(
        np.append(steps, [0, 0]),
        np.append(raters, [0, 1]),
        np.append(items, [0, 1]),
        np.append(votes.second_left, [1, 0]) > 0,
    )
    found = fit_preference(votes)
    assert found is not None
    assert found == fit_preference(with_neutral)
    assert (found.log_odds, found.left_log_odds) == pytest.approx((0.854805, 0.688571), abs=5e-6)
    assert (found.rater_sd, found.item_sd) == pytest.approx((0.602517, 1.100420), abs=5e-6)
    assert (found.p_value < 0.05) == (not found.interval.low <= 0 <= found.interval.high)
    swapped = fit_preference(Votes(-steps, raters, items, ~votes.second_left))
    assert swapped is not None
    assert swapped.log_odds == pytest.approx(-found.log_odds, abs=1e-5)
    assert swapped.left_log_odds == pytest.approx(found.left_log_odds, abs=1e-5)


@pytest.mark.parametrize(
    ("steps", "left"),
    [([1, 1, 2, 1], [0, 1, 0, 1]), ([1, -1, 1, -1], [0, 0, 0, 0]), ([0, 0, 0, 0], [0, 1, 0, 1])],
    ids=["all prefer one", "one side only", "all neutral"],
)
def test_preference_is_unknown_where_answers_cannot_tell(steps: list[int], left: list[int]) -> None:
    votes = Votes(np.array(steps), np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]), np.array(left, dtype=bool))
    assert fit_preference(votes) is None
