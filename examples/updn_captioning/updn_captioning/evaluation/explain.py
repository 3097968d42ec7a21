"""What a captioner looked at for each visual word, before and after: ``updn-captioning explain`` (Figures 4 and 7)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from updn_captioning.data.prepared import CaptionSplit, PreparedData
from updn_captioning.data.visual_words import VisualWord
from updn_captioning.data.vocabulary import UNKNOWN
from updn_captioning.evaluation.explain_image import By, Said, draw_explanation, look, named_categories
from updn_captioning.evaluation.grounding import MEASURES, CaptionKind, Words, generated_batch
from updn_captioning.evaluation.measures import evaluate_run
from updn_captioning.networks.generate import Decoding, generate, load_model
from updn_captioning.networks.updn import UpDnCaptioner
from updn_captioning.scores.chair import objects_there
from updn_common.console import plain_console
from updn_common.data.stream import generator
from updn_common.errors import check_range
from updn_common.files.writing import new_directory
from updn_common.progress import track
from updn_common.reports.figures import ImageFolder, find_images, open_image
from updn_common.reports.gallery import Card, Fact, Tone, write_gallery
from updn_common.runs.processes import make_accelerator

Choice = Literal["most-improved", "most-harmed", "random"]
CHOSEN: dict[Choice, str] = {
    "most-improved": "Images whose visual words gained most grounding",
    "most-harmed": "Images whose visual words lost most grounding",
    "random": "Images chosen at random",
}
"""What a page calls them."""
WHOSE: dict[CaptionKind, str] = {
    "generated": "Each network reads its own caption.",
    "reference": "Both networks read the same caption of a person.",
}
LOOKS: dict[By, str] = {
    "gradient": (
        "Lit proposals speak for the marked word: their importance, the gradient of its log-probability, is positive. "
        "The outline is the most important one (none in a tie), also where none is positive: then the picture is dark."
    ),
    "attention": (
        "Lit proposals have high attention weights while the marked word is said. The outline is the highest one (none "
        "in a tie)."
    ),
}
READING_GUIDE = (
    "Each row is a category that either caption names. {} Each picture is scaled to its own maximum. For people, lit "
    "is what is inside of the objects' masks rather than outside. The marked word is green if there is such an object "
    "in the image (annotated, or named by any person), red if there is none. Rank correlation is Spearman's, of "
    "proposals' importance and human importance, the mean over the caption's visual words; pointing: how many of those "
    "whose category some proposal shows have their most important one on such an object."
)
THERE: dict[Tone, str] = {
    "good": "names only what is there",
    "bad": "names what is not there",
    "": "names nothing",
}
"""What a caption does, by the tone in which it is shown."""


@dataclass(frozen=True)
class ExplainConfig:
    """Which images to explain, by which runs.

    Attributes:
        data: The prepared directory.
        before: The run to compare with, such as the base model's.
        after: The run after it, such as HINT's.
        images: A folder with the images, by their COCO ids, searched with all folders below it.
        out: A new folder for the page and its figures.
        split: The split that the images are of.
        image_ids: Their COCO ids. Default: chosen by ``choose``.
        choose: The images whose grounding changed most for the better or the worse, or any.
        count: How many to choose; the page stays quick with hundreds.
        words: Whose visual words: those of each network's own caption, or of a person's, the same for both.
        by: What is drawn: the importance that HINT trains, or attention weights.
        decoding: How captions are made.
        seed: Seed of the random choice.
        cpu: Use the CPU even where there is a GPU.
    """

    data: Path
    before: Path
    after: Path
    images: Path
    out: Path
    split: str = "test"
    image_ids: tuple[int, ...] = ()
    choose: Choice = "most-improved"
    count: int = 12
    words: CaptionKind = "generated"
    by: By = "gradient"
    decoding: Decoding = field(default_factory=Decoding)
    seed: int = 0
    cpu: bool = False


def explain(config: ExplainConfig) -> None:
    """Write a PNG for each image, and ``index.html``, where they can be searched, filtered and sorted.

    Raises:
        InputError: A run or an image does not exist, or options make no sense; nothing is left behind.
    """
    check_range(1, count=config.count)
    check_range(0, seed=config.seed)
    config.decoding.check()
    data = PreparedData.open(config.data)
    split = data.split(config.split)
    images = find_images(config.images)
    models = [load_model(config.before, data, option="--before"), load_model(config.after, data, option="--after")]
    with new_directory(config.out) as out:
        positions = split.positions(config.image_ids) if config.image_ids else choose_images(config, data, split)
        cards = draw_explanations(config, models, data, split, positions, images, out)
        chosen = "Images chosen by hand" if config.image_ids else CHOSEN[config.choose]
        introduction = (
            f"{chosen}. Split: {config.split}. Before: {config.before}. After: {config.after}. {WHOSE[config.words]}"
        )
        guide = READING_GUIDE.format(LOOKS[config.by])
        write_gallery(out / "index.html", "What two captioners look at", introduction, guide, cards)
    plain_console(soft_wrap=True).print(f"{config.out / 'index.html'}: {len(cards)} images")


def choose_images(config: ExplainConfig, data: PreparedData, split: CaptionSplit) -> Int64[Tensor, " N"]:
    """Positions of images. Changes are those of the mean rank correlation of the words of people's captions."""
    if config.choose == "random":
        return torch.randperm(len(split.image_ids), generator=generator(config.seed))[: config.count]
    accelerator = make_accelerator(cpu=config.cpu)
    before, after = (
        evaluate_run(run, data, split, accelerator, decoding=config.decoding, reuse=True).words["reference"]
        for run in (config.before, config.after)
    )
    measure = MEASURES.index(f"{config.by}_rank_correlation")
    change = (_by_image(after, measure, split) - _by_image(before, measure, split)).nan_to_num()
    return change.argsort(descending=config.choose == "most-improved", stable=True)[: config.count]


