"""Caption results and references: their formats and errors."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from updn_captioning.data.results import check_captioned, read_references, read_results, write_results
from updn_common.errors import InputError

Dump = Callable[..., Path]


def message(call: Callable[..., object], *arguments: Any, **options: Any) -> str:
    with pytest.raises(InputError) as error:
        call(*arguments, **options)
    return str(error.value)


def test_results_round_trip_in_order(tmp_path: Path) -> None:
    captions = {7: "a dog", 3: "", 5: "a café"}
    write_results(tmp_path / "results.json", captions)
    assert json.loads((tmp_path / "results.json").read_text()) == [
        {"image_id": 7, "caption": "a dog"},
        {"image_id": 3, "caption": ""},
        {"image_id": 5, "caption": "a café"},
    ]
    assert list(read_results(tmp_path / "results.json").items()) == list(captions.items())


def test_official_results(shared_data: Path) -> None:
    results = read_results(shared_data / "captions" / "captions_val2014_fakecap_results.json")
    assert len(results) == 1000
    assert results[404464] == "black and white photo of a man standing in front of a building"


@pytest.mark.parametrize(
    ("document", "found"),
    [({"annotations": []}, "an object with the keys 'annotations'"), ("a dog", "str"), ([], "an empty one")],
)
def test_files_without_results(document: Any, found: str, dump: Dump) -> None:
    path = dump(document)
    expected = f"{path} is not a caption results file: it should hold a list of captions, found {found}."
    assert message(read_results, path) == expected


@pytest.mark.parametrize(
    ("record", "wrong"),
    [
        ({"image_id": 3}, " has no 'caption'; it has 'image_id'."),
        ({"image_id": "3", "caption": "a"}, ": 'image_id' should be int, found '3' (str)."),
        ({"image_id": 3, "caption": None}, ": 'caption' should be str, found None (NoneType)."),
        ({"image_id": 7, "caption": "a cat"}, ": image 7 has two captions. Keep one of them."),
    ],
)
def test_malformed_results(record: Any, wrong: str, dump: Dump) -> None:
    path = dump([{"image_id": 7, "caption": "a dog"}, record])
    assert message(read_results, path) == f"{path}, record 1{wrong}"


def references(*captions: tuple[int, str]) -> dict[str, Any]:
    records = [{"image_id": image_id, "id": i, "caption": caption} for i, (image_id, caption) in enumerate(captions)]
    return {"images": [{"id": image_id} for image_id, _ in captions], "annotations": records}


def test_references_are_tokenised_on_request(dump: Dump) -> None:
    one = dump(references((1, "A dog's bowl."), (2, "two (2)"), (1, "-lrb- x")), "one.json")
    other = dump(references((1, "Bowl")), "other.json")
    assert read_references([one]) == {1: ["a dog 's bowl", "lrb x"], 2: ["two -lrb- 2 -rrb-"]}
    assert read_references([one], tokenised=True) == {1: ["A dog's bowl.", "-lrb- x"], 2: ["two (2)"]}
    assert read_references([other, one])[1] == ["bowl", "a dog 's bowl", "lrb x"]


def test_results_and_references_must_match() -> None:
    def check(results: set[int], references: set[int]) -> str:
        return message(check_captioned, results, references, "r.json", "c.json", "Caption them.")

    check_captioned({1, 2}, {2, 1}, "r.json", "c.json", "Caption them.")
    assert check({1, 2, 8, 9}, {1, 2, 3}) == (
        "r.json: 2 of its 4 images have no references in c.json: 8, 9. Take the results and the references of the same "
        "images."
    )
    assert check({1}, {1, 2, 3}) == "r.json: 2 of the 3 images of c.json have no caption: 2, 3. Caption them."
