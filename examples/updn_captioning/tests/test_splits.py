"""Splits of images from Karpathy's file, his lists or the robust split, checked against the captions."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from updn_captioning.data.official_files import find_instances
from updn_captioning.data.splits import hold_out_development, keep_images, read_data
from updn_common.errors import InputError


def fails(call: Callable[..., object], *arguments: Any, **options: Any) -> str:
    with pytest.raises(InputError) as error:
        call(*arguments, **options)
    return str(error.value)


def edit(path: Path, change: Callable[[Any], object]) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def test_karpathys_split(world: Path) -> None:
    """The rest of the validation images is part of train, and captions have tokens."""
    data = read_data(world, "karpathy")
    assert data.splits == {"train": [1, 2, 3, 4], "val": [5, 6], "test": [11, 12]}
    assert [caption.text for caption in data.captions[11]] == ["A cat near two hot dogs.", "Dogs, and a kitten!"]
    assert data.captions[11][1].tokens == ("dogs", "and", "a", "kitten")
    assert data.files == [world / "dataset_coco.json"]


def test_robust_split(world: Path) -> None:
    data = read_data(world, "robust")
    assert data.splits == {"train": [1, 3, 5, 12], "val": [6], "test": [2, 4, 11]}
    assert data.files == [world / "dataset_coco.json", world / "split_robust_coco.json"]


def test_without_karpathys_file(world: Path) -> None:
    """COCO's caption files and Karpathy's lists are used instead."""
    (world / "dataset_coco.json").unlink()
    (world / "annotations").mkdir()
    for name in ("captions_train2014.json", "captions_val2014.json"):
        (world / name).rename(world / "annotations" / name)
    (world / "karpathy_val_images.txt").write_text("val2014/COCO_val2014_000000000006.jpg 6\n")
    (world / "karpathy_test_images.txt").write_text("12\n11\n")
    data = read_data(world, "karpathy")
    assert data.splits == {"train": [1, 2, 3, 4, 5], "val": [6], "test": [12, 11]}
    assert data.captions[2][0].tokens == ()
    assert [path.name for path in data.files] == [
        *("captions_train2014.json", "captions_val2014.json", "karpathy_val_images.txt", "karpathy_test_images.txt")
    ]
    assert read_data(world, "robust").splits["test"] == [2, 4, 11]
    (world / "karpathy_test_images.txt").write_text("12\n6\n")
    lists = f"{world / 'karpathy_val_images.txt'} and {world / 'karpathy_test_images.txt'}"
    assert fails(read_data, world, "karpathy") == (
        f"{lists}: image 6 is in the splits 'val' and 'test'. Every image belongs to one."
    )


def test_files_of_2017_are_used(world: Path) -> None:
    """Files of 2014 are preferred if both exist."""
    (world / "dataset_coco.json").unlink()
    for part in ("train", "val"):
        (world / f"captions_{part}2014.json").rename(world / f"captions_{part}2017.json")
    assert [path.name for path in read_data(world, "robust").files][:2] == [
        "captions_train2017.json",
        "captions_val2017.json",
    ]


def test_complete_releases_are_preferred(world: Path) -> None:
    """Both files of 2017 are preferred to the validation file of 2014 alone."""
    for part in ("train", "val"):
        shutil.copy(world / f"instances_{part}2014.json", world / f"instances_{part}2017.json")
    assert [path.name for path in find_instances(world)] == ["instances_train2014.json", "instances_val2014.json"]
    (world / "instances_train2014.json").unlink()
    assert [path.name for path in find_instances(world)] == ["instances_train2017.json", "instances_val2017.json"]
    (world / "instances_train2017.json").unlink()
    assert [path.name for path in find_instances(world)] == ["instances_val2014.json"]


def test_missing_files(tmp_path: Path, world: Path) -> None:
    assert fails(read_data, tmp_path / "absent", "robust") == (
        f"{tmp_path / 'absent'} is not a directory. Give the one that holds the caption files with --data."
    )
    assert fails(read_data, tmp_path, "robust") == (
        f"{tmp_path} holds no captions: neither dataset_coco.json nor captions_train2014.json. Check --data."
    )
    (world / "split_robust_coco.json").unlink()
    assert fails(read_data, world, "robust") == (
        f"{world} has no split_robust_coco.json, which assigns images to splits for --split robust. Add it."
    )
    (world / "dataset_coco.json").unlink()
    (world / "karpathy_val_images.txt").write_text("6\n")
    assert fails(read_data, world, "karpathy") == (
        f"{world} has no dataset_coco.json nor karpathy_val_images.txt and karpathy_test_images.txt, which assigns "
        "images to splits for --split karpathy. Add it."
    )


def test_split_of_unknown_images(world: Path) -> None:
    edit(world / "split_robust_coco.json", lambda split: split["test_id"].extend([{"img_id": 77}, {"img_id": 78}]))
    assert fails(read_data, world, "robust") == (
        f"{world / 'split_robust_coco.json'}: 2 of the 5 images of the split 'test' have no captions in "
        f"{world / 'dataset_coco.json'}: 77, 78. Take the split and the captions of the same data."
    )


def test_image_without_captions(world: Path) -> None:
    edit(world / "dataset_coco.json", lambda data: data["images"][3]["sentences"].clear())
    assert fails(read_data, world, "karpathy") == (
        f"{world / 'dataset_coco.json'}: 1 of the 4 images of the split 'train' have no captions in "
        f"{world / 'dataset_coco.json'}: 4. Take the split and the captions of the same data."
    )


def test_split_without_train_images(world: Path) -> None:
    edit(world / "split_robust_coco.json", lambda split: split.pop("train_id"))
    assert fails(read_data, world, "robust") == (
        f"{world / 'split_robust_coco.json'} has no images to train on. Give a split with a part 'train'."
    )


def test_caption_in_two_files(world: Path) -> None:
    (world / "dataset_coco.json").unlink()
    train, val = (world / f"captions_{part}2014.json" for part in ("train", "val"))
    train.write_text(val.read_text())
    assert fails(read_data, world, "robust") == (
        f"{train} and {val}: caption 50 occurs twice. Caption ids must be unique."
    )


def test_images_without_proposals() -> None:
    splits = {"train": [5, 1, 9, 7], "test": [2]}
    assert fails(keep_images, splits, {1, 2}, "a.tsv", drop=False) == (
        "3 images have no proposals in a.tsv: 5, 7, 9. Add their features, or leave such images out with "
        "--drop-images-without-proposals."
    )
    assert keep_images(splits, {1, 2}, "a.tsv", drop=True) == ({"train": [1], "test": [2]}, 3)
    assert fails(keep_images, splits, {1}, "a.tsv", drop=True) == (
        "No image of the split 'test' has proposals in a.tsv. Check that --features belong to it."
    )
    assert keep_images({"train": [1], "val": []}, {1}, "a.tsv", drop=False) == ({"train": [1]}, 0)


def test_development_split_is_held_out_if_there_is_none() -> None:
    splits = {"train": list(range(100, 80, -1)), "test": [2]}
    held_out = hold_out_development(splits, 0.25, 3)
    assert list(held_out) == ["train", "test", "val"]
    assert (len(held_out["train"]), len(held_out["val"])) == (15, 5)
    assert {*held_out["train"], *held_out["val"]} == {*splits["train"]}
    assert held_out["train"] == sorted(held_out["train"], reverse=True)
    assert held_out == hold_out_development(splits, 0.25, 3) != hold_out_development(splits, 0.25, 4)
    assert hold_out_development(splits, 0, 3) == splits
    assert hold_out_development({**splits, "val": [1]}, 0.25, 3) == {**splits, "val": [1]}
