"""What to prepare, from which files: the options of ``updn-vqa prepare``, checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from updn_common.errors import InputError, check_range
from updn_common.files.layout import find_features
from updn_common.proposals.store_writer import Dtype
from updn_vqa.data.hints import SALICON_SIGMA
from updn_vqa.data.layout import DatasetName, SplitFiles, find_splits

HintKind = Literal["none", "hat", "boxes", "gqa", "salicon", "explanations", "question-answer", "file"]


@dataclass(frozen=True)
class PrepareConfig:
    """What to prepare, from which files.

    Attributes:
        out: The new directory.
        data: A directory with the official files: VQA-CP's vqacp_v2_train_questions.json and so on, or VQA v2's
            v2_OpenEnded_mscoco_train2014_questions.json and so on.
        dataset: Which data set to take where the directory holds several.
        questions: One question file to use instead of those in the directory; it becomes the train split.
        annotations: The annotation file that belongs to it.
        features: Bottom-up features: TSV or HDF5 files, or folders of npz. Or another prepared directory, whose
            proposals are then shared without a copy. Default: the only ones in the directory.
        feature_dtype: How features are stored; float16 halves the disk.
        feature_size: How many numbers a proposal has, such as 2048. Default: what the first image has.
        skip_damaged_features: Leave out images whose features cannot be read, and all but the first of an image's,
            instead of stopping; they are counted.
        question_only: Prepare without features: each image gets one proposal of zeros, so that answers can come from
            questions alone.
        hints: Human hints: VQA-HAT maps, drawn boxes, boxes of GQA's scene graphs, SALICON fixations (free viewing, not
            question-driven), words of VQA-X explanations or of question and answer (matched with the names of detected
            objects, so no human attention), files in the open format that README.md describes, or none.
        hint_paths: Where hints are. Default, in the data directory: vqahat_train and vqahat_val, *_boxes.json,
            *_balanced_questions.json and *_sceneGraphs.json, fixations_*.json, *_exp_anno.json, or *hints.jsonl*.
        object_names: The detector's names of objects, one a line, for hints from words. Default: objects_vocab.txt in
            the data directory.
        questions_v1: VQA v1 question files, which say what VQA-HAT maps are about. Default:
            OpenEnded_mscoco_*2014_questions.json in the data directory.
        salicon_sigma: Standard deviation of the blur of fixations, in pixels.
        glove: Word vectors as text, such as glove.6B.300d.txt; networks whose words have vectors of this size start
            from them.
        answers: A fixed answer vocabulary: a JSON list, or an object from answer to index.
        min_answer_occurrences: Otherwise, at how many train questions an answer must stand to be learnt.
        question_length: Words of a question that are kept, at most; never more than the longest train question has.
        development_share: Share of the train images held out as the split "dev", unless there is such a split.
        seed: Chooses the images that are held out.
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
        """Check what can be judged before anything is read.

        Raises:
            InputError: If options make no sense, alone or together, or the word vectors are not there.
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
                f"--question-only leaves no proposals that hints could be about, but --hints {self.hints} is given: "
                "leave out one of them."
            )
        if self.glove and not self.glove.is_file():
            found = "is a directory" if self.glove.is_dir() else "does not exist"
            raise InputError(f"{self.glove} {found}; expected word vectors as text. Check --glove.")

    def split_files(self) -> dict[str, SplitFiles]:
        """The question and annotation files of each split.

        Raises:
            InputError: If they are not there, or the options do not say where.
        """
        if self.questions and self.annotations:
            return {"train": SplitFiles(self.questions, self.annotations)}
        if self.questions or self.annotations:
            raise InputError("--questions and --annotations belong together: give both or none.")
        if self.data:
            return find_splits(self.data, self.dataset)
        raise InputError("There is nothing to prepare. Give --data, or --questions and --annotations.")

    def feature_files(self) -> Sequence[Path]:
        """The files or folders of features; none if they are not wanted.

        Raises:
            InputError: If they are not there, or the options do not say where.
        """
        if self.features or self.question_only:
            return self.features
        if self.data:
            return find_features(self.data)
        raise InputError(
            "There are no features. Give --features, or a --data directory that holds them, or --question-only."
        )