def _by_image(words: Words, measure: int, split: CaptionSplit) -> Float64[Tensor, " I"]:
    """The mean over each image's words; NaN without one."""
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
    """One PNG for each image."""
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
            look(model.cpu(), data, split, position, caption, config.by)
            for model, caption in zip(models, read, strict=True)
        )
        image_id = split.image_ids[position]
        named = [VisualWord(0, 0, category) for category in named_categories((before, after))]
        batch = generated_batch(split, [position], [[]], [named])
        references = {image_id: split.references[image_id]}
        there = objects_there(references, split.annotated, data.visual_words)[image_id]
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
    """The caption of an image that names most categories that are there: the first of those."""
    image_id = split.image_ids[position]

    def grounded(text: str) -> int:
        categories = {word.category for word in data.visual_words.find(text.split())}
        return sum((image_id, category) in split.annotated for category in categories)

    text = max(split.references[image_id], key=grounded)
    return [data.vocabulary.index.get(word, UNKNOWN) for word in text.split()]


def _tone(named: Sequence[bool]) -> Tone:
    """Of a caption, by whether the objects that it names are there."""
    return "" if not named else "good" if all(named) else "bad"


def _card(
    path: str,
    size: tuple[int, int],
    title: str,
    own: Sequence[str],
    tones: Sequence[Tone],
    pair: tuple[Said, Said],
) -> Card:
    """What the page says of an image, and what it can be filtered and sorted by.

    Args:
        path: The picture's.
        size: Its size.
        title: A person's caption.
        own: The networks' own captions.
        tones: What each of them does, as `THERE` has it.
        pair: What is drawn.
    """
    before, after = pair
    times = ("before", "after")
    facts = [Fact(when, text or "(nothing)", tone) for when, text, tone in zip(times, own, tones, strict=True)]
    for name, digits, one, other in (
        ("rank correlation", 2, before.rank_correlation, after.rank_correlation),
        ("pointing %", 0, 100 * before.pointing, 100 * after.pointing),
    ):
        if not (math.isnan(one) and math.isnan(other)):
            told = " → ".join("-" if math.isnan(x) else f"{x:.{digits}f}" for x in (one, other))
            facts.append(Fact(name, told, "good" if other > one else "bad" if other < one else ""))
    return Card(
        path=path,
        size=size,
        title=title,
        facts=facts,
        filters={when: THERE[tone] for when, tone in zip(times, tones, strict=True)},
        order={
            "change of rank correlation": after.rank_correlation - before.rank_correlation,
            "rank correlation before": before.rank_correlation,
            "rank correlation after": after.rank_correlation,
            "change of pointing": after.pointing - before.pointing,
        },
    )
