"""The output of `updn-vqa data`, which changes nothing in the directory."""

import gzip
import hashlib
import io
import json
import shutil
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from rich.console import Console

from updn_common.data.data_command import DataConfig
from updn_common.errors import InputError
from updn_common.files.reading import sha256_of_all
from updn_vqa.data.data_command import DATA_FILES, show_data
from updn_vqa.data.official_files import find_splits


@pytest.fixture
def show() -> Callable[..., list[list[str]]]:
    """The rows of the tables as lists of cells, and other lines as lists of one."""

    def run(data: Path, **options: Any) -> list[list[str]]:
        before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in data.rglob("*")}
        console = Console(width=200, record=True, file=io.StringIO())
        show_data(DataConfig(data, **options), console)
        assert {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in data.rglob("*")} == before
        lines = console.export_text().splitlines()
        return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines if not set(line) & set("┃━─")]

    return run


def files(rows: Iterable[list[str]]) -> dict[str, list[str]]:
    """Content, size and checksum of each file in the first table. The content is in the row below the name."""
    return {name[0]: [holds[0], *name[1:]] for name, holds in pairwise(row for row in rows if len(row) == 3) if name[1]}


def size(path: Path) -> str:
    count = path.stat().st_size
    return f"{count} B" if count < 1024 else f"{count / 1024:.1f} KiB"


def test_found_files_have_counts_sizes_and_checksums(world: Path, show: Callable[..., list[list[str]]]) -> None:
    (world / "objects_vocab.txt").write_text("cat\ndog\n")
    (world / "train_exp_anno.json").write_text('{"1000": ["a cat"]}')
    (world / "hints.jsonl.gz").write_bytes(gzip.compress(b'{"format": "hints"}\n{"question_id": 1}\n'))
    (world / "train2014").mkdir()
    (world / "train2014" / "COCO_train2014_000000000001.jpg").write_bytes(b"123")
    (world / "notes.txt").write_text("no data")
    rows = show(world)
    expected = {
        "vqacp_v2_train_questions.json": "8 of 438,183 questions",
        "vqacp_v2_train_annotations.json": "8 of 438,183 annotations",
        "vqacp_v2_test_questions.json": "4 of 219,928 questions",
        "vqacp_v2_test_annotations.json": "4 of 219,928 annotations",
        "OpenEnded_mscoco_train2014_questions.json": "3 of 248,349 questions",
        "features.tsv": "7 of 123,287 images",
        "train_exp_anno.json": "1 questions",
        "objects_vocab.txt": "2 of 1,600 names",
        "vqacp_v2_train_boxes.json": "2 questions",
        "hints.jsonl.gz": "1 questions",
    }
    found = files(rows)
    for name, holds in expected.items():
        checksum = hashlib.sha256((world / name).read_bytes()).hexdigest()[:12]
        assert found[name] == [holds, size(world / name), checksum]
    assert found["vqahat_train/"][0] == "5 of 58,475 maps"
    assert found["vqahat_train/"][2] == sha256_of_all((world / "vqahat_train").iterdir())[:12]
    assert found["train2014/"] == ["1 of 82,783 photos", "3 B", ""]
    assert found.keys() - {"file and content"} == {*expected, "vqahat_train/", "train2014/"}
    assert [
        f"vqacp_v2 (train, test): updn-vqa prepare --data {world} --dataset vqacp_v2 --out prepared/vqacp_v2"
    ] in rows


def test_missing_files_and_where_they_are_published(world: Path, show: Callable[..., list[list[str]]]) -> None:
    rows = show(world)
    (start,) = (i for i, row in enumerate(rows) if row == ["Missing"])
    missing = [row for row in rows[start + 1 :] if len(row) == 2]
    named = {row[1] for row in missing}
    assert named >= {
        *("v2_mscoco_val2014_annotations.json", "vqacp_v1_test_questions.json", "vqahat_val", "glove*.txt"),
        *("https://visualqa.org/download.html", "https://nlp.stanford.edu/projects/glove", "*_sceneGraphs.json"),
    }
    assert not named & {"vqahat_train", "vqacp_v2_train_questions.json", "*.tsv", "*_boxes.json"}


def test_names_are_not_cut_in_80_columns(world: Path) -> None:
    (world / "v2_OpenEnded_mscoco_train2014_questions.json").write_text("[]")
    console = Console(width=80, record=True, file=io.StringIO())
    show_data(DataConfig(world), console)
    printed = console.export_text()
    for path in world.iterdir():
        assert f"  {path.name}" in printed


