"""Captions of an image before and after training, and the importance for each visual word, as numbers and picture."""

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
from hint_loss.plot import draw_importance
from updn_captioning.data.prepared import CaptionBatch, CaptionSplit, PreparedData
from updn_captioning.data.visual_words import VisualWord
from updn_captioning.evaluation.grounding import generated_batch, word_weights
from updn_captioning.networks.updn import UpDnCaptioner
from updn_common.reports.explanation import save_figure
from updn_common.reports.figures import draw_words, plain_text
from updn_common.reports.gallery import COLOURS

By = Literal["gradient", "attention"]
WIDTH = 34
"""Characters in a line of a caption."""


class ExplainedCaption(NamedTuple):
    """A caption of an image, and the importance (or attention) of proposals for each of its W visual words."""

    caption: str
    words: Sequence[VisualWord]
    weights: Float64[Tensor, "W K"]
    rank_correlation: float
    """With human importance: the mean over words that have hints; NaN if none has."""
    pointing: float
    """The share of words whose most important proposal shows their category; NaN if that is unknown for all."""

    def of(self, category: int) -> int | None:
        """Position of the first visual word that names a category; None if none does."""
        return next((i for i, word in enumerate(self.words) if word.category == category), None)


def explain_caption(
    model: UpDnCaptioner, data: PreparedData, split: CaptionSplit, position: int, caption: Sequence[int], by: By
) -> ExplainedCaption:
    """Measure a network on a caption, given as indices of words, of one of a split's images."""
    text = data.vocabulary.decode(caption)
    words = data.visual_words.find(text.split())
    batch = generated_batch(split, [position], [caption], [words])
    weights = getattr(word_weights(model, batch), by)[0]
    human, relevant = batch.human[0].double(), batch.relevant[0]
    correlations = rank_correlation(weights, human, mask=~human.isnan())
    points = pointing_game(weights, relevant, mask=batch.mask.expand_as(relevant))
    return ExplainedCaption(text, words, weights, correlations.nanmean().item(), points.nanmean().item())


@plain_text()
def draw_explanation(
    image: Image.Image,
    batch: CaptionBatch,
    pair: tuple[ExplainedCaption, ExplainedCaption],
    there: Collection[int],
    categories: Sequence[str],
    path: Path,
) -> tuple[int, int]:
    """Draw human importance and the importance for two networks, in a row for each category that they name.

    Args:
        image: The image.
        batch: A batch of this image, with a visual word for each category in the order of `named_categories`.
        pair: The captions before and after.
        there: Indices of the categories that are in the image.
        categories: Names of all categories.
        path: Path of the PNG to write.

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
    boxes = batch.boxes[0]
    for row, category in enumerate(named):
        name, human = _cut(categories[category]), batch.human[0, row]
        if human.isnan().any():
            _nothing(axes[row, 1], image, f"no {name} is marked")
        else:
            draw_importance(axes[row, 1], image, boxes, human - 0.5)  # above 0: inside more than outside
            axes[row, 1].set_title(f"people: {name}", fontsize=11)
        for panel, said, when in zip(axes[row, 2:], pair, ("before", "after"), strict=True):
            word = said.of(category)
            _caption(panel, said, word, when, there)
            if word is None:
                _nothing(panel, image, f"does not say {name}")
            else:
                draw_importance(panel, image, boxes, said.weights[word])
    return save_figure(figure, path)


def _cut(text: str) -> str:
    """Shorten a word that is longer than a line, which would leave no room for the picture."""
    return text if len(text) < WIDTH else f"{text[: WIDTH - 2]}…"


def _nothing(panel: Axes, image: Image.Image, why: str) -> None:
    """Draw the image pale, with the reason why there is no importance to draw."""
    panel.imshow(Image.blend(image.convert("RGB"), Image.new("RGB", image.size, "white"), 0.85))
    panel.text(0.5, 0.5, why, transform=panel.transAxes, ha="center", va="center", fontsize=11)


def named_categories(pair: tuple[ExplainedCaption, ExplainedCaption]) -> list[int]:
    """Categories that either caption names, in the order of their first words."""
    return list(dict.fromkeys(word.category for said in pair for word in said.words))


def _caption(panel: Axes, said: ExplainedCaption, word: int | None, when: str, there: Collection[int]) -> None:
    """Write a caption above a panel and mark a visual word: green if its object is there, red if not."""
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
