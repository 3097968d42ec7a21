"""The input of models for one split: the arrays of ``<split>/arrays.safetensors``.

=================== =========== ======================================================================
name                shape       content
=================== =========== ======================================================================
``question_ids``    (N,)        official ids
``image_rows``      (N,)        row of the image in the proposal store
``tokens``          (N, T)      word indices, padded on the left with 0
``answer_indices``  (N, 10)     vocabulary indices of the human answers, padded with -1
``answer_scores``   (N, 10)     soft scores of these answers
``ground_truth``    (N,)        vocabulary index of the annotated answer, -1 for none
``hint_rows``       (M,)        the questions that have a hint, as positions from 0 to N - 1
``hints``           (M, K)      human importance of the proposals, padded with NaN
``relevant_rows``   (R,)        the questions that have boxes around the objects they ask about
``relevant``        (R, K)      whether a proposal overlaps such a box with an IoU above one half
=================== =========== ======================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Int64
from torch import Tensor

from updn_common.errors import InputError, refused_as_input
from updn_common.progress import track
from updn_common.proposals.boxes import box_fault, relevant_proposals
from updn_common.proposals.store import Geometry
from updn_vqa.data.hints import HintSource
from updn_vqa.data.questions import ANSWERS_PER_QUESTION, Question
from updn_vqa.data.splits import Split
from updn_vqa.data.vocabulary import PADDING, UNKNOWN, AnswerVocabulary, QuestionVocabulary, ground_truth, soft_scores

Arrays = dict[str, npt.NDArray[Any]]


def question_arrays(split: Split, answers: AnswerVocabulary, words: QuestionVocabulary, length: int) -> Arrays:
    """Ids, words and soft scores of the questions of a split."""
    shape = len(split.annotations), ANSWERS_PER_QUESTION
    indices, scores = np.full(shape, -1, dtype=np.int64), np.zeros(shape, dtype=np.float32)
    truth = np.full(len(split.annotations), -1, dtype=np.int64)
    for row, annotation in enumerate(split.annotations):
        known = [(answers.index[x], score) for x, score in soft_scores(annotation).items() if x in answers.index]
        for column, (index, score) in enumerate(known):
            indices[row, column], scores[row, column] = index, score
        truth[row] = ground_truth(annotation, answers)
    return {
        "question_ids": np.array([question.question_id for question in split.questions], dtype=np.int64),
        "tokens": words.encode([question.text for question in split.questions], length),
        "answer_indices": indices,
        "answer_scores": scores,
        "ground_truth": truth,
    }


def hint_arrays(
    questions: Sequence[Question], source: HintSource | None, geometry: Callable[[int], Geometry], K: int
) -> Arrays:
    """Human importance of up to K proposals for each question that has a hint."""

    def importance(question: Question) -> Tensor | None:
        if source is None:
            return None
        with refused_as_input(f"The hint of question {question.question_id} about image {question.image_id}"):
            return source.importance(question, geometry(question.image_id))

    rows, hints = _known_rows(track(questions, "hints") if source else questions, importance)
    return {"hint_rows": rows, "hints": _padded(hints, K, np.float32, np.nan)}


def relevance_arrays(
    questions: Sequence[Question],
    boxes: Mapping[int, Float32[Tensor, "M 4"]],
    geometry: Callable[[int], Geometry],
    K: int,
    files: Sequence[Path],
) -> Arrays:
    """The proposals that show what a question asks about, for each question with boxes from ``files``."""

    def relevance(question: Question) -> Tensor | None:
        asked = boxes.get(question.question_id)
        if asked is None:
            return None
        image = geometry(question.image_id)
        if fault := box_fault(asked.numpy(), image.width, image.height):
            raise InputError(f"{', '.join(map(str, files))}: question {question.question_id}: {fault}.")
        return relevant_proposals(image.boxes, asked)

    rows, relevant = _known_rows(questions, relevance)
    return {"relevant_rows": rows, "relevant": _padded(relevant, K, np.bool_, False)}


def split_counts(arrays: Arrays) -> dict[str, int]:
    """Number of samples, images, hints and words in a split, for ``prepared.json`` and the summary."""
    tokens = arrays["tokens"]
    return {
        "questions": len(arrays["question_ids"]),
        "images": len(np.unique(arrays["image_rows"])),
        "hinted": len(arrays["hint_rows"]),
        "grounded": len(arrays["relevant_rows"]),
        "answerable": int((arrays["answer_indices"] >= 0).any(axis=1).sum()),
        "with_ground_truth": int((arrays["ground_truth"] >= 0).sum()),
        "hinted_without_ground_truth": int((arrays["ground_truth"][arrays["hint_rows"]] < 0).sum()),
        "words": int((tokens != PADDING).sum()),
        "unknown_words": int((tokens == UNKNOWN).sum()),
    }


def _known_rows(
    questions: Iterable[Question], value: Callable[[Question], Tensor | None]
) -> tuple[Int64[np.ndarray, " M"], list[Tensor]]:
    """The positions of the questions that have a value, and the values."""
    known = {row: result for row, question in enumerate(questions) if (result := value(question)) is not None}
    return np.array(list(known), dtype=np.int64), list(known.values())


def _padded(values: Sequence[Tensor], K: int, dtype: npt.DTypeLike, padding: float) -> npt.NDArray[Any]:
    padded = np.full((len(values), K), padding, dtype=dtype)
    for row, value in zip(padded, values, strict=True):
        row[: len(value)] = value.numpy()
    return padded
