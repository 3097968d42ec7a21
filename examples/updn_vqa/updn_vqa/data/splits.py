"""Read and check the splits of questions, and hold a development split out of train."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from updn_common.data.splits import hold_out
from updn_common.errors import InputError, first_few
from updn_common.progress import track
from updn_vqa.data.official_files import SplitFiles
from updn_vqa.data.questions import Annotation, Question, pair, read_annotations, read_questions

SELECTION_SPLIT = "dev"
"""The split that checkpoints and options are chosen on."""


class Split(NamedTuple):
    """Questions and, in the same order, their annotations."""

    questions: list[Question]
    annotations: list[Annotation]

    def where(self, keep: Callable[[Question], bool]) -> Split:
        """The questions for which ``keep`` is true, with their annotations."""
        kept = [(q, a) for q, a in zip(self.questions, self.annotations, strict=True) if keep(q)]
        return Split([question for question, _ in kept], [annotation for _, annotation in kept])


def read_splits(files: Mapping[str, SplitFiles]) -> dict[str, Split]:
    """Read the questions and annotations of all splits.

    Raises:
        InputError: A file is malformed, questions and annotations differ, or a question is in two splits.
    """
    splits = {}
    home: dict[int, str] = {}
    for name, split_files in track(files.items(), "questions and annotations"):
        questions = read_questions(split_files.questions)
        annotations = read_annotations(split_files.annotations)
        splits[name] = Split(questions, pair(questions, annotations, str(split_files.questions)))
        for question in questions:
            if home.setdefault(question.question_id, name) != name:
                raise InputError(
                    f"{split_files.questions}: question {question.question_id} is in the split "
                    f"{home[question.question_id]!r} too. Every question belongs to one split."
                )
    return splits


def keep_images(
    splits: Mapping[str, Split], images: Collection[int], source: str, *, drop: bool
) -> tuple[dict[str, Split], int]:
    """Keep the questions about images that have proposals; return them and the number of dropped ones.

    Args:
        splits: The splits.
        images: The images that have proposals.
        source: Files of the proposals, for error messages.
        drop: Whether to drop other questions instead of raising an error.

    Raises:
        InputError: There are other questions and ``drop`` is false, or a split keeps none.
    """
    missing = [q for split in splits.values() for q in split.questions if q.image_id not in images]
    if missing and not drop:
        absent = sorted({question.image_id for question in missing})
        raise InputError(
            f"{len(missing)} questions are about {len(absent)} images without proposals in {source}: "
            f"{first_few(absent)}. Add their features, or leave such questions out with "
            "--drop-questions-without-proposals."
        )
    kept = {name: split.where(lambda question: question.image_id in images) for name, split in splits.items()}
    for name, split in kept.items():
        if not split.questions:
            raise InputError(
                f"No image of the split {name!r} has proposals in {source}. Check that --features belong to it."
            )
    return kept, len(missing)


def hold_out_development(splits: Mapping[str, Split], share: float, seed: int) -> dict[str, Split]:
    """Move a share of the train images, with all their questions, to `SELECTION_SPLIT`, unless that exists.

    Raises:
        InputError: There is only one image.
    """
    if SELECTION_SPLIT in splits or share == 0:
        return dict(splits)
    train = splits["train"]
    held_out = hold_out((question.image_id for question in train.questions), share, seed)
    return {
        **splits,
        "train": train.where(lambda question: question.image_id not in held_out),
        SELECTION_SPLIT: train.where(lambda question: question.image_id in held_out),
    }
