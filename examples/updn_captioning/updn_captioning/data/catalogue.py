"""What of others' data the pipeline can use: under which names, how much there is of it, and where it is published."""

from __future__ import annotations

from pathlib import Path

from updn_captioning.data.coco import read_captions, read_image_list, read_karpathy, read_robust_split
from updn_captioning.data.instances import Instances
from updn_captioning.data.layout import KARPATHY, LISTS, ROBUST, find
from updn_captioning.data.visual_words import VisualWords
from updn_common.data.catalogue import Count, Group, Item, features, photos


def _item(what: str, name: str, count: Count, units: str, published: int | None = None) -> Item:
    return Item(what, (name,), count, units, published, find=lambda data: find(data, name))


def _captions(path: Path) -> int:
    return len(read_captions(path))


def _instances(path: Path) -> int:
    return len(Instances.read([path]))


def _robust(path: Path) -> int:
    return sum(map(len, read_robust_split(path).values()))


def _release(year: int, purpose: str, captions: tuple[int, int], instances: tuple[int, int]) -> Group:
    parts = ("train", "val")
    return Group(
        f"COCO {year}",
        purpose,
        "https://cocodataset.org/#download\nthere in annotations_trainval*.zip",
        (
            *(
                _item(f"captions, {part}", f"captions_{part}{year}.json", _captions, "captions", count)
                for part, count in zip(parts, captions, strict=True)
            ),
            *(
                _item(f"instances, {part}", f"instances_{part}{year}.json", _instances, "instances", count)
                for part, count in zip(parts, instances, strict=True)
            ),
        ),
    )


CATALOGUE = (
    Group(
        "Karpathy's data set",
        "captions, their words, and --split karpathy",
        "https://cs.stanford.edu/people/karpathy/deepimagesent/caption_datasets.zip",
        (_item("captions and split", KARPATHY, lambda p: len(read_karpathy(p).captions), "captions", 616_767),),
    ),
    Group(
        "Karpathy's lists",
        "--split karpathy, in place of dataset_coco.json",
        "https://github.com/peteanderson80/bottom-up-attention\nthere in data/genome/coco_splits",
        tuple(
            _item(f"images, {name}", file, lambda p: len(read_image_list(p)), "images", 5_000)
            for name, file in LISTS.items()
        ),
    ),
    Group(
        "robust split",
        "--split robust",
        "https://github.com/jiasenlu/NeuralBabyTalk\nthere in data/robust_coco",
        (_item("split", ROBUST, _robust, "images", 123_287),),
    ),
    _release(2014, "instances: hints; captions: in place of dataset_coco.json", (414_113, 202_654), (604_907, 291_875)),
    _release(2017, "in place of COCO 2014: the same images", (591_753, 25_014), (860_001, 36_781)),
    features("all training"),
    Group(
        "visual words",
        "--visual-words, in place of our own",
        "https://github.com/jiasenlu/NeuralBabyTalk\nthere in data/coco",
        (
            _item(
                "words of categories",
                "coco_class_name.txt",
                lambda p: len(VisualWords.read_list(p).categories),
                "categories",
                80,
            ),
        ),
    ),
    photos("updn-captioning explain --images"),
)
