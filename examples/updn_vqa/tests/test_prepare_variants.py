"""Preparation without features, with shared proposals, of VQA v1, and after a kill."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from updn_common.errors import InputError
from updn_vqa.data.prepare import prepare
from updn_vqa.data.prepare_config import PrepareConfig
from updn_vqa.data.prepared import PreparedData
from updn_vqa.data.questions import read_questions

Configure = Callable[..., PrepareConfig]


def fails(config: PrepareConfig) -> str:
    """Prepare, check that nothing is left behind, and return the error message."""
    with pytest.raises(InputError) as error:
        prepare(config)
    assert not list(config.out.parent.glob(f"{config.out.name}*"))
    return str(error.value)


# --- no features


def test_question_only(config: Configure, world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (world / "features.tsv").unlink()
    options = config(question_only=True)
    prepare(options)
    data = PreparedData.open(options.out)
    assert data.record["proposals"] == "none: question-only, each image has one of zeros"
    assert {name: len(data.split(name)) for name in data.split_names} == {"train": 6, "dev": 2, "test": 4}
    batch = data.split("test").batch(range(4))
    assert batch.features.shape == (4, 1, 1)
    assert not batch.features.any()
    assert batch.mask.all()
    assert not batch.grounded.any()
    assert batch.answer_scores.tolist() == [[1, 0], [0, 1]] * 2
    assert "Question-only: no features, each image has one proposal of zeros." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"features": (Path("a.tsv"),)},
            "--question-only does without features, but --features are given: leave out one of them.",
        ),
        (
            {"hints": "boxes"},
            "--question-only has no proposals for hints, but --hints boxes is given: leave out one of them.",
        ),
    ],
)
def test_question_only_excludes_other_options(config: Configure, changes: dict[str, Any], message: str) -> None:
    assert fails(config(question_only=True, **changes)) == message


# --- proposals that are there already


@pytest.mark.parametrize("named", ["prepared", "prepared/proposals"])
def test_proposals_are_shared(config: Configure, world: Path, tmp_path: Path, named: str) -> None:
    first = config(out=tmp_path / "prepared")
    prepare(first)
    (world / "features.tsv").unlink()
    second = config(features=(tmp_path / named,), hints="boxes")
    prepare(second)
    stores = [options.out / "proposals" for options in (first, second)]
    for path in stores[0].iterdir():
        assert path.samefile(stores[1] / path.name)  # a link takes no disk
    record = PreparedData.open(second.out).record
    assert {source["name"] for source in record["sources"]} >= {"features.tsv", "vqacp_v2_train_boxes.json"}
    shutil.rmtree(first.out)
    PreparedData.open(second.out).store.verify()


def test_linked_store_is_never_changed(config: Configure, world: Path, tmp_path: Path) -> None:
    """A killed preparation leaves linked proposals; the next one converts its own features in the same place."""
    first = config(out=tmp_path / "prepared")
    prepare(first)
    partial = tmp_path / "out.partial" / "proposals"
    partial.mkdir(parents=True)
    for path in (first.out / "proposals").iterdir():
        (partial / path.name).hardlink_to(path)
    prepare(config(feature_dtype="float16"))
    store = PreparedData.open(first.out).store
    store.verify()
    assert store.description["dtype"] == "float32"
    assert PreparedData.open(tmp_path / "out").store.description["dtype"] == "float16"


def test_shared_proposals_must_cover_all_images(config: Configure, world: Path, tmp_path: Path) -> None:
    prepare(config(out=tmp_path / "prepared"))
    for kind in ("questions", "annotations"):
        path = world / f"vqacp_v2_test_{kind}.json"
        path.write_text(path.read_text().replace('"image_id": 12', '"image_id": 13'))
    store = tmp_path / "prepared"
    assert fails(config(features=(store,))) == (
        f"2 questions are about 1 images without proposals in {store}: 13. Add their features, or leave such questions "
        "out with --drop-questions-without-proposals."
    )
    assert fails(config(features=(store, world / "features.tsv"))) == (
        f"--features {store / 'proposals'} holds prepared proposals: give either them alone, or feature files."
    )
    features = store / "proposals" / "features.npy"
    features.write_bytes(features.read_bytes()[:-4])
    assert "bytes, not" in fails(config(features=(store,)))


# --- after a kill


def test_same_command_continues_after_a_kill(
    config: Configure, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The process is killed after the conversion; the next one does not convert images again."""
    options = config(hints="boxes", development_share=0)
    code = (
        "import os, signal, sys; from pathlib import Path; import updn_vqa.data.prepare as module\n"
        "from updn_vqa.data.prepare_config import PrepareConfig\n"
        "module.hint_arrays = lambda *args: os.kill(os.getpid(), signal.SIGKILL)\n"
        "module.prepare(PrepareConfig(out=Path(sys.argv[1]), data=Path(sys.argv[2]), hints='boxes',"
        " min_answer_occurrences=1, development_share=0))"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(options.out), str(world)], check=False)
    assert killed.returncode == -9
    features = tmp_path / "out.partial" / "proposals" / "features.npy"
    before = features.stat()
    prepare(options)
    after = (options.out / "proposals" / "features.npy").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    prepare(replace(options, out=tmp_path / "whole"))
    for path in (tmp_path / "whole").rglob("*.safetensors"):
        assert path.read_bytes() == (options.out / path.relative_to(tmp_path / "whole")).read_bytes()