def test_complete_files_have_one_count(tmp_path: Path, show: Callable[..., list[list[str]]]) -> None:
    """The published count is omitted if it equals that of the file."""
    (tmp_path / "val_exp_anno.json").write_text(json.dumps({str(i): ["a cat"] for i in range(1459)}))
    assert files(show(tmp_path))["val_exp_anno.json"][0] == "1,459 questions"


def test_damaged_files_are_named(world: Path, show: Callable[..., list[list[str]]]) -> None:
    path = world / "vqacp_v2_train_annotations.json"
    path.write_text(path.read_text()[:-9])
    (world / "objects_vocab.txt").write_bytes(b"\xff")
    rows = show(world)
    assert files(rows)[path.name][0] == files(rows)["objects_vocab.txt"][0] == "damaged"
    faults = [row[0] for row in rows if row[0].startswith("damaged: ")]
    assert len(faults) == 2
    assert faults[0].startswith(f"damaged: {path}, line 1, column ")
    assert faults[1] == (
        f"damaged: {world / 'objects_vocab.txt'} is not UTF-8 text (byte 0); expected the detector's object names, one "
        "per line."
    )


def test_incomplete_data_set_has_the_error_of_prepare(world: Path, show: Callable[..., list[list[str]]]) -> None:
    (world / "vqacp_v2_test_annotations.json").unlink()
    with pytest.raises(InputError) as error:
        find_splits(world)
    assert [f"vqacp_v2 is incomplete: {error.value}"] in show(world)


def test_questions_of_test2015(world: Path, show: Callable[..., list[list[str]]]) -> None:
    name = "v2_OpenEnded_mscoco_test2015_questions.json"
    shutil.copy(world / "vqacp_v2_test_questions.json", world / name)
    assert files(show(world))[name][0] == "4 of 447,793 questions"


def test_features_of_other_kinds(tmp_path: Path, show: Callable[..., list[list[str]]]) -> None:
    (tmp_path / "npz").mkdir()
    for name in ("a", "b"):
        np.savez(tmp_path / "npz" / f"{name}.npz", x=np.zeros(1))
    with h5py.File(tmp_path / "val36.hdf5", "w") as file:
        file["image_features"] = np.zeros((3, 2, 4))
    with h5py.File(tmp_path / "adaptive.h5", "w") as file:
        file["pos_boxes"] = np.zeros((5, 2))
    (tmp_path / "c.hdf5").write_text("no HDF5")
    (tmp_path / "empty").mkdir()
    rows = show(tmp_path)
    found = files(rows)
    for name, count in {"npz/": 2, "val36.hdf5": 3, "adaptive.h5": 5}.items():
        assert found[name][0] == f"{count} of 123,287 images"
    assert found["c.hdf5"][0] == "damaged"
    assert ["image ids", "val36.ids.json"] in rows
    assert [
        f"No features to prepare from yet: {tmp_path} should hold one file (.tsv, .hdf5, .h5) or folder (of .npz) of "
        "features, found adaptive.h5, c.hdf5, npz, val36.hdf5. Name it with --features."
    ] in rows
    assert ["No data set has a train part with questions and annotations yet."] in rows


def test_without_checksums_large_files_are_not_read(world: Path, show: Callable[..., list[list[str]]]) -> None:
    found = files(show(world, checksums=False))
    assert found["features.tsv"][0] == "not counted"
    assert found["features.tsv"][2] == ""
    assert found["vqacp_v2_train_questions.json"][0] == "8 of 438,183 questions"


def test_empty_directory(tmp_path: Path, show: Callable[..., list[list[str]]]) -> None:
    rows = show(tmp_path)
    assert not files(rows)
    assert {group.name for group in DATA_FILES} <= {row[0] for row in rows}


def test_no_directory(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        show_data(DataConfig(tmp_path / "absent"))
    assert str(error.value) == (
        f"{tmp_path / 'absent'} is not a directory. Give the one that holds the data with --data."
    )


def test_real_data(shared_data: Path, tmp_path: Path, show: Callable[..., list[list[str]]]) -> None:
    """Checksums of real files equal those in their manifest."""
    manifest = (shared_data / "MANIFEST.md").read_text()
    for name in ("vqa_x/val_exp_anno.json", "bottom_up/objects_vocab.txt", "bottom_up/train2014_obj36.tsv"):
        shutil.copy(shared_data / name, tmp_path)
    found = files(show(tmp_path))
    assert found["val_exp_anno.json"][0] == "1,459 questions"
    assert found["objects_vocab.txt"][0] == "1,600 names"
    assert found["train2014_obj36.tsv"][0] == "10 of 123,287 images"
    for name, (_, _, checksum) in found.items():
        if "." in name:
            assert f"/{name} |" in manifest
            assert checksum in manifest
