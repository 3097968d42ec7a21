"""``updn-vqa rebuild-cp``: make VQA-CP from VQA and two lists of question ids.

VQA-CP v1 and v2 split the questions of VQA v1 and v2 in another way and have no other content. So if the files of
VQA-CP cannot be downloaded, the question ids of its two parts are enough.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from updn_common.data.prepared_writer import print_summary
from updn_common.errors import InputError
from updn_common.files.json_fields import as_id
from updn_common.files.reading import read_json, read_text
from updn_common.files.writing import new_directory
from updn_common.progress import track
from updn_vqa.data.official_files import DatasetName, official_files
from updn_vqa.data.official_writers import write_annotations, write_questions
from updn_vqa.data.questions import Annotation, Question, pair, read_annotations, read_questions

NAMES: dict[str, tuple[DatasetName, DatasetName]] = {"v1": ("vqa_v1", "vqacp_v1"), "v2": ("vqa_v2", "vqacp_v2")}
PUBLISHED = {"v1": None, "v2": {"train": 438_183, "test": 219_928}}
"""Number of questions in VQA-CP, where it is known exactly."""


@dataclass(frozen=True)
class RebuildConfig:
    """Make VQA-CP from VQA and two lists of question ids.

    Attributes:
        train_ids: File with the ids of the train questions: text with one id per line, a JSON list of ids or of records
            with a question_id, or a question file.
        test_ids: File with the ids of the test questions.
        out: Path of the new directory.
        data: Directory with the official files of VQA, train and validation.
        questions: Question files to use instead.
        annotations: Annotation files to use instead, in the order of the question files.
        version: Version of VQA-CP.
    """

    train_ids: Path
    test_ids: Path
    out: Path
    data: Path | None = None
    questions: tuple[Path, ...] = ()
    annotations: tuple[Path, ...] = ()
    version: Literal["v1", "v2"] = "v2"


def rebuild(config: RebuildConfig) -> None:
    """Write the four files of VQA-CP under their official names, and print a summary.

    Raises:
        InputError: A file is malformed, or an id is unknown, repeated or in both parts; nothing is left behind.
    """
    ids = {"train": read_question_ids(config.train_ids), "test": read_question_ids(config.test_ids)}
    if both := set(ids["train"]) & set(ids["test"]):
        raise InputError(
            f"{config.train_ids} and {config.test_ids} share {len(both)} question ids, the first is {min(both)}. "
            "Every question belongs to one part."
        )
    known = _read(*_files(config))
    for name, path in (("train", config.train_ids), ("test", config.test_ids)):
        if unknown := [question_id for question_id in ids[name] if question_id not in known]:
            raise InputError(
                f"{path}: {len(unknown)} of {len(ids[name])} ids are not in the given question files, the first is "
                f"{unknown[0]}. VQA-CP {config.version} needs questions of VQA {config.version}, train and validation."
            )
    with new_directory(config.out) as out:
        for name in track(ids, "parts"):
            questions = [known[question_id][0] for question_id in ids[name]]
            annotations = [known[question_id][1] for question_id in ids[name]]
            files = official_files(out, NAMES[config.version][1], name)
            write_questions(files.questions, questions, None)
            write_annotations(files.annotations, annotations, None, [question.coco_split for question in questions])
    _print_summary(config, ids, known)


def read_question_ids(path: Path) -> list[int]:
    """Read question ids from text with one per line, a JSON list of ids or records, or an official file.

    Raises:
        InputError: The file holds none of these, no ids, or an id twice.
    """
    text = read_text(path, expected="a list of question ids")
    if text.lstrip()[:1] in ("[", "{"):
        document = read_json(path)
        records: Any = document
        if isinstance(document, dict):
            records = document.get("questions", document.get("annotations"))
        if not isinstance(records, list):
            keys = ", ".join(map(repr, islice(document, 3))) + " ..." * (len(document) > 3)
            raise InputError(
                f"{path} holds a JSON object with the keys {keys}. Expected the ids of one part: one per line, as a "
                "JSON list, or in an official file of questions or annotations."
            )
        items: list[Any] = [item.get("question_id") if isinstance(item, dict) else item for item in records]
    else:
        items = text.split()
    ids = []
    for number, item in enumerate(items, start=1):
        question_id = as_id(item)
        if question_id is None:
            raise InputError(
                f"{path}, entry {number}: {repr(item)[:60]} is not a question id. Expected one per line, or a "
                "JSON list."
            )
        ids.append(question_id)
    if not ids:
        raise InputError(f"{path} holds no question ids.")
    question_id, count = Counter(ids).most_common(1)[0]
    if count > 1:
        raise InputError(f"{path} lists question {question_id} {count} times. Keep one of them.")
    return ids


def _files(config: RebuildConfig) -> tuple[Sequence[Path], Sequence[Path]]:
    if config.questions or config.annotations:
        if len(config.questions) != len(config.annotations):
            raise InputError(
                f"--questions and --annotations belong together: found {len(config.questions)} and "
                f"{len(config.annotations)} files."
            )
        return config.questions, config.annotations
    if config.data is None:
        raise InputError("There is nothing to rebuild from. Give --data, or --questions and --annotations.")
    files = [official_files(config.data, NAMES[config.version][0], split) for split in ("train", "val")]
    return [file.questions for file in files], [file.annotations for file in files]


def _read(questions: Sequence[Path], annotations: Sequence[Path]) -> dict[int, tuple[Question, Annotation]]:
    """All questions and their annotations, by question id."""
    known: dict[int, tuple[Question, Annotation]] = {}
    pairs = zip(questions, annotations, strict=True)
    for question_file, annotation_file in track(pairs, "questions and annotations", len(questions)):
        asked = read_questions(question_file)
        answered = pair(asked, read_annotations(annotation_file), str(question_file))
        for question, annotation in zip(asked, answered, strict=True):
            if question.question_id in known:
                raise InputError(
                    f"{question_file}: question {question.question_id} is in an earlier file too. Give each once."
                )
            if not question.coco_split:
                raise InputError(
                    f"{question_file} does not say which part of COCO its images are in. The official files do: "
                    'add "data_subtype": "train2014" or "val2014" to its header.'
                )
            known[question.question_id] = question, annotation
    return known


def _print_summary(
    config: RebuildConfig, ids: Mapping[str, Sequence[int]], known: Mapping[int, tuple[Question, Annotation]]
) -> None:
    used = sum(map(len, ids.values()))
    published = PUBLISHED[config.version]
    notes = [f"{len(known) - used:,} of {len(known):,} given questions are in neither part."]
    if published and published != {name: len(part) for name, part in ids.items()}:
        sizes = " and ".join(f"{count:,} {name}" for name, count in published.items())
        notes.append(f"VQA-CP {config.version} as published has {sizes} questions: this is another split.")
    types = sorted({annotation.answer_type for _, annotation in known.values()})
    counts = {}
    for name, part in ids.items():
        by_type = Counter(known[question_id][1].answer_type for question_id in part)
        images = len({known[question_id][0].image_id for question_id in part})
        counts[name] = {"questions": len(part), "images": images} | {kind: by_type[kind] for kind in types}
    columns = {heading: heading for heading in ("questions", "images", *types)}
    print_summary(f"{config.out}: VQA-CP {config.version}", columns, counts, notes)
