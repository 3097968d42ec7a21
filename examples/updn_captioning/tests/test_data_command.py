"""The output of `updn-captioning data`; the part that `updn-vqa data` shares is tested there."""

import io
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from rich.console import Console

from updn_captioning.data.data_command import DATA_FILES, show_data
from updn_common.data.data_command import DataConfig


@pytest.fixture
def show() -> Callable[[Path], list[list[str]]]:
    """The rows of the tables as lists of cells, and other lines as lists of one."""

    def run(data: Path) -> list[list[str]]:
        console = Console(width=200, record=True, file=io.StringIO())
        show_data(DataConfig(data), console)
        lines = console.export_text().splitlines()
        return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines if not set(line) & set("┃━─")]

    return run


def held(rows: list[list[str]]) -> dict[str, str]:
    """Content of each file in the first table, which is in the row below the name."""
    names_and_holds = pairwise(row for row in rows if len(row) == 3)
    return {name[0]: holds[0] for name, holds in names_and_holds if name[2].isalnum()}


def test_found_files(world: Path, show: Callable[[Path], list[list[str]]]) -> None:
    (world / "annotations").mkdir()
    (world / "captions_val2014.json").rename(world / "annotations" / "captions_val2014.json")
    (world / "karpathy_val_images.txt").write_text("1\n2\n")
    (world / "coco_class_name.txt").write_text("cat, kitty\ndog\n")
    rows = show(world)
    assert held(rows) == {
        "dataset_coco.json": "16 of 616,767 captions",
        "karpathy_val_images.txt": "2 of 5,000 images",
        "split_robust_coco.json": "8 of 123,287 images",
        "captions_train2014.json": "8 of 414,113 captions",
        "captions_val2014.json": "8 of 202,654 captions",
        "instances_train2014.json": "6 of 604,907 instances",
        "instances_val2014.json": "6 of 291,875 instances",
        "features.tsv": "9 of 123,287 images",
        "coco_class_name.txt": "2 of 80 categories",
    }
    assert rows[-2:] == [
        [f"karpathy: updn-captioning prepare --data {world} --split karpathy --out prepared/karpathy"],
        [
            f"robust: updn-captioning prepare --data {world} --split robust --out prepared/robust --features "
            "prepared/karpathy"
        ],
    ]
    (world / "split_robust_coco.json").rename(world / "absent.json")
    assert show(world)[-2] == [
        f"karpathy: updn-captioning prepare --data {world} --split karpathy --out prepared/karpathy"
    ]
    (world / "absent.json").rename(world / "split_robust_coco.json")
    (world / "dataset_coco.json").unlink()
    (world / "karpathy_val_images.txt").unlink()
    assert show(world)[-1] == [f"robust: updn-captioning prepare --data {world} --split robust --out prepared/robust"]


def test_missing_files(tmp_path: Path, show: Callable[[Path], list[list[str]]]) -> None:
    rows = show(tmp_path)
    assert {group.name for group in DATA_FILES} <= {row[0] for row in rows}
    named = {row[1] for row in rows if len(row) == 2}
    assert named >= {"dataset_coco.json", "instances_val2014.json", "https://cocodataset.org/#download", "*.tsv"}
    none = f"{tmp_path} holds no captions: neither dataset_coco.json nor captions_train2014.json. Check --data."
    assert rows[-4:] == [
        [
            f"No features to prepare from yet: {tmp_path} should hold one file (.tsv, .hdf5, .h5) or folder (of .npz) "
            "of features, found none. Name it with --features."
        ],
        [
            f"No hints to prepare from yet: {tmp_path} has no instances_train2014.json, which has the objects for "
            "--hints instances. Add it, or use --hints none."
        ],
        [f"No karpathy split yet: {none}"],
        [f"No robust split yet: {none}"],
    ]


def test_real_data(shared_data: Path, tmp_path: Path, show: Callable[[Path], list[list[str]]]) -> None:
    """The published count is omitted if it equals that of the file."""
    for name in ("coco/split_robust_coco.json", "coco/coco_class_name.txt", "bottom_up/karpathy_test_images.txt"):
        shutil.copy(shared_data / name, tmp_path)
    assert held(show(tmp_path)) == {
        "split_robust_coco.json": "123,287 images",
        "coco_class_name.txt": "80 categories",
        "karpathy_test_images.txt": "5,000 images",
    }
