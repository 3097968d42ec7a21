"""Options of ``updn-captioning prepare``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from updn_captioning.data.official_files import SplitKind
from updn_common.errors import InputError, check_range
from updn_common.files.finding import find_features
from updn_common.proposals.store_writer import Dtype

HintKind = Literal["instances", "none"]


@dataclass(frozen=True)
class PrepareConfig:
    """Convert official captions, instances and bottom-up features to a directory that training reads.

    Attributes:
        out: Path of the new directory.
        data: Directory with the official files: dataset_coco.json, or captions_train2014.json and
            captions_val2014.json; instances_train2014.json and instances_val2014.json; the features.
        split: Split of the images: Karpathy's, or the robust one of Neural Baby Talk (split_robust_coco.json).
        hints: Kind of human hints: COCO's instances, that is, masks of the objects that visual words name; or none.
        features: Bottom-up features: TSV or HDF5 files, or folders of npz files; or another prepared directory, whose
            proposals are shared without a copy. Default: the only ones in the data directory.
        feature_dtype: Type of stored features; float16 halves the disk space.
        feature_size: Expected number of features of a proposal, such as 2048. Default: that of the first image.
        skip_damaged_features: Leave out and count images with unreadable features and repetitions of an image, instead
            of stopping.
        visual_words: List of the words that name categories, one category per line, its name first, such as Neural Baby
            Talk's coco_class_name.txt. Default: our list for COCO's categories, or the names of other categories.
        min_word_occurrences: Treat words that occur less often in the train captions as unknown.
        caption_length: Maximum number of words of a caption; longer captions lose their end.
        development_share: Share of the train images to hold out as the split "val", unless there is such a split.
        seed: Seed for the choice of held-out images.
        drop_images_without_proposals: Leave out images that have no features, instead of stopping.
    """

    out: Path
    data: Path
    split: SplitKind = "karpathy"
    hints: HintKind = "instances"
    features: tuple[Path, ...] = ()
    feature_dtype: Dtype = "float32"
    feature_size: int | None = None
    skip_damaged_features: bool = False
    visual_words: Path | None = None
    min_word_occurrences: int = 5
    caption_length: int = 20
    development_share: float = 0.05
    seed: int = 0
    drop_images_without_proposals: bool = False

    def check(self) -> None:
        """Check the options before any file is read.

        Raises:
            InputError: An option is out of range.
        """
        if not 0 <= self.development_share < 1:
            raise InputError(f"--development-share should be at least 0 and below 1, found {self.development_share}.")
        check_range(1, min_word_occurrences=self.min_word_occurrences, caption_length=self.caption_length)
        check_range(0, seed=self.seed)

    def feature_files(self) -> Sequence[Path]:
        """The files or folders of features.

        Raises:
            InputError: There are none, or a choice of several.
        """
        return self.features or find_features(self.data)
