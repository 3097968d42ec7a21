"""Answers and question words as indices, as in the reference implementation of the Bottom-Up Top-Down VQA model.

Reference: https://github.com/hengyuan-hu/bottom-up-attention-vqa, ``compute_softscore.py`` and ``dataset.py``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from updn_common.data.vocabulary import by_frequency, distinct_strings, vocabulary_checksum
from updn_common.errors import InputError
from updn_common.files.reading import read_json
from updn_common.files.writing import json_text, write_json
from updn_vqa.data.accuracy import normalise_answer
from updn_vqa.data.questions import Annotation

PADDING = 0
UNKNOWN = 1
_SPECIAL = 2

_SOFT_SCORES = (0.0, 0.3, 0.6, 0.9, 1.0)  # by the number of people who gave the answer, 4 meaning 4 or more


def soft_scores(annotation: Annotation) -> dict[str, float]:
    """The training target of each distinct answer: what the VQA accuracy would give for it, to one digit.

    Answers count as they were typed: the reference normalises the vocabulary, not the ten answers.

    Returns:
        .3, .6, .9 or 1 for answers that 1, 2, 3 or more people gave, in order of first mention.
    """
    counts = Counter(annotation.answers)
    return {answer: _SOFT_SCORES[min(count, 4)] for answer, count in counts.items()}


def tokenise(text: str) -> list[str]:
    """Split a question into words: lower case, no commas or question marks, and ``'s`` a word of its own.

    Example:
        >>> tokenise("What's the man's hat, exactly?")
        ['what', "'s", 'the', 'man', "'s", 'hat', 'exactly']
    """
    return text.lower().replace(",", "").replace("?", "").replace("'s", " 's").split()


@dataclass(frozen=True)
class AnswerVocabulary:
    """The answers that a model can give, each by its index.

    Attributes:
        answers: The answers, in the order of their indices.
    """

    answers: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.answers)

    @cached_property
    def index(self) -> dict[str, int]:
        """The index of each answer."""
        return {answer: index for index, answer in enumerate(self.answers)}

    @classmethod
    def build(cls, annotations: Iterable[Annotation], min_occurrences: int = 9) -> AnswerVocabulary:
        """Collect the normalised multiple-choice answers that stand at ``min_occurrences`` questions or more.

        The most frequent answer comes first, and equally frequent ones are in alphabetical order.

        Raises:
            InputError: If no answer is that frequent.
        """
        counts = Counter(normalise_answer(annotation.multiple_choice_answer) for annotation in annotations)
        answers = [answer for answer in by_frequency(counts) if counts[answer] >= min_occurrences]
        if not answers:
            most = max(counts.values(), default=0)
            raise InputError(
                f"No answer stands at {min_occurrences} train questions or more, the most frequent one at {most}. Give "
                "a lower --min-answer-occurrences (1 keeps every answer), or a fixed list with --answers."
            )
        return cls(tuple(answers))

    @classmethod
    def read(cls, path: Path) -> AnswerVocabulary:
        """Read a JSON list of answers or an object from answer to index, as LXMERT has them, or OpenVQA's pair.

        OpenVQA's ``answer_dict.json`` is a list of two objects: from answer to index, and from index to answer.

        Raises:
            InputError: If the file holds none of these, or indices or answers are not unique.
        """
        document = read_json(path, expected="a JSON list of answers")
        if isinstance(document, list) and [type(item) for item in document] == [dict, dict]:
            document, answer_at = document
            if answer_at != {str(index): answer for answer, index in document.items()}:
                raise InputError(
                    f"{path} holds two objects, but the second does not map the indices of the first back."
                )
        if isinstance(document, dict):
            indices = document.values()
            if any(type(index) is not int for index in indices) or set(indices) != set(range(len(document))):
                raise InputError(
                    f"{path} maps {len(document)} answers to indices, but not to 0 ... {len(document) - 1}, once each."
                )
            document = sorted(document, key=document.__getitem__)
        return cls(distinct_strings(document, path))

    def write(self, path: Path) -> None:
        """Write the answers as a JSON list."""
        write_json(path, list(self.answers))


def ground_truth(annotation: Annotation, vocabulary: AnswerVocabulary) -> int:
    """Index of the annotated answer, whose logit HINT's importance is of; -1 for none.

    There is none if the vocabulary lacks it, or if none of the ten people typed it in this form: its soft score is 0
    then, and a hint would raise a logit that the answers' loss lowers. Another answer does not take its place.
    """
    answer = normalise_answer(annotation.multiple_choice_answer)
    return -1 if no_ground_truth(annotation, vocabulary) else vocabulary.index[answer]


def no_ground_truth(annotation: Annotation, vocabulary: AnswerVocabulary) -> str:
    """Why the annotated answer has no logit that is trained to be high; empty if it has."""
    answer = normalise_answer(annotation.multiple_choice_answer)
    if answer not in vocabulary.index:
        return "not in the vocabulary"
    return "" if answer in annotation.answers else "typed in another form by all people"


@dataclass(frozen=True)
class QuestionVocabulary:
    """The words of the training questions. Index 0 is padding and 1 is every word that is not among them.

    Attributes:
        words: The words, in the order of their indices, the first of which is 2.
    """

    words: tuple[str, ...]

    def __len__(self) -> int:
        """The number of indices: the words, padding and the unknown word."""
        return _SPECIAL + len(self.words)

    @cached_property
    def index(self) -> dict[str, int]:
        """The index of each word."""
        return {word: index for index, word in enumerate(self.words, start=_SPECIAL)}

    @classmethod
    def build(cls, texts: Iterable[str]) -> QuestionVocabulary:
        """Collect all words of the given questions, the most frequent first."""
        return cls(tuple(by_frequency(Counter(word for text in texts for word in tokenise(text)))))

    @classmethod
    def read(cls, path: Path) -> QuestionVocabulary:
        """Read the JSON list that :meth:`write` wrote."""
        return cls(distinct_strings(read_json(path), path))

    def write(self, path: Path) -> None:
        """Write the words as a JSON list, without the two special indices."""
        write_json(path, list(self.words))

    def encode(self, texts: Sequence[str], length: int = 14) -> Int64[np.ndarray, "N {length}"]:
        """Encode questions, padded on the *left* so that a recurrent network ends on the last word.

        Args:
            texts: N questions.
            length: Number of words that are kept; longer questions lose their end.

        Returns:
            Word indices, shape (N, length).
        """
        tokens = np.full((len(texts), length), PADDING, dtype=np.int64)
        for row, text in zip(tokens, texts, strict=True):
            words = [self.index.get(word, UNKNOWN) for word in tokenise(text)[:length]]
            row[length - len(words) :] = words
        return tokens


def prepared_checksum(prepared: Path) -> str:
    """That of the answers and words of a prepared directory, as `check_vocabulary` takes it."""
    answers, words = AnswerVocabulary.read(prepared / "answers.json"), QuestionVocabulary.read(prepared / "words.json")
    return vocabulary_checksum([json_text(answers.answers), json_text(words.words)])
