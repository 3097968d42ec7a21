"""Pictures of each visual word's importance or attention, before and after training with hints.

The command is ``updn-captioning explain`` (the paper's Figures 4 and 7).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from updn_captioning.data.prepared import CaptionSplit, PreparedData
from updn_captioning.data.visual_words import VisualWord
from updn_captioning.data.vocabulary import UNKNOWN
from updn_captioning.evaluation.explain_image import (
    By,
    ExplainedCaption,
    draw_explanation,
    explain_caption,
    named_categories,
)
from updn_captioning.evaluation.grounding import MEASURES, CaptionKind, Words, generated_batch
from updn_captioning.evaluation.measures import evaluate_run
from updn_captioning.networks.generate import Decoding, generate, load_model
from updn_captioning.networks.updn import UpDnCaptioner
from updn_captioning.scores.chair import present_objects
from updn_common.console import plain_console
from updn_common.files.writing import new_directory
from updn_common.progress import track
from updn_common.reports.explanation import Choice, ExplainOptions, change_fact, choose_samples, orders
from updn_common.reports.figures import ImageFolder, find_images, open_image
from updn_common.reports.gallery import Card, Fact, Tone, write_gallery
from updn_common.runs.processes import make_accelerator

CHOSEN: dict[Choice, str] = {
    "most-improved": "Images whose visual words gained most grounding",
    "most-harmed": "Images whose visual words lost most grounding",
    "random": "Images chosen at random",
}
"""How the page describes each choice."""
READ_CAPTIONS: dict[CaptionKind, str] = {
    "generated": "Each network reads its own caption.",
    "reference": "Both networks read the same caption of a person.",
}
PICTURES: dict[By, str] = {
    "gradient": (
        "Proposals in colour, tinted orange, support the marked word: their importance, the gradient of its "
        "log-probability, is positive. The outline marks the most important proposal (none in a tie). If no importance "
        "is positive, all is grey, and the outline still marks the highest."
    ),
    "attention": (
        "Proposals in colour, tinted orange, have high attention weights at the marked word. The outline marks the "
        "highest weight (none in a tie)."
    ),
}
READING_GUIDE = (
    "Each row is a category that either caption names. {} Each picture is scaled to its own maximum. In the pictures "
    "of people, proposals in colour lie inside the objects' masks rather than outside. The marked word is green if "
    "there is such an object in the image (annotated, or named by any person), red if there is none. Rank correlation "
    "is Spearman's, between the importance of proposals for the network and for people, averaged over the caption's "
    "visual words. Pointing is the share of visual words whose most important proposal is on an object of their "
    "category, among words whose category some proposal shows."
)
TONES: dict[Tone, str] = {
    "good": "names only what is there",
    "bad": "names what is not there",
    "": "names nothing",
}
"""Meaning of the colours of captions."""


@dataclass(frozen=True)
class ExplainConfig(ExplainOptions):
    """Which images to explain, by which two runs.

    Attributes:
        image_ids: COCO ids of the images. Default: chosen by ``choose``.
        words: Explain the visual words of each network's own caption, or of one person's caption for both networks.
        by: Draw the importance that HINT trains, or attention weights.
        decoding: How captions are generated.
        cpu: Use the CPU even where there is a GPU.
    """

    image_ids: tuple[int, ...] = ()
    words: CaptionKind = "generated"
    by: By = "gradient"
    decoding: Decoding = field(default_factory=Decoding)
    cpu: bool = False

    def check(self) -> None:
        """Check the ranges of the options; see `ExplainOptions.check`."""
        super().check()
        self.decoding.check()


def explain(config: ExplainConfig) -> None:
    """Write a PNG for each image, and ``index.html``, where they can be searched, filtered and sorted.

    Raises:
        InputError: A run or an image does not exist, or an option is out of range; nothing is left behind.
    """
    config.check()
    data = PreparedData.open(config.data)
    split = data.split(config.split)
    images = find_images(config.images)
    models = [load_model(config.before, data, option="--before"), load_model(config.after, data, option="--after")]
    with new_directory(config.out) as out:
        positions = split.positions(config.image_ids) if config.image_ids else choose_images(config, data, split)
        cards = draw_explanations(config, models, data, split, positions, images, out)
        introduction = config.introduction("Images chosen by hand" if config.image_ids else CHOSEN[config.choose])
        guide = READING_GUIDE.format(PICTURES[config.by])
        title = "What two captioners look at"
        write_gallery(out / "index.html", title, f"{introduction} {READ_CAPTIONS[config.words]}", guide, cards)
    plain_console(soft_wrap=True).print(f"{config.out / 'index.html'}: {len(cards)} images")


def choose_images(config: ExplainConfig, data: PreparedData, split: CaptionSplit) -> Int64[Tensor, " M"]:
    """Choose positions of images; see `choose_samples`."""
    total = len(split.image_ids)
    return choose_samples(config.choose, config.count, config.seed, total, lambda: _changes(config, data, split))


def _changes(config: ExplainConfig, data: PreparedData, split: CaptionSplit) -> Float64[Tensor, " I"]:
    """Change of the mean rank correlation over the words of people's captions of each image."""
    accelerator = make_accelerator(cpu=config.cpu)
    before, after = (
        evaluate_run(run, data, split, accelerator, decoding=config.decoding, reuse=True).words["reference"]
        for run in (config.before, config.after)
    )
    measure = MEASURES.index(f"{config.by}_rank_correlation")
    return (_by_image(after, measure, split) - _by_image(before, measure, split)).nan_to_num()


