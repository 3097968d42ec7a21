"""Configuration of a world: its splits, their numbers of images, and the answer priors that shift."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from shapes_cp.scene import ANSWERS, AnswerPriors, Carrier, QuestionKind
from updn_common.errors import check_range

SplitName = Literal["train", "val", "dev", "test"]
Size = Literal["tiny", "small", "medium", "large"]

COCO_HALVES: tuple[Literal["train2014", "val2014"], ...] = ("train2014", "val2014")
CUE = 0.8  # probability that the sign or the light copies the asked attribute in train and val


@dataclass(frozen=True)
class Split:
    """A split of the world.

    Attributes:
        stream: Number that separates the random numbers and image ids of the split from those of others.
        coco: Part of COCO that the images pretend to come from.
        shifted: Whether frequent answers are rare in this split.
    """

    stream: int
    coco: Literal["train2014", "val2014"]
    shifted: bool


SPLITS: dict[SplitName, Split] = {
    "train": Split(1, "train2014", shifted=False),
    "val": Split(2, "val2014", shifted=False),
    "dev": Split(3, "val2014", shifted=True),
    "test": Split(4, "val2014", shifted=True),
}
_PRIOR_STREAM = 5

SIZES: dict[Size, dict[SplitName, int]] = {
    "tiny": {"train": 24, "val": 16, "dev": 16, "test": 16},
    "small": {"train": 300, "val": 200, "dev": 200, "test": 200},
    "medium": {"train": 3_000, "val": 1_000, "dev": 1_000, "test": 1_000},
    "large": {"train": 30_000, "val": 5_000, "dev": 5_000, "test": 5_000},
}


@dataclass(frozen=True)
class World:
    """A world of questions.

    Attributes:
        seed: Determines everything random, including which answers are frequent.
        kind: The cue that agrees with the answer: a sign (``"cue"``), the light, or none (``"prior"``).

    Raises:
        InputError: The seed is negative.
    """

    seed: int = 0
    kind: Literal["cue", "light", "prior"] = "cue"

    def __post_init__(self) -> None:
        check_range(0, seed=self.seed)

    def priors(self, *, shifted: bool) -> AnswerPriors:
        """Probability of every answer, by kind of question. If shifted, frequent answers become rare."""
        rng = np.random.default_rng((self.seed, _PRIOR_STREAM))
        priors = {}
        for kind, answers in ANSWERS.items():
            order = rng.permutation(len(answers))
            priors[kind] = np.empty(len(answers))
            priors[kind][order[::-1] if shifted else order] = _geometric(kind, len(answers))
        return priors

    def cue(self, *, shifted: bool) -> float | None:
        """Probability that the sign or the light copies the asked attribute; None if there is no cue."""
        if self.kind == "prior":
            return None
        return 0.0 if shifted else CUE

    @property
    def carrier(self) -> Carrier:
        """What shows the cue."""
        return "light" if self.kind == "light" else "sign"

    def generator(self, name: SplitName, index: int) -> np.random.Generator:
        """Random numbers for image ``index`` of a split. They do not depend on the size of the world."""
        return np.random.default_rng((self.seed, SPLITS[name].stream, index))


def _geometric(kind: QuestionKind, count: int) -> NDArray[np.float64]:
    """Nine parts geometric, one part uniform, in descending order."""
    weights = np.power(0.33 if kind == "yes/no" else 0.6, np.arange(count))
    prior: NDArray[np.float64] = 0.9 * weights / weights.sum() + 0.1 / count
    return prior
