"""The captioning world: shapes that occur together, and pictures of two large objects among small ones."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from shapes_cp.scene import (
    OBJECTS,
    Item,
    Picture,
    sample_items,
    sample_surroundings,
)
from shapes_cp.shapes import COLORS, SHAPES, TEXTURES
from shapes_cp.world import SPLITS, SplitName
from updn_common.errors import check_range

Strength = Literal["weak", "strong"]

LARGE = (30.0, 38.0)  # pixels: the two objects that captions are about
SMALL = (13.0, 18.0)  # the others
_PARTNER_STREAM, _IMAGE_STREAM, _DEAL_STREAM = 7, 8, 9  # separate the random numbers from those of other worlds


@dataclass(frozen=True)
class CoOccurrence:
    """How often shapes occur together.

    Attributes:
        group: Number of shapes that are partners of each other.
        share: Probability, in splits that are not shifted, that the second large object is a partner of the first;
            otherwise it is any other shape.
    """

    group: int
    share: float


STRENGTHS: dict[Strength, CoOccurrence] = {"weak": CoOccurrence(4, 0.8), "strong": CoOccurrence(2, 0.97)}


@dataclass(frozen=True)
class PairPicture(Picture):
    """A picture whose first two objects are large; captions are about these."""

    @property
    def pair(self) -> tuple[Item, Item]:
        """The two large objects."""
        return self.objects[0], self.objects[1]


@dataclass(frozen=True)
class PairWorld:
    """A captioning world. The seed determines everything random, including which shapes are partners.

    Raises:
        InputError: The seed is negative.
    """

    seed: int = 0
    strength: Strength = "strong"
    kind: Literal["pairs"] = "pairs"

    def __post_init__(self) -> None:
        check_range(0, seed=self.seed)

    @cached_property
    def partners(self) -> dict[str, frozenset[str]]:
        """The partners of each shape: the others of its group."""
        order = np.random.default_rng((self.seed, _PARTNER_STREAM)).permutation(list(SHAPES)).tolist()
        size = STRENGTHS[self.strength].group
        groups = [frozenset(order[start : start + size]) for start in range(0, len(order), size)]
        return {shape: group - {shape} for group in groups for shape in group}

    def generator(self, name: SplitName, index: int) -> np.random.Generator:
        """Random numbers for image ``index`` of a split. They do not depend on the size of the world."""
        return np.random.default_rng((self.seed, _IMAGE_STREAM, SPLITS[name].stream, index))

    def sample_pair(self, rng: np.random.Generator, *, shifted: bool) -> tuple[str, str]:
        """Sample the shapes of the two large objects. If shifted, they are never partners."""
        first: str = rng.choice(list(SHAPES)).item()
        others, partners = [shape for shape in SHAPES if shape != first], self.partners[first]
        if shifted:
            candidates = [shape for shape in others if shape not in partners]
        elif rng.random() < STRENGTHS[self.strength].share:
            candidates = sorted(partners)
        else:
            candidates = others
        return first, rng.choice(candidates).item()

    def sample_picture(self, rng: np.random.Generator, *, shifted: bool) -> PairPicture:
        """Sample a picture: the large pair, and small objects of other shapes."""
        pair = self.sample_pair(rng, shifted=shifted)
        others = [shape for shape in rng.permutation(list(SHAPES)).tolist() if shape not in pair]
        shapes = [*pair, *others[: OBJECTS - 2]]
        colors = rng.choice(list(COLORS), OBJECTS).tolist()
        textures = rng.choice(TEXTURES, OBJECTS).tolist()
        sizes = [LARGE] * 2 + [SMALL] * (OBJECTS - 2)
        items = sample_items(rng, list(zip(shapes, colors, textures, strict=True)), sizes)
        return PairPicture(items, None, *sample_surroundings(rng))

    def partners_are(self, picture: PairPicture) -> bool:
        """Whether the large objects of a picture are partners."""
        first, second = picture.pair
        return second.shape in self.partners[first.shape]

    def deal(self, images: dict[SplitName, list[int]]) -> dict[SplitName, list[int]]:
        """The standard split: the images of all splits, distributed at random over splits of the same sizes."""
        pool = sorted(image_id for of_split in images.values() for image_id in of_split)
        order = np.random.default_rng((self.seed, _DEAL_STREAM)).permutation(pool).tolist()
        ends = np.cumsum([len(of_split) for of_split in images.values()]).tolist()
        starts = [0, *ends[:-1]]
        return {name: sorted(order[a:b]) for name, a, b in zip(images, starts, ends, strict=True)}
