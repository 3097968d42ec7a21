"""Preparation of official files, which is either complete or leaves nothing."""

import base64
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from updn_captioning.data.coco import read_captions
from updn_captioning.data.instances import Instances
from updn_captioning.data.prepare import prepare
from updn_captioning.data.prepare_config import PrepareConfig
from updn_captioning.data.tokenise import tokenise
from updn_captioning.data.visual_words import VisualWords
from updn_captioning.data.vocabulary import CaptionVocabulary
from updn_common.errors import InputError
from updn_common.proposals.store import ProposalStore

Configure = Callable[..., PrepareConfig]


def fails(options: PrepareConfig) -> str:
    """Prepare, check that nothing is left behind, and return the error message."""
    before = sorted(options.out.parent.iterdir())
    with pytest.raises(InputError) as error:
        prepare(options)
    assert sorted(options.out.parent.iterdir()) == before
    return str(error.value)


def edit(path: Path, change: Callable[[Any], object]) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def arrays(out: Path, split: str) -> dict[str, np.ndarray[Any, Any]]:
    return load_file(out / split / "arrays.safetensors")


def record(out: Path) -> dict[str, Any]:
    return dict(json.loads((out / "prepared.json").read_text()))


def test_content(config: Configure, world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = config()
    prepare(options)
    out = options.out
    assert sorted(path.name for path in out.iterdir()) == [
        *("prepared.json", "proposals", "test", "train", "val", "visual_words.json", "vocabulary.json")
    ]
    assert sorted(path.name for path in (out / "train").iterdir()) == [
        *("arrays.safetensors", "captions.json", "references.json")
    ]
    assert CaptionVocabulary.read(out / "vocabulary.json").words == (
        *("a", "dogs", "and", "cat", "hot", "kitten", "near", "two"),
    )
    assert VisualWords.read(out / "visual_words.json").categories == ("cat", "dog", "hot dog")
    assert len(ProposalStore.open(out / "proposals")) == 8  # not image 99
    captions = read_captions(out / "val" / "captions.json")
    assert [(caption.image_id, caption.caption_id) for caption in captions] == [(5, 50), (5, 51), (6, 60), (6, 61)]
    assert captions[1].text == "Dogs, and a kitten!"
    references = json.loads((out / "val" / "references.json").read_text())
    assert references == {str(i): ["a cat near two hot dogs", "dogs and a kitten"] for i in (5, 6)}
    assert record(out)["splits"]["train"] == {
        "images": 4,
        "captions": 8,
        "words": 40,
        "unknown_words": 0,
        "visual_words": 16,
        "hinted_words": 10,  # cats and kittens of all, hot dogs of two images
        "visual_words_without_an_object": 6,
        "hinted_captions": 8,
    }
    printed = " ".join(capsys.readouterr().out.split())
    assert "Hints: masks of COCO's instances. 12 visual words have none: their images have no such object." in printed


def test_sources_are_recorded_by_checksum(config: Configure, world: Path) -> None:
    prepare(config(split="robust"))
    sources = {source["name"]: source["sha256"] for source in record(config().out)["sources"]}
    assert sources == {
        name: hashlib.sha256((world / name).read_bytes()).hexdigest()
        for name in (
            *("dataset_coco.json", "split_robust_coco.json"),
            *("instances_train2014.json", "instances_val2014.json", "features.tsv"),
        )
    }


def test_captions_without_tokens_are_tokenised(config: Configure, world: Path) -> None:
    prepare(config())
    shutil.move(config().out, world.parent / "first")
    (world / "dataset_coco.json").unlink()
    for name, images in {"val": "5\n6\n", "test": "11\n12\n"}.items():
        (world / f"karpathy_{name}_images.txt").write_text(images)
    prepare(config())
    for split in ("train", "val", "test"):
        before, after = arrays(world.parent / "first", split), arrays(config().out, split)
        for name in before:
            np.testing.assert_array_equal(before[name], after[name], err_msg=name)


def test_train_hints_are_about_named_objects(config: Configure) -> None:
    """The cat covers the first quarter of the image. In train, hot dogs have hints only if a caption names them."""
    prepare(config())
    found = arrays(config().out, "train")
    assert found["pairs"].tolist() == [[0, 0], [0, 2], [1, 0], [1, 2], [2, 0], [3, 0]]
    corner = 1 / (1 + 275 / 1175)  # the last box: 25 pixels, all of the cat, which has 275 of the 1,175 others
    np.testing.assert_allclose(found["hints"][0], [1, 0, 0.5, corner], rtol=1e-6)
    np.testing.assert_allclose(found["hints"][1], [0, 1, 0.5, 0])
    np.testing.assert_allclose(found["hints"][2], [1, 0, 0.5, np.nan])
    assert found["relevant"].tolist()[:2] == [[True, False, False, False], [False, True, False, False]]
    assert found["word_pairs"].tolist() == [[0, 1], [-1, 0], [2, 3], [-1, 2], [4, -1], [-1, 4], [5, -1], [-1, 5]]


def test_without_hints(config: Configure, world: Path) -> None:
    for path in world.glob("instances_*"):
        path.unlink()
    prepare(config(hints="none"))
    found = arrays(config().out, "train")
    assert found["hints"].shape == (0, 4)
    assert (found["word_pairs"] == -1).all()
    assert found["word_categories"].shape == (8, 0)
    assert VisualWords.read(config().out / "visual_words.json").categories == ()
    assert record(config().out)["hints"] == "none"
    words = world / "words.txt"
    words.write_text("dog\ncat, kitten\n")
    prepare(config(hints="none", visual_words=words, out=config().out.with_name("listed")))
    found = arrays(config().out.with_name("listed"), "train")
    assert found["word_categories"].tolist() == [[1, 0], [0, 1]] * 4
    assert (found["word_pairs"] == -1).all()


def test_list_of_visual_words(config: Configure, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "words.txt"
    path.write_text("hot dog, near\ncat, near\ndog\n")
    prepare(config(visual_words=path))
    found = arrays(config().out, "train")
    assert found["word_categories"][0].tolist() == [0, 2, 2]  # cat, near, hot dogs
    assert "words.txt" in [source["name"] for source in record(config().out)["sources"]]
    printed = "In several lines of --visual-words, taken for the first category: {'near': 'hot dog'}."
    assert printed in " ".join(capsys.readouterr().out.split())


def test_phrases_with_rare_words_are_not_visual_words(config: Configure, world: Path) -> None:
    """If "hot" is rare, models cannot learn to say "hot dogs", which still does not name a dog."""
    edit(world / "dataset_coco.json", lambda data: data["images"][0]["sentences"][0]["tokens"].remove("hot"))
    prepare(config(min_word_occurrences=4))
    assert "hot" not in CaptionVocabulary.read(config().out / "vocabulary.json").words
    assert arrays(config().out, "train")["word_categories"].tolist() == [[0, 1], [1, 0], *[[0, -1], [1, 0]] * 3]
    assert record(config().out)["splits"]["train"]["unknown_words"] == 3


def test_captions_are_cut(config: Configure) -> None:
    prepare(config(caption_length=3))
    found = arrays(config().out, "train")
    assert found["tokens"].shape == (8, 5)
    assert found["word_categories"].max() == 1
    assert (found["word_spans"][..., 1] <= 3).all()


def test_development_split_is_held_out(config: Configure, world: Path) -> None:
    edit(world / "split_robust_coco.json", lambda split: split.pop("val_id"))
    prepare(config(split="robust", development_share=0.25))
    assert {name: split["images"] for name, split in record(config().out)["splits"].items()} == {
        "train": 3,
        "test": 3,
        "val": 1,
    }
    prepare(config(split="robust", development_share=0.0, out=config().out.with_name("none")))
    assert list(record(config().out.with_name("none"))["splits"]) == ["train", "test"]


def test_splits_are_in_their_usual_order(config: Configure, world: Path) -> None:
    edit(world / "dataset_coco.json", lambda data: data["images"].reverse())
    prepare(config())
    assert list(record(config().out)["splits"]) == ["train", "val", "test"]


def test_proposals_are_shared(config: Configure) -> None:
    prepare(config())
    prepare(config(split="robust", out=config().out.with_name("robust"), features=(config().out,)))
    first, second = (out / "proposals" / "features.npy" for out in (config().out, config().out.with_name("robust")))
    assert first.stat().st_ino == second.stat().st_ino
    assert record(config().out.with_name("robust"))["images_in_no_split"] == 0


def test_images_in_no_split_are_counted(config: Configure, world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(world / "split_robust_coco.json", lambda split: split["test_id"].pop())
    prepare(config(split="robust"))
    assert "1 images with captions are in no split." in " ".join(capsys.readouterr().out.split())


def test_images_without_proposals(config: Configure, world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = (world / "features.tsv").read_text().splitlines()
    (world / "features.tsv").write_text("\n".join(row for row in rows if not row.startswith(("3\t", "11\t"))) + "\n")
    assert fails(config()) == (
        f"2 images have no proposals in {world / 'features.tsv'}: 3, 11. Add their features, or leave such images out "
        "with --drop-images-without-proposals."
    )
    prepare(config(drop_images_without_proposals=True))
    assert record(config().out)["splits"]["train"]["images"] == 3
    assert "2 images were dropped: they have no proposals." in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"development_share": 1.0}, "--development-share should be at least 0 and below 1, found 1.0."),
        ({"min_word_occurrences": 0}, "--min-word-occurrences should be at least 1, found 0."),
        ({"caption_length": 0}, "--caption-length should be at least 1, found 0."),
        ({"seed": -1}, "--seed should be at least 0, found -1."),
        (
            {"min_word_occurrences": 50},
            "No word occurs 50 times or more in the train captions, the most frequent one 8 times. Give a lower "
            "--min-word-occurrences.",
        ),
    ],
)
def test_wrong_options(config: Configure, options: dict[str, Any], message: str) -> None:
    assert fails(config(**options)) == message


