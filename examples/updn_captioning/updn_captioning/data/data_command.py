"""``updn-captioning data``: which data files a directory holds and lacks, and what can be prepared from them."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from rich.console import Console
from rich.text import Text

from updn_captioning.data.coco import read_captions, read_image_list, read_karpathy, read_robust_split
from updn_captioning.data.instances import Instances
from updn_captioning.data.official_files import (
    KARPATHY,
    LISTS,
    ROBUST,
    SplitKind,
    find,
    find_captions,
    find_instances,
    find_split,
)
from updn_captioning.data.visual_words import VisualWords
from updn_common.data.data_command import DataConfig, show_data_files
from updn_common.data.published_files import Count, FileGroup, FileKind, features, length_of, photos
from updn_common.errors import InputError
from updn_common.files.finding import find_features


def _kind(name: str, count: Count, units: str, published: int | None = None) -> FileKind:
    return FileKind((name,), count, units, published, find=lambda data: find(data, name))


def _count_robust(path: Path) -> int:
    return sum(map(len, read_robust_split(path).values()))


def _release(year: int, purpose: str, captions: tuple[int, int], instances: tuple[int, int]) -> FileGroup:
    """Files of a release of COCO, with the numbers of captions and instances in its train and val part."""
    kinds = (
        ("captions", length_of(read_captions), captions),
        ("instances", length_of(lambda path: Instances.read([path])), instances),
    )
    return FileGroup(
        f"COCO {year}",
        purpose,
        "https://cocodataset.org/#download\nthere in annotations_trainval*.zip",
        tuple(
            _kind(f"{units}_{part}{year}.json", count, units, number)
            for units, count, published in kinds
            for part, number in zip(("train", "val"), published, strict=True)
        ),
    )


DATA_FILES = (
    FileGroup(
        "Karpathy's data set",
        "captions, their words, and --split karpathy",
        "https://cs.stanford.edu/people/karpathy/deepimagesent/caption_datasets.zip",
        (_kind(KARPATHY, lambda path: len(read_karpathy(path).captions), "captions", 616_767),),
    ),
    FileGroup(
        "Karpathy's lists",
        "--split karpathy, in place of dataset_coco.json",
        "https://github.com/peteanderson80/bottom-up-attention\nthere in data/genome/coco_splits",
        tuple(_kind(name, length_of(read_image_list), "images", 5_000) for name in LISTS.values()),
    ),
    FileGroup(
        "robust split",
        "--split robust",
        "https://github.com/jiasenlu/NeuralBabyTalk\nthere in data/robust_coco",
        (_kind(ROBUST, _count_robust, "images", 123_287),),
    ),
    _release(2014, "instances: hints; captions: in place of dataset_coco.json", (414_113, 202_654), (604_907, 291_875)),
    _release(2017, "in place of COCO 2014: the same images", (591_753, 25_014), (860_001, 36_781)),
    features("all training"),
    FileGroup(
        "visual words",
        "--visual-words, in place of our own",
        "https://github.com/jiasenlu/NeuralBabyTalk\nthere in data/coco",
        (_kind("coco_class_name.txt", lambda path: len(VisualWords.read_list(path).categories), "categories", 80),),
    ),
    photos("updn-captioning explain --images"),
)


def show_data(config: DataConfig, console: Console | None = None) -> None:
    """Print which files of `DATA_FILES` a directory holds; see `show_data_files`."""
    show_data_files(config, DATA_FILES, _verdict, console)


def _verdict(data: Path) -> list[Text]:
    """Commands that prepare the directory, and the errors of those that would fail."""
    lines = []
    for what, check in {"features": find_features, "hints": find_instances}.items():
        try:
            check(data)
        except InputError as error:
            lines.append(Text(f"No {what} to prepare from yet: {error}", style="yellow"))
    shared = ""
    for kind in get_args(SplitKind):
        try:
            find_captions(data)
            find_split(data, kind)
        except InputError as error:
            lines.append(Text(f"No {kind} split yet: {error}", style="yellow"))
        else:
            command = f"updn-captioning prepare --data {data} --split {kind} --out prepared/{kind}{shared}"
            lines.append(Text(f"{kind}: {command}", style="green"))
            shared = f" --features prepared/{kind}"  # the next command links these proposals
    return lines
