"""The words of captions as indices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Int32

from updn_common.data.vocabulary import by_frequency, distinct_strings, vocabulary_checksum
from updn_common.errors import InputError
from updn_common.files.reading import read_json
from updn_common.files.writing import write_json

PAD, BEGIN, END, UNKNOWN = range(4)
UNKNOWN_WORD = "<unknown>"
_SPECIAL = 4


@dataclass(frozen=True)
class CaptionVocabulary:
    """The frequent words of the training captions, and four special indices.

    Attributes:
        words: The words, in the order of their indices, which begin with 4.
    """

    words: tuple[str, ...]

    def __len__(self) -> int:
        """Number of indices, including the four special ones."""
        return _SPECIAL + len(self.words)

    @cached_property
    def index(self) -> dict[str, int]:
        """The index of each word."""
        return {word: index for index, word in enumerate(self.words, start=_SPECIAL)}

    @property
    def checksum(self) -> str:
        """The SHA-256 of the words, which runs record."""
        return vocabulary_checksum(self.words)

    @classmethod
    def build(cls, captions: Iterable[Sequence[str]], min_occurrences: int = 5) -> CaptionVocabulary:
        """Collect the words that occur ``min_occurrences`` times or more, the most frequent first.

        Raises:
            InputError: No word is that frequent.
        """
        counts = Counter(word for words in captions for word in words)
        words = [word for word in by_frequency(counts) if counts[word] >= min_occurrences]
        if not words:
            most = max(counts.values(), default=0)
            raise InputError(
                f"No word occurs {min_occurrences} times or more in the train captions, the most frequent one {most} "
                "times. Give a lower --min-word-occurrences."
            )
        return cls(tuple(words))

    @classmethod
    def read(cls, path: Path) -> CaptionVocabulary:
        """Read the JSON list that :meth:`write` wrote."""
        return cls(distinct_strings(read_json(path, expected="the vocabulary of prepared captions"), path))

    def write(self, path: Path) -> None:
        """Write the words as a JSON list, without the four special indices."""
        write_json(path, list(self.words))

    def encode(self, words: Sequence[str], length: int) -> Int32[np.ndarray, " {length}+2"]:
        """Encode a caption as BEGIN, its first ``length`` words, END, and padding."""
        row = np.full(length + 2, PAD, dtype=np.int32)
        indices = [BEGIN, *(self.index.get(word, UNKNOWN) for word in words[:length]), END]
        row[: len(indices)] = indices
        return row

    def decode(self, indices: Iterable[int]) -> str:
        """The words of indices up to END, separated by spaces; BEGIN and PAD are skipped.

        Example:
            >>> CaptionVocabulary(("a", "dog")).decode([BEGIN, 4, 5, END, PAD])
            'a dog'
        """
        words = []
        for index in indices:
            if index == END:
                break
            if index not in (BEGIN, PAD):
                words.append(UNKNOWN_WORD if index == UNKNOWN else self.words[index - _SPECIAL])
        return " ".join(words)
