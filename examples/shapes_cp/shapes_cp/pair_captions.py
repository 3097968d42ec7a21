"""Five sentences about the two large objects of a picture.

The grammar, with alternatives and their weights::

    caption  -> [there is] THING (RELATION | and | with) THING
    THING    -> a SHAPE (2) | a COLOR SHAPE (2) | a [TEXTURE] COLOR SHAPE (1)
    RELATION -> above | below | to the left of | to the right of | next to, as the picture shows it

Each sentence begins with either of the two, so that a model can guess the second one from the beginning of the
sentence, or see it in the picture. A plain texture is not mentioned.
"""

import numpy as np

from shapes_cp.captions import CAPTIONS, noun_phrase, relation
from shapes_cp.pairs import PairPicture
from shapes_cp.scene import Item

_RELATION_SHARE = 0.6
_CONJUNCTIONS = ("and", "with")
_ATTRIBUTES = (0, 0, 1, 1, 2)  # numbers of attributes of an object that are mentioned, equally likely


def describe_pair(picture: PairPicture, rng: np.random.Generator) -> list[str]:
    """Captions such as "there is a circle to the left of a striped blue star"."""
    captions = []
    for _ in range(CAPTIONS):
        first, second = (picture.pair[i] for i in rng.permutation(2))
        opening = rng.choice(["", "there is "]).item()
        link = rng.choice(_CONJUNCTIONS).item()
        if rng.random() < _RELATION_SHARE:
            link = relation(first, second)
        captions.append(f"{opening}{_thing(first, rng)} {link} {_thing(second, rng)}")
    return captions


def _thing(item: Item, rng: np.random.Generator) -> str:
    return noun_phrase(item, attributes=rng.choice(_ATTRIBUTES).item())
