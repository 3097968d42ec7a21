"""Krippendorff's alpha."""

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from human_study.analysis.agreement import Difference, alpha_with_interval, krippendorff_alpha

# Krippendorff (2011), section C: four observers, twelve units; 0 is a missing value.
PUBLISHED = ["123321412000", "123322412503", "033323422510", "123324412510"]


def published_data() -> tuple[np.ndarray, np.ndarray]:
    found = [(int(value), unit) for row in PUBLISHED for unit, value in enumerate(row) if value != "0"]
    values, units = np.array(found).T
    return values, units


@pytest.mark.parametrize(("difference", "alpha"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_equals_published_values(difference: Difference, alpha: float) -> None:
    assert krippendorff_alpha(*published_data(), difference) == pytest.approx(alpha, abs=5e-4)


def alpha_by_loops(values: list[int], items: list[int], difference: Difference) -> float:
    """The definition, over pairs of answers."""
    paired = [k for k in range(len(values)) if items.count(items[k]) >= 2]
    often = {level: sum(values[k] == level for k in paired) for level in sorted({values[k] for k in paired})}

    def apart(one: int, other: int) -> float:
        if difference == "nominal":
            return float(one != other)
        if difference == "interval":
            return float((one - other) ** 2)
        low, high = sorted((one, other))
        between = sum(count for level, count in often.items() if low <= level <= high)
        return 0.0 if one == other else (between - (often[low] + often[high]) / 2) ** 2

    observed = expected = 0.0
    for j, k in product(paired, paired):
        if j != k:
            expected += apart(values[j], values[k]) / (len(paired) * (len(paired) - 1))
            if items[j] == items[k]:
                observed += apart(values[j], values[k]) / (len(paired) * (items.count(items[j]) - 1))
    return 1 - observed / expected if expected else math.nan


@given(st.lists(st.tuples(st.integers(-2, 2), st.integers(0, 4)), max_size=14), st.sampled_from(["nominal", "ordinal"]))
def test_alpha_equals_its_definition(answers: list[tuple[int, int]], difference: Difference) -> None:
    values, items = [value for value, _ in answers], [item for _, item in answers]
    found = krippendorff_alpha(np.array(values, dtype=int), np.array(items, dtype=int), difference)
    assert found == pytest.approx(alpha_by_loops(values, items, difference), nan_ok=True)


def test_perfect_agreement_is_one() -> None:
    values = np.array([2, 2, -1, -1, 0, 0])
    assert krippendorff_alpha(values, np.array([0, 0, 1, 1, 2, 2]), "ordinal") == 1


def test_interval_holds_alpha_and_depends_on_the_seed_alone() -> None:
    values, units = published_data()
    found = alpha_with_interval(values, units, "ordinal", seed=1)
    assert found.interval.low < found.value < found.interval.high
    assert found == alpha_with_interval(values, units, "ordinal", seed=1)


def test_a_single_item_has_no_interval() -> None:
    found = alpha_with_interval(np.array([1, 2]), np.array([0, 0]), "nominal")
    assert math.isnan(found.interval.low)
