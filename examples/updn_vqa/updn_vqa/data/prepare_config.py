"""Options of ``updn-vqa prepare``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from updn_common.errors import InputError, check_range
from updn_common.files.finding import find_features
from updn_common.proposals.store_writer import Dtype
from updn_vqa.data.hints import SALICON_SIGMA
from updn_vqa.data.official_files import DatasetName, SplitFiles, find_splits

HintKind = Literal["none", "hat", "boxes", "gqa", "salicon", "explanations", "question-answer", "file"]


@dataclass(frozen=True)
class PrepareConfig:
    """Convert official VQA files and bottom-up features to a directory that training reads.

    Attributes:
        out: Path of the new directory.
        data: Directory with the official files, such as vqacp_v2_train_questions.json of VQA-CP or
            v2_OpenEnded_mscoco_train2014_questions.json of VQA v2.
        dataset: Data set to prepare if the directory holds several.
        questions: Question file to use as the train split, instead of those in the directory.
        annotations: Annotation file that belongs to --questions.
        features: Bottom-up features: TSV or HDF5 files, or folders of npz files; or another prepared directory, whose
            proposals are shared without a copy. Default: the only ones in the data directory.
        feature_dtype: Type of stored features; float16 halves the disk space.
        feature_size: Expected number of features of a proposal, such as 2048. Default: that of the first image.
        skip_damaged_features: Leave out and count images with unreadable features and repetitions of an image, instead
            of stopping.
        question_only: Prepare without features: each image gets one proposal of zeros, so that answers depend on the
            question alone.
        hints: Kind of human hints: VQA-HAT maps, drawn boxes, boxes of GQA's scene graphs, SALICON fixations (free
            viewing, not question-driven), words of VQA-X explanations or of question and answer (matched with the names
            of detected objects, so not human attention), files in the open format that README.md describes, or none.
        hint_paths: Paths of the hints. Default, in the data directory: vqahat_train and vqahat_val, *_boxes.json,
            *_balanced_questions.json and *_sceneGraphs.json, fixations_*.json, *_exp_anno.json, or *hints.jsonl*.
        object_names: Names of the detector's object classes, one per line, for hints from words. Default:
            objects_vocab.txt in the data directory.
        questions_v1: VQA v1 question files, to which VQA-HAT maps belong. Default:
            OpenEnded_mscoco_*2014_questions.json in the data directory.
        salicon_sigma: Standard deviation of the blur of fixations, in pixels.
        glove: Word vectors as text, such as glove.6B.300d.txt; networks with word embeddings of this size start from
            them.
        answers: Fixed answer vocabulary: a JSON list, or an object from answer to index.
        min_answer_occurrences: Without --answers, drop answers of fewer train questions than this.
        question_length: Maximum number of words of a question; longer questions lose their end.
        development_share: Share of the train images to hold out as the split "dev", unless there is such a split.
        seed: Seed for the choice of held-out images.
        drop_questions_without_proposals: Leave out questions whose image has no features, instead of stopping.
    """

    out: Path
    data: Path | None = None
    dataset: DatasetName | None = None
    questions: Path | None = None
    annotations: Path | None = None
    features: tuple[Path, ...] = ()
    feature_dtype: Dtype = "float32"
    feature_size: int | None = None
    skip_damaged_features: bool = False
    question_only: bool = False
    hints: HintKind = "none"
    hint_paths: tuple[Path, ...] = ()
    object_names: Path | None = None
    questions_v1: tuple[Path, ...] = ()
    salicon_sigma: float = SALICON_SIGMA
    glove: Path | None = None
    answers: Path | None = None
    min_answer_occurrences: int = 9
    question_length: int = 14
    development_share: float = 0.05
    seed: int = 0
    drop_questions_without_proposals: bool = False

    def check(self) -> None:
        """Check the options before any file is read.

        Raises:
            InputError: An option is out of range, options contradict each other, or the word vectors are missing.
        """
        if not 0 <= self.development_share < 1:
            raise InputError(f"--development-share should be at least 0 and below 1, found {self.development_share}.")
        if not self.salicon_sigma > 0:
            raise InputError(f"--salicon-sigma should be above 0, found {self.salicon_sigma}.")
        check_range(1, min_answer_occurrences=self.min_answer_occurrences, question_length=self.question_length)
        check_range(0, seed=self.seed)
        if self.question_only and self.features:
            raise InputError("--question-only does without features, but --features are given: leave out one of them.")
        if self.question_only and self.hints != "none":
            raise InputError(
                f"--question-only has no proposals for hints, but --hints {self.hints} is given: leave out one of them."
            )
        if self.glove and not self.glove.is_file():
            found = "is a directory" if self.glove.is_dir() else "does not exist"
            raise InputError(f"{self.glove} {found}; expected word vectors as text. Check --glove.")

    def split_files(self) -> dict[str, SplitFiles]:
        """The question and annotation files of each split.

        Raises:
            InputError: Files are missing, or the options do not name them.
        """
        if self.questions and self.annotations:
            return {"train": SplitFiles(self.questions, self.annotations)}
        if self.questions or self.annotations:
            raise InputError("--questions and --annotations belong together: give both or none.")
        if self.data:
            return find_splits(self.data, self.dataset)
        raise InputError("There is nothing to prepare. Give --data, or --questions and --annotations.")

    def feature_files(self) -> Sequence[Path]:
        """The files or folders of features; none with `question_only`.

        Raises:
            InputError: Files are missing, or the options do not name them.
        """
        if self.features or self.question_only:
            return self.features
        if self.data:
            return find_features(self.data)
        raise InputError(
            "There are no features. Give --features, or a --data directory that holds them, or --question-only."
        )
