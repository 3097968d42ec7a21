"""Batches of questions from a directory that ``updn-vqa prepare`` wrote."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int32, Int64, Shaped
from torch import Tensor

from updn_common.data.prepared import Limits, PreparedDirectory, PreparedSplit
from updn_common.data.stream import generator
from updn_common.errors import InputError
from updn_common.proposals.store import ProposalStore
from updn_vqa.data.questions import Annotation, Question, read_annotations, read_questions
from updn_vqa.data.splits import SELECTION_SPLIT
from updn_vqa.data.vocabulary import AnswerVocabulary, QuestionVocabulary

_SAME_LENGTH = (
    ("question_ids", "image_rows", "tokens", "answer_indices", "answer_scores", "ground_truth"),
    ("hint_rows", "hints"),
    ("relevant_rows", "relevant"),
)


class VqaBatch(NamedTuple):
    """B questions with the proposals of their images, padded to K, and A possible answers.

    Attributes:
        question_ids: Official ids of the questions.
        tokens: Word indices, padded on the left with 0.
        features: Feature vectors of the proposals.
        boxes: Corners x1, y1, x2, y2 in pixels.
        mask: True for real proposals, False for padding.
        sizes: Image width and height in pixels.
        answer_scores: Soft score of every answer.
        ground_truth: Index of the annotated answer; -1 if the vocabulary lacks it, or none of the ten people typed it
            in this form.
        human: Human importance of the proposals; NaN for padding and for questions without a hint.
        relevant: True for proposals that show an object that the question asks about.
        grounded: True for questions where ``relevant`` is known.
    """

    question_ids: Int64[Tensor, " B"]
    tokens: Int64[Tensor, "B T"]
    features: Float32[Tensor, "B K D"]
    boxes: Float32[Tensor, "B K 4"]
    mask: Bool[Tensor, "B K"]
    sizes: Int32[Tensor, "B 2"]
    answer_scores: Float32[Tensor, "B A"]
    ground_truth: Int64[Tensor, " B"]
    human: Float32[Tensor, "B K"]
    relevant: Bool[Tensor, "B K"]
    grounded: Bool[Tensor, " B"]

    @property
    def hinted(self) -> Bool[Tensor, " B"]:
        """True for questions with a hint."""
        return (~self.human.isnan()).any(-1)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> VqaBatch:
        """Copy to a device."""
        return VqaBatch(*(tensor.to(device, non_blocking=non_blocking) for tensor in self))


class VqaSplit(PreparedSplit):
    """The questions of one split. Made by :meth:`PreparedData.split`.

    Attributes:
        directory: Directory of the split.
        hinted_indices: The M questions that have a hint, ascending.
    """

    def __init__(self, directory: Path, store: ProposalStore, num_answers: int, num_words: int) -> None:
        limits: Limits = {
            "image_rows": (0, len(store)),
            "tokens": (0, num_words),
            "answer_indices": (-1, num_answers),
            "ground_truth": (-1, num_answers),
            "hint_rows": (0, "question_ids"),
            "relevant_rows": (0, "question_ids"),
        }
        super().__init__(directory, store, _SAME_LENGTH, limits)
        self._num_answers = num_answers
        self._image_rows: Int64[np.ndarray, " N"] = self._arrays["image_rows"].numpy()
        self.hinted_indices: Int64[Tensor, " M"] = self._arrays["hint_rows"]
        # The position of each question in these two; -1, for questions without one, is their last row, which is empty.
        self._hint_of, self._hints = _with_empty_row(self.hinted_indices, self.hints, len(self), torch.nan)
        self._relevant_of, self._relevant = _with_empty_row(
            self._arrays["relevant_rows"], self._arrays["relevant"], len(self), False
        )

    def __len__(self) -> int:
        return len(self._arrays["question_ids"])

    @property
    def question_ids(self) -> list[int]:
        """Official ids of the questions."""
        ids: list[int] = self._arrays["question_ids"].tolist()
        return ids

    @property
    def tokens(self) -> Int64[Tensor, "N T"]:
        """Word indices of all questions, padded on the left with 0."""
        return self._arrays["tokens"]

    @property
    def ground_truth(self) -> Int64[Tensor, " N"]:
        """``ground_truth`` of every question; see :class:`VqaBatch`."""
        return self._arrays["ground_truth"]

    @cached_property
    def questions(self) -> list[Question]:
        """The questions as they were written."""
        return read_questions(self.directory / "questions.json")

    @cached_property
    def annotations(self) -> list[Annotation]:
        """The human answers, in the order of the questions."""
        return read_annotations(self.directory / "annotations.json")

    @property
    def hints(self) -> Float32[Tensor, "M K"]:
        """Human importance of the proposals for each of ``hinted_indices``, padded with NaN."""
        return self._arrays["hints"]

    def positions(self, question_ids: Sequence[int]) -> Int64[Tensor, " B"]:
        """Positions of questions in the split, from their official ids.

        Raises:
            InputError: The split lacks one of them.
        """
        missing = [question_id for question_id in question_ids if question_id not in self._positions]
        if missing:
            raise InputError(f"{self.directory} has no question {missing[0]}; give ids of this split's questions.json.")
        return torch.tensor([self._positions[question_id] for question_id in question_ids])

    def batch(self, indices: Tensor | Sequence[int]) -> VqaBatch:
        """The questions at these positions of the split."""
        at = torch.as_tensor(indices, dtype=torch.int64)
        proposals = self._store.batch(self._image_rows[at.numpy()])
        K = proposals.mask.shape[1]
        relevant_of = self._relevant_of[at]
        return VqaBatch(
            question_ids=self._arrays["question_ids"][at],
            tokens=self._arrays["tokens"][at],
            features=proposals.features,
            boxes=proposals.boxes,
            mask=proposals.mask,
            sizes=proposals.sizes,
            answer_scores=self._dense_scores(at),
            ground_truth=self._arrays["ground_truth"][at],
            human=self._hints[self._hint_of[at], :K],
            relevant=self._relevant[relevant_of, :K],
            grounded=relevant_of >= 0,
        )

    def other_images(self, question_ids: Int64[Tensor, " B"], positions: int) -> Float32[Tensor, "B {positions} D"]:
        """Features of another image of the split for each question, always of the same one.

        The number of proposals is ``positions``; the proposals of an image that has fewer are repeated.
        """
        at = self._image_rows[self.positions(question_ids.tolist()).numpy()]
        proposals = self._store.batch(np.array([self._next_image[row] for row in at.tolist()]))
        places = torch.arange(positions) % proposals.mask.sum(1, keepdim=True)
        return proposals.features.gather(1, places[..., None].expand(-1, -1, proposals.features.shape[2]))

    @cached_property
    def _next_image(self) -> dict[int, int]:
        """The next image in a shuffled circle of the split's images, both as rows in the store."""
        rows = np.unique(self._image_rows)
        circle = rows[torch.randperm(len(rows), generator=generator(0)).numpy()]
        return dict(zip(circle.tolist(), np.roll(circle, -1).tolist(), strict=True))

    @cached_property
    def _positions(self) -> dict[int, int]:
        return {question_id: i for i, question_id in enumerate(self.question_ids)}

    def _dense_scores(self, at: Int64[Tensor, " B"]) -> Float32[Tensor, "B A"]:
        indices = self._arrays["answer_indices"][at]
        indices = torch.where(indices < 0, self._num_answers, indices)  # padding goes to a column that is cut off
        scores = torch.zeros(len(at), self._num_answers + 1)
        return scores.scatter_(1, indices, self._arrays["answer_scores"][at])[:, :-1]


