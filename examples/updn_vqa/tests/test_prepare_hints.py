"""Preparation with hints of all kinds."""

import base64
import json
import shutil
from collections.abc import Callable
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
HEADER = '{"format": "hints", "version": 1}\n'


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


def test_hat_hints(config: Configure, capsys: pytest.CaptureFixture[str]) -> None:
    options = config(hints="hat", development_share=0)
    prepare(options)
    arrays = load_file(options.out / "train" / "arrays.safetensors")
    assert arrays["question_ids"][arrays["hint_rows"]].tolist() == [1000, 2001]
    np.testing.assert_allclose(arrays["hints"][0], [1.0, 0.0, 0.5, 0.0])
    np.testing.assert_allclose(arrays["hints"][1], [0.0, 1.0, 0.5, np.nan])  # image 2 has three proposals
    record = json.loads((options.out / "prepared.json").read_text())["hints"]
    assert (record["matched_v1_questions"], record["unmatched_v1_questions"]) == (2, 2)
    assert (
        "Hints: VQA-HAT attention maps, made with the question in view. 2 questions have one; read: 2 matched v1 "
        "questions, 2 unmatched v1 questions."
    ) in " ".join(capsys.readouterr().out.split())


def test_box_hints_are_found(config: Configure) -> None:
    options = config(hints="boxes", development_share=0)
    prepare(options)
    arrays = load_file(options.out / "train" / "arrays.safetensors")
    assert arrays["question_ids"][arrays["hint_rows"]].tolist() == [1000, 2001]
    assert arrays["hints"][0][0] == 1.0


def test_hints_for_no_question(config: Configure, dump: Callable[..., Path]) -> None:
    path = dump({"77000": [[0, 0, 5, 5]]}, "hints.json")
    assert fails(config(hints="boxes", hint_paths=(path,))) == (
        "No question has a hint from 'boxes'. Check --hint-paths and --features, or use --hints none. "
        "Hints that are not used: 1 for questions that are not given."
    )


def test_hints_for_dropped_and_unknown_questions(
    config: Configure, world: Path, dump: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Image 2 has no features, so its questions are dropped; hints for them are counted apart from unknown ones."""
    lines = (world / "features.tsv").read_bytes().splitlines(keepends=True)
    (world / "features.tsv").write_bytes(b"".join(line for line in lines if not line.startswith(b"2\t")))
    boxes = {str(key): [[0, 0, 5, 5]] for key in (2000, 2001, 77000, 78000, 79000)}
    options = {"hints": "boxes", "drop_questions_without_proposals": True}
    assert fails(config(**options, hint_paths=(dump(boxes, "lost.json"),))) == (
        "No question has a hint from 'boxes'. Check --hint-paths and --features, or use --hints none. Hints that are "
        "not used: 3 for questions that are not given, 2 for questions whose images have no proposals."
    )
    kept = config(**options, hint_paths=(dump(boxes | {"1000": [[0, 0, 5, 5]]}, "kept.json"),))
    prepare(kept)
    assert json.loads((kept.out / "prepared.json").read_text())["idle_hints"] == {"unknown": 3, "dropped": 2}
    summary = " ".join(capsys.readouterr().out.split())
    assert (
        "1 questions have one; read: 6 questions. Hints that are not used: 3 for questions that are not given,"
        in summary
    )


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
    assert s[1000] == pytest.approx([1, 0, 0.5, 1 / (1 + 275 / 1175)])  # the last proposal is inside the asked object


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
