"""What a network looked at, before and after: ``updn-vqa explain`` (the paper's Figure 3)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import matplotlib.pyplot as plt
import torch
from accelerate import Accelerator
from jaxtyping import Int
from PIL import Image, ImageFile
from rich.console import Console
from torch import Tensor

from hint_loss import proposal_importance
from updn_common.errors import InputError, check_range
from updn_common.figures import ImageFolder, draw_importance, find_images
from updn_common.files import new_directory
from updn_common.page import Figure, Section, write_page
from updn_common.progress import track
from updn_vqa.data import PreparedData, VqaSplit
from updn_vqa.measure import load_model, measure
from updn_vqa.networks import VqaNetwork
from updn_vqa.objective import decision_score
from updn_vqa.stream import generator

Choice = Literal["most-improved", "most-harmed", "random"]
CHOSEN: dict[Choice, str] = {
    "most-improved": "Questions whose score rose most",
    "most-harmed": "Questions whose score fell most",
    "random": "Questions chosen at random",
}
"""What a page calls them."""


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
        count: How many to choose.
        seed: Of the random choice.
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
    """Write ``index.html`` and a PNG for each question.

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
        figures = draw_explanations(models, data, split, positions, images, out)
        heading = "Questions chosen by hand" if config.questions else CHOSEN[config.choose]
        introduction = (
            f"Before: {config.before.name}. After: {config.after.name}. Split: {config.split}. {READING_GUIDE}"
        )
        sections = [Section(heading, figures=figures)]
        write_page(out / "index.html", "What two networks look at", introduction, sections)
    Console(soft_wrap=True).print(f"{config.out / 'index.html'}: {len(figures)} questions")


READING_GUIDE = (
    "Lit proposals speak for the ground-truth answer: their importance, the gradient of its logit, is positive. The "
    "outline is the most important one (none in a tie), also where none is positive: then the picture is dark, and its "
    "title says so. Each picture is scaled to its own maximum. For people, lit is where they looked more than "
    "elsewhere. A predicted answer is green if its soft score is at least 0.5, amber if it is lower, red if it is 0."
)


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
) -> list[Figure]:
    """One PNG for each question: the image, people's importance if known, the networks' before and after."""
    figures = []
    for position in track(positions.tolist(), "figures"):
        question, annotation = split.questions[position], split.annotations[position]
        truth = annotation.multiple_choice_answer
        with Image.open(images.file(question.image_id, question.coco_split)) as image:
            predictions = _draw(image, models, data, split, position, truth, out / f"{question.question_id}.png")
        caption = f"{question.text} Ground truth: {truth}. Before: {predictions[0]}. After: {predictions[1]}."
        figures.append(Figure(f"{question.question_id}.png", caption))
    return figures


def _draw(
    image: ImageFile.ImageFile,
    models: Sequence[VqaNetwork],
    data: PreparedData,
    split: VqaSplit,
    position: int,
    truth: str,
    path: Path,
) -> list[str]:
    """Draw one question; returns the networks' answers."""
    batch = split.batch([position])
    width, height = batch.sizes[0].tolist()
    if image.size != (width, height):
        raise InputError(
            f"{image.filename!s} has {image.width} x {image.height} pixels, but its proposals were prepared for "
            f"{width} x {height}. Give the images that the features were made from."
        )
    boxes = batch.boxes[0].numpy()
    hinted = bool(batch.hinted[0])
    count, shape = 3 + hinted, (3.2 * (3 + hinted), 0.65 + 3.2 * height / width)
    columns, axes = plt.subplots(1, count, figsize=shape, layout="constrained", squeeze=False)
    panels = list(axes[0])
    panels[0].imshow(image)
    panels[0].set_axis_off()
    panels[0].set_title(split.questions[position].text, fontsize=10, wrap=True)
    if hinted:
        draw_importance(panels[1], image, boxes, batch.human[0].numpy() - 0.5)  # above 0: looked inside more
        panels[1].set_title(f"people (answer: {truth})", fontsize=10)
    answers = []
    for panel, model, when in zip(panels[-2:], models, ("before", "after"), strict=True):
        features = batch.features.detach().requires_grad_()
        logits = model(batch.tokens, features, batch.mask).logits
        alpha = proposal_importance(decision_score(logits, batch), features, differentiable=False)
        draw_importance(panel, image, boxes, alpha[0].numpy())
        answer = int(logits.argmax())
        answers.append(data.answers.answers[answer])
        note = "" if alpha.max() > 0 else f'\n(no proposal speaks for "{truth}")'
        colour = _colour(float(batch.answer_scores[0, answer]))
        panel.set_title(f"{when}: {answers[-1]}{note}", fontsize=10, color=colour)
    columns.savefig(path, dpi=110, bbox_inches="tight")  # titles have one line or two
    plt.close(columns)
    return answers


def _colour(score: float) -> str:
    """Of an answer with this soft score: green, amber or red."""
    return "#1a7f37" if score >= 0.5 else "#9a6700" if score > 0 else "#b42318"
