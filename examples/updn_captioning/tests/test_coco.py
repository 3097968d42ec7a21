"""Official caption files, valid and malformed."""

import gzip
import json
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from updn_captioning.data.coco import Caption, read_captions, read_image_list, read_karpathy, read_robust_split
from updn_common.errors import InputError

CAPTIONS = {
    "images": [{"id": 7}, {"id": 8}],
    "annotations": [
        {"image_id": 8, "id": 1, "caption": "A dog."},
        {"image_id": 7, "id": 3, "caption": "Cats "},
        {"image_id": 8, "id": 2, "caption": "2"},
    ],
}


def sentence(number: int, *words: str, **changes: Any) -> dict[str, Any]:
    return {"tokens": list(words), "raw": f" {' '.join(words)}. ", "sentid": number, "imgid": 0} | changes


def image(cocoid: int, split: str, *sentences: dict[str, Any]) -> dict[str, Any]:
    return {"cocoid": cocoid, "split": split, "sentences": list(sentences), "filepath": "val2014"}


def message(read: Callable[[Path], object], path: Path) -> str:
    with pytest.raises(InputError) as error:
        read(path)
    return str(error.value)


def test_captions(dump: Callable[..., Path]) -> None:
    expected = [Caption(1, 8, "A dog."), Caption(3, 7, "Cats "), Caption(2, 8, "2")]
    assert read_captions(dump(CAPTIONS)) == expected
    assert read_captions(dump(CAPTIONS["annotations"])) == expected
    path = dump(CAPTIONS)
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert read_captions(path) == expected


def test_real_captions(shared_data: Path) -> None:
    """500 raw records with real ids, and the captions of the official sample of results."""
    captions = read_captions(shared_data / "captions/coco_captions_val2014_500_records.json")
    assert len(captions) == 500
    assert captions[1] == Caption(38600, 115229, "A  lawn sitting on a snowy sidewalk by a hydrant.")
    sample = read_captions(shared_data / "captions/captions_val2014_fakecap_refs_derived.json")
    assert len({caption.image_id for caption in sample}) == 1000


NO_CAPTIONS = (
    "{} is not a COCO captions file: it should hold a list of captions, or an object with such a list under "
    "'annotations'. Found "
)
NO_WORDS = "caption 1 of image 2, {!r}, has no words. Remove it, or write one."
NO_SPLIT = "{} is not a split: it should hold an object with the keys 'train_id', 'val_id' and 'test_id', found "
NO_PART = "{}: a key should be train_id, val_id, dev_id or test_id, found "
IN_TWO = "Every image belongs to one."
ONE, OTHER = {"id": 1, "image_id": 2, "caption": "A"}, {"id": 2, "image_id": 2, "caption": "B"}


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ("text", NO_CAPTIONS + "str."),
        ({"images": []}, NO_CAPTIONS + "an object with the keys 'images'."),
        ({"annotations": []}, "{} holds no captions. Give a file with at least one."),
        (
            {**CAPTIONS, "images": [{"id": 8}]},
            "{}, annotation 1: caption 3 is about image 7, which is not among the file's images. Fetch the file again.",
        ),
        ({**CAPTIONS, "images": [{}]}, "{}, image 0 has no 'id'; it has no keys."),
        ({**CAPTIONS, "images": 3}, "{}: 'images' should be list, found 3 (int)."),
        ([[]], "{}, annotation 0 should be an object with the key 'id', found list."),
        ([{"id": "1"}], "{}, annotation 0: 'id' should be int, found '1' (str)."),
        ([OTHER, {**ONE, "caption": 3}], "{}, annotation 1: 'caption' should be str, found 3 (int)."),
        ([{**ONE, "caption": " ..."}], "{}, annotation 0: " + NO_WORDS.format(" ...")),
        ([OTHER, {**ONE, "caption": ""}], "{}, annotation 1: " + NO_WORDS.format("")),
        ([ONE, OTHER, ONE], "{}: caption 1 occurs twice. Caption ids must be unique."),
    ],
)
def test_wrong_captions(dump: Callable[..., Path], document: Any, expected: str) -> None:
    path = dump(document)
    assert message(read_captions, path) == expected.format(path)


def test_malformed_json(tmp_path: Path) -> None:
    path = tmp_path / "captions.json"
    assert message(read_captions, path) == f"{path} does not exist; expected a COCO captions file."
    path.write_text('{"images": [')
    assert message(read_captions, path).startswith(f"{path}, line 1, column 13: malformed JSON (")
    path.write_bytes(gzip.compress(json.dumps(CAPTIONS).encode())[:-20])
    assert message(read_captions, path).startswith(f"{path} is a damaged gzip file (")


def test_karpathy(dump: Callable[..., Path]) -> None:
    images = [
        image(5, "restval", sentence(1, "a", "dog"), sentence(2, "dogs")),
        image(4, "test", sentence(3, "a", "cat")),
        image(6, "train", sentence(4, "cats")),
        image(9, "val", sentence(5, "nobody")),
    ]
    data = read_karpathy(dump({"images": images, "dataset": "coco"}))
    assert data.splits == {"train": [5, 6], "test": [4], "val": [9]}
    assert data.captions[:3] == [
        Caption(1, 5, " a dog. ", ("a", "dog")),
        Caption(2, 5, " dogs. ", ("dogs",)),
        Caption(3, 4, " a cat. ", ("a", "cat")),
    ]