def _by_image(words: Words, measure: int, split: CaptionSplit) -> Float64[Tensor, " I"]:
    """Mean of a measure over the words of each image; NaN for an image without words."""
    column = words.measures[:, measure]
    known = ~column.isnan()
    sums = torch.zeros(2, len(split.image_ids), dtype=torch.float64)
    sums.index_add_(1, words.images[known], torch.stack([column[known], torch.ones_like(column[known])]))
    return sums[0] / sums[1]


def draw_explanations(
    config: ExplainConfig,
    models: Sequence[UpDnCaptioner],
    data: PreparedData,
    split: CaptionSplit,
    positions: Int64[Tensor, " N"],
    images: ImageFolder,
    out: Path,
) -> list[Card]:
    """Draw a PNG for each image."""
    accelerator = make_accelerator(cpu=config.cpu)
    own = [
        generate(model.to(accelerator.device), split, accelerator, config.decoding, positions=positions)
        for model in models
    ]
    cards = []
    for i, position in enumerate(track(positions.tolist(), "figures")):
        captions = [captions[i] for captions in own]
        read = captions if config.words == "generated" else [person_caption(data, split, position)] * 2
        before, after = (
            explain_caption(model.cpu(), data, split, position, caption, config.by)
            for model, caption in zip(models, read, strict=True)
        )
        image_id = split.image_ids[position]
        named = [VisualWord(0, 0, category) for category in named_categories((before, after))]
        batch = generated_batch(split, [position], [[]], [named])
        references = {image_id: split.references[image_id]}
        there = present_objects(references, split.annotated, data.visual_words)[image_id]
        width, height = batch.sizes[0].tolist()
        path = out / f"{image_id}.png"
        with open_image(images, image_id, "", (width, height)) as image:
            size = draw_explanation(image, batch, (before, after), there, data.categories, path)
        title = before.caption if config.words == "reference" else references[image_id][0]
        said = [data.vocabulary.decode(caption) for caption in captions]
        tones = [_tone([word.category in there for word in data.visual_words.find(text.split())]) for text in said]
        cards.append(_card(path.name, size, title, said, tones, (before, after)))
    return cards


def person_caption(data: PreparedData, split: CaptionSplit, position: int) -> list[int]:
    """The first of those references of an image that name most of its annotated categories."""
    image_id = split.image_ids[position]

    def grounded(text: str) -> int:
        categories = {word.category for word in data.visual_words.find(text.split())}
        return sum((image_id, category) in split.annotated for category in categories)

    text = max(split.references[image_id], key=grounded)
    return [data.vocabulary.index.get(word, UNKNOWN) for word in text.split()]


def _tone(named: Sequence[bool]) -> Tone:
    """Tone of a caption, given whether each object that it names is there."""
    return "" if not named else "good" if all(named) else "bad"


def _card(
    path: str,
    size: tuple[int, int],
    title: str,
    own: Sequence[str],
    tones: Sequence[Tone],
    pair: tuple[ExplainedCaption, ExplainedCaption],
) -> Card:
    """The card of an image, with what the page filters and sorts by.

    Args:
        path: Path of the picture.
        size: Size of the picture.
        title: A person's caption.
        own: The networks' own captions.
        tones: Tones of these captions; see `TONES`.
        pair: The captions that are drawn.
    """
    before, after = pair
    times = ("before", "after")
    facts = [Fact(when, text or "(nothing)", tone) for when, text, tone in zip(times, own, tones, strict=True)]
    measures = {
        "rank correlation": (before.rank_correlation, after.rank_correlation, 2),
        "pointing %": (100 * before.pointing, 100 * after.pointing, 0),
    }
    for name, (one, other, digits) in measures.items():
        if not (math.isnan(one) and math.isnan(other)):
            facts.append(change_fact(name, one, other, digits))
    return Card(
        path=path,
        size=size,
        title=title,
        facts=facts,
        filters={when: TONES[tone] for when, tone in zip(times, tones, strict=True)},
        order=orders("rank correlation", before.rank_correlation, after.rank_correlation)
        | {"change of pointing": after.pointing - before.pointing},
    )
