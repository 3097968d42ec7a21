"""How many raters a study needs: ``human-study power``.

The preference share of R raters and I items with N answers, where each rater gives N / R and each item gets N / I, has
the variance

    V = rater_variance / R + item_variance / I + rest_variance / N

(`Population.moments`). The headline test compares (share - 1/2) / sqrt(V_0) with Student's t of min(R, I) - 1 degrees
of freedom, where V_0 = V / (4 share (1 - share)). So its power follows from the noncentral t distribution. The table
shows it beside the share of simulated studies in which the test finds the preference.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from rich.table import Table
from scipy import stats

from human_study.analysis.intervals import crossed_interval
from human_study.analysis.votes import Votes
from human_study.simulation.population import Population, assignment, population_with, synthetic_study
from updn_common.console import plain_console
from updn_common.errors import InputError, check_range
from updn_common.reports.bootstrap import LEVEL

_MOST_RATERS = 100_000


@dataclass(frozen=True)
class PowerConfig:
    """Which preference a study should find.

    Attributes:
        share: Preference share to find; a neutral answer counts as a half.
        neutral: Expected share of neutral answers.
        rater_sd: Standard deviation of the raters' leanings, in log-odds.
        item_sd: Standard deviation of the items' leanings, in log-odds.
        items: Number of main items.
        items_per_participant: Number of main items for each participant; 0 means all.
        raters_per_item: Numbers of raters for each item to compare.
        target: Power to reach.
        studies: Number of studies to simulate for each row; 0 means that the formula alone is shown.
        seed: Seed of the simulated answers.
    """

    share: float = 0.6
    neutral: float = 0.2
    rater_sd: float = 0.5
    item_sd: float = 0.5
    items: int = 60
    items_per_participant: int = 20
    raters_per_item: tuple[int, ...] = (3, 5, 10, 20)
    target: float = 0.8
    studies: int = 1000
    seed: int = 0


class Row(NamedTuple):
    """The power of a study of one size."""

    raters_per_item: int
    participants: int
    by_formula: float
    simulated: float | None


def power(config: PowerConfig) -> None:
    """Print the power for each number of raters, and the number that reaches the target.

    Raises:
        InputError: An option makes no sense, or no number of raters reaches the target.
    """
    rows, needed = power_rows(config)
    title = f"Power to find a preference share of {config.share:g} with {config.items} items"
    caption = f"with {config.neutral:.0%} neutral answers, by the test at 5 % that allows for raters and items"
    table = Table(title=title, caption=caption)
    for name in ("raters per item", "participants", "formula", f"{config.studies} simulated studies"):
        table.add_column(name, justify="right")
    for row in rows:
        simulated = "-" if row.simulated is None else f"{row.simulated:.1%}"
        table.add_row(str(row.raters_per_item), str(row.participants), f"{row.by_formula:.1%}", simulated)
    console = plain_console()
    console.print(table)
    console.print(
        f"{config.target:.0%} power needs {needed.raters_per_item} raters per item: {needed.participants} participants."
    )


def power_rows(config: PowerConfig) -> tuple[list[Row], Row]:
    """A row for each number of raters, and the smallest that reaches the target by the formula."""
    each = config.items_per_participant or config.items
    check_range(2, items=config.items)
    check_range(1, config.items, items_per_participant=each)
    check_range(0, rater_sd=config.rater_sd, item_sd=config.item_sd, studies=config.studies, seed=config.seed)
    check_range(0, 1, share=config.share, neutral=config.neutral, target=config.target)
    for number in config.raters_per_item:
        check_range(1, raters_per_item=number)
    population = population_with(config.share, config.neutral, config.rater_sd, config.item_sd)
    rows = []
    for number in config.raters_per_item:
        participants = -(-config.items * number // each)
        simulated = None
        if config.studies:
            simulated = simulated_power(population, config.items, each, number, config.studies, config.seed)
        rows.append(Row(number, participants, formula_power(population, participants, config.items, each), simulated))
    return rows, _needed(config, population, each)


def formula_power(population: Population, raters: int, items: int, items_per_participant: float) -> float:
    """Power of the two-sided test at 5 % by the noncentral t distribution."""
    freedom = min(raters, items) - 1
    if freedom < 1:
        return 0.0
    moments = population.moments()
    variance = moments.rater_variance / raters + moments.item_variance / items
    variance += moments.rest_variance / (raters * items_per_participant)
    null_variance = variance / (4 * moments.share * (1 - moments.share))
    shift = (moments.share - 0.5) / np.sqrt(null_variance)
    critical = stats.t.ppf((1 + LEVEL) / 2, freedom)
    return float(stats.nct.sf(critical, freedom, shift) + stats.nct.cdf(-critical, freedom, shift))


def simulated_power(
    population: Population, items: int, items_per_participant: int, raters_per_item: int, studies: int, seed: int
) -> float:
    """Share of simulated studies in which the headline test finds a preference at 5 %."""
    raters, shown, second_left = assignment(synthetic_study(items, items_per_participant, raters_per_item, seed=seed))
    rng = np.random.default_rng(seed)
    found = 0
    for _ in range(studies):
        votes = Votes(population.draw(raters, shown, rng), raters, shown, second_left)
        found += crossed_interval(votes).p_value < 1 - LEVEL
    return found / studies


def _needed(config: PowerConfig, population: Population, each: int) -> Row:
    """The smallest study that reaches the target; the power grows with the number of raters."""

    def row(number: int) -> Row:
        participants = -(-config.items * number // each)
        return Row(number, participants, formula_power(population, participants, config.items, each), None)

    low, high = 0, 1  # low does not reach the target, high does
    while row(high).by_formula < config.target:
        low, high = high, 2 * high
        if high > _MOST_RATERS:
            raise InputError(
                f"No number of raters reaches a power of {config.target:.0%} with {config.items} items: the items "
                "differ too much. Show more items, or expect a larger preference."
            )
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if row(middle).by_formula >= config.target else (middle, high)
    return row(high)
