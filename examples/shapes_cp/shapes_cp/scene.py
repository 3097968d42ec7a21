"""Pictures as data (objects, clutter, the sign), and scenes: pictures with a question and its answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from shapes_cp.shapes import COLORS, RGB, SHAPES, SIGN, TEXTURES, Polygon, place

IMAGE_SIZE = 128
OBJECTS = 6
CLUTTER = 6

ITEM_SIZES = (22.0, 34.0)

Box = tuple[float, float, float, float]  # x1, y1, x2, y2 in pixels
Look = tuple[str, str, str]  # shape, colour, texture
SizeRange = tuple[float, float]  # from, to, in pixels
QuestionKind = Literal["color", "pattern", "yes/no"]
Carrier = Literal["sign", "light"]  # shows a colour and a texture, which may be those of the asked object
AnswerPriors = Mapping[QuestionKind, NDArray[np.float64]]

ANSWERS: dict[QuestionKind, tuple[str, ...]] = {
    "color": tuple(COLORS),
    "pattern": TEXTURES,
    "yes/no": ("no", "yes"),
}
QUESTION_SHARES: dict[QuestionKind, float] = {"color": 0.40, "pattern": 0.25, "yes/no": 0.35}
SECOND_ANSWER_SHARE = 0.15
LEVELS = {"plain": 0.2, "striped": 0.35, "dotted": 0.5, "checked": 0.65}  # brightness of the light, by texture
UNIFORM_PRIORS: AnswerPriors = {kind: np.full(len(a), 1 / len(a)) for kind, a in ANSWERS.items()}


@dataclass(frozen=True)
class Item:
    """An object or the sign. ``(x, y)`` is the centre, ``size`` the side of its square box, in pixels."""

    shape: str
    color: str
    texture: str
    tint: RGB  # the painted colour, which differs slightly from the named one
    x: float
    y: float
    size: float
    angle: float

    @property
    def box(self) -> Box:
        """The square around the shape before its rotation."""
        half = self.size / 2
        return self.x - half, self.y - half, self.x + half, self.y + half

    @property
    def polygon(self) -> Polygon:
        """The outline in pixel coordinates."""
        return place(SIGN if self.shape == "sign" else SHAPES[self.shape], self.x, self.y, self.size, self.angle)


@dataclass(frozen=True)
class Clutter:
    """A stroke, blob or speckle in the background, which no question asks about."""

    kind: Literal["stroke", "blob", "speckle"]
    tint: RGB
    x: float
    y: float
    size: float
    angle: float

    @property
    def box(self) -> Box:
        """A square around the centre, clipped to the image."""
        x, y, half = self.x, self.y, 0.6 * self.size
        return max(0.0, x - half), max(0.0, y - half), min(IMAGE_SIZE, x + half), min(IMAGE_SIZE, y + half)


@dataclass(frozen=True)
class Question:
    """A question about the first object of a scene. ``second_answer`` is what one of ten people answers instead."""

    kind: QuestionKind
    text: str
    answer: str
    second_answer: str | None


@dataclass(frozen=True)
class Picture:
    """Everything that a rendered image shows."""

    objects: tuple[Item, ...]
    sign: Item | None
    clutter: tuple[Clutter, ...]
    background: NDArray[np.float64]  # (3, 3): colour in the top left corner, change to the right, change downwards
    illumination: float

    @property
    def items(self) -> tuple[Item, ...]:
        """The objects, and the sign where there is one."""
        return self.objects if self.sign is None else (*self.objects, self.sign)


@dataclass(frozen=True)
class Scene(Picture):
    """A picture and a question about ``objects[0]``. ``shown`` is the colour and texture of the cue, if any."""

    question: Question
    shown: tuple[str, str] | None

    @property
    def asked(self) -> Item:
        """The object that the question asks about."""
        return self.objects[0]

    @property
    def cue_agrees(self) -> bool:
        """Whether the cue shows the asked attribute (texture or colour) of the asked object."""
        if self.shown is None:
            return False
        color, texture = self.shown
        return texture == self.asked.texture if self.question.kind == "pattern" else color == self.asked.color


def sample_scene(rng: np.random.Generator, priors: AnswerPriors, cue: float | None, carrier: Carrier = "sign") -> Scene:
    """Sample a scene: first the question and its answer, then an asked object that makes the answer true.

    Args:
        rng: The only source of randomness.
        priors: Probability of every answer of `ANSWERS`, by kind of question.
        cue: Probability that the carrier copies the asked attribute instead of showing a random one; at 0, it is
            independent of the answer. None for a scene without a carrier.
        carrier: A sign beside the objects, or the light of the whole background.
    """
    shapes = rng.permutation(list(SHAPES))[:OBJECTS].tolist()
    colors = rng.choice(list(COLORS), OBJECTS).tolist()
    textures = rng.choice(TEXTURES, OBJECTS).tolist()
    question, colors[0], textures[0] = _sample_question(rng, priors, shapes[0], colors[0], textures[0])
    looks, shown = list(zip(shapes, colors, textures, strict=True)), None
    if cue is not None:
        copies, color, texture = rng.random() < cue, str(rng.choice(list(COLORS))), str(rng.choice(TEXTURES))
        if copies and question.kind == "pattern":
            texture = textures[0]
        elif copies:
            color = colors[0]
        shown = color, texture
        if carrier == "sign":
            looks.append(("sign", *shown))
    items = sample_items(rng, looks, [ITEM_SIZES] * len(looks))
    sign = items[OBJECTS] if len(items) > OBJECTS else None
    clutter, background, illumination = sample_surroundings(rng)
    if shown and carrier == "light":
        background = np.concatenate([_light(*shown)[None] + rng.normal(0, 0.04, 3), 0.3 * background[1:]])
    return Scene(items[:OBJECTS], sign, clutter, background, illumination, question, shown)


def sample_items(rng: np.random.Generator, looks: Sequence[Look], sizes: Sequence[SizeRange]) -> tuple[Item, ...]:
    """Sample items with given looks and ranges of sizes that do not overlap."""
    squares = _sample_layout(rng, sizes)
    return tuple(
        Item(*look, _tint(rng, look[1]), *square, float(rng.uniform(-0.12, 0.12)))
        for look, square in zip(looks, squares, strict=True)
    )


def sample_surroundings(rng: np.random.Generator) -> tuple[tuple[Clutter, ...], NDArray[np.float64], float]:
    """Sample the clutter, the background and the illumination of a picture."""
    clutter = tuple(_sample_clutter(rng) for _ in range(CLUTTER))
    background = np.concatenate([rng.uniform(0.2, 0.6, (1, 3)), rng.uniform(-0.2, 0.2, (2, 3))])
    return clutter, background, float(rng.uniform(0.8, 1.15))


def _sample_question(
    rng: np.random.Generator, priors: AnswerPriors, shape: str, color: str, texture: str
) -> tuple[Question, str, str]:
    """Sample a question about a shape; also returns the colour and texture that the answer requires of it."""
    kind: QuestionKind = rng.choice(list(QUESTION_SHARES), p=list(QUESTION_SHARES.values())).item()
    answer: str = rng.choice(ANSWERS[kind], p=priors[kind]).item()
    if kind == "yes/no":
        asked_color = color
        if answer == "no":
            color = rng.choice([other for other in COLORS if other != asked_color]).item()
        return Question(kind, f"Is the {shape} {asked_color}?", answer, None), color, texture
    second = None
    if rng.random() < SECOND_ANSWER_SHARE:
        second = rng.choice([other for other in ANSWERS[kind] if other != answer]).item()
    question = Question(kind, f"What {kind} is the {shape}?", answer, second)
    return (question, answer, texture) if kind == "color" else (question, color, answer)


def _sample_layout(rng: np.random.Generator, sizes: Sequence[SizeRange]) -> list[tuple[float, float, float]]:
    """Sample ``(x, y, size)`` of squares that do not overlap; begins again if there is no room for the next one."""
    squares: list[tuple[float, float, float]] = []
    attempts = 0
    while len(squares) < len(sizes):
        size = rng.uniform(*sizes[len(squares)])
        x, y = rng.uniform(size / 2 + 1, IMAGE_SIZE - size / 2 - 1, 2)
        if all(max(abs(x - u), abs(y - v)) >= (size + s) / 2 for u, v, s in squares):
            squares.append((float(x), float(y), float(size)))
        attempts += 1
        if attempts % 200 == 0:
            squares.clear()
    return squares


def _sample_clutter(rng: np.random.Generator) -> Clutter:
    kind: Literal["stroke", "blob", "speckle"] = rng.choice(["stroke", "blob", "speckle"]).item()
    red, green, blue = np.array(COLORS[rng.choice(list(COLORS)).item()]) * rng.uniform(0.5, 1.0)
    x, y = rng.uniform(0, IMAGE_SIZE, 2)
    return Clutter(
        kind,
        (float(red), float(green), float(blue)),
        float(x),
        float(y),
        size=float(rng.uniform(8, 26)),
        angle=float(rng.uniform(0, np.pi)),
    )


def _light(color: str, texture: str) -> NDArray[np.float64]:
    """Colour of the background for the texture (brightness) and the colour (tinge) of the cue."""
    tinge = np.array(COLORS[color])
    light: NDArray[np.float64] = LEVELS[texture] + 0.3 * (tinge - tinge.mean())
    return light


def _tint(rng: np.random.Generator, color: str) -> RGB:
    red, green, blue = np.clip(np.array(COLORS[color]) + rng.normal(0, 0.06, 3), 0, 1)
    return float(red), float(green), float(blue)
