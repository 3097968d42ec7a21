"""Hints in an open format: JSON Lines, gzipped or not, that any program can read or write.

The first line is a header, and each line after it is the hint for one question::

    {"format": "hints", "version": 1, "about": "clicks of students", "features": [{"name": "a.tsv", "sha256": "..."}]}
    {"question_id": 458752000, "importance": [0.93, 0.5, 0.11]}
    {"question_id": 458752001, "boxes": [[12, 30, 88, 140.5]]}
    {"question_id": 458752002, "words": ["stop sign", "trees"]}

``importance``
    ``s`` in [0, 1] for each proposal of the question's image, in the order of the feature file. Only such hints depend
    on the features: if the header lists feature files with their checksums, no others are accepted.
``boxes``
    What a person marked: corners x1, y1, x2, y2 in pixels of the image, or ``{"x", "y", "w", "h"}``.
``words``
    What a person named. The words are matched with the names of detected objects.

``about`` is a description for people, and ``features`` may be left out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32

from updn_common.errors import InputError
from updn_common.files.json_fields import as_id, is_text
from updn_common.files.reading import read_json_lines
from updn_common.files.writing import atomic_file, json_text
from updn_common.proposals.store import Geometry
from updn_vqa.data.hints.boxes import BoxHints, parse_boxes
from updn_vqa.data.hints.source import Importance, joined
from updn_vqa.data.hints.words import ObjectNames, WordHints
from updn_vqa.data.questions import Question

VERSION = 1
_KINDS = ("importance", "boxes", "words")


@dataclass(frozen=True)
class FileHints:
    """Hints from files in the open format.

    Attributes:
        scores: The importance of each proposal, for questions that have such a hint.
        boxes: Hints from boxes.
        words: Hints from words, if there are any.
        features: Names of the feature files that the scores belong to, by checksum; empty if unknown.
        files: The files that were read.
        about: The descriptions in the headers.
    """

    scores: Mapping[int, Float32[np.ndarray, " K"]]
    boxes: BoxHints
    words: WordHints | None
    features: Mapping[str, str]
    files: Sequence[Path]
    about: str

    @classmethod
    def read(cls, files: Sequence[Path], names: Path | None) -> FileHints:
        """Read one or more files; hints from words need ``names``, the file of the detector's object names.

        Raises:
            InputError: A line is malformed, a question has two hints, or object names are missing.
        """
        found: dict[str, dict[int, Any]] = {kind: {} for kind in _KINDS}
        features: dict[str, str] = {}
        about = []
        for path in files:
            lines = read_json_lines(path, expected="a file of hints")
            header = _header(next(lines, (str(path), None)))
            about.append(header["about"] or path.name)
            features |= {source["sha256"]: source["name"] for source in header.get("features") or []}
            for where, record in lines:
                question_id, kind, value = _parse(record, where)
                if any(question_id in hints for hints in found.values()):
                    raise InputError(
                        f"{where}: question {question_id} has another hint in an earlier line. Keep one of the two."
                    )
                found[kind][question_id] = value
        if found["words"] and names is None:
            raise InputError(f"{joined(files)}: hints from words need the detector's names. Give --object-names.")
        words = WordHints(found["words"], ObjectNames.read(names), [*files, names]) if names else None
        boxes = {question_id: torch.tensor(value, dtype=torch.float32) for question_id, value in found["boxes"].items()}
        return cls(found["importance"], BoxHints(boxes, files), words, features, files, "; ".join(about))

    def check_features(self, sources: Iterable[Mapping[str, str]]) -> None:
        """Check that the scores belong to features with the given names and checksums.

        Raises:
            InputError: The hint files name other features.
        """
        given = {source["sha256"] for source in sources}
        if self.scores and (others := [name for checksum, name in self.features.items() if checksum not in given]):
            raise InputError(
                f"{joined(self.files)}: the hints are for the proposals in {others[0]}, but --features hold others "
                "(checksums differ). Give the features that the hints were made for, or hints as boxes."
            )

    @property
    def question_ids(self) -> Collection[int]:
        return {*self.scores, *self.boxes.boxes, *(self.words.texts if self.words else ())}

    def importance(self, question: Question, image: Geometry) -> Importance | None:
        scores = self.scores.get(question.question_id)
        if scores is None:
            s = self.boxes.importance(question, image)
            return s if s is not None or self.words is None else self.words.importance(question, image)
        if len(scores) != len(image.boxes):
            raise InputError(
                f"{joined(self.files)}: question {question.question_id} has {len(scores)} numbers, but image "
                f"{question.image_id} has {len(image.boxes)} proposals. Give the features that the hints were made for."
            )
        return torch.from_numpy(scores)

    def record(self) -> dict[str, Any]:
        words = len(self.words.texts) if self.words else 0
        return {
            "source": "file",
            "about": self.about,
            "scored": len(self.scores),
            "boxed": len(self.boxes.boxes),
            "worded": words,
        }


def write_hints(
    path: Path,
    hints: Iterable[tuple[int, Float32[np.ndarray, " K"]]],
    *,
    about: str,
    features: Sequence[Mapping[str, str]] = (),
) -> None:
    """Write the importance of proposals so that reading gives bitwise the same numbers.

    Args:
        path: The file.
        hints: Question ids and the importance of each proposal.
        about: Description of where the hints come from.
        features: Names and checksums of the feature files.
    """
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        header = {"format": "hints", "version": VERSION, "about": about, "features": list(features)}
        file.write(json_text(header) + "\n")
        for question_id, s in hints:
            # The shortest decimal number that identifies a float32 has at most nine digits.
            shortest = [float(str(x)) for x in s.astype(np.float32)]
            file.write(json_text({"question_id": question_id, "importance": shortest}) + "\n")


def _header(line: tuple[str, Any]) -> Mapping[str, Any]:
    where, header = line
    if not isinstance(header, dict) or header.get("format") != "hints" or header.get("version") != VERSION:
        raise InputError(
            f'{where}: not a file of hints. Its first line should be {{"format": "hints", "version": {VERSION}, '
            '"about": "where they come from"}.'
        )
    features = header.get("features") or []
    if not isinstance(features, list) or not all(_is_source(source) for source in features):
        raise InputError(f'{where}: "features" should be a list of {{"name": ..., "sha256": ...}}.')
    about = header.get("about") or ""
    if not is_text(about):
        raise InputError(f'{where}: "about" should be text that says where the hints come from, found {about!r}.')
    return header | {"about": about}


def _is_source(source: Any) -> bool:
    return isinstance(source, dict) and all(is_text(source.get(key)) for key in ("name", "sha256"))


def _parse(record: Any, where: str) -> tuple[int, str, Any]:
    kinds = [kind for kind in _KINDS if isinstance(record, dict) and kind in record]
    question_id = record.get("question_id") if isinstance(record, dict) else None
    if len(kinds) != 1 or type(question_id) is not int or as_id(question_id) is None:
        raise InputError(
            f'{where}: expected {{"question_id": integer}} with one of "importance", "boxes" or "words", '
            f"found {json_text(record)[:80]}."
        )
    kind = kinds[0]
    value = record[kind]
    if kind == "boxes":
        value = parse_boxes(value, f"{where}: question {question_id}")
    elif kind == "words" and not (isinstance(value, list) and all(map(is_text, value))):
        raise InputError(f"{where}: the words for question {question_id} should be a list of texts, found {value!r}.")
    elif kind == "importance":
        value = _importance(value, f"{where}: question {question_id}")
    if not len(value):
        raise InputError(f"{where}: question {question_id} has no {kind}. Leave out questions without a hint.")
    return question_id, kind, [", ".join(value)] if kind == "words" else value


def _importance(value: Any, where: str) -> Float32[np.ndarray, " K"]:
    if not isinstance(value, list):
        raise InputError(f"{where} has {value!r}. Expected a list of numbers from 0 to 1.")
    for x in value:
        if type(x) not in (int, float) or not 0 <= x <= 1:
            raise InputError(f"{where} has {x!r}. Expected numbers from 0 to 1.")
    return np.array(value, dtype=np.float32)
