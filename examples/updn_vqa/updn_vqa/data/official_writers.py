"""Write official question and annotation files, in the format of VQA or, without a header, of VQA-CP."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from updn_common.files.writing import atomic_file
from updn_vqa.data.questions import Annotation, Question


def write_questions(path: Path, questions: Iterable[Question], data_subtype: str | None) -> None:
    """Write an official question file, each record with its ``coco_split`` as in VQA-CP.

    ``data_subtype`` is an entry of the header, such as ``"train2014"``; None writes a bare list, as in VQA-CP.
    """
    records = (
        {
            "image_id": question.image_id,
            "question": question.text,
            "question_id": question.question_id,
            "coco_split": question.coco_split,
        }
        for question in questions
    )
    header = {"task_type": "Open-Ended", "data_subtype": data_subtype}
    _write_records(path, header if data_subtype is not None else None, "questions", records)


def write_annotations(
    path: Path, annotations: Iterable[Annotation], data_subtype: str | None, coco_splits: Iterable[str] | None = None
) -> None:
    """Write an official annotation file, which the official evaluator can read; see :func:`write_questions`.

    ``coco_splits`` are the ``coco_split`` of the records, as in VQA-CP; by default, records have none.
    """
    records = (
        {
            "question_type": annotation.question_type,
            "multiple_choice_answer": annotation.multiple_choice_answer,
            "answers": [
                {"answer": answer, "answer_confidence": confidence, "answer_id": number}
                for number, (answer, confidence) in enumerate(
                    zip(annotation.answers, annotation.confidences, strict=True), start=1
                )
            ],
            "image_id": annotation.image_id,
            "answer_type": annotation.answer_type,
            "question_id": annotation.question_id,
        }
        for annotation in annotations
    )
    if coco_splits is not None:
        records = (record | {"coco_split": coco_split} for record, coco_split in zip(records, coco_splits, strict=True))
    header = {"data_subtype": data_subtype} if data_subtype is not None else None
    _write_records(path, header, "annotations", records)


def _write_records(
    path: Path, header: Mapping[str, str | None] | None, key: str, records: Iterable[dict[str, Any]]
) -> None:
    """Write one record per line in constant memory: VQA v2 has 6.6 million answers."""
    opening, closing = "[", "]"
    if header is not None:
        preamble = json.dumps({"info": {}, "license": {}, "data_type": "mscoco"} | dict(header)).removesuffix("}")
        opening, closing = f'{preamble}, "{key}": [', "]}"
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(opening)
        for index, record in enumerate(records):
            file.write((",\n" if index else "\n") + json.dumps(record))
        file.write(f"\n{closing}\n")
