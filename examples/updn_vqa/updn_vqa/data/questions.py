"""Read the official VQA files as typed records: questions, annotations, results.

VQA v1 and v2 wrap their records in a header, ``{"info": ..., "questions": [...]}``; VQA-CP has bare lists. Both may be
gzipped. Errors name the file and the record.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from updn_common.errors import InputError
from updn_common.files.json_fields import field, is_text, kind_of
from updn_common.files.reading import read_json
from updn_common.files.writing import write_json

ANSWERS_PER_QUESTION = 10


@dataclass(frozen=True, slots=True)
class Question:
    """One question about one image.

    Attributes:
        question_id: The official id, ``image_id * 1000 + k`` in VQA v2.
        image_id: The COCO image.
        text: The question as it was written.
        coco_split: Part of COCO that has the image, ``"train2014"`` or ``"val2014"``; empty if unknown.
    """

    question_id: int
    image_id: int
    text: str
    coco_split: str = ""


@dataclass(frozen=True, slots=True)
class Annotation:
    """The ten human answers to one question.

    Attributes:
        question_id: The question.
        image_id: The image it is about.
        question_type: The question's first words, such as ``"what color is the"``.
        answer_type: ``"yes/no"``, ``"number"`` or ``"other"``.
        multiple_choice_answer: The most frequent of the answers.
        answers: The ten answers, as they were typed.
        confidences: ``"yes"``, ``"maybe"`` or ``"no"`` for each answer.
    """

    question_id: int
    image_id: int
    question_type: str
    answer_type: str
    multiple_choice_answer: str
    answers: tuple[str, ...]
    confidences: tuple[str, ...] = ("yes",) * ANSWERS_PER_QUESTION


Record = TypeVar("Record", Question, Annotation)


def read_questions(path: Path) -> list[Question]:
    """Read a question file of VQA v1, v2 or VQA-CP, gzipped or not.

    Raises:
        InputError: The file has another format, a record lacks a key or has a value of the wrong type, or a question id
            occurs twice.
    """
    return _read_records(path, "questions", _parse_question)


def read_annotations(path: Path) -> list[Annotation]:
    """Read an annotation file of VQA v2 or VQA-CP; see :func:`read_questions`."""
    return _read_records(path, "annotations", _parse_annotation)


def pair(questions: Sequence[Question], annotations: Iterable[Annotation], source: str) -> list[Annotation]:
    """Put annotations into the order of their questions. ``source`` is the file of the questions, for error messages.

    Raises:
        InputError: A question has no annotation, an annotation has no question, or they are about different images.
    """
    by_id = {annotation.question_id: annotation for annotation in annotations}
    check_same_questions((question.question_id for question in questions), by_id, source)
    for question in questions:
        image_id = by_id[question.question_id].image_id
        if image_id != question.image_id:
            raise InputError(
                f"{source}: question {question.question_id} is about image {question.image_id}, but its annotation "
                f"about image {image_id}. Take both files from the same release."
            )
    return [by_id[question.question_id] for question in questions]


def check_same_questions(found: Iterable[int], expected: Iterable[int], name: str) -> None:
    """Raise an InputError, about the file ``name``, unless it has the expected question ids."""
    found, expected = set(found), set(expected)
    missing, extra = expected - found, found - expected
    if missing:
        raise InputError(
            f"{name}: {len(missing)} of the {len(expected)} annotated questions are missing, the first is "
            f"{min(missing)}. There should be one record for each annotation."
        )
    if extra:
        raise InputError(
            f"{name}: {len(extra)} questions have no annotation, the first is {min(extra)}. "
            "There should be one record for each annotation."
        )


def read_results(path: Path) -> dict[int, str]:
    """Read the answer to each question in the official results format, ``[{"question_id": int, "answer": str}, ...]``.

    Raises:
        InputError: A record is malformed, or a question is answered twice.
    """
    records = read_json(path, expected="a VQA results file")
    if not isinstance(records, list):
        raise InputError(f"{path} is not a VQA results file: it should hold a list, found {kind_of(records)}.")
    results: dict[int, str] = {}
    for index, record in enumerate(records):
        where = f"{path}, record {index}"
        question_id = field(record, "question_id", int, where)
        if question_id in results:
            raise InputError(f"{where}: question {question_id} is answered twice. Keep one of the answers.")
        results[question_id] = field(record, "answer", str, where)
    return results


def write_results(path: Path, results: Iterable[tuple[int, str]]) -> None:
    """Write ``(question_id, answer)`` pairs in the official results format."""
    write_json(path, [{"question_id": question_id, "answer": answer} for question_id, answer in results])


def _read_records(path: Path, key: str, parse: Callable[[Any, str, str], Record]) -> list[Record]:
    document = read_json(path, expected=f"a VQA {key} file")
    records, coco_split = document, ""
    if isinstance(document, dict):
        records, coco_split = document.get(key), document.get("data_subtype", "")
        if not is_text(coco_split):
            raise InputError(f"{path}: 'data_subtype' should be str, found {coco_split!r} ({kind_of(coco_split)}).")
    if not isinstance(records, list):
        raise InputError(
            f"{path} is not a VQA {key} file: it should hold a list of records, or an object with such a list "
            f"under {key!r}. Found {kind_of(document)}."
        )
    if not records:
        raise InputError(f"{path} holds no {key}. Give a file with at least one record.")
    parsed: list[Record] = []
    first_seen: dict[int, int] = {}
    for index, record in enumerate(records):
        item = parse(record, coco_split, f"{path}, record {index}")
        first = first_seen.setdefault(item.question_id, index)
        if first != index:
            raise InputError(
                f"{path}: question id {item.question_id} occurs twice, in records {first} and {index}. "
                "Question ids must be unique; remove one of the two."
            )
        parsed.append(item)
    return parsed


def _parse_question(record: Any, coco_split: str, where: str) -> Question:
    return Question(
        question_id=field(record, "question_id", int, where),
        image_id=field(record, "image_id", int, where),
        text=field(record, "question", str, where),
        coco_split=field(record, "coco_split", str, where) if "coco_split" in record else coco_split,
    )


def _parse_annotation(record: Any, coco_split: str, where: str) -> Annotation:
    answers = field(record, "answers", list, where)
    if len(answers) != ANSWERS_PER_QUESTION:
        raise InputError(
            f"{where}: question {record.get('question_id')} has {len(answers)} answers. "
            f"The VQA accuracy is defined on {ANSWERS_PER_QUESTION}."
        )
    return Annotation(
        question_id=field(record, "question_id", int, where),
        image_id=field(record, "image_id", int, where),
        question_type=field(record, "question_type", str, where),
        answer_type=field(record, "answer_type", str, where),
        multiple_choice_answer=field(record, "multiple_choice_answer", str, where),
        # Few of the millions of answers are distinct; interning keeps each once.
        answers=tuple(sys.intern(field(answer, "answer", str, where)) for answer in answers),
        confidences=tuple(sys.intern(field(answer, "answer_confidence", str, where)) for answer in answers),
    )
