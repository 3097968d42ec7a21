"""A prepared directory as batches of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int32, Int64, Shaped
from torch import Tensor

from updn_common.data.stream import generator
from updn_common.errors import InputError
from updn_common.files.arrays import load_arrays
from updn_common.files.reading import read_record
from updn_common.proposals.store import ProposalStore
from updn_vqa.data.questions import Annotation, Question, read_annotations, read_questions
from updn_vqa.data.vocabulary import AnswerVocabulary, QuestionVocabulary

FORMAT_VERSION = 3

TOGETHER = (
    ("question_ids", "image_rows", "tokens", "answer_indices", "answer_scores", "ground_truth"),
    ("hint_rows", "hints"),
    ("relevant_rows", "relevant"),
)
"""Arrays of the same length."""


class VqaBatch(NamedTuple):
    """B questions with the proposals of their images, padded to K, and A possible answers.

    Attributes:
        question_ids: Official ids.
        tokens: Word indices, padded on the left with 0.
        features: Feature vectors of the proposals.
        boxes: Corners x1, y1, x2, y2 in pixels.
        mask: True for real proposals, False for padding.
        sizes: Image width and height in pixels.
        answer_scores: Soft score of every answer.
        ground_truth: Index of the annotated answer, -1 if it is not in the vocabulary or nobody typed it so.
        human: Human importance of the proposals, NaN where nobody knows: padding, and questions without a hint.
        relevant: Proposals that show what is asked for.
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


class VqaSplit:
    """The questions of one split. Made by :meth:`PreparedData.split`.

    Attributes:
        directory: Where the split is.
        hinted_indices: The M questions that have a hint, ascending.
    """

    def __init__(self, directory: Path, store: ProposalStore, num_answers: int, num_words: int) -> None:
        self.directory = directory
        self._store = store
        self._num_answers = num_answers
        limits: dict[str, tuple[int, str | int]] = {
            "image_rows": (0, len(store.image_ids)),
            "tokens": (0, num_words),
            "answer_indices": (-1, num_answers),
            "ground_truth": (-1, num_answers),
            "hint_rows": (0, "question_ids"),
            "relevant_rows": (0, "question_ids"),
        }
        arrays = load_arrays(directory / "arrays.safetensors", TOGETHER, limits)
        self._arrays = arrays
        self._image_rows: Int64[np.ndarray, " N"] = arrays["image_rows"].numpy()
        self.hinted_indices: Int64[Tensor, " M"] = arrays["hint_rows"]
        # The row of each question in these two; questions without one get the last row, which is empty.
        self._human_of, self._human = _with_empty_row(arrays["hint_rows"], self.hints, len(self), torch.nan)
        self._relevant_of, self._relevant = _with_empty_row(
            arrays["relevant_rows"], arrays["relevant"], len(self), False
        )

    def __len__(self) -> int:
        return len(self._arrays["question_ids"])

    @property
    def name(self) -> str:
        """Such as ``"train"``."""
        return self.directory.name

    @property
    def question_ids(self) -> list[int]:
        """The official ids."""
        ids: list[int] = self._arrays["question_ids"].tolist()
        return ids

    @property
    def tokens(self) -> Int64[Tensor, "N T"]:
        """Word indices of all questions, padded on the left with 0."""
        return self._arrays["tokens"]

    @property
    def ground_truth(self) -> Int64[Tensor, " N"]:
        """Index of the annotated answer of each question, -1 if it is not in the vocabulary or nobody typed it so."""
        return self._arrays["ground_truth"]

    @cached_property
    def questions(self) -> list[Question]:
        """The questions as they were asked."""
        return read_questions(self.directory / "questions.json")

    @cached_property
    def annotations(self) -> list[Annotation]:
        """The human answers, in the order of the questions."""
        return read_annotations(self.directory / "annotations.json")

    @property
    def hints(self) -> Float32[Tensor, "M K"]:
        """Human importance for each of ``hinted_indices``, NaN beyond an image's last proposal."""
        return self._arrays["hints"]

    def positions(self, question_ids: Sequence[int]) -> Int64[Tensor, " B"]:
        """Where questions stand in the split, by their official ids.

        Raises:
            InputError: If one is not there.
        """
        missing = [question_id for question_id in question_ids if question_id not in self._positions]
        if missing:
            raise InputError(f"{self.directory} has no question {missing[0]}; give ids of this split's questions.json.")
        return torch.tensor([self._positions[question_id] for question_id in question_ids])

    def batch(self, indices: Tensor | Sequence[int]) -> VqaBatch:
        """Gather questions by their positions in the split."""
        at = torch.as_tensor(indices, dtype=torch.int64)
        proposals = self._store.batch(self._image_rows[at.numpy()])
        K = proposals.mask.shape[1]
        human_of, relevant_of = self._human_of[at], self._relevant_of[at]
        return VqaBatch(
            question_ids=self._arrays["question_ids"][at],
            tokens=self._arrays["tokens"][at],
            features=proposals.features,
            boxes=proposals.boxes,
            mask=proposals.mask,
            sizes=proposals.sizes,
            answer_scores=self._dense_scores(at),
            ground_truth=self._arrays["ground_truth"][at],
            human=self._human[human_of, :K],
            relevant=self._relevant[relevant_of, :K],
            grounded=relevant_of < len(self._relevant) - 1,
        )

    def other_images(self, question_ids: Int64[Tensor, " B"], positions: int) -> Float32[Tensor, "B {positions} D"]:
        """Features of another image for each question, always the same: the next in a shuffled circle of the split's.

        Args:
            question_ids: Official ids.
            positions: How many to give; those of an image with fewer proposals are repeated.
        """
        at = self._image_rows[self.positions(question_ids.tolist()).numpy()]
        proposals = self._store.batch(np.array([self._next_image[row] for row in at.tolist()]))
        places = torch.arange(positions) % proposals.mask.sum(1, keepdim=True)
        return proposals.features.gather(1, places[..., None].expand(-1, -1, proposals.features.shape[2]))

    @cached_property
    def _next_image(self) -> dict[int, int]:
        rows = np.unique(self._image_rows)
        circle = rows[torch.randperm(len(rows), generator=generator(0)).numpy()]
        return dict(zip(circle.tolist(), np.roll(circle, -1).tolist(), strict=True))

    @cached_property
    def _positions(self) -> dict[int, int]:
        return {question_id: i for i, question_id in enumerate(self.question_ids)}

    def _dense_scores(self, at: Int64[Tensor, " B"]) -> Float32[Tensor, "B A"]:
        indices = self._arrays["answer_indices"][at]
        indices = torch.where(indices < 0, self._num_answers, indices)  # padding falls into a column that is cut off
        scores = torch.zeros(len(at), self._num_answers + 1)
        return scores.scatter_(1, indices, self._arrays["answer_scores"][at])[:, :-1]


