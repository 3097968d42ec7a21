"""What a network looked at, before and after: ``updn-vqa explain`` (the paper's Figures 3 and 6)."""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import matplotlib.pyplot as plt
import torch
from accelerate import Accelerator
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from hint_loss import proposal_importance, rank_correlation
from updn_common.console import plain_console
from updn_common.data.stream import generator
from updn_common.errors import check_range
from updn_common.files.writing import new_directory
from updn_common.progress import track
from updn_common.reports.figures import ImageFolder, draw_importance, find_images, open_image, plain_text
from updn_common.reports.gallery import COLOURS, Card, Fact, Tone, write_gallery
from updn_vqa.data.prepared import PreparedData, VqaBatch, VqaSplit
from updn_vqa.data.questions import Annotation, Question
from updn_vqa.data.vocabulary import no_ground_truth
from updn_vqa.evaluation.measures import CORRECT
from updn_vqa.networks import VqaNetwork
from updn_vqa.training.measure import load_model, measure
from updn_vqa.training.objective import decision_score

Choice = Literal["most-improved", "most-harmed", "random"]
CHOSEN: dict[Choice, str] = {
    "most-improved": "Questions whose score rose most",
    "most-harmed": "Questions whose score fell most",
    "random": "Questions chosen at random",
}
"""What a page calls them."""
WIDTH = 34
"""Characters in a line of a question."""


@dataclass(frozen=True)
class ExplainConfig:
    """Which questions to explain, by which runs.

    Attributes:
        data: The prepared directory.
        before: The run to compare with, such as the base model's.
        after: The run after it, such as HINT's.
        images: A folder with the images, by their COCO ids, searched with all folders below it.
        out: A new folder for the page and its figures.
        split: The split that the questions are of.
        questions: Their ids. Default: chosen by ``choose``.
        choose: The questions whose score changed most for the better or the worse, or any.
        count: How many to choose; the page stays quick with hundreds.
        seed: Seed of the random choice.
    """

    data: Path
    before: Path
    after: Path
    images: Path
    out: Path
    split: str = "test"
    questions: tuple[int, ...] = ()
    choose: Choice = "most-improved"
    count: int = 12
    seed: int = 0


def explain(config: ExplainConfig) -> None:
    """Write a PNG for each question, and ``index.html``, where they can be searched, filtered and sorted.

    Raises:
        InputError: a run, a question or an image does not exist; nothing is left behind.
    """
    check_range(1, count=config.count)
    check_range(0, seed=config.seed)
    data = PreparedData.open(config.data)
    split = data.split(config.split)
    images = find_images(config.images)
    models = [load_model(config.before, data, option="--before"), load_model(config.after, data, option="--after")]
    with new_directory(config.out) as out:
        if config.questions:
            positions = split.positions(config.questions)
        else:
            positions = choose_questions(models, split, config.choose, config.count, config.seed)
        cards = draw_explanations(models, data, split, positions, images, out)
        chosen = "Questions chosen by hand" if config.questions else CHOSEN[config.choose]
        introduction = f"{chosen}. Split: {config.split}. Before: {config.before}. After: {config.after}."
        write_gallery(out / "index.html", "What two networks look at", introduction, READING_GUIDE, cards)
    plain_console(soft_wrap=True).print(f"{config.out / 'index.html'}: {len(cards)} questions")


READING_GUIDE = (
    "Lit proposals speak for the ground-truth answer: their importance, the gradient of its logit, is positive (for a "
    "network trained on unsigned importance, the gradient's norm, it always is). The "
    "outline is the most important one (none in a tie), also where none is positive: then the picture is dark, and its "
    "title says so; an answer that is not in the vocabulary has no importance. Each picture is scaled to its own "
    "maximum. For people, lit is where they looked more than elsewhere. A predicted answer is green if its soft "
    "score is at least 0.5, amber if it is lower, red if it is 0. Rank correlation is "
    "Spearman's, of the importance of proposals for the network and for people."
)
TONES: dict[Tone, str] = {"good": "correct", "fair": "partly correct", "bad": "wrong"}
"""What the colour of an answer means."""


class Explained(NamedTuple):
    """A network's answer to one question, and its explanation of the ground truth."""

    answer: str
    score: float
    """Soft score of the answer."""
    importance: Float[Tensor, " K"]
    rank_correlation: float
    """Of importance and human importance; NaN without a hint."""

    @property
    def tone(self) -> Tone:
        """How good the answer is."""
        return "good" if self.score >= CORRECT else "fair" if self.score > 0 else "bad"


