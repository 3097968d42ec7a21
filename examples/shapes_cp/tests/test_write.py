import base64
import hashlib
import json
import re
import subprocess
import sys
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shapes_cp.encoder import load_encoder
from shapes_cp.render import decode_image
from shapes_cp.shapes import SHAPES
from shapes_cp.world import SIZES, SPLITS, World
from shapes_cp.write import write_world
from updn_common.errors import InputError

FORMATS = Path(__file__).parents[4] / "shared" / "data" / "formats"
needs_formats = pytest.mark.skipif(not FORMATS.is_dir(), reason=f"no official samples at {FORMATS}")


def contents(directory):
    return {str(f.relative_to(directory)): f.read_bytes() for f in directory.rglob("*") if f.is_file()}


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def shape_of(value):
    """The keys and types of a JSON value; for a list, of its first element."""
    if isinstance(value, dict):
        return {key: shape_of(item) for key, item in value.items()}
    return [shape_of(item) for item in value[:1]] if isinstance(value, list) else type(value)


def test_files_do_not_depend_on_the_number_of_processes(tiny, tmp_path):
    write_world(tmp_path / "two", World(seed=3), "tiny", workers=2)
    one, two = contents(tiny[0]), contents(tmp_path / "two")
    assert one.keys() == two.keys()
    assert [name for name in one if one[name] != two[name]] == []


def test_worlds_of_committed_results_are_unchanged(tiny):
    """Only texts are compared: images and features may differ slightly on another machine."""
    names = [
        "captions_train2014.json",
        "captions_val2014.json",
        *(f"vqacp_v2_{name}_questions.json" for name in SPLITS),
    ]
    texts = b"".join((tiny[0] / name).read_bytes() for name in names)
    assert hashlib.sha256(texts).hexdigest() == "66bfb686598e308a4e9c2727392581f337404742c4cf339aeee02e17aa2d45af"


