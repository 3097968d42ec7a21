"""Preparing from other sources: no features, another's proposals, all kinds of hints, VQA v1; and after a kill."""

import base64
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from updn_common.errors import InputError
from updn_vqa.data.prepare import prepare
from updn_vqa.data.prepare_config import PrepareConfig
from updn_vqa.data.prepared import PreparedData

Configure = Callable[..., PrepareConfig]
NAMES = ["cat", "dog", "sofa"]
OBJECTS = [0, 1, 2, 0]


def fails(config: PrepareConfig) -> str:
    """Prepare, check that nothing is left behind, and return the error message."""
    with pytest.raises(InputError) as error:
        prepare(config)
    assert not list(config.out.parent.glob(f"{config.out.name}*"))
    return str(error.value)


def hints(out: Path, split: str = "train") -> dict[int, list[float]]:
    arrays = load_file(out / split / "arrays.safetensors")
    ids = arrays["question_ids"][arrays["hint_rows"]].tolist()
    return {i: s[~np.isnan(s)].tolist() for i, s in zip(ids, arrays["hints"], strict=True)}


@pytest.fixture
def with_objects(world: Path) -> Path:
    """The same features in LXMERT's columns, and names of the detected objects."""
    rows = []
    for line in (world / "features.tsv").read_text().splitlines():
        name, width, height, n, boxes, features = line.split("\t")
        objects = base64.b64encode(np.array(OBJECTS[: int(n)], dtype="<i8").tobytes()).decode()
        rows.append("\t".join([name, height, width, objects, "", "", "", n, boxes, features]) + "\n")
    (world / "features.tsv").write_text("".join(rows))
    (world / "objects_vocab.txt").write_text("\n".join(NAMES))
    return world


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


# --- hints


def test_hints_from_explanations(config: Configure, with_objects: Path) -> None:
    (with_objects / "train_exp_anno.json").write_text(json.dumps({"1000": ["a cat", "cats on sofas"], "1001": ["?"]}))
    options = config(hints="explanations", development_share=0)
    prepare(options)
    assert hints(options.out) == {1000: [1, 0, 0.5, 1]}
    record = PreparedData.open(options.out).record
    assert record["hints"]["questions"] == 2
    assert {"train_exp_anno.json", "objects_vocab.txt"} <= {source["name"] for source in record["sources"]}


def test_hints_from_question_and_answer(config: Configure, with_objects: Path) -> None:
    options = config(hints="question-answer", development_share=0)
    prepare(options)
    found = hints(options.out)
    assert found[1000] == [1, 0, 0, 1]  # "What color is the cat?"
    assert found[1001] == [0, 1, 0, 0]  # "Is it Bob's dog, then?"
    assert found[2001] == [0, 1, 0]
    assert len(found) == 8


def test_hints_from_scene_graphs(config: Configure, world: Path) -> None:
    graph = {"width": 40, "height": 30, "objects": {"5": {"name": "cat", "x": 0, "y": 0, "w": 20, "h": 15}}}
    (world / "train_sceneGraphs.json").write_text(json.dumps({"1": graph}))
    question = {"imageId": "1", "annotations": {"question": {"0": "5"}, "answer": {}, "fullAnswer": {}}}
    (world / "train_balanced_questions.json").write_text(json.dumps({"1000": question}))
    options = config(hints="gqa", development_share=0)
    prepare(options)
    s = hints(options.out)
    assert s.keys() == {1000}
    assert s[1000] == pytest.approx([1, 0, 0.5, 1 / (1 + 275 / 1175)])  # the last is inside of what is asked for


@pytest.mark.parametrize("kind", ["hat", "boxes", "explanations"])
def test_written_hints_can_be_read(config: Configure, with_objects: Path, tmp_path: Path, kind: Any) -> None:
    """With `hints.jsonl` of another preparation and the same features, arrays are bitwise equal."""
    (with_objects / "train_exp_anno.json").write_text(json.dumps({"1000": ["cat", "sofa", "dog and cat"]}))
    first = config(hints=kind, out=tmp_path / "first")
    prepare(first)
    shutil.copy(first.out / "hints.jsonl", with_objects)
    second = config(hints="file")
    prepare(second)
    for split in ("train", "dev", "test"):
        one, two = (load_file(out / split / "arrays.safetensors") for out in (first.out, second.out))
        assert one["hints"].tobytes() == two["hints"].tobytes()
        assert one["hint_rows"].tolist() == two["hint_rows"].tolist()
    first_record, second_record = (PreparedData.open(out).record["hints"] for out in (first.out, second.out))
    assert second_record["about"] == first_record["about"]
    assert (first.out / "hints.jsonl").read_text() == (second.out / "hints.jsonl").read_text()