def choose_questions(
    models: Sequence[VqaNetwork], split: VqaSplit, choose: Choice, count: int, seed: int
) -> Int[Tensor, " N"]:
    """Positions of questions; changes are of the score first, then of the grounding."""
    if choose == "random":
        return torch.randperm(len(split), generator=generator(seed))[:count]
    before, after = (measure(model, split, Accelerator(cpu=True)) for model in models)
    change = after.scores - before.scores
    # The grounding's change breaks ties: it is below 2 in magnitude, and a score changes by 0.3 or more.
    change = change + 0.1 * (after.rank_correlation - before.rank_correlation).nan_to_num()
    return change.argsort(descending=choose == "most-improved", stable=True)[:count]


def draw_explanations(
    models: Sequence[VqaNetwork],
    data: PreparedData,
    split: VqaSplit,
    positions: Int[Tensor, " N"],
    images: ImageFolder,
    out: Path,
) -> list[Card]:
    """One PNG for each question: the image, people's importance if known, the networks' before and after."""
    cards = []
    for position in track(positions.tolist(), "figures"):
        question, annotation, batch = split.questions[position], split.annotations[position], split.batch([position])
        truth, unknown = annotation.multiple_choice_answer, no_ground_truth(annotation, data.answers)
        before, after = (_explain(model, batch, data) for model in models)
        path = out / f"{question.question_id}.png"
        width, height = batch.sizes[0].tolist()
        with open_image(images, question.image_id, question.coco_split, (width, height)) as image:
            size = _draw(image, batch, question.text, truth, unknown, (before, after), path)
        cards.append(_card(path.name, size, question, annotation, unknown, before, after))
    return cards


def _explain(model: VqaNetwork, batch: VqaBatch, data: PreparedData) -> Explained:
    features = batch.features.detach().requires_grad_()
    logits = model(batch.tokens, features, batch.mask).logits
    score = decision_score(logits, batch)
    alpha = proposal_importance(score, features, reduction=model.explained_by, differentiable=False)
    answer = int(logits.argmax())
    correlation = rank_correlation(alpha, batch.human, mask=~batch.human.isnan())
    return Explained(data.answers.answers[answer], float(batch.answer_scores[0, answer]), alpha[0], float(correlation))


@plain_text()
def _draw(
    image: Image.Image,
    batch: VqaBatch,
    question: str,
    truth: str,
    unknown: str,
    explained: Sequence[Explained],
    path: Path,
) -> tuple[int, int]:
    """Draw one question; returns the picture's width and height. ``unknown`` says why no logit is the truth's."""
    width, height = image.size
    boxes = batch.boxes[0].numpy()
    hinted = bool(batch.hinted[0])
    count, shape = 3 + hinted, (3.2 * (3 + hinted), 0.65 + 3.2 * height / width)
    columns, axes = plt.subplots(1, count, figsize=shape, layout="constrained", squeeze=False)
    panels = list(axes[0])
    panels[0].imshow(image)
    panels[0].set_axis_off()
    panels[0].set_title(f"{textwrap.fill(question, WIDTH)}\n(answer: {truth})", fontsize=12)
    if hinted:
        draw_importance(panels[1], image, boxes, batch.human[0].numpy() - 0.5)  # above 0: looked inside more
        panels[1].set_title("people", fontsize=12)
    for panel, network, when in zip(panels[-2:], explained, ("before", "after"), strict=True):
        draw_importance(panel, image, boxes, network.importance.numpy())
        note = f'\n("{truth}" is {unknown})' if unknown else f'\n(no proposal speaks for "{truth}")'
        note = note if unknown or not network.importance.max() > 0 else ""
        panel.set_title(f"{when}: {network.answer}{note}", fontsize=12, color=COLOURS[network.tone])
    columns.savefig(path, dpi=110, bbox_inches="tight")  # titles have one line or two
    plt.close(columns)
    with Image.open(path) as picture:
        return picture.size


def _card(
    path: str,
    size: tuple[int, int],
    question: Question,
    annotation: Annotation,
    unknown: str,
    before: Explained,
    after: Explained,
) -> Card:
    """What the page says of a question, and what it can be filtered and sorted by."""
    change = after.rank_correlation - before.rank_correlation
    facts = [
        Fact("ground truth", annotation.multiple_choice_answer + (f" ({unknown})" if unknown else "")),
        Fact("before", before.answer, before.tone),
        Fact("after", after.answer, after.tone),
    ]
    if not math.isnan(change):
        told = f"{before.rank_correlation:.2f} → {after.rank_correlation:.2f}"
        facts.append(Fact("rank correlation", told, "good" if change > 0 else "bad" if change < 0 else ""))
    return Card(
        path=path,
        size=size,
        title=question.text,
        facts=facts,
        filters={
            "question type": annotation.question_type,
            "before": TONES[before.tone],
            "after": TONES[after.tone],
        },
        order={
            "change of rank correlation": change,
            "rank correlation before": before.rank_correlation,
            "rank correlation after": after.rank_correlation,
            "change of score": after.score - before.score,
        },
    )
