"""Visual words: the words with which captions name the categories of COCO's instances.

They come from a list with one category per line, its own name first (the format of Neural Baby Talk's
``coco_class_name.txt``). Ours is ``coco_visual_words.txt`` beside this file, which also lists ambiguous words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from updn_captioning.data.plurals import plural
from updn_common.errors import InputError, first_few
from updn_common.files.reading import read_json, read_text
from updn_common.files.writing import write_json

NO_CATEGORY = -1
"""Category of phrases that contain a visual word but name no such object, such as "bus stop"."""

OWN_LIST = "coco_visual_words.txt"


class VisualWord(NamedTuple):
    """A category that the words of a caption from ``begin`` to ``end`` (exclusive) name."""

    begin: int
    end: int
    category: int


@dataclass(frozen=True)
class VisualWords:
    """The phrases that name each category.

    Attributes:
        categories: Names of the categories, in the order of their indices.
        phrases: The category of each phrase, words separated by spaces, or `NO_CATEGORY`.
        source: Where the phrases come from, for reports.
        ambiguous: Phrases that the list has for several categories, with the chosen category.
    """

    categories: tuple[str, ...]
    phrases: Mapping[str, int]
    source: str = "the names of the categories"
    ambiguous: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of_names(cls, categories: Sequence[str]) -> VisualWords:
        """Each category's name and its plural."""
        return cls(tuple(categories), _phrases([[name.lower()] for name in categories], []))

    @classmethod
    def read_list(cls, path: Path | None = None) -> VisualWords:
        """Read a list; by default our own.

        Each line holds words and phrases for one category, separated by commas; the first is its name. Plurals are
        added. A phrase in several lines belongs to the category with that name, or else to the first line. ``#`` begins
        a comment, and ``!`` a line of phrases that name nothing. ``+ baby, adult: dog, cat`` lists words that may stand
        before all phrases of the categories after the colon, without a change of category.

        Raises:
            InputError: The file is not such a list, or has two lines for a category.
        """
        source = path or OWN_LIST
        text = read_text(path, expected="a list of visual words") if path else _own_list()
        lines = [line for line in (line.split("#")[0].strip() for line in text.splitlines()) if line]
        words = [_split(line) for line in lines if line[0] not in "!+"]
        names = [line[0] for line in words if line]
        if len(names) < len(words) or not words:
            raise InputError(f"{source} should hold words separated by commas, one category a line.")
        if twice := next((name for i, name in enumerate(names) if name in names[:i]), None):
            raise InputError(f"{source}: the category {twice!r} has two lines. Join them.")
        nothing = [phrase for line in lines if line.startswith("!") for phrase in _split(line[1:])]
        several = Counter(phrase for line in words for phrase in set(line))
        for line in lines:
            if line.startswith("+"):
                before, _, of = line[1:].partition(":")
                for name in _split(of):
                    if name not in names:
                        raise InputError(f"{source}: {line!r} is about {name!r}, which is no category.")
                    own = words[names.index(name)]
                    own += [f"{word} {phrase}" for word in _split(before) for phrase in own]
        phrases = _phrases(words, nothing)
        ambiguous = {phrase: names[phrases[phrase]] for phrase, count in several.items() if count > 1}
        return cls(tuple(names), phrases, str(source), ambiguous)

    @classmethod
    def for_instances(cls, categories: Sequence[str], path: Path | None = None) -> VisualWords:
        """The visual words for the categories of instances.

        Args:
            categories: Names of the categories; if empty, all categories of the list.
            path: A list. Default: our own list, or only the names of the categories if our list lacks one.

        Raises:
            InputError: The file is not such a list, or lacks one of the categories.
        """
        if path is not None:
            words = cls.read_list(path)
            return words.of(categories, str(path)) if categories else words
        words = cls.read_list()
        return words.of(categories) if {*categories} <= {*words.categories} else cls.of_names(categories)

    @classmethod
    def read(cls, path: Path) -> VisualWords:
        """Read what :meth:`write` wrote."""
        document = read_json(path, expected="the visual words of prepared captions")
        try:
            return cls(tuple(document["categories"]), dict(document["phrases"]), str(document["source"]))
        except (KeyError, TypeError, ValueError):
            raise InputError(f"{path} is not a file of visual words. Prepare it again.") from None

    def write(self, path: Path) -> None:
        """Write them as JSON."""
        write_json(path, {"source": self.source, "categories": self.categories, "phrases": dict(self.phrases)})

    def of(self, categories: Sequence[str], source: str = OWN_LIST) -> VisualWords:
        """The visual words of the given categories, with the indices of these; ``source`` names this list in errors.

        Phrases of other categories then name nothing: without the category "hot dog", a hot dog is still not a dog.

        Raises:
            InputError: This list lacks one of the categories.
        """
        index = {category.lower(): i for i, category in enumerate(categories)}
        if lacking := sorted(index.keys() - {*self.categories}):
            raise InputError(
                f"{source} has no words for categories of the instances: {first_few(lacking)}. Give each category a "
                "line that begins with its name."
            )
        order = [*(index.get(category, NO_CATEGORY) for category in self.categories), NO_CATEGORY]
        phrases = {phrase: order[old] for phrase, old in self.phrases.items()}
        return replace(self, categories=tuple(categories), phrases=phrases)

    def find(self, words: Sequence[str]) -> list[VisualWord]:
        """The visual words of a caption, from left to right. Of overlapping phrases, the first and longest counts.

        Consecutive phrases that differ but have the same category, such as "ferry" and "boat", name one object.

        Example:
            >>> words = VisualWords.read_list()
            >>> [(*word[:2], words.categories[word.category]) for word in words.find("a hot dog and a dog".split())]
            [(1, 3, 'hot dog'), (5, 6, 'dog')]
        """
        found: list[VisualWord] = []
        for word in self._spans(words):
            last = found[-1] if found else VisualWord(-1, -1, NO_CATEGORY)
            joins = last.end == word.begin and last.category == word.category
            if joins and words[last.begin : last.end] != words[word.begin : word.end]:
                found[-1] = last._replace(end=word.end)
            else:
                found.append(word)
        return [word for word in found if word.category != NO_CATEGORY]

    def _spans(self, words: Sequence[str]) -> Iterator[VisualWord]:
        begin = 0
        while begin < len(words):
            end = begin + 1
            for length in self._lengths.get(words[begin], ()):
                phrase = words[begin : begin + length]
                category = self.phrases.get(" ".join(phrase))
                if category is not None:
                    end = begin + len(phrase)  # fewer than `length` words at the end of a caption
                    yield VisualWord(begin, end, category)
                    break
            begin = end

    @cached_property
    def _lengths(self) -> dict[str, list[int]]:
        """For each first word of a phrase, the lengths of such phrases in words, longest first."""
        lengths: dict[str, set[int]] = {}
        for phrase in self.phrases:
            first, *others = phrase.split()
            lengths.setdefault(first, set()).add(1 + len(others))
        return {first: sorted(found, reverse=True) for first, found in lengths.items()}


def _own_list() -> str:
    return resources.files("updn_captioning.data").joinpath(OWN_LIST).read_text(encoding="utf-8")


def _split(line: str) -> list[str]:
    phrases = (" ".join(phrase.lower().split()) for phrase in line.split(","))
    return [phrase for phrase in phrases if phrase]


def _phrases(lines: Sequence[Sequence[str]], nothing: Iterable[str]) -> dict[str, int]:
    """The category of each phrase: names take precedence over other phrases, and listed phrases over plurals."""
    names = [(line[0], category) for category, line in enumerate(lines)]
    listed = [(phrase, category) for category, line in enumerate(lines) for phrase in line]
    listed = names + listed + [(phrase, NO_CATEGORY) for phrase in nothing]
    phrases: dict[str, int] = {}
    for phrase, category in listed + [(plural(phrase), category) for phrase, category in listed]:
        phrases.setdefault(phrase, category)
    return phrases