class PreparedData(PreparedDirectory[VqaSplit]):
    """A directory that ``updn-vqa prepare`` wrote. Made by :meth:`PreparedData.open`; splits are read on request.

    Attributes:
        directory: The directory.
        record: Content of ``prepared.json``.
        store: The proposals of all images.
        answers: The answer vocabulary.
        words: The question vocabulary.
    """

    COMMAND = "updn-vqa prepare"
    FORMAT_VERSION = 3
    SELECTION_SPLIT = SELECTION_SPLIT

    def __init__(self, directory: Path, record: dict[str, Any]) -> None:
        self.answers = AnswerVocabulary.read(directory / "answers.json")
        self.words = QuestionVocabulary.read(directory / "words.json")
        super().__init__(directory, record)

    def _read_split(self, directory: Path) -> VqaSplit:
        return VqaSplit(directory, self.store, len(self.answers), len(self.words))


def _with_empty_row(
    rows: Int64[Tensor, " M"], values: Shaped[Tensor, "M K"], total: int, empty: float
) -> tuple[Int64[Tensor, " N"], Shaped[Tensor, "M+1 K"]]:
    """Append an empty row to ``values``, and find the position of ``total`` questions in it: -1 for most."""
    position = torch.full((total,), -1, dtype=torch.int64)
    position[rows] = torch.arange(len(rows))
    return position, torch.cat([values, values.new_full((1, values.shape[1]), empty)])