class PreparedData:
    """What ``updn-vqa prepare`` wrote. Made by :meth:`PreparedData.open`; splits are read when asked for.

    Attributes:
        directory: Where it is.
        record: The content of ``prepared.json``.
        answers: The answer vocabulary.
        words: The question vocabulary.
        store: The proposals of all images.
    """

    def __init__(self, directory: Path, record: dict[str, Any]) -> None:
        self.directory = directory
        self.record = record
        self.answers = AnswerVocabulary.read(directory / "answers.json")
        self.words = QuestionVocabulary.read(directory / "words.json")
        self.store = ProposalStore.open(directory / "proposals")

    @classmethod
    def open(cls, directory: Path) -> PreparedData:
        """Open a prepared directory.

        Raises:
            InputError: If it is none, is incomplete, or is of another format version.
        """
        expected = "a directory that `updn-vqa prepare` wrote"
        return cls(directory, read_record(directory / "prepared.json", FORMAT_VERSION, expected=expected))

    @property
    def split_names(self) -> list[str]:
        """The splits there are."""
        return list(self.record["splits"])

    def check_split(self, name: str) -> None:
        """Raise an InputError if there is no such split."""
        if name not in self.split_names:
            names = ", ".join(self.split_names)
            raise InputError(f"{self.directory} has no split {name!r}; it has {names}. Give --split one of these.")

    def split(self, name: str) -> VqaSplit:
        """Read one split.

        Raises:
            InputError: If there is no such split.
        """
        self.check_split(name)
        return VqaSplit(self.directory / name, self.store, len(self.answers), len(self.words))


def _with_empty_row(
    rows: Int64[Tensor, " M"], values: Shaped[Tensor, "M K"], total: int, empty: float
) -> tuple[Int64[Tensor, " N"], Shaped[Tensor, "M+1 K"]]:
    """Append an empty row to ``values``, and find the row of each of ``total`` questions: that one for most."""
    row_of = torch.full((total,), len(rows), dtype=torch.int64)
    row_of[rows] = torch.arange(len(rows))
    return row_of, torch.cat([values, values.new_full((1, values.shape[1]), empty)])
