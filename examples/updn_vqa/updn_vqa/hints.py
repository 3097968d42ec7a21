"""Human hints: for a question, how important people find each proposal of its image.

Three kinds of human attention can be read. *VQA-HAT* maps and *boxes* were made with the question in view. *SALICON*
fixations were not: its people looked at the images freely, so all questions of an image share one hint.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar

import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor

from hint_loss import human_importance, human_importance_from_boxes, human_importance_from_points
from updn_common.attention_maps import Fixations, find_vqa_hat, mean_attention_map, read_salicon
from updn_common.errors import InputError
from updn_common.files import read_json, sha256_of_all
from updn_common.readers import BOX_TOLERANCE
from updn_vqa.questions import Question, read_questions

ASPECT_TOLERANCE = 0.02
SALICON_SIGMA = 19.0
"""Pixels: the blur of the SALICON tools, about one degree of visual angle in their 640 x 480 images."""

Importance: TypeAlias = Float32[Tensor, " K"]
Item = TypeVar("Item")


class Geometry(NamedTuple):
    """The K proposals of an image without their features, x1 y1 x2 y2 in pixels, and the image's size."""

    boxes: Float32[Tensor, "K 4"]
    height: int
    width: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.height, self.width


class HintSource(Protocol):
    """Where hints come from. See :class:`HatHints`, :class:`BoxHints` and :class:`SaliconHints`."""

    @property
    def files(self) -> Sequence[Path]:
        """The single files that hints were read from, for their checksums."""

    def importance(self, question: Question, image: Geometry) -> Importance | None:
        """How important people find the proposals of an image for a question about it.

        Returns:
            ``s`` in [0, 1], or None where people left no hint.

        Raises:
            InputError: If the hint says nothing or does not fit the image.
        """

    def record(self) -> dict[str, Any]:
        """What ``prepared.json`` should say about this source."""


@dataclass(frozen=True)
class HatHints:
    """VQA-HAT attention maps.

    Attributes:
        maps: The maps of each (VQA v2 or VQA-CP) question that has any; several are averaged.
        matched: Number of mapped VQA v1 questions that are among the given questions.
        unmatched: Number of mapped VQA v1 questions that are not.
        files: The VQA v1 question files that said what the maps are about.
    """

    maps: Mapping[int, Sequence[Path]]
    matched: int
    unmatched: int
    files: Sequence[Path]

    @classmethod
    def match(cls, folders: Sequence[Path], v1_files: Sequence[Path], questions: Iterable[Question]) -> HatHints:
        """Find the maps, named by VQA v1 question ids, of other questions.

        VQA-HAT was collected on VQA v1. A map is taken for every question that has exactly the same text and is
        about the same image.

        Args:
            folders: Folders of ``<VQA v1 question id>_<map>.png``.
            v1_files: The question files of VQA v1, train and validation.
            questions: The questions to find maps for.

        Raises:
            InputError: If no map belongs to any of the questions.
        """
        v1_questions = (question for path in v1_files for question in read_questions(path))
        asked = {question.question_id: (question.image_id, question.text) for question in v1_questions}
        wanted: defaultdict[tuple[int, str], list[int]] = defaultdict(list)
        for question in questions:
            wanted[question.image_id, question.text].append(question.question_id)
        found = read_all(find_vqa_hat, folders)
        same = {v1_id: wanted.get(asked[v1_id], []) if v1_id in asked else [] for v1_id in found}
        maps = {question_id: found[v1_id] for v1_id, ids in same.items() for question_id in ids}
        if not maps:
            raise InputError(
                f"None of the {len(found)} questions with attention maps in {_names(folders)} is among the given ones "
                "(same image, same text). Check the VQA v1 question files."
            )
        matched = sum(bool(ids) for ids in same.values())
        return cls(maps, matched, len(same) - matched, v1_files)

    def importance(self, question: Question, image: Geometry) -> Importance | None:
        """See :class:`HintSource`; maps of another resolution are fine, of another aspect ratio not."""
        paths = self.maps.get(question.question_id)
        if paths is None:
            return None
        attention = torch.from_numpy(mean_attention_map(paths))
        height, width = attention.shape
        if abs(width * image.height / (height * image.width) - 1) > ASPECT_TOLERANCE:
            raise InputError(
                f"{paths[0]}: a map of {width} x {height} pixels does not fit image {question.image_id} of "
                f"{image.width} x {image.height}. Resize it to the image, or remove it."
            )
        return human_importance(attention, image.boxes, image_size=image.size).float()

    def record(self) -> dict[str, Any]:
        return {
            "source": "hat",
            "about": "VQA-HAT attention maps, made with the question in view",
            "matched_v1_questions": self.matched,
            "unmatched_v1_questions": self.unmatched,
            "maps_sha256": sha256_of_all({path for paths in self.maps.values() for path in paths}),
        }


