"""Five plain sentences about the positions of objects relative to each other."""

import numpy as np

from shapes_cp.scene import Item, Scene

CAPTIONS = 5


def describe(scene: Scene, rng: np.random.Generator) -> list[str]:
    """Captions such as "a red circle to the left of a striped blue star", each about a random pair of objects."""
    captions = []
    for _ in range(CAPTIONS):
        first, second = rng.choice(len(scene.objects), 2, replace=False)
        a, b = scene.objects[first], scene.objects[second]
        link = rng.choice([relation(a, b), "and"]).item()
        opening = rng.choice(["", "there is "]).item()
        captions.append(f"{opening}{noun_phrase(a)} {link} {noun_phrase(b)}")
    return captions


def relation(a: Item, b: Item) -> str:
    """Position of ``a`` relative to ``b``, along the axis on which they are farther apart."""
    right, down = a.x - b.x, a.y - b.y
    if max(abs(right), abs(down)) < 1.5 * max(a.size, b.size):
        return "next to"
    if abs(right) > abs(down):
        return "to the right of" if right > 0 else "to the left of"
    return "below" if down > 0 else "above"


def noun_phrase(item: Item, attributes: int = 2) -> str:
    """A phrase such as "an orange star": the shape with no attribute, its colour (1), or colour and texture (2)."""
    words = [item.color, item.shape] if attributes else [item.shape]
    if attributes == 2 and item.texture != "plain":
        words.insert(0, item.texture)
    return " ".join(["an" if words[0][0] in "aeiou" else "a", *words])
