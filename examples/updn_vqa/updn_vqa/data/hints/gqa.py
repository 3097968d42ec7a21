"""Hints from GQA: the boxes of the objects that a question and its answer name, from the scene graphs.

GQA's questions were generated from scene graphs, and list the objects they are about. To use them here, convert them to
the format of VQA with the one answer repeated ten times, and keep GQA's question and image ids.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from updn_common.errors import InputError
from updn_common.files.json_fields import by_id, is_number
from updn_common.files.reading import read_json
from updn_vqa.data.hints.boxes import BoxHints
from updn_vqa.data.hints.source import joined

ABOUT = "GQA: the boxes of the objects that question and answer name, from the scene graph"
_NAMED_IN = ("question", "answer", "fullAnswer")


def read_gqa(files: Sequence[Path]) -> BoxHints:
    """Read GQA's question files and scene graphs, recognised by their content.

    Boxes are clipped to their image; questions that name no object have no hint.

    Raises:
        InputError: A file is neither, one of the two kinds is missing, or the scene graphs lack a named object.
    """
    questions: dict[int, Any] = {}
    graphs: dict[str, Any] = {}
    for path in files:
        document = read_json(path, expected="GQA questions or scene graphs")
        first = next(iter(document.values()), None) if isinstance(document, dict) else None
        if not isinstance(first, dict) or not ("objects" in first or "imageId" in first):
            raise InputError(
                f"{path} holds neither GQA questions, {{id: {{imageId, annotations, ...}}}}, nor scene graphs, "
                "{image id: {width, height, objects}}."
            )
        if "objects" in first:
            graphs |= document
            continue
        found = by_id(document, path, "questions")
        if both := questions.keys() & found.keys():
            raise InputError(f"{path} has question {min(both)}, which an earlier file has too. Keep one of the two.")
        questions |= found
    if not questions or not graphs:
        missing, given = ("scene graphs", "questions") if questions else ("questions", "scene graphs")
        raise InputError(f"{joined(files)}: GQA {given} only. Give GQA's {missing} too with --hint-paths.")
    try:
        boxes = {question_id: _boxes(question_id, question, graphs) for question_id, question in questions.items()}
        sizes = {key: _size(graphs[questions[key]["imageId"]]) for key, found in boxes.items() if found}
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{joined(files)}: not in the format of GQA ({type(error).__name__}: {error}). Take questions and scene "
            "graphs of the same release and part."
        ) from None
    return BoxHints({key: torch.tensor(boxes[key]) for key in sizes}, files, ABOUT, sizes)


def _size(graph: Mapping[str, Any]) -> tuple[float, float]:
    width, height = graph["width"], graph["height"]
    if not (is_number(width) and is_number(height) and min(width, height) > 0):
        raise ValueError(f"a scene graph is of {width} x {height} pixels")
    return width, height


def _boxes(question_id: int, question: Mapping[str, Any], graphs: Mapping[str, Any]) -> list[list[float]]:
    named = {name for part in _NAMED_IN for name in question["annotations"].get(part, {}).values()}
    if not named:
        return []
    graph = graphs[question["imageId"]]
    if missing := named - graph["objects"].keys():
        raise InputError(
            f"GQA question {question_id} names object {min(missing)}, which the scene graph of image "
            f"{question['imageId']} lacks. Take questions and scene graphs of the same release and part."
        )
    boxes = []
    for name in sorted(named):
        x, y, w, h = corners = [graph["objects"][name][key] for key in "xywh"]
        if not all(map(is_number, corners)):
            raise ValueError(f"object {name} is at {corners}")
        box = [max(x, 0), max(y, 0), min(x + w, graph["width"]), min(y + h, graph["height"])]
        if box[0] < box[2] and box[1] < box[3]:
            boxes.append(box)
    return boxes