def test_command(tiny, tmp_path):
    command = [sys.executable, "-m", "shapes_cp", "--size", "tiny", "--workers", "1", "--world", "prior", "--out"]
    done = subprocess.run([*command, tmp_path / "prior"], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    cells = [re.findall(r"[\w,]+(?: cue)?", line) for line in done.stdout.splitlines() if "train" in line]
    assert cells == [["train", "24", "24", "no cue"]]
    assert contents(tmp_path / "prior").keys() == contents(tiny[0]).keys()
    again = subprocess.run([*command, tmp_path / "prior"], capture_output=True, text=True)
    assert again.returncode == 1
    assert again.stderr.startswith(f"error: {tmp_path / 'prior'} already holds files")
    assert [path.name for path in tmp_path.iterdir()] == ["prior"]


def test_too_few_workers(tmp_path):
    with pytest.raises(InputError, match=r"^--workers should be at least 1, found 0\.$"):
        write_world(tmp_path / "out", World(), "tiny", workers=0)


def test_world_json(tiny):
    assert read(tiny[0] / "world.json") == {
        "world": {"seed": 3, "kind": "cue"},
        "size": "tiny",
        "images": {"train": 24, "val": 16, "dev": 16, "test": 16},
        "shapes_cp": version("shapes-cp"),
    }


@pytest.mark.parametrize("name", list(SPLITS))
def test_files_of_a_question_agree(tiny, name):
    out, splits = tiny
    questions, annotations, boxes = (
        read(out / f"vqacp_v2_{name}_{what}.json") for what in ("questions", "annotations", "boxes")
    )
    coco = SPLITS[name].coco
    v1 = {q["question_id"]: q for q in read(out / f"OpenEnded_mscoco_{coco}_questions.json")["questions"]}
    assert len(questions) == len(annotations) == len(boxes) == SIZES["tiny"][name]
    for question, annotation, drawn in zip(questions, annotations, splits[name], strict=True):
        image_id = question["image_id"]
        assert question["question_id"] == annotation["question_id"] == image_id * 1000
        assert (
            (annotation["image_id"], annotation["coco_split"]) == (image_id, coco) == (image_id, question["coco_split"])
        )
        assert (v1[image_id * 10]["question"], v1[image_id * 10]["image_id"]) == (question["question"], image_id)
        assert boxes[str(question["question_id"])] == [list(drawn.picture.asked.box)]
        with Image.open(out / coco / f"COCO_{coco}_{image_id:012d}.jpg") as image:
            assert (image.mode, image.size) == ("RGB", (128, 128))
        with Image.open(out / f"vqahat_{coco[:-4]}" / f"{image_id * 10}_1.png") as attention:
            assert (attention.mode, attention.size) == ("L", (128, 128))


def test_ten_answers_give_the_official_soft_scores(tiny):
    out, splits = tiny
    seconds = 0
    for name, drawn in splits.items():
        for annotation, one in zip(read(out / f"vqacp_v2_{name}_annotations.json"), drawn, strict=True):
            question = one.picture.question
            answers = [answer["answer"] for answer in annotation["answers"]]
            assert [answer["answer_id"] for answer in annotation["answers"]] == list(range(1, 11))
            assert annotation["multiple_choice_answer"] == question.answer
            assert annotation["answer_type"] == ("yes/no" if question.kind == "yes/no" else "other")
            assert question.text.lower().startswith(annotation["question_type"])
            soft = {
                answer: np.mean([min(1, (answers[:i] + answers[i + 1 :]).count(answer) / 3) for i in range(10)])
                for answer in Counter(answers)
            }
            expected = {question.answer: 1.0}
            if question.second_answer is not None:
                expected[question.second_answer] = 0.3
                seconds += 1
            assert soft == pytest.approx(expected)
    assert seconds > 0


def test_tsv_rows_decode_to_the_features_of_the_saved_images(tiny):
    out, splits = tiny
    rows = [line.split("\t") for line in (out / "bottom_up_36.tsv").read_text().splitlines()]
    drawn = [(SPLITS[name].coco, one.image_id) for name, batch in splits.items() for one in batch]
    assert len(rows) == len(drawn)
    for (coco, image_id), (row_id, width, height, count, boxes64, features64) in zip(drawn, rows, strict=True):
        assert (int(row_id), int(width), int(height), int(count)) == (image_id, 128, 128, 36)
        boxes = np.frombuffer(base64.b64decode(boxes64), "<f4").reshape(36, 4)
        features = np.frombuffer(base64.b64decode(features64), "<f4").reshape(36, 133)
        image = decode_image((out / coco / f"COCO_{coco}_{image_id:012d}.jpg").read_bytes())
        np.testing.assert_allclose(load_encoder().encode(image, boxes.copy()), features, atol=1e-4)


def test_instances_are_the_objects(tiny):
    out, splits = tiny
    for coco in ("train2014", "val2014"):
        instances = read(out / f"instances_{coco}.json")
        assert [(c["id"], c["name"]) for c in instances["categories"]] == list(enumerate(SHAPES, 1))
        drawn = {one.image_id: one for name, d in splits.items() if SPLITS[name].coco == coco for one in d}
        assert [image["id"] for image in instances["images"]] == list(drawn)
        assert all((out / coco / image["file_name"]).is_file() for image in instances["images"])
        assert len({a["id"] for a in instances["annotations"]}) == 6 * len(drawn) == len(instances["annotations"])
        for i, annotation in enumerate(instances["annotations"]):
            item = drawn[annotation["image_id"]].picture.objects[i % 6]
            (polygon,) = annotation["segmentation"]
            points = np.array(polygon).reshape(-1, 2)
            assert list(SHAPES)[annotation["category_id"] - 1] == item.shape
            np.testing.assert_allclose(points, item.polygon, atol=0.0051)
            np.testing.assert_allclose(annotation["bbox"][:2], points.min(0), atol=1e-6)
            np.testing.assert_allclose(annotation["bbox"][2:], np.ptp(points, axis=0), atol=0.0051)
            assert 0 < annotation["area"] < item.size**2


def test_captions_are_true_and_the_same_in_every_file(tiny):
    out, splits = tiny
    captions = {a["id"]: a for c in ("train2014", "val2014") for a in read(out / f"captions_{c}.json")["annotations"]}
    for drawn in splits.values():
        for one in drawn:
            looks = {(item.color, item.shape) for item in one.picture.objects}
            for caption in one.captions:
                words = caption.split()
                named = [(words[i - 1], word) for i, word in enumerate(words) if word in SHAPES]
                assert len(named) == 2
                assert set(named) <= looks
    images = read(out / "dataset_coco.json")["images"]
    assert [image["imgid"] for image in images] == list(range(len(images)))
    for image in images:
        assert len(image["sentids"]) == 5
        for sentence, sentence_id in zip(image["sentences"], image["sentids"], strict=True):
            assert sentence["sentid"] == sentence_id
            assert captions[sentence_id]["caption"] == sentence["raw"] == " ".join(sentence["tokens"])
            assert captions[sentence_id]["image_id"] == image["cocoid"]


def test_captioning_splits_cover_train_val_and_test(tiny):
    out, splits = tiny
    ids = {name: [one.image_id for one in drawn] for name, drawn in splits.items() if name != "dev"}
    robust = read(out / "split_robust_coco.json")
    assert {key: [entry["img_id"] for entry in value] for key, value in robust.items()} == {
        f"{name}_id": numbers for name, numbers in ids.items()
    }
    karpathy = read(out / "dataset_coco.json")["images"]
    assert [(i["split"], i["cocoid"]) for i in karpathy] == [(n, x) for n, numbers in ids.items() for x in numbers]


@needs_formats
@pytest.mark.parametrize(
    ("ours", "official"),
    [
        ("vqacp_v2_train_questions.json", "vqacp_v2_questions.FORMAT_SAMPLE.json"),
        ("vqacp_v2_test_annotations.json", "vqacp_v2_annotations.FORMAT_SAMPLE.json"),
        ("dataset_coco.json", "dataset_coco.ONE_RECORD.json"),
    ],
)
def test_records_have_the_official_keys_and_types(tiny, ours, official):
    assert shape_of(read(tiny[0] / ours)) == shape_of(read(FORMATS / official))
