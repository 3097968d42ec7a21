"""The answers to one question about one pair of networks, as arrays."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from human_study.analysis.answers import Answer, Question


@dataclass(frozen=True)
class Votes:
    """N answers to one question about one pair of networks, of which ``second`` comes later in the alphabet.

    Attributes:
        steps: From -2 (clearly the first network) to 2 (clearly the second); 0 is neutral.
        raters: The rater of each answer, numbered from 0 without gaps.
        items: The item of each answer, numbered from 0 without gaps.
        second_left: Whether the second network was on the left.
        item_ids: Id of each item.
    """

    steps: Int[np.ndarray, " N"]
    raters: Int[np.ndarray, " N"]
    items: Int[np.ndarray, " N"]
    second_left: Bool[np.ndarray, " N"]
    item_ids: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def points(self) -> Float[np.ndarray, " N"]:
        """1 for each answer that prefers the second network, 0 for the first, and a half for a neutral answer."""
        found: Float[np.ndarray, " N"] = (1 + np.sign(self.steps)) / 2
        return found

    @property
    def counts(self) -> tuple[int, int, int]:
        """Number of answers that prefer the first network, are neutral, and prefer the second."""
        return int((self.steps < 0).sum()), int((self.steps == 0).sum()), int((self.steps > 0).sum())

    @property
    def n_raters(self) -> int:
        """Number of raters."""
        return len(np.unique(self.raters))

    @property
    def n_items(self) -> int:
        """Number of items."""
        return len(np.unique(self.items))

    def where(self, chosen: Bool[np.ndarray, " N"]) -> "Votes":
        """Some of the answers; their raters and items are numbered anew."""
        kept, items = np.unique(self.items[chosen], return_inverse=True)
        ids = tuple(self.item_ids[item] for item in kept) if self.item_ids else ()
        raters = np.unique(self.raters[chosen], return_inverse=True)[1]
        return Votes(self.steps[chosen], raters, items, self.second_left[chosen], ids)


def collect_votes(answers: Iterable[Answer], pair: tuple[str, str], question: Question) -> Votes:
    """The votes on main items about a pair of networks."""
    chosen = [answer for answer in answers if answer.kind == "main" and answer.pair == pair]
    second_left = np.array([answer.left == pair[1] for answer in chosen], dtype=bool)
    to_the_right = np.array([getattr(answer, question) for answer in chosen], dtype=np.int64)
    ids, items = np.unique([answer.item for answer in chosen], return_inverse=True)
    raters = np.unique([answer.participant for answer in chosen], return_inverse=True)[1]
    return Votes(np.where(second_left, -to_the_right, to_the_right), raters, items, second_left, tuple(map(str, ids)))
