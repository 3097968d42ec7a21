"""What to prepare, from which files: the options of ``updn-captioning prepare``, checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from updn_captioning.data.layout import SplitKind
from updn_common.errors import InputError, check_range
from updn_common.files.layout import find_features
from updn_common.proposals.store_writer import Dtype

HintKind = Literal["instances", "none"]


@dataclass(frozen=True)
class PrepareConfig:
    """What to prepare, from which files.

    Attributes:
        out: The new directory.
        data: A directory with the official files: dataset_coco.json, or captions_train2014.json and
            captions_val2014.json; instances_train2014.json and so on; the features.
        split: Karpathy's split of the images, or the robust one of Neural Baby Talk, of split_robust_coco.json.
        hints: Human hints: COCO's instances, the mask of what a visual word names, or none.
        features: Bottom-up features: TSV or HDF5 files, or folders of npz. Or another prepared directory, whose
            proposals are then shared without a copy. Default: the only ones in the directory.
        feature_dtype: How features are stored; float16 halves the disk.
        feature_size: How many numbers a proposal has, such as 2048. Default: what the first image has.
        skip_damaged_features: Leave out images whose features cannot be read, and all but the first of an image's,
            instead of stopping; they are counted.
        visual_words: A list of the words that name categories, one category a line, its name first, such as Neural Baby
            Talk's coco_class_name.txt. Default: our own for COCO's categories, or else their names.
        min_word_occurrences: How often a word must occur in the train captions to be learnt.
        caption_length: Words of a caption that are kept, at most.
        development_share: Share of the train images held out as the split "val", unless there is such a split.
        seed: Chooses the images that are held out.
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
        """Check what can be judged before anything is read.

        Raises:
            InputError: If options make no sense.
        """
        if not 0 <= self.development_share < 1:
            raise InputError(f"--development-share should be at least 0 and below 1, found {self.development_share}.")
        check_range(1, min_word_occurrences=self.min_word_occurrences, caption_length=self.caption_length)
        check_range(0, seed=self.seed)

    def feature_files(self) -> Sequence[Path]:
        """The files or folders of features.

        Raises:
            InputError: If there are none, or a choice of several.
        """
        return self.features or find_features(self.data)