def test_malformed_inputs_leave_nothing(config: Configure, world: Path, tmp_path: Path) -> None:
    instances, karpathy = world / "instances_val2014.json", world / "dataset_coco.json"
    original = instances.read_text()

    def broken(image: dict[str, Any]) -> None:
        image["annotations"][0]["segmentation"] = {"size": [30, 40], "counts": [3, 4]}

    edit(instances, broken)
    assert fails(config()) == (
        f"{instances}, annotation 0: its run lengths add up to 7, but its image has 1200 pixels. Fetch the file again."
    )
    instances.write_text(original)
    edit(instances, lambda document: (document["images"].pop(), document["annotations"].clear()))
    both = f"{world / 'instances_train2014.json'} and {instances}"
    assert fails(config()) == (
        f"1 of the 8 images of the split are not listed in {both}: 12. Add the instances of these images, or use "
        "--hints none."
    )
    for path in (instances, world / "instances_train2014.json"):
        path.write_text(original)
        edit(path, lambda document: document["annotations"].clear())
        edit(path, lambda document: document["images"].extend({"id": i, "height": 3, "width": 4} for i in range(1, 5)))
    assert fails(config()) == (f"No caption names an object in {both}. Check --visual-words, or use --hints none.")
    path = tmp_path / "words.txt"
    path.write_text("cat\n")
    assert fails(config(visual_words=path)) == (
        f"{path} has no words for categories of the instances: dog, hot dog. Give each category a line that begins "
        "with its name."
    )
    for path in (instances, world / "instances_train2014.json"):
        path.unlink()
    assert fails(config()) == (
        f"{world} has no instances_train2014.json, which has the objects for --hints instances. Add it, or use "
        "--hints none."
    )
    edit(karpathy, lambda data: data["images"][0]["sentences"][0]["tokens"].clear())
    assert fails(config()) == (
        f"{karpathy}, image 0, sentence 0: caption 10 of image 1, 'A cat near two hot dogs.', has no words. Remove it, "
        "or write one."
    )


