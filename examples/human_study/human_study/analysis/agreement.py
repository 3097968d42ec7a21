"""Krippendorff's alpha: how far raters agree about items, beyond what chance would give.

    alpha = 1 - D_observed / D_expected,

where D_observed is the mean difference between two answers to the same item, and D_expected that between any two
answers. 1 is perfect agreement, 0 is that of answers given to items at random, and it is negative where raters
systematically disagree. Items with a single answer are left out.

Differences between steps are *ordinal* (how many answers lie between two steps), *interval* (their squared distance) or
*nominal* (equal or not). The report uses ordinal differences of the five steps, and nominal ones of first, neutral or
second.

Alpha is about items: if all items have the same answer but for noise, alpha is near 0 however many prefer one network.
It does not speak against a preference; it says that raters do not tell items apart.

Reference:
    Krippendorff (2011), Computing Krippendorff's alpha-reliability, University of Pennsylvania.
"""

from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from updn_common.reports.bootstrap import LEVEL, Interval, Number

Difference = Literal["nominal", "ordinal", "interval"]


def krippendorff_alpha(values: Int[np.ndarray, " N"], items: Int[np.ndarray, " N"], difference: Difference) -> float:
    """Alpha of N answers; NaN if no item has two answers, or all answers are the same.

    Args:
        values: The answers.
        items: The item of each answer, numbered from 0.
        difference: How far apart two answers are.
    """
    table, levels = _table(values, items)
    return _alpha(table, levels, difference, np.ones(len(table)))


def alpha_with_interval(
    values: Int[np.ndarray, " N"],
    items: Int[np.ndarray, " N"],
    difference: Difference,
    *,
    seed: int = 0,
    resamples: int = 1000,
) -> Number:
    """Alpha with its percentile bootstrap interval over items."""
    table, levels = _table(values, items)
    value = _alpha(table, levels, difference, np.ones(len(table)))
    rng = np.random.default_rng(seed)
    if len(table) < 2:
        return Number(value, Interval(np.nan, np.nan))
    times = rng.multinomial(len(table), np.full(len(table), 1 / len(table)), resamples).astype(np.float64)
    drawn = np.array([_alpha(table, levels, difference, weights) for weights in times])
    drawn = drawn[~np.isnan(drawn)]
    if not len(drawn):
        return Number(value, Interval(np.nan, np.nan))
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Number(value, Interval(float(low), float(high)))


def _table(
    values: Int[np.ndarray, " N"], items: Int[np.ndarray, " N"]
) -> tuple[Float[np.ndarray, "I L"], Float[np.ndarray, " L"]]:
    """How often each item with two answers or more got each answer, and the answers that occur."""
    levels, columns = np.unique(values, return_inverse=True)
    table = np.zeros((int(items.max(initial=-1)) + 1, len(levels)))
    np.add.at(table, (items, columns), 1)
    return table[table.sum(1) >= 2], levels.astype(np.float64)


def _alpha(
    table: Float[np.ndarray, "I L"],
    levels: Float[np.ndarray, " L"],
    difference: Difference,
    weights: Float[np.ndarray, " I"],
) -> float:
    """Alpha where item k occurs weights[k] times."""
    if not len(table):
        return float("nan")
    scaled = weights / (table.sum(1) - 1)
    coincidences = (table * scaled[:, None]).T @ table - np.diag(scaled @ table)
    totals = coincidences.sum(1)
    apart = _differences(levels, totals, difference)
    expected = float(totals @ apart @ totals) / float(totals.sum() - 1)
    return 1 - float((coincidences * apart).sum()) / expected if expected > 0 else float("nan")


def _differences(
    levels: Float[np.ndarray, " L"], totals: Float[np.ndarray, " L"], difference: Difference
) -> Float[np.ndarray, "L L"]:
    """Squared difference between each two levels."""
    if difference == "nominal":
        return 1 - np.eye(len(levels))
    # ordinal: the number of answers from the middle of one level to the middle of the other
    places = levels if difference == "interval" else totals.cumsum() - totals / 2
    found: Float[np.ndarray, "L L"] = (places[:, None] - places) ** 2
    return found
