"""Pictures of importance before and after training with hints: ``updn-vqa explain`` (the paper's Figures 3 and 6)."""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
from accelerate import Accelerator
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from hint_loss import proposal_importance, rank_correlation
from hint_loss.plot import draw_importance
from updn_common.console import plain_console
from updn_common.files.writing import new_directory
from updn_common.progress import track
from updn_common.reports.explanation import Choice, ExplainOptions, change_fact, choose_samples, orders, save_figure
from updn_common.reports.figures import ImageFolder, find_images, open_image, plain_text
from updn_common.reports.gallery import COLOURS, Card, Fact, Tone, write_gallery
from updn_vqa.data.prepared import PreparedData, VqaBatch, VqaSplit
from updn_vqa.data.questions import Annotation, Question
from updn_vqa.data.vocabulary import no_ground_truth
from updn_vqa.evaluation.measures import CORRECT
from updn_vqa.networks import VqaNetwork
from updn_vqa.training.measure import load_model, measure
from updn_vqa.training.objective import decision_score

CHOSEN: dict[Choice, str] = {
    "most-improved": "Questions whose score rose most",
    "most-harmed": "Questions whose score fell most",
    "random": "Questions chosen at random",
}
"""How the page describes each choice."""
WIDTH = 34
"""Characters in a line of a question."""


@dataclass(frozen=True)
class ExplainConfig(ExplainOptions):
    """Which questions to explain, by which two runs.

    Attributes:
        questions: Ids of the questions. Default: chosen by ``choose``.
    """

    questions: tuple[int, ...] = ()


def explain(config: ExplainConfig) -> None:
    """Write a PNG for each question, and ``index.html``, where they can be searched, filtered and sorted.

    Raises:
        InputError: A run, a question or an image does not exist; nothing is left behind.
    """
    config.check()
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
        introduction = config.introduction("Questions chosen by hand" if config.questions else CHOSEN[config.choose])
        write_gallery(out / "index.html", "What two networks look at", introduction, READING_GUIDE, cards)
    plain_console(soft_wrap=True).print(f"{config.out / 'index.html'}: {len(cards)} questions")


READING_GUIDE = (
    "Proposals in colour, tinted orange, support the ground-truth answer: their importance, the gradient of its logit, "
    "is positive (for a network trained on unsigned importance, the gradient's norm, it always is). The rest is grey. "
    "The outline marks the most important proposal (none in a tie). If no importance is positive, all is grey, the "
    "title says so, and the outline still marks the highest. An answer that is not in the vocabulary has no "
    "importance. Each picture is scaled to its own maximum. In the picture of people, proposals in colour are those "
    "where people looked more than elsewhere. A "
    "predicted answer is green if its soft score is at least 0.5, amber if it is lower, red if it is 0. Rank "
    "correlation is Spearman's, between the importance of proposals for the network and for people."
)
TONES: dict[Tone, str] = {"good": "correct", "fair": "partly correct", "bad": "wrong"}
"""Meaning of the colours of answers."""


class Explained(NamedTuple):
    """A network's answer to one question, and its explanation of the ground truth."""

    answer: str
    score: float
    """Soft score of the answer."""
    importance: Float[Tensor, " K"]
    rank_correlation: float
    """Between importance and human importance; NaN without a hint."""

    @property
    def tone(self) -> Tone:
        """How good the answer is."""
        return "good" if self.score >= CORRECT else "fair" if self.score > 0 else "bad"


def choose_questions(
    models: Sequence[VqaNetwork], split: VqaSplit, choose: Choice, count: int, seed: int
) -> Int[Tensor, " M"]:
    """Choose positions of questions; see `choose_samples`."""
    return choose_samples(choose, count, seed, len(split), lambda: _changes(models, split))


def _changes(models: Sequence[VqaNetwork], split: VqaSplit) -> Float[Tensor, " N"]:
    """Change of each question's score; of two questions with the same change, the grounding's change decides."""
    before, after = (measure(model, split, Accelerator(cpu=True)) for model in models)
    # A tenth of the grounding's change is below 0.2, and scores change by 0.3 or more.
    grounding = (after.rank_correlation - before.rank_correlation).nan_to_num()
    return after.scores - before.scores + 0.1 * grounding


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
    """Draw one question; returns the picture's width and height. ``unknown`` says why the truth has no logit, if so."""
    width, height = image.size
    boxes = batch.boxes[0]
    hinted = bool(batch.hinted[0])
    count, shape = 3 + hinted, (3.2 * (3 + hinted), 0.65 + 3.2 * height / width)
    figure, axes = plt.subplots(1, count, figsize=shape, layout="constrained", squeeze=False)
    panels = list(axes[0])
    panels[0].imshow(image)
    panels[0].set_axis_off()
    panels[0].set_title(f"{textwrap.fill(question, WIDTH)}\n(answer: {truth})", fontsize=12)
    if hinted:
        draw_importance(panels[1], image, boxes, batch.human[0] - 0.5)  # above 0: looked inside more
        panels[1].set_title("people", fontsize=12)
    for panel, network, when in zip(panels[-2:], explained, ("before", "after"), strict=True):
        draw_importance(panel, image, boxes, network.importance)
        note = f'\n("{truth}" is {unknown})' if unknown else f'\n(no proposal speaks for "{truth}")'
        note = note if unknown or not network.importance.max() > 0 else ""
        panel.set_title(f"{when}: {network.answer}{note}", fontsize=12, color=COLOURS[network.tone])
    return save_figure(figure, path)


def _card(
    path: str,
    size: tuple[int, int],
    question: Question,
    annotation: Annotation,
    unknown: str,
    before: Explained,
    after: Explained,
) -> Card:
    """The card of a question, with what the page filters and sorts by."""
    correlations = before.rank_correlation, after.rank_correlation
    facts = [
        Fact("ground truth", annotation.multiple_choice_answer + (f" ({unknown})" if unknown else "")),
        Fact("before", before.answer, before.tone),
        Fact("after", after.answer, after.tone),
    ]
    if not any(map(math.isnan, correlations)):
        facts.append(change_fact("rank correlation", *correlations))
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
        order=orders("rank correlation", *correlations) | {"change of score": after.score - before.score},
    )