def test_truncated_features_leave_nothing(config: Configure, world: Path) -> None:
    *wanted, _ = (world / "features.tsv").read_bytes().splitlines(keepends=True)
    (world / "features.tsv").write_bytes(b"".join(wanted)[:-150])
    assert f"{world / 'features.tsv'}, line 8" in fails(config())


def test_output_in_use(config: Configure) -> None:
    prepare(config())
    before = sorted(config().out.rglob("*"))
    with pytest.raises(InputError) as error:
        prepare(config())
    assert str(error.value) == f"{config().out} already holds files: choose another directory or delete it."
    assert sorted(config().out.rglob("*")) == before


def test_rendered_world(tiny: tuple[Path, Path]) -> None:
    """All visual words have hints, which are high for proposals of the named object; references are official tokens."""
    _, out = tiny
    assert list(record(out)["splits"]) == ["train", "val", "dev", "test"]
    for name, split in record(out)["splits"].items():
        assert split["hinted_words"] == split["visual_words"] == 2 * split["captions"]
        found = arrays(out, name)
        assert found["hints"][found["relevant"]].mean() > found["hints"][~found["relevant"]].mean() + 0.5
        references = json.loads((out / name / "references.json").read_text())
        captions = read_captions(out / name / "captions.json")
        for caption in captions:
            assert tokenise(caption.text) in references[str(caption.image_id)]
        assert len(found["pairs"]) == (2 if name == "train" else 6) * split["images"]


