"""What the two pipelines are asked for: questions or captions, each network's explanation, and pictures of it.

Only this file knows the pipelines.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from hint_loss import proposal_importance
from hint_loss.plot import draw_importance, importance_map
from updn_captioning.data.prepared import PreparedData as CaptionData
from updn_captioning.evaluation.explain import person_caption
from updn_captioning.evaluation.explain_image import explain_caption
from updn_captioning.evaluation.grounding import generated_batch
from updn_captioning.networks.generate import load_model as load_captioner
from updn_common.data.stream import generator
from updn_common.errors import InputError
from updn_common.reports.figures import ImageFolder, find_images, open_image
from updn_common.runs.importance import Importance
from updn_vqa.data.prepared import PreparedData as VqaData
from updn_vqa.evaluation.measures import CORRECT
from updn_vqa.training.measure import load_model as load_vqa
from updn_vqa.training.objective import decision_score

BACKGROUND = 127
"""Grey value of what an image leaves free of its canvas."""
DPI = 100


@dataclass(frozen=True)
class Explained:
    """A question or a caption about an image, and the importance of the image's proposals for each network.

    Attributes:
        text: The question, or the caption.
        marked: Positions of the caption's words that are explained; empty for a question.
        answer: The answer that is explained; empty for a caption.
        group: Type of the question, or category that the marked word names.
        image_id: COCO id of the image.
        coco_split: Such as ``"val2014"``; may be empty.
        size: Width and height that the proposals were prepared for.
        boxes: Corners of the proposals in pixels.
        importance: Importance of the proposals, by the networks' names.
        people: How important people find the proposals, above 0.5 where they looked; None where that is not known.
    """

    text: str
    marked: tuple[int, ...]
    answer: str
    group: str
    image_id: int
    coco_split: str
    size: tuple[int, int]
    boxes: Float[np.ndarray, "K 4"]
    importance: dict[str, Float[np.ndarray, " K"]]
    people: Float[np.ndarray, " K"] | None


def explanations(
    data: Path, runs: Mapping[str, Path], split: str, importance: Importance, seed: int, *, all_right: bool
) -> Iterator[Explained]:
    """Explain the questions or captions of a split in a random order, no image twice.

    Args:
        data: What either pipeline's ``prepare`` wrote.
        runs: Runs on it, by the networks' names.
        split: Name of the split.
        importance: The gradient's sum (signed) or its norm (unsigned).
        seed: Seed of the order.
        all_right: Leave out questions that not all networks answer right. Captions are people's: none is left out.

    Raises:
        InputError: The data or a run do not exist or do not belong together.
    """
    if (data / "answers.json").is_file():
        return _questions(VqaData.open(data), runs, split, importance, seed, all_right)
    return _captions(CaptionData.open(data), runs, split, importance, seed)


def _questions(
    data: VqaData, runs: Mapping[str, Path], name: str, importance: Importance, seed: int, all_right: bool
) -> Iterator[Explained]:
    split = data.split(name)
    models = {arm: load_vqa(run, data, option="--runs") for arm, run in runs.items()}
    seen: set[int] = set()
    for position in torch.randperm(len(split), generator=generator(seed)).tolist():
        question, annotation, batch = split.questions[position], split.annotations[position], split.batch([position])
        if question.image_id in seen or batch.ground_truth.item() < 0:
            continue
        alphas, right = {}, True
        for arm, model in models.items():
            features = batch.features.detach().requires_grad_()
            logits = model(batch.tokens, features, batch.mask).logits
            score = decision_score(logits, batch)
            alphas[arm] = proposal_importance(score, features, reduction=importance, differentiable=False)[0].numpy()
            right = right and bool(batch.answer_scores[0, logits.argmax()] >= CORRECT)
        if all_right and not right:
            continue
        seen.add(question.image_id)
        yield Explained(
            text=question.text,
            marked=(),
            answer=annotation.multiple_choice_answer,
            group=annotation.question_type,
            image_id=question.image_id,
            coco_split=question.coco_split,
            size=_size(batch.sizes),
            boxes=batch.boxes[0].numpy(),
            importance=alphas,
            people=_people(batch.human[0], batch.relevant[0] if batch.grounded[0] else None),
        )


def _captions(
    data: CaptionData, runs: Mapping[str, Path], name: str, importance: Importance, seed: int
) -> Iterator[Explained]:
    split = data.split(name)
    models = {arm: load_captioner(run, data, option="--runs") for arm, run in runs.items()}
    for model in models.values():
        model.explained_by = importance
    order = generator(seed)
    for position in torch.randperm(len(split.image_ids), generator=order).tolist():
        caption = person_caption(data, split, position)
        text = data.vocabulary.decode(caption)
        words = data.visual_words.find(text.split())
        if not words:
            continue
        chosen = int(torch.randint(len(words), (), generator=order))
        word = words[chosen]
        batch = generated_batch(split, [position], [caption], [[word]])
        yield Explained(
            text=text,
            marked=tuple(range(word.begin, word.end)),
            answer="",
            group=data.categories[word.category],
            image_id=split.image_ids[position],
            coco_split="",
            size=_size(batch.sizes),
            boxes=batch.boxes[0].numpy(),
            importance={
                arm: explain_caption(model, data, split, position, caption, "gradient").weights[chosen].numpy()
                for arm, model in models.items()
            },
            people=_people(batch.human[0, 0], batch.relevant[0, 0]),
        )


def _size(sizes: Tensor) -> tuple[int, int]:
    width, height = sizes[0].tolist()
    return int(width), int(height)


def _people(human: Tensor, relevant: Tensor | None) -> NDArray[np.float64] | None:
    """Human importance if it is known, else which proposals show what is asked for; None if neither tells any apart."""
    for known in (human, relevant):
        if known is not None and not known.float().isnan().any() and known.min() < 0.5 < known.max():
            return np.asarray(known.double().numpy())
    return None


def decoy(boxes: Float[np.ndarray, "K 4"], people: Float[np.ndarray, " K"]) -> Float[np.ndarray, " K"]:
    """An importance that nobody should find reasonable: of the one proposal that overlaps least with what people see.

    Among proposals that overlap equally little, it is the largest.
    """
    right = boxes[people > 0.5]
    low, high = np.maximum(boxes[:, None, :2], right[:, :2]), np.minimum(boxes[:, None, 2:], right[:, 2:])
    covered = (high - low).clip(0).prod(-1).sum(1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
    chosen = np.lexsort((-areas, covered / areas.clip(1)))[0]
    importance = np.zeros(len(boxes))
    importance[chosen] = 1.0
    return importance


def overlap(item: Explained, importance: Float[np.ndarray, " K"], people: Float[np.ndarray, " K"]) -> float:
    """Overlap (IoU) of the more important halves of two pictures: of a network's importance, and of people's."""
    width, height = item.size
    boxes = torch.from_numpy(item.boxes)
    network, human = (
        importance_map(boxes, torch.from_numpy(x), (height, width)) > 0.5 for x in (importance, people - 0.5)
    )
    either = (network | human).sum().item()
    return (network & human).sum().item() / either if either else 0.0


class Canvas:
    """Draws pictures that are all of the same size, for images of many sizes."""

    def __init__(self, images: Path, explained: Sequence[Explained], longest: int) -> None:
        """Choose the smallest canvas that holds every image scaled to ``longest`` pixels on its longer side.

        Raises:
            InputError: The folder of images does not exist.
        """
        self._images: ImageFolder = find_images(images)
        self._longest = longest
        fitted = [self._fit(item.size) for item in explained]
        self.size = max(width for width, _ in fitted), max(height for _, height in fitted)

    def _fit(self, size: tuple[int, int]) -> tuple[int, int]:
        scale = self._longest / max(size)
        return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))

    def draw(self, item: Explained, importance: Float[np.ndarray, " K"] | None) -> Image.Image:
        """Draw the image, with importance if it is given.

        Raises:
            InputError: The image is missing or damaged.
        """
        fitted = self._fit(item.size)
        with open_image(self._images, item.image_id, item.coco_split, item.size) as file:
            image = file.convert("RGB").resize(fitted, Image.Resampling.BICUBIC)
        if importance is not None:
            image = _with_importance(image, item.boxes * (np.array(fitted * 2) / np.array(item.size * 2)), importance)
        canvas = Image.new("RGB", self.size, (BACKGROUND,) * 3)
        canvas.paste(image, ((self.size[0] - fitted[0]) // 2, (self.size[1] - fitted[1]) // 2))
        return canvas


def _with_importance(
    image: Image.Image, boxes: Float[np.ndarray, "K 4"], importance: Float[np.ndarray, " K"]
) -> Image.Image:
    """The pipelines' picture of importance, pixel on pixel."""
    figure = plt.figure(figsize=(image.width / DPI, image.height / DPI), dpi=DPI)
    try:
        axes = figure.add_axes((0, 0, 1, 1))
        draw_importance(axes, image, torch.from_numpy(boxes), torch.from_numpy(importance))
        figure.canvas.draw()
        pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3]  # type: ignore[attr-defined]
    finally:
        plt.close(figure)
    return Image.fromarray(np.ascontiguousarray(pixels)).resize(image.size)


def save_blind(image: Image.Image, path: Path, time: int) -> None:
    """Save a PNG that tells nothing but its pixels: without metadata and compression, so that all have one size.

    Args:
        image: The picture.
        path: Its file, whose name should be random.
        time: Time of change that the file gets, in seconds.

    Raises:
        InputError: The picture is not in RGB.
    """
    if image.mode != "RGB":
        raise InputError(f"{path} should be saved from an RGB image, found {image.mode}.")
    Image.fromarray(np.asarray(image)).save(path, format="PNG", compress_level=0)
    os.utime(path, (time, time))
