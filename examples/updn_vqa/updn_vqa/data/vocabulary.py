"""Vocabularies of answers and question words, as in the reference code of the Bottom-Up Top-Down VQA model.

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

_SOFT_SCORES = (0.0, 0.3, 0.6, 0.9, 1.0)  # for an answer that 0, 1, 2, 3, or 4 and more people gave


def soft_scores(annotation: Annotation) -> dict[str, float]:
    """The training target of each distinct answer: its VQA accuracy, to one digit.

    Answers are compared as they were typed: the reference code normalises the vocabulary, not the ten answers.

    Returns:
        .3, .6, .9 or 1 for answers that 1, 2, 3 or more people gave, in order of first mention.
    """
    counts = Counter(annotation.answers)
    return {answer: _SOFT_SCORES[min(count, 4)] for answer, count in counts.items()}


def tokenise(text: str) -> list[str]:
    """Split a question into words in lower case, without commas and question marks; ``'s`` is a separate word.

    Example:
        >>> tokenise("What's the man's hat, exactly?")
        ['what', "'s", 'the', 'man', "'s", 'hat', 'exactly']
    """
    return text.lower().replace(",", "").replace("?", "").replace("'s", " 's").split()


@dataclass(frozen=True)
class AnswerVocabulary:
    """The answers that a model can give.

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
        """Collect the normalised multiple-choice answers of at least ``min_occurrences`` questions.

        The most frequent answer comes first, and equally frequent ones are in alphabetical order.

        Raises:
            InputError: No answer is that frequent.
        """
        counts = Counter(normalise_answer(annotation.multiple_choice_answer) for annotation in annotations)
        answers = [answer for answer in by_frequency(counts) if counts[answer] >= min_occurrences]
        if not answers:
            most = max(counts.values(), default=0)
            raise InputError(
                f"No answer belongs to {min_occurrences} or more train questions; the most frequent belongs to {most}. "
                "Give a lower --min-answer-occurrences (1 keeps every answer), or a fixed list with --answers."
            )
        return cls(tuple(answers))

    @classmethod
    def read(cls, path: Path) -> AnswerVocabulary:
        """Read a JSON list of answers, an object from answer to index as in LXMERT, or a file of OpenVQA.

        OpenVQA's ``answer_dict.json`` is a list of two objects: from answer to index, and from index to answer.

        Raises:
            InputError: The file holds none of these, or indices or answers are not unique.
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
    """Index of the annotated answer, to whose logit the importance of proposals refers; -1 for none.

    There is none if the vocabulary lacks the answer, or if none of the ten people typed it in this form: then its soft
    score is 0, and a hint would raise a logit that the answer loss lowers.
    """
    answer = normalise_answer(annotation.multiple_choice_answer)
    return -1 if no_ground_truth(annotation, vocabulary) else vocabulary.index[answer]


def no_ground_truth(annotation: Annotation, vocabulary: AnswerVocabulary) -> str:
    """Why `ground_truth` is -1; empty if it is not."""
    answer = normalise_answer(annotation.multiple_choice_answer)
    if answer not in vocabulary.index:
        return "not in the vocabulary"
    return "" if answer in annotation.answers else "typed in another form by all people"


@dataclass(frozen=True)
class QuestionVocabulary:
    """The words of the training questions. Index 0 is padding, and index 1 stands for all other words.

    Attributes:
        words: The words, in the order of their indices, which begin with 2.
    """

    words: tuple[str, ...]

    def __len__(self) -> int:
        """Number of indices, including padding and the unknown word."""
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
        """Encode N questions, padded on the *left* so that a recurrent network ends on the last word.

        Longer questions lose their end.
        """
        tokens = np.full((len(texts), length), PADDING, dtype=np.int64)
        for row, text in zip(tokens, texts, strict=True):
            words = [self.index.get(word, UNKNOWN) for word in tokenise(text)[:length]]
            row[length - len(words) :] = words
        return tokens


def prepared_checksum(prepared: Path) -> str:
    """Checksum of the answers and words of a prepared directory, for `check_vocabulary`."""
    answers, words = AnswerVocabulary.read(prepared / "answers.json"), QuestionVocabulary.read(prepared / "words.json")
    return vocabulary_checksum([json_text(answers.answers), json_text(words.words)])
