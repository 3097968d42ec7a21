"""Hints from boxes around what a question asks about."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import torch
from jaxtyping import Float32
from torch import Tensor

from hint_loss import human_importance_from_boxes
from updn_common.errors import InputError
from updn_common.files.json_fields import by_id, is_number
from updn_common.files.reading import read_json
from updn_common.proposals.boxes import box_fault
from updn_common.proposals.store import Geometry
from updn_vqa.data.hints.source import Importance, fitting_scale, joined, read_all
from updn_vqa.data.questions import Question

Box: TypeAlias = tuple[float, float, float, float]


@dataclass(frozen=True)
class BoxHints:
    """Boxes that people drew around what a question is about.

    Attributes:
        boxes: The boxes of each question that has any: x1, y1, x2, y2 in pixels.
        files: The files that were read.
        about: Description for ``prepared.json``.
        sizes: For some questions, width and height of the image that the boxes were drawn on; they are scaled to the
            image of the proposals.
    """

    boxes: Mapping[int, Float32[Tensor, "M 4"]]
    files: Sequence[Path]
    about: str = "boxes drawn with the question in view"
    sizes: Mapping[int, tuple[float, float]] = field(default_factory=dict)

    @classmethod
    def read(cls, files: Sequence[Path]) -> BoxHints:
        """Read one or more files; see :func:`read_question_boxes`."""
        return cls(read_all(read_question_boxes, files), files)

    @property
    def question_ids(self) -> Collection[int]:
        return self.boxes

    def importance(self, question: Question, image: Geometry) -> Importance | None:
        drawn = self.boxes.get(question.question_id)
        if drawn is None:
            return None
        where = f"{joined(self.files)}: question {question.question_id}"
        if size := self.sizes.get(question.question_id):
            drawn = drawn * fitting_scale(size, image, question.image_id, where).repeat(2)
        if fault := box_fault(drawn.numpy(), image.width, image.height):
            raise InputError(f"{where}: {fault}.")
        return human_importance_from_boxes(drawn, image.boxes, image_size=image.size)

    def record(self) -> dict[str, Any]:
        return {"source": "boxes", "about": self.about, "questions": len(self.boxes)}


def read_question_boxes(path: Path) -> dict[int, Float32[Tensor, "M 4"]]:
    """Read the boxes of each question that has any, ``{"<question id>": [[x1, y1, x2, y2], ...]}`` in pixels.

    A box may also be written as in GQA's scene graphs, ``{"x": left, "y": top, "w": width, "h": height, ...}``.

    Raises:
        InputError: The file has another format, or a box is inverted, empty or not finite.
    """
    document = read_json(path, expected="a JSON file of boxes for each question", unique=True)
    boxes = {
        question_id: parse_boxes(drawn, f"{path}: question {question_id}")
        for question_id, drawn in by_id(document, path, "boxes").items()
    }
    return {question_id: torch.tensor(found, dtype=torch.float32) for question_id, found in boxes.items() if found}


def parse_boxes(boxes: Any, where: str) -> list[Box]:
    """The corners of a list of boxes.

    Raises:
        InputError: The value is not a list of boxes, or a box is inverted, empty or not finite.
    """
    corners = [_corners(box) for box in boxes] if isinstance(boxes, list) else [None]
    if None in corners:
        raise InputError(f"{where} has {boxes!r}. Expected a list of boxes [x1, y1, x2, y2] with x1 < x2 and y1 < y2.")
    return [box for box in corners if box]


def _corners(box: Any) -> Box | None:
    if isinstance(box, dict) and box.keys() >= {"x", "y", "w", "h"}:
        x, y, w, h = (box[name] for name in "xywh")
        box = [x, y, x + w, y + h] if all(map(is_number, (x, y, w, h))) else None
    if not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)):
        return None
    x1, y1, x2, y2 = torch.tensor(box, dtype=torch.float32).tolist()  # a side may round to zero
    return (x1, y1, x2, y2) if x1 < x2 and y1 < y2 else None
