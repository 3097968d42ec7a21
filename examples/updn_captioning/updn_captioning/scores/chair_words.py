"""The words that CHAIR's authors count, and their rules for compound words.

Their list, ``data/synonyms.txt`` of https://github.com/LisaAnne/Hallucination, is not part of this package; the user
gives it. Papers publish numbers by this list and the rules of ``utils/chair.py``; our own words (`VisualWords`) differ
in three words of a hundred. Their code finds the singular of words by a library, ours by the plurals of listed words.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from updn_captioning.data.plurals import plural
from updn_captioning.data.visual_words import VisualWord
from updn_common.errors import InputError, first_few
from updn_common.files.reading import read_text

DOUBLE = (
    *("motor bike", "motor cycle", "air plane", "traffic light", "street light", "traffic signal", "stop light"),
    *("fire hydrant", "stop sign", "parking meter", "suit case", "sports ball", "baseball bat", "baseball glove"),
    *("tennis racket", "wine glass", "hot dog", "cell phone", "mobile phone", "teddy bear", "hair drier"),
    *("potted plant", "laptop computer", "home plate"),
)
"""Compounds of two words. (Their "stove top oven" has three, and is never found.)"""
ANIMALS = ("bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "animal", "cub")
INSTEAD = (
    {word: word for word in DOUBLE}
    | {f"{age} {animal}": animal for age in ("baby", "adult") for animal in ANIMALS}
    | {"passenger jet": "jet", "passenger train": "train", "bow tie": "tie", "toilet seat": "toilet"}
)
"""What a compound of two words is replaced by."""


@dataclass(frozen=True)
class ChairWords:
    """Finds the words of captions that name categories, as CHAIR's authors do.

    Attributes:
        categories: Names of the categories, in the order of their indices.
        listed: The category of each word or phrase.
        source: Where the words come from, for a report.
    """

    categories: tuple[str, ...]
    listed: Mapping[str, int]
    source: str

    @classmethod
    def read(cls, path: Path, categories: Sequence[str] = ()) -> ChairWords:
        """Read the authors' list, or another list in its format.

        As in their code, a word in several lines belongs to the last one, and a phrase after two spaces is not found.

        Args:
            path: A file with a category on each line, its name first; words are separated by a comma and a space.
            categories: Categories to count; all listed ones, if none are given.

        Raises:
            InputError: The file is not such a list, or lacks one of the categories.
        """
        text = read_text(path, expected="a list of words for CHAIR, such as synonyms.txt of its authors")
        lines = [line.strip().split(", ") for line in text.splitlines() if line.strip()]
        of = {word: line[0] for line in lines for word in line}
        if lacking := sorted({*categories} - of.keys()):
            raise InputError(
                f"{path} has no words for categories of the instances: {first_few(lacking)}. Give each category a line "
                "that begins with its name."
            )
        names = tuple(categories) or tuple(line[0] for line in lines)
        index = {of[name]: i for i, name in enumerate(names)}
        return cls(
            names,
            {word: index[name] for word, name in of.items() if name in index},
            f"{path}, as CHAIR's authors count",
        )

    @cached_property
    def _singular(self) -> dict[str, str]:
        singles = {part for phrase in (*self.listed, *INSTEAD) for part in phrase.split()}
        return {plural(word): word for word in singles} | {word: word for word in singles}

    def find(self, words: Sequence[str]) -> list[VisualWord]:
        """The mentions in a caption, left to right; two adjacent mentions of one category are two."""
        read = list(self._read([self._singular.get(word, word) for word in words]))
        toilet = any(word == "toilet" for _, _, word in read)
        return [
            VisualWord(begin, end, self.listed[word])
            for begin, end, word in read
            if word in self.listed and not (toilet and word == "seat")  # the seat of a toilet is not a chair
        ]

    def _read(self, words: Sequence[str]) -> Iterator[tuple[int, int, str]]:
        """Begin and end of each word or compound, and the word that stands for it."""
        begin = 0
        while begin < len(words):
            instead = INSTEAD.get(" ".join(words[begin : begin + 2]))
            end = begin + (1 if instead is None else 2)
            yield begin, end, words[begin] if instead is None else instead
            begin = end
