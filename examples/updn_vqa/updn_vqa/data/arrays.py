"""What a model sees of a split: the arrays of ``<split>/arrays.safetensors``.

=================== =========== ======================================================================
name                shape       content
=================== =========== ======================================================================
``question_ids``    (N,)        official ids
``image_rows``      (N,)        the image's row in the proposal store
``tokens``          (N, T)      word indices, padded on the left with 0
``answer_indices``  (N, 10)     vocabulary indices of the human answers, padded with -1
``answer_scores``   (N, 10)     their soft scores
``ground_truth``    (N,)        vocabulary index of the annotated answer, -1 if none is known
``hint_rows``       (M,)        which of the N questions have a hint
``hints``           (M, K)      human importance of proposals, padded with NaN
``relevant_rows``   (R,)        for which questions it is known where the asked objects are
``relevant``        (R, K)      which proposals overlap them by more than half
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
from updn_vqa.data.hints import Geometry, HintSource
from updn_vqa.data.questions import ANSWERS_PER_QUESTION, Question
from updn_vqa.data.splits import Split
from updn_vqa.data.vocabulary import PADDING, UNKNOWN, AnswerVocabulary, QuestionVocabulary, ground_truth, soft_scores

Arrays = dict[str, npt.NDArray[Any]]


def question_arrays(split: Split, answers: AnswerVocabulary, words: QuestionVocabulary, length: int) -> Arrays:
    """The ids, words and soft scores of a split's questions."""
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
    questions: Sequence[Question], source: HintSource | None, images: Mapping[int, Geometry], K: int
) -> Arrays:
    """Human importance of the proposals, for the questions that have a hint."""

    def importance(question: Question) -> Tensor | None:
        if source is None:
            return None
        with refused_as_input(f"The hint of question {question.question_id} about image {question.image_id}"):
            return source.importance(question, images[question.image_id])

    rows, hints = _known_rows(track(questions, "hints") if source else questions, importance)
    return {"hint_rows": rows, "hints": _padded(hints, K, np.float32, np.nan)}


def relevance_arrays(
    questions: Sequence[Question],
    truth: Mapping[int, Float32[Tensor, "M 4"]],
    images: Mapping[int, Geometry],
    K: int,
    files: Sequence[Path],
) -> Arrays:
    """The proposals that show what is asked for, for the questions where it is known from files of boxes."""

    def relevance(question: Question) -> Tensor | None:
        boxes, image = truth.get(question.question_id), images[question.image_id]
        if boxes is not None and (fault := box_fault(boxes.numpy(), image.width, image.height)):
            raise InputError(f"{', '.join(map(str, files))}: question {question.question_id}: {fault}.")
        return None if boxes is None else relevant_proposals(image.boxes, boxes)

    rows, relevant = _known_rows(questions, relevance)
    return {"relevant_rows": rows, "relevant": _padded(relevant, K, np.bool_, False)}


def counts(arrays: Arrays) -> dict[str, int]:
    """What there is of everything in a split, for the record and the summary."""
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
    """The positions of the questions that ``value`` is not None for, and those values."""
    known = {row: result for row, question in enumerate(questions) if (result := value(question)) is not None}
    return np.array(list(known), dtype=np.int64), list(known.values())


def _padded(values: Sequence[Tensor], K: int, dtype: npt.DTypeLike, padding: float) -> npt.NDArray[Any]:
    padded = np.full((len(values), K), padding, dtype=dtype)
    for row, value in zip(padded, values, strict=True):
        row[: len(value)] = value.numpy()
    return padded