def test_real_record(shared_data: Path) -> None:
    data = read_karpathy(shared_data / "formats/dataset_coco.ONE_RECORD.json")
    assert data.splits == {"test": [391895]}
    assert [caption.caption_id for caption in data.captions] == [770337, 771687, 772707, 776154, 781998]
    assert data.captions[2].text == "A man riding on the back of a motorcycle."
    assert data.captions[2].tokens == ("a", "man", "riding", "on", "the", "back", "of", "a", "motorcycle")


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        ([], "{} holds no captions. Give a file with at least one."),
        ([image(2, "train")], "{} holds no captions. Give a file with at least one."),
        ([{"split": "train"}], "{}, image 0 has no 'cocoid'; it has 'split'."),
        ([image(2, "trian")], "{}, image 0: 'split' should be train, restval, val, dev or test, found 'trian'."),
        ([image(2, "val", sentence(1))], "{}, image 0, sentence 0: " + NO_WORDS.format(" . ")),
        (
            [image(2, "val", sentence(1, tokens="a"))],
            "{}, image 0, sentence 0: 'tokens' should be list, found 'a' (str).",
        ),
        (
            [image(2, "val", sentence(1, tokens=["a", 2]))],
            "{}, image 0, sentence 0: 'tokens' should be a list of words, found ['a', 2].",
        ),
        (
            [image(2, "val", sentence(1, tokens=["\ud800x"]))],
            "{}, image 0, sentence 0: 'tokens' should be a list of words, found ['\\ud800x'].",
        ),
        (
            [image(2, "val", sentence(1, "", "a"))],
            "{}, image 0, sentence 0: 'tokens' should be a list of words, found ['', 'a'].",
        ),
        (
            [image(2, "val", sentence(1, "a", "b\u2009c"))],
            "{}, image 0, sentence 0: 'tokens' should be a list of words, found ['a', 'b\\u2009c'].",
        ),
        ([image(2, "val", sentence(1, "a", raw=" ."))], "{}, image 0, sentence 0: " + NO_WORDS.format(" .")),
        (
            [image(2, "val", sentence(1, "a"), sentence(1, "b"))],
            "{}: caption 1 occurs twice. Caption ids must be unique.",
        ),
        (
            [image(2, "val", sentence(1, "a")), image(2, "test", sentence(2, "b"))],
            "{}: image 2 is in the splits 'val' and 'test'. " + IN_TWO,
        ),
        (
            [image(2, "train", sentence(1, "a")), image(2, "restval", sentence(2, "b"))],
            "{}: image 2 occurs twice in the split 'train'. Remove one of the two.",
        ),
    ],
)
def test_wrong_karpathy_files(dump: Callable[..., Path], images: Any, expected: str) -> None:
    path = dump({"images": images})
    assert message(read_karpathy, path) == expected.format(path)


def test_real_robust_split(shared_data: Path) -> None:
    """110,234, 3,915 and 9,138 images as published, none of them twice."""
    splits = read_robust_split(shared_data / "coco/split_robust_coco.json")
    assert {name: len(images) for name, images in splits.items()} == {"train": 110_234, "val": 3_915, "test": 9_138}
    assert len({image_id for images in splits.values() for image_id in images}) == 123_287


def test_real_image_lists(shared_data: Path) -> None:
    """5,000 images each as published; none is in both lists, and all are in the robust split."""
    lists = {name: read_image_list(shared_data / f"bottom_up/karpathy_{name}_images.txt") for name in ("val", "test")}
    assert lists["val"][:2] == [11169, 204311]
    assert {name: len(set(images)) for name, images in lists.items()} == {"val": 5_000, "test": 5_000}
    assert all(not {*lists[a]} & {*lists[b]} for a, b in combinations(lists, 2))
    robust = read_robust_split(shared_data / "coco/split_robust_coco.json")
    assert {*lists["val"], *lists["test"]} <= {image_id for images in robust.values() for image_id in images}


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ([1], NO_SPLIT + "list."),
        ({}, NO_SPLIT + "an object with the keys (none)."),
        ({"train": []}, NO_SPLIT + "an object with the keys 'train'."),
        ({"train_id": [], "../evil_id": []}, NO_PART + "'../evil_id'."),
        ({"train_id": [], "_id": []}, NO_PART + "'_id'."),
        ({"train_id": [3]}, "{}, train_id, entry 0 should be an object with the key 'img_id', found int."),
        (
            {"train_id": [{"img_id": 1}], "val_id": [{"img_id": 1}]},
            "{}: image 1 is in the splits 'train' and 'val'. " + IN_TWO,
        ),
        (
            {"train_id": [{"img_id": 1}, {"img_id": 2}, {"img_id": 2}]},
            "{}: image 2 occurs twice in the split 'train'. Remove one of the two.",
        ),
    ],
)
def test_wrong_robust_splits(dump: Callable[..., Path], document: Any, expected: str) -> None:
    path = dump(document)
    assert message(read_robust_split, path) == expected.format(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "{} lists no images."),
        ("1\nimage 2\nimage\n", "{}, line 3: 'image' should end with the number of an image."),
        ("1\na b 2\n", "{}, line 2: 'a b 2' should end with the number of an image."),
        ("1\n2\n1\n", "{}: image 1 occurs twice in the split 'list'. Remove one of the two."),
    ],
)
def test_wrong_lists(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "list.txt"
    path.write_text(text)
    assert message(read_image_list, path) == expected.format(path)


def test_list_of_numbers(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("3\n\nval2014/COCO_val2014_000000000002.jpg 2\r\n")
    assert read_image_list(tmp_path / "list.txt") == [3, 2]
