"""The model of people that simulated answers come from, and what it says about the preference share.

Rater r with a leaning u_r looks at item i with a leaning v_i. The log-odds of preferring the second network to the
first are eta = preference + u_r + v_i, with independent u ~ N(0, rater_sd^2) and v ~ N(0, item_sd^2). Neutral answers
follow Davidson (1970, J. Am. Stat. Assoc. 65): the three answers have probabilities in the proportion

    second : first : neutral  =  exp(eta / 2) : exp(-eta / 2) : neutral.

So neutral answers are most frequent where there is least to choose, and among the others the model is logistic.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.polynomial.hermite_e import hermegauss
from scipy import optimize

from human_study.folder.design import Design
from human_study.folder.items import Item
from human_study.folder.settings import Settings
from updn_common.errors import InputError

_NODES = 40
STRONG = 0.4
"""Share of clear preferences (two steps from the middle) among answers that are not neutral."""


class Moments(NamedTuple):
    """Mean of an answer's points (1, a half or 0), and how its variance divides."""

    share: float
    neutral: float
    """Share of neutral answers."""
    rater_variance: float
    """Variance of a rater's mean over all items."""
    item_variance: float
    """Variance of an item's mean over all raters."""
    rest_variance: float
    """The rest: of a rater's answer to an item."""


@dataclass(frozen=True)
class Population:
    """Raters and items to draw answers from.

    Attributes:
        preference: Log-odds that a typical rater prefers the second network on a typical item.
        neutral: Weight of neutral answers in Davidson's model; 0 means that nobody is neutral.
        rater_sd: Standard deviation of the raters' leanings, in log-odds.
        item_sd: Standard deviation of the items' leanings, in log-odds.
    """

    preference: float
    neutral: float
    rater_sd: float
    item_sd: float

    def moments(self) -> Moments:
        """Moments of an answer by a random rater to a random item, by Gauss-Hermite quadrature."""
        nodes, weights = hermegauss(_NODES)
        weights = weights / weights.sum()
        eta = self.preference + self.rater_sd * nodes[:, None] + self.item_sd * nodes
        second, neutral = probabilities(eta, self.neutral)
        points = second + neutral / 2
        share = weights @ points @ weights
        square = weights @ (second + neutral / 4) @ weights - share**2
        rater = weights @ (points @ weights) ** 2 - share**2
        item = weights @ (weights @ points) ** 2 - share**2
        return Moments(*map(float, (share, weights @ neutral @ weights, rater, item, square - rater - item)))

    def draw(
        self, raters: Int[np.ndarray, " N"], items: Int[np.ndarray, " N"], rng: np.random.Generator
    ) -> Int[np.ndarray, " N"]:
        """Answers from -2 (clearly the first network) to 2, by new raters to new items.

        Args:
            raters: The rater of each answer, numbered from 0.
            items: The item of each answer, numbered from 0.
            rng: Source of randomness.
        """
        eta = self.preference + self.rater_sd * rng.standard_normal(raters.max() + 1)[raters]
        eta = eta + self.item_sd * rng.standard_normal(items.max() + 1)[items]
        return draw_steps(eta, self.neutral, rng)


def probabilities(
    eta: Float[np.ndarray, "*S"], neutral: float
) -> tuple[Float[np.ndarray, "*S"], Float[np.ndarray, "*S"]]:
    """Probabilities that an answer prefers the second network, and that it is neutral."""
    second, first = np.exp(eta / 2), np.exp(-eta / 2)
    total = second + first + neutral
    return second / total, neutral / total


def draw_steps(eta: Float[np.ndarray, " N"], neutral: float, rng: np.random.Generator) -> Int[np.ndarray, " N"]:
    """Answers from -2 to 2 by Davidson's model, a share `STRONG` of the preferences being clear ones."""
    second, middle = probabilities(eta, neutral)
    chance = rng.random(len(eta))
    direction = np.where(chance < second, 1, np.where(chance < second + middle, 0, -1))
    return direction * np.where(rng.random(len(eta)) < STRONG, 2, 1)


def population_with(share: float, neutral: float, rater_sd: float, item_sd: float) -> Population:
    """The population that prefers the second network by a given share.

    Args:
        share: Preference share, neutral answers counted as a half.
        neutral: Share of neutral answers.
        rater_sd: Standard deviation of the raters' leanings, in log-odds.
        item_sd: Standard deviation of the items' leanings, in log-odds.

    Raises:
        InputError: No preference has this share and so many neutral answers.
    """

    def missed(unknown: Float[np.ndarray, " 2"]) -> list[float]:
        found = Population(unknown[0], np.exp(unknown[1]), rater_sd, item_sd).moments()
        return [found.share - share, found.neutral - neutral]

    if neutral == 0:
        if not 0 < share < 1:
            raise InputError(f"The preference share should be between 0 and 1, found {share}.")
        root = optimize.brentq(lambda beta: Population(beta, 0.0, rater_sd, item_sd).moments().share - share, -50, 50)
        return Population(root, 0.0, rater_sd, item_sd)
    found = optimize.root(missed, np.array([4 * (share - 0.5), np.log(2 * neutral / (1 - neutral))]), tol=1e-10)
    if not found.success or np.abs(missed(found.x)).max() > 1e-6:
        raise InputError(
            f"No population has a preference share of {share:g} with {neutral:.0%} neutral answers. A neutral answer "
            "counts as a half: choose a share nearer to 0.5, or fewer neutral answers."
        )
    return Population(float(found.x[0]), float(np.exp(found.x[1])), rater_sd, item_sd)


class Assignment(NamedTuple):
    """Who answers what in a study without practice items and checks: N answers."""

    raters: Int[np.ndarray, " N"]
    items: Int[np.ndarray, " N"]
    second_left: Bool[np.ndarray, " N"]


def synthetic_study(
    items: int, items_per_participant: int, raters_per_item: int, *, checks: int = 0, seed: int = 0
) -> Design:
    """The design of a study of two networks, ``base`` and ``hint``, that has no pictures."""
    if items_per_participant > items:
        raise InputError(f"A participant cannot judge {items_per_participant} of {items} items.")
    settings = Settings(
        id="synthetic",
        title="A study without pictures",
        seed=seed,
        raters_per_item=raters_per_item,
        items_per_participant=items_per_participant,
        language="en",
        contact="",
        completion_code="",
        importance="unsigned",
        split="none",
        arms={"base": {}, "hint": {}},
        made_by={},
    )
    made = [
        Item(f"item{k:04}", "main", "?", (), "", f"group {k % 3}", "", {"base": "", "hint": ""}) for k in range(items)
    ]
    made += [
        Item(f"check{k}", "check", "?", (), "", "", "", {"decoy": "", "valid": ""}, "valid") for k in range(checks)
    ]
    return Design(settings, {item.id: item for item in made})


def assignment(design: Design, participants: int = 0) -> Assignment:
    """The main items of the first participants of a design; by default, as many as it needs."""
    numbers = {unit.item: k for k, unit in enumerate(design.units)}
    rows = [
        (row, numbers[placement.item], placement.left == max(placement.left, placement.right))
        for row in range(participants or design.rows)
        for placement in design.main(row)
    ]
    raters, items, second_left = np.array(rows, dtype=np.int64).T
    return Assignment(raters, items, second_left.astype(bool))