def test_real_instances(config: Configure, shared_data: Path, tmp_path: Path) -> None:
    """100 real images, with captions that name all objects and proposals at the objects."""
    data = tmp_path / "real"
    data.mkdir()
    shutil.copy(shared_data / "coco/instances_val2014_100.json", data / "instances_val2014.json")
    instances = Instances.read([data / "instances_val2014.json"])
    images = [image["id"] for image in json.loads((data / "instances_val2014.json").read_text())["images"]]
    captions, rows, total = [], [], 0
    for image_id in images:
        present = instances.present(image_id)
        named = [instances.categories[category] for category in present] or ["nothing"]
        captions.append({"image_id": image_id, "id": image_id, "caption": f"a {' near a '.join(named)}"})
        total += len(present)
        height, width = instances.size(image_id)
        boxes = torch.cat([torch.tensor([[0.0, 0, width, height]]), *(instances.boxes(image_id, c) for c in present)])
        cells = [base64.b64encode(x.numpy().tobytes()).decode() for x in (boxes, torch.rand(len(boxes), 3))]
        rows.append("\t".join([str(image_id), str(width), str(height), str(len(boxes)), *cells]))
    (data / "captions_val2014.json").write_text(json.dumps(captions))
    (data / "features.tsv").write_text("\n".join(rows) + "\n")
    halves = {"train_id": images[:50], "val_id": images[50:]}
    split = {name: [{"img_id": image_id} for image_id in half] for name, half in halves.items()}
    (data / "split_robust_coco.json").write_text(json.dumps(split))
    prepare(config(data=data, split="robust", caption_length=99))
    counts = record(config().out)["splits"]
    assert sum(part["visual_words"] for part in counts.values()) > 0.95 * total  # but for words that train lacks
    for name, half in halves.items():
        found = arrays(config().out, name.removesuffix("_id"))
        assert counts[name.removesuffix("_id")]["visual_words_without_an_object"] == 0
        for (image, category), s, relevant in zip(found["pairs"], found["hints"], found["relevant"], strict=True):
            before = [c for c in instances.present(half[image]) if c < category]
            begin = 1 + sum(len(instances.of(half[image], c)) for c in before)
            own = slice(begin, begin + len(instances.of(half[image], category)))
            assert relevant[own].all()  # a box overlaps itself
            assert s[0] == 0.5  # the whole image
            assert s[own].max() > 0.5  # thin objects have little of their boxes
