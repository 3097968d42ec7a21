"""What two captioners said of an image and looked at for each visual word, as numbers and as a picture."""

import textwrap
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import matplotlib.pyplot as plt
from jaxtyping import Float64
from matplotlib.axes import Axes
from PIL import Image
from torch import Tensor

from hint_loss import pointing_game, rank_correlation
from updn_captioning.data.prepared import CaptionBatch, CaptionSplit, PreparedData
from updn_captioning.data.visual_words import VisualWord
from updn_captioning.evaluation.grounding import generated_batch, word_weights
from updn_captioning.networks.updn import UpDnCaptioner
from updn_common.reports.figures import draw_importance, draw_words, plain_text
from updn_common.reports.gallery import COLOURS

By = Literal["gradient", "attention"]
WIDTH = 34
"""Characters in a line of a caption."""


class Said(NamedTuple):
    """A caption of an image, and how the network looked at the proposals for each of its W visual words."""

    caption: str
    words: Sequence[VisualWord]
    looked: Float64[Tensor, "W K"]
    rank_correlation: float
    """With human importance, the mean over words that have any; NaN without one."""
    pointing: float
    """The share of words whose most important proposal shows the category; NaN where that is not known."""

    def of(self, category: int) -> int | None:
        """The first of the visual words that names a category; None if it is not named."""
        return next((i for i, word in enumerate(self.words) if word.category == category), None)


def look(
    model: UpDnCaptioner, data: PreparedData, split: CaptionSplit, position: int, caption: Sequence[int], by: By
) -> Said:
    """Let a network read a caption of one of a split's images, given as indices of words."""
    text = data.vocabulary.decode(caption)
    words = data.visual_words.find(text.split())
    batch = generated_batch(split, [position], [caption], [words])
    looked = getattr(word_weights(model, batch), by)[0]
    human, relevant = batch.human[0].double(), batch.relevant[0]
    correlations = rank_correlation(looked, human, mask=~human.isnan())
    points = pointing_game(looked, relevant, mask=batch.mask.expand_as(relevant))
    return Said(text, words, looked, correlations.nanmean().item(), points.nanmean().item())


@plain_text()
def draw_explanation(
    image: Image.Image,
    batch: CaptionBatch,
    pair: tuple[Said, Said],
    there: Collection[int],
    categories: Sequence[str],
    path: Path,
) -> tuple[int, int]:
    """Draw an image, what people marked, and what two networks looked at; a row for each category that they name.

    Args:
        image: The image.
        batch: It alone, with a visual word for each of these categories, in the order of `named_categories`.
        pair: What was said before and after.
        there: Categories that are in the image.
        categories: Their names.
        path: The PNG.

    Returns:
        The picture's width and height.
    """
    named = named_categories(pair)
    rows = max(1, len(named))
    height = 0.75 + 3.2 * image.height / image.width
    figure, axes = plt.subplots(rows, 4, figsize=(4 * 3.2, rows * height), layout="constrained", squeeze=False)
    for panel in axes.flat:
        panel.set_axis_off()
    axes[0, 0].imshow(image)
    if not named:
        for panel, said, when in zip(axes[0, 2:], pair, ("before", "after"), strict=True):
            _caption(panel, said, None, when, there)
            _nothing(panel, image, "names nothing")
    boxes = batch.boxes[0].numpy()
    for row, category in enumerate(named):
        name, human = _cut(categories[category]), batch.human[0, row]
        if human.isnan().any():
            _nothing(axes[row, 1], image, f"no {name} is marked")
        else:
            draw_importance(axes[row, 1], image, boxes, human.numpy() - 0.5)  # above 0: inside more than outside
            axes[row, 1].set_title(f"people: {name}", fontsize=11)
        for panel, said, when in zip(axes[row, 2:], pair, ("before", "after"), strict=True):
            word = said.of(category)
            _caption(panel, said, word, when, there)
            if word is None:
                _nothing(panel, image, f"does not say {name}")
            else:
                draw_importance(panel, image, boxes, said.looked[word].numpy())
    figure.savefig(path, dpi=110, bbox_inches="tight")
    plt.close(figure)
    with Image.open(path) as picture:
        return picture.size


def _cut(text: str) -> str:
    """A word that is longer than a line of a caption would leave no room for the picture."""
    return text if len(text) < WIDTH else f"{text[: WIDTH - 2]}…"


def _nothing(panel: Axes, image: Image.Image, why: str) -> None:
    """A pale image that says why nothing is lit."""
    panel.imshow(Image.blend(image.convert("RGB"), Image.new("RGB", image.size, "white"), 0.85))
    panel.text(0.5, 0.5, why, transform=panel.transAxes, ha="center", va="center", fontsize=11)


def named_categories(pair: tuple[Said, Said]) -> list[int]:
    """The categories that either names, in the order of their first words."""
    return list(dict.fromkeys(word.category for said in pair for word in said.words))


def _caption(panel: Axes, said: Said, word: int | None, when: str, there: Collection[int]) -> None:
    """Write a caption above a panel, with a visual word marked: green for what is there, red for what is not."""
    marked, colour = range(0), ""
    if word is not None:
        found = said.words[word]
        marked, colour = range(found.begin, found.end), COLOURS["good" if found.category in there else "bad"]
    words = [_cut(text) for text in said.caption.split()]
    ends = [len(line.split()) for line in textwrap.wrap(" ".join([f"{when}:", *words]), WIDTH, break_long_words=False)]
    coloured = [(f"{when}:", ""), *((text, colour if i in marked else "") for i, text in enumerate(words))]
    lines, begin = [], 0
    for length in ends:
        lines.append(coloured[begin : begin + length])
        begin += length
    draw_words(panel, lines)