@dataclass(frozen=True)
class BoxHints:
    """Boxes that people drew around what a question is about.

    Attributes:
        boxes: The boxes of each question that has any, (M, 4) x1 y1 x2 y2 in pixels.
        files: The files they were read from.
    """

    boxes: Mapping[int, Float32[Tensor, "M 4"]]
    files: Sequence[Path]

    @classmethod
    def read(cls, files: Sequence[Path]) -> BoxHints:
        """Read one or more files; see :func:`read_question_boxes`."""
        return cls(read_all(read_question_boxes, files), files)

    def importance(self, question: Question, image: Geometry) -> Importance | None:
        """See :class:`HintSource`."""
        drawn = self.boxes.get(question.question_id)
        if drawn is None:
            return None
        limit = torch.tensor([image.width, image.height]) + BOX_TOLERANCE
        inside = ((drawn[:, :2] >= -BOX_TOLERANCE) & (drawn[:, 2:] <= limit)).all(1)
        if not inside.all():
            raise InputError(
                f"{_names(self.files)}: box {drawn[~inside][0].tolist()} of question {question.question_id} leaves "
                f"image {question.image_id} of {image.width} x {image.height} pixels. "
                "Boxes are x1 y1 x2 y2 in pixels of the image."
            )
        return human_importance_from_boxes(drawn, image.boxes, image_size=image.size)

    def record(self) -> dict[str, Any]:
        return {"source": "boxes", "about": "boxes drawn with the question in view", "questions": len(self.boxes)}


@dataclass(frozen=True)
class SaliconHints:
    """SALICON fixations: all people's gaze points on an image, blurred.

    Attributes:
        fixations: The fixations on each image.
        files: The files they were read from.
        sigma: Standard deviation of the blur in pixels.
    """

    fixations: Mapping[int, Fixations]
    files: Sequence[Path]
    sigma: float = SALICON_SIGMA

    @classmethod
    def read(cls, files: Sequence[Path], sigma: float = SALICON_SIGMA) -> SaliconHints:
        """Read one or more SALICON fixation files."""
        return cls(read_all(read_salicon, files), files, sigma)

    def importance(self, question: Question, image: Geometry) -> Importance | None:
        """See :class:`HintSource`; the hint is the same for all questions of an image."""
        fixations = self.fixations.get(question.image_id)
        if fixations is None:
            return None
        if (fixations.height, fixations.width) != image.size:
            raise InputError(
                f"{_names(self.files)}: fixations on image {question.image_id} are on {fixations.width} x "
                f"{fixations.height} pixels, but the proposals on {image.width} x {image.height}."
            )
        points = torch.from_numpy(fixations.points + 0.5)  # from pixel centres at 0 to pixels that cover [0, 1]
        return human_importance_from_points(points, image.boxes, image_size=image.size, sigma=self.sigma).float()

    def record(self) -> dict[str, Any]:
        return {
            "source": "salicon",
            "about": "SALICON fixations: free viewing, NOT question-driven; one hint for all questions of an image",
            "images": len(self.fixations),
            "sigma": self.sigma,
        }


def read_all(read: Callable[[Path], Mapping[int, Item]], paths: Iterable[Path]) -> dict[int, Item]:
    """What ``read`` finds in all of the files, by question or image; of two that know one, the last is believed."""
    return {key: item for path in paths for key, item in read(path).items()}


def _names(paths: Iterable[Path]) -> str:
    return ", ".join(map(str, paths))


def read_question_boxes(path: Path) -> dict[int, Float32[Tensor, "M 4"]]:
    """Read ``{"<question id>": [[x1, y1, x2, y2], ...]}``, boxes in pixels.

    Args:
        path: The JSON file.

    Returns:
        The boxes of each question that has any.

    Raises:
        InputError: If the file has another shape, or a box is inverted, empty or not finite.
    """
    document = read_json(path, expected="a JSON file of boxes for each question")
    if not isinstance(document, dict):
        raise InputError(f"{path} should hold an object from question ids to boxes, found {type(document).__name__}.")
    result = {}
    for key, boxes in document.items():
        if not key.isdecimal():
            raise InputError(f"{path}: {key!r} is no question id. Keys are question ids.")
        if not isinstance(boxes, list) or not all(map(_is_box, boxes)):
            raise InputError(
                f"{path}: question {key} has {boxes!r}. "
                "Expected a list of boxes [x1, y1, x2, y2] with x1 < x2 and y1 < y2."
            )
        if boxes:
            result[int(key)] = torch.tensor(boxes, dtype=torch.float32)
    return result


def relevant_proposals(
    boxes: Float[Tensor, "K 4"], truth: Float[Tensor, "M 4"], min_overlap: float = 0.5
) -> Bool[Tensor, " K"]:
    """Which proposals overlap any of the true boxes with an intersection over union above ``min_overlap``."""
    low = torch.maximum(boxes[:, None, :2], truth[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], truth[None, :, 2:])
    shared = (high - low).clamp(min=0).prod(-1)  # (K, M)
    union = _area(boxes)[:, None] + _area(truth)[None, :] - shared
    return (shared > min_overlap * union).any(1)


def _area(boxes: Float[Tensor, "N 4"]) -> Float[Tensor, " N"]:
    return (boxes[:, 2:] - boxes[:, :2]).prod(-1)


def _is_box(box: Any) -> bool:
    if not isinstance(box, list) or len(box) != 4:
        return False
    if not all(type(x) in (int, float) and math.isfinite(x) for x in box):
        return False
    return bool(box[0] < box[2] and box[1] < box[3])
