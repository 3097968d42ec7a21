"""Hints from words: a proposal is important if a text names the object class that the detector assigned to it.

Such hints need neither gaze nor drawn boxes, only texts and the classes of the detector. So all proposals of one class
get the same importance, wherever they are, and what the detector has no class for gets none. Wu and Mooney (2019) also
make hints from words, but only from nouns, matched by the similarity of word vectors. Here, a word matches the
singular, the plural and the synonyms of a class in the detector's list, whether it is a noun or not: "an orange shirt"
is a hint at fruit.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from updn_common.errors import InputError
from updn_common.files.json_fields import by_id, is_text
from updn_common.files.reading import read_json, read_text
from updn_common.proposals.store import Geometry
from updn_vqa.data.hints.source import Importance, read_all
from updn_vqa.data.questions import Annotation, Question

_IRREGULAR = {
    **{"men": "man", "women": "woman", "people": "person", "children": "child", "feet": "foot", "teeth": "tooth"},
    **{"mice": "mouse", "geese": "goose", "knives": "knife", "leaves": "leaf", "shelves": "shelf", "loaves": "loaf"},
    **{"scarves": "scarf", "wolves": "wolf", "calves": "calf", "halves": "half", "buses": "bus", "gases": "gas"},
    **{"tomatoes": "tomato", "potatoes": "potato", "cookies": "cookie", "brownies": "brownie", "movies": "movie"},
    **{"skis": "ski", "veggies": "veggie", "hoodies": "hoodie", "beanies": "beanie", "mangoes": "mango"},
}
_APOSTROPHE = re.compile("['\u2019](s\\b)?")
_KEPT = ("ss", "us", "is")


@dataclass(frozen=True)
class ObjectNames:
    """Names of the detector's object classes.

    Attributes:
        names: The synonyms of each class.
    """

    names: Sequence[Sequence[str]]

    @classmethod
    def read(cls, path: Path) -> ObjectNames:
        """Read a text file with one class per line and commas between synonyms, such as ``objects_vocab.txt``.

        Raises:
            InputError: The file is missing, or a line is empty.
        """
        lines = read_text(path, expected="the detector's object names, one per line").splitlines()
        if not lines or not all(line.strip() for line in lines):
            at = next((number for number, line in enumerate(lines, start=1) if not line.strip()), 1)
            raise InputError(f"{path}, line {at} is empty; expected the detector's object names, one per line.")
        return cls([line.split(",") for line in lines])

    @cached_property
    def _classes(self) -> dict[tuple[str, ...], set[int]]:
        """The classes that each sequence of words names."""
        classes: dict[tuple[str, ...], set[int]] = {}
        for index, synonyms in enumerate(self.names):
            for name in synonyms:
                classes.setdefault(words(name), set()).add(index)
        return classes

    @cached_property
    def _longest(self) -> int:
        return max(map(len, self._classes))

    def named_in(self, text: str) -> set[int]:
        """The classes that a text names. The longest name counts: "a hot dog" does not name a dog.

        Example:
            >>> names = ObjectNames([["dog"], ["hot dog", "hotdog"], ["man"], ["t-shirt", "t shirt"]])
            >>> sorted(names.named_in("The men's T-shirts show hot dogs."))
            [1, 2, 3]
        """
        found: set[int] = set()
        for part in re.split(r"[,.;:!?()]", text):
            read, at = words(part), 0
            while at < len(read):
                matches = (n for n in range(self._longest, 0, -1) if read[at : at + n] in self._classes)
                length = next(matches, 0)
                found |= self._classes[read[at : at + length]] if length else set()
                at += length or 1
        return found


def words(text: str) -> tuple[str, ...]:
    """The words of a text in lower case and in the singular, without punctuation and possessive endings."""
    return tuple(_singular(word) for word in re.findall(r"[a-z0-9]+", _APOSTROPHE.sub("", text.lower())))


def _singular(word: str) -> str:
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if len(word) < 4 or not word.endswith("s") or word.endswith(_KEPT):
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    return word[:-2] if word.endswith(("ches", "shes", "sses", "xes", "zzes")) else word[:-1]


@dataclass(frozen=True)
class WordHints:
    """Texts about questions, and the names of detected objects.

    The importance of a proposal is the share of a question's texts that name its object: 0 or 1 for a single text.

    Attributes:
        texts: The texts about each question that has any.
        names: Names of the detector's object classes.
        files: The files that were read.
        source: Kind of texts.
        about: Description for ``prepared.json``.
    """

    texts: Mapping[int, Sequence[str]]
    names: ObjectNames
    files: Sequence[Path]
    source: str = "words"
    about: str = "words matched with the names of detected objects"

    @classmethod
    def of_explanations(cls, files: Sequence[Path], names: Path) -> WordHints:
        """Hints from VQA-X, people's explanations of an answer; see :func:`read_explanations`."""
        return cls(
            read_all(read_explanations, files),
            ObjectNames.read(names),
            [*files, names],
            "explanations",
            "words of VQA-X explanations matched with the names of detected objects; nobody looked at proposals",
        )

    @classmethod
    def of_answers(cls, questions: Iterable[Question], annotations: Iterable[Annotation], names: Path) -> WordHints:
        """Hints from each question and its ground-truth answer, as one text."""
        pairs = zip(questions, annotations, strict=True)
        return cls(
            {q.question_id: [f"{q.text} {a.multiple_choice_answer}"] for q, a in pairs},
            ObjectNames.read(names),
            [names],
            "question-answer",
            "words of question and true answer matched with the names of detected objects; NOT human attention",
        )

    @property
    def question_ids(self) -> Collection[int]:
        return self.texts

    def importance(self, question: Question, image: Geometry) -> Importance | None:
        """See :class:`HintSource`. None also if the importance of all proposals is the same."""
        texts = self.texts.get(question.question_id)
        if texts is None:
            return None
        if image.objects is None:
            raise InputError(
                f"The features of image {question.image_id} do not say what objects were detected, which hints from "
                "words need. Give features in LXMERT's TSV, which has the column objects_id."
            )
        if image.objects.max() >= len(self.names.names):
            raise InputError(
                f"{self.files[-1]} has {len(self.names.names)} object names, but image {question.image_id} an object "
                f"{image.objects.max()}. Give the list of the detector that made the features with --object-names."
            )
        classes = image.objects.tolist()
        named = torch.tensor([[index in found for index in classes] for found in map(self.names.named_in, texts)])
        s = named.float().mean(0)
        return s if s.min() < s.max() else None

    def record(self) -> dict[str, Any]:
        return {"source": self.source, "about": self.about, "questions": len(self.texts)}


def read_explanations(path: Path) -> dict[int, list[str]]:
    """Read VQA-X explanations of each question that has any, ``{"<question id>": ["because ...", ...]}``.

    Raises:
        InputError: The file has another format.
    """
    explanations = by_id(read_json(path, expected="VQA-X explanations", unique=True), path, "explanations")
    for key, texts in explanations.items():
        if not isinstance(texts, list) or not all(map(is_text, texts)):
            raise InputError(f"{path}: question {key} has {texts!r}. Expected a list of explanations.")
    return {question_id: texts for question_id, texts in explanations.items() if texts}