def test_hint_file_of_other_features_is_refused(config: Configure, world: Path, tmp_path: Path) -> None:
    first = config(hints="boxes", out=tmp_path / "first")
    prepare(first)
    path = first.out / "hints.jsonl"
    features = world / "features.tsv"
    features.write_text("".join(features.read_text().splitlines(keepends=True)[::-1]))
    assert fails(config(hints="file", hint_paths=(path,))) == (
        f"{path}: the hints are for the proposals in features.tsv, but --features hold others (checksums differ). Give "
        "the features that the hints were made for, or hints as boxes."
    )


def test_missing_hints(config: Configure, world: Path) -> None:
    for kind, names in {
        "gqa": "*_balanced_questions.json or *_sceneGraphs.json",
        "explanations": "*_exp_anno*.json",
        "file": "*hints.jsonl*",
    }.items():
        message = f"--hints {kind} found no {names} in --data. Give --hint-paths."
        assert fails(config(hints=kind)) == message
    assert fails(config(hints="question-answer")) == (
        "--hints question-answer needs the detector's names of objects, and --data has no objects_vocab.txt. "
        "Give --object-names."
    )
    (world / "objects_vocab.txt").write_text("cat")
    assert fails(config(hints="question-answer")) == (
        "The features of image 1 do not say what objects were detected, which hints from words need. Give features in "
        "LXMERT's TSV, which has the column objects_id."
    )


HEADER = '{"format": "hints", "version": 1}\n'


@pytest.mark.parametrize(
    ("kind", "name", "content", "message"),
    [
        ("explanations", "train_exp_anno.json", '{"1000": ["a cat"', "{}, line 1, column 18: malformed JSON"),
        ("explanations", "train_exp_anno.json", '{"1000": 5}', "{}: question 1000 has 5. Expected a list"),
        ("explanations", "objects_vocab.txt", "cat", "{} has 1 object names, but image 1 an object 2. Give"),
        ("question-answer", "objects_vocab.txt", "cat\n\n", "{}, line 2 is empty; expected"),
        ("gqa", "train_sceneGraphs.json", '{"1": {"objects"', "{}, line 1, column 17: malformed JSON"),
        ("gqa", "train_sceneGraphs.json", '{"1": {"objects": {}}}', "{}: GQA scene graphs only."),
        ("file", "hints.jsonl", "", "{}: not a file of hints. Its first line should be"),
        ("file", "hints.jsonl", HEADER + '{"question_id": 1000', "{}, line 2, column 21: malformed JSON"),
        ("file", "hints.jsonl", HEADER, "No question has a hint from 'file'."),
        (
            "file",
            "hints.jsonl",
            HEADER + '{"question_id": 1000, "boxes": [[0, 0, 50, 5]]}',
            "{}: question 1000: box 0 [0.0, 0.0, 50.0, 5.0] leaves the 40 x 30 image; expected x1 y1 x2 y2 in pixels.",
        ),
        (
            "file",
            "hints.jsonl",
            HEADER + '{"question_id": 1000, "importance": [1, 0]}',
            "{}: question 1000 has 2 numbers, but image 1 has 4 proposals.",
        ),
        ("none", "glove.txt", "is 1 2 3\ncat 1 2", "{}, line 2: 2 numbers; the first line of a word has 3."),
    ],
)
def test_malformed_sources_leave_nothing(
    config: Configure, with_objects: Path, kind: Any, name: str, content: str, message: str
) -> None:
    (with_objects / "train_exp_anno.json").write_text('{"1000": ["a cat"]}')
    (with_objects / name).write_text(content)
    options = config(hints=kind, glove=with_objects / name if name == "glove.txt" else None)
    assert fails(options).startswith(message.format(with_objects / name))


# --- VQA v1


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


def test_real_words_on_real_features(shared_data: Path, tmp_path: Path) -> None:
    """Six real questions, their answers, and the objects detected in the photos."""
    folder = shared_data / "bottom_up"
    options = PrepareConfig(
        out=tmp_path / "out",
        questions=shared_data / "vqa_v2/v2_OpenEnded_mscoco_train2014_questions.sub.json",
        annotations=shared_data / "vqa_v2/v2_mscoco_train2014_annotations.sub.json",
        features=(folder / "train2014_obj36.tsv",),
        hints="question-answer",
        object_names=folder / "objects_vocab.txt",
        answers=shared_data / "vqa_v2/trainval_label2ans.json",
        drop_questions_without_proposals=True,
        development_share=0,
    )
    prepare(options)
    split = PreparedData.open(options.out).split("train")
    names = [line.split(",")[0] for line in (folder / "objects_vocab.txt").read_text().splitlines()]
    named = {}
    for row, position in enumerate(split.hinted_indices.tolist()):
        question = split.questions[position]
        objects = PreparedData.open(options.out).store.geometry(question.image_id).objects
        assert objects is not None
        named[question.text] = {names[k] for k, s in zip(objects, split.hints[row], strict=True) if s > 0}
    assert named == {  # in the other photos, the detector called nothing by a word of question or answer
        "How many people use this bed?": {"bed"},
        "Can the skateboarder jump as high as the silver car's taillights?": {"car"},
    }
    assert torch.equal(split.hints, (split.hints > 0).float())  # one text: two levels
