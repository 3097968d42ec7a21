"""Power before the study, by formula and by simulation."""

import pytest

from human_study.analysis.power import PowerConfig, formula_power, power, power_rows
from human_study.simulation.population import population_with
from updn_common.errors import InputError


@pytest.mark.parametrize(("share", "items", "rater_sd"), [(0.6, 60, 0.5), (0.56, 40, 0.8)])
def test_formula_agrees_with_simulated_studies(share: float, items: int, rater_sd: float) -> None:
    config = PowerConfig(share, rater_sd=rater_sd, items=items, raters_per_item=(6, 12), studies=400)
    rows, _ = power_rows(config)
    for row in rows:
        assert row.simulated == pytest.approx(row.by_formula, abs=0.06)  # 2.5 standard errors of 400 studies


def test_no_preference_is_found_as_often_as_the_level_says() -> None:
    population = population_with(0.5, 0.2, 0.7, 0.7)
    assert formula_power(population, 30, 60, 20) == pytest.approx(0.05)


def test_needed_number_is_the_smallest_that_reaches_the_target() -> None:
    config = PowerConfig(studies=0, raters_per_item=())
    _, needed = power_rows(config)
    assert needed.by_formula >= config.target
    population = population_with(config.share, config.neutral, config.rater_sd, config.item_sd)
    fewer = -(-config.items * (needed.raters_per_item - 1) // config.items_per_participant)
    assert formula_power(population, fewer, config.items, config.items_per_participant) < config.target


def test_a_study_of_one_rater_has_no_power() -> None:
    assert formula_power(population_with(0.9, 0.1, 0.5, 0.5), 1, 60, 20) == 0


def test_table_shows_both(capsys: pytest.CaptureFixture[str]) -> None:
    power(PowerConfig(studies=20, raters_per_item=(4,)))
    printed = capsys.readouterr().out
    assert "20 simulated studies" in printed
    assert "80% power needs 6 raters per item: 18 participants." in printed


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"items": 1}, "--items should be at least 2, found 1."),
        ({"items": 10}, "--items-per-participant should be from 1 to 10, found 20."),
        ({"raters_per_item": (0,)}, "--raters-per-item should be at least 1, found 0."),
        ({"target": 2.0}, "--target should be from 0 to 1, found 2.0."),
        (
            {"share": 0.51, "studies": 0},
            "No number of raters reaches a power of 80% with 60 items: the items differ too much. Show more items, or "
            "expect a larger preference.",
        ),
    ],
)
def test_impossible_options_are_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(InputError) as error:
        power_rows(PowerConfig(**changes))  # type: ignore[arg-type]
    assert str(error.value) == message