# --- VQA v1 and v2


def write_v1(world: Path, split: str, part: str) -> None:
    for kind, name in (("questions", "OpenEnded_mscoco"), ("annotations", "mscoco")):
        records = json.loads((world / f"vqacp_v2_{split}_{kind}.json").read_text())
        for record in records:
            record.pop("coco_split", None)
            record["question_id"] //= 10  # v1 has ten ids for each image, not a thousand
        (world / f"{name}_{part}2014_{kind}.json").write_text(
            json.dumps({"data_subtype": f"{part}2014", kind: records})
        )


def test_vqa_v1(config: Configure, world: Path) -> None:
    for split in ("train", "test"):
        for kind in ("questions", "annotations"):
            path = world / f"vqacp_v2_{split}_{kind}.json"
            records = [record | {"question_id": record["question_id"] * 10} for record in json.loads(path.read_text())]
            path.write_text(json.dumps(records))
    write_v1(world, "train", "train")
    write_v1(world, "test", "val")
    assert fails(config()) == f"{world} holds several data sets: vqacp_v2, vqa_v1. Choose one with --dataset."
    options = config(dataset="vqa_v1", hints="boxes", hint_paths=(world / "vqacp_v2_train_boxes.json",))
    prepare(options)
    data = PreparedData.open(options.out)
    assert {name: len(data.split(name)) for name in data.split_names} == {"train": 6, "dev": 2, "val": 4}
    assert {q.coco_split for q in data.split("val").questions} == {"val2014"}


def test_v1_questions_without_annotations_are_no_data_set(config: Configure, world: Path) -> None:
    """They are only used for VQA-HAT. With --dataset vqa_v1, the annotations are missing."""
    prepare(config(hints="hat", development_share=0))
    questions = world / "OpenEnded_mscoco_train2014_questions.json"
    message = f"{questions} is there, but mscoco_train2014_annotations.json is missing. Add it."
    assert fails(config(dataset="vqa_v1", out=world.parent / "other")) == message
    for path in world.glob("vqacp*"):
        path.unlink()
    assert fails(config(out=world.parent / "other")) == message


def test_official_vqa_v2_names(config: Configure, world: Path) -> None:
    for split, coco in (("train", "train2014"), ("test", "val2014")):
        for kind, name in (("questions", "v2_OpenEnded_mscoco"), ("annotations", "v2_mscoco")):
            records = json.loads((world / f"vqacp_v2_{split}_{kind}.json").read_text())
            for record in records:
                record.pop("coco_split", None)
            (world / f"{name}_{coco}_{kind}.json").write_text(json.dumps({"data_subtype": coco, kind: records}))
    assert fails(config()) == f"{world} holds several data sets: vqacp_v2, vqa_v2. Choose one with --dataset."
    options = config(dataset="vqa_v2")
    prepare(options)
    assert {path.name for path in options.out.iterdir() if path.is_dir()} == {"train", "dev", "val", "proposals"}
    assert {item.coco_split for item in read_questions(options.out / "val" / "questions.json")} == {"val2014"}
