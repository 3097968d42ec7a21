"""A captioning world on disk."""

import json
import re
import subprocess
import sys
from importlib.metadata import version
from itertools import chain, combinations

import numpy as np
import pytest

from shapes_cp.pairs import PairWorld
from shapes_cp.shapes import SHAPES
from shapes_cp.world import SIZES, SPLITS
from shapes_cp.write_pairs import write_pair_world


def contents(directory):
    return {str(f.relative_to(directory)): f.read_bytes() for f in directory.rglob("*") if f.is_file()}


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A tiny captioning world drawn by one process, and its images."""
    out = tmp_path_factory.mktemp("worlds") / "one"
    return out, write_pair_world(out, PairWorld(seed=3), "tiny", workers=1)


def test_files(tiny):
    out, splits = tiny
    assert sorted(path.name for path in out.iterdir()) == [
        *("bottom_up_36.tsv", "captions_train2014.json", "captions_val2014.json", "dataset_coco.json"),
        *("instances_train2014.json", "instances_val2014.json", "split_robust_coco.json"),
        *("train2014", "val2014", "world.json"),
    ]
    assert read(out / "world.json") == {
        "world": {"seed": 3, "strength": "strong", "kind": "pairs"},
        "size": "tiny",
        "images": SIZES["tiny"],
        "shapes_cp": version("shapes-cp"),
    }
    assert {name: len(drawn) for name, drawn in splits.items()} == SIZES["tiny"]


def test_two_splits_of_the_same_images(tiny):
    out, splits = tiny
    robust = {key[:-3]: [e["img_id"] for e in value] for key, value in read(out / "split_robust_coco.json").items()}
    assert robust == {name: [one.image_id for one in drawn] for name, drawn in splits.items()}
    standard = {name: [] for name in SPLITS}
    for image in read(out / "dataset_coco.json")["images"]:
        standard[image["split"]].append(image["cocoid"])
    for split in (robust, standard):
        assert {name: len(images) for name, images in split.items()} == SIZES["tiny"]
        assert all(not {*split[a]} & {*split[b]} for a, b in combinations(split, 2))
    assert sorted(chain(*robust.values())) == sorted(chain(*standard.values()))
    assert robust != standard


def test_partners_follow_the_robust_split(tiny):
    _, splits = tiny
    world = PairWorld(seed=3)
    shares = {name: np.mean([world.partners_are(one.picture) for one in drawn]) for name, drawn in splits.items()}
    assert min(shares["train"], shares["val"]) > 0.8
    assert max(shares["dev"], shares["test"]) == 0


def test_captions_are_the_same_in_every_file(tiny):
    out, splits = tiny
    captions = {a["id"]: a for c in ("train2014", "val2014") for a in read(out / f"captions_{c}.json")["annotations"]}
    drawn = {one.image_id: one for batch in splits.values() for one in batch}
    images = read(out / "dataset_coco.json")["images"]
    assert [image["cocoid"] for image in images] == list(drawn)
    for image in images:
        one = drawn[image["cocoid"]]
        assert [sentence["raw"] for sentence in image["sentences"]] == one.captions
        for sentence in image["sentences"]:
            assert captions[sentence["sentid"]]["caption"] == sentence["raw"] == " ".join(sentence["tokens"])
            assert captions[sentence["sentid"]]["image_id"] == image["cocoid"]
        assert (out / image["filepath"] / image["filename"]).is_file()


def test_all_objects_are_instances(tiny):
    out, splits = tiny
    drawn = {one.image_id: one for batch in splits.values() for one in batch}
    for coco in ("train2014", "val2014"):
        instances = read(out / f"instances_{coco}.json")
        assert [category["name"] for category in instances["categories"]] == list(SHAPES)
        for i, annotation in enumerate(instances["annotations"]):
            item = drawn[annotation["image_id"]].picture.objects[i % 6]
            assert list(SHAPES)[annotation["category_id"] - 1] == item.shape
            np.testing.assert_allclose(np.reshape(annotation["segmentation"], (-1, 2)), item.polygon, atol=0.0051)


def test_files_do_not_depend_on_the_number_of_processes(tiny, tmp_path):
    command = [sys.executable, "-m", "shapes_cp", "--size", "tiny", "--out", tmp_path / "two", "--strength", "strong"]
    wrong = subprocess.run(command, capture_output=True, text=True)
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert wrong.stderr == "error: --strength strong is an option of --world pairs, found --world cue.\n"
    command += ["--world", "pairs", "--seed", "3", "--workers", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = [re.findall(r"[\w,.%]+", line) for line in done.stdout.splitlines()]
    assert ["test", "16", "80", "0.0%"] in rows
    one, two = contents(tiny[0]), contents(tmp_path / "two")
    assert one.keys() == two.keys()
    assert [name for name in one if one[name] != two[name]] == []
