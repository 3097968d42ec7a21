import math
from pathlib import Path
from typing import Any

import pytest

from updn_common.errors import InputError
from updn_common.files.json_fields import LARGEST_ID, as_id, by_id, field, is_number, is_text


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ([1], "a.json, record 3 should be an object with the key 'id', found list."),
        ({"name": 1}, "a.json, record 3 has no 'id'; it has 'name'."),
        ({}, "a.json, record 3 has no 'id'; it has no keys."),
        ({"id": True}, "a.json, record 3: 'id' should be int, found True (bool)."),
        ({"id": 10**29}, f"a.json, record 3: 'id' should be an integer of 64 bits, found {10**29}."),
        ({"id": 10**400}, f"a.json, record 3: 'id' should be an integer of 64 bits, found {'1' + '0' * 39}."),
        ({"id": {"x": 1}}, "a.json, record 3: 'id' should be int, found {'x': 1} (an object with the keys 'x')."),
    ],
)
def test_wrong_fields(record: Any, message: str) -> None:
    with pytest.raises(InputError) as error:
        field(record, "id", int, "a.json, record 3")
    assert str(error.value) == message


def test_field() -> None:
    assert field({"id": 4}, "id", int, "a.json") == 4
    assert field({"id": LARGEST_ID}, "id", int, "a.json") == LARGEST_ID
    assert field({"id": "\u00e9\U0001f600"}, "id", str, "a.json") == "\u00e9\U0001f600"
    with pytest.raises(InputError) as error:
        field({"id": "a\ud800"}, "id", str, "a.json")
    assert str(error.value) == r"a.json: 'id' should be text, found an unpaired surrogate in 'a\ud800'."


def test_checks_of_values() -> None:
    assert [is_text(value) for value in ("a", "\u00e9", "\udfff", 5, None)] == [True, True, False, False, False]
    numbers = (0, -1.5, 3e38, 1e300, 10**400, math.nan, math.inf, True, "1", None)
    assert [is_number(value) for value in numbers] == [True] * 3 + [False] * 7
    ids = (7, "7", "007", LARGEST_ID, str(LARGEST_ID), LARGEST_ID + 1, str(LARGEST_ID + 1), "9" * 5000, "-1", "\u0661")
    assert [as_id(value) for value in ids] == [7, 7, 7, LARGEST_ID, LARGEST_ID, *[None] * 5]
    assert [as_id(value) for value in (True, 7.0, None, "")] == [None] * 4


def test_objects_by_id() -> None:
    path = Path("a.json")
    assert by_id({"1": [2], "03": []}, path, "boxes") == {1: [2], 3: []}

    def refused(document: Any) -> str:
        with pytest.raises(InputError) as error:
            by_id(document, path, "boxes")
        return str(error.value)

    assert refused([]) == "a.json should hold an object from question ids to boxes, found list."
    assert refused({"x": 1}) == "a.json: 'x' is not a question id. Keys should be question ids."
    assert refused({"9" * 5000: 1}) == f"a.json: {'9' * 60!r} is not a question id. Keys should be question ids."
    assert (
        refused({"1": 1, "01": 2})
        == "a.json has question 1 twice, once as '01'. Keep one of the two or, if they are two questions, "
        "give one of them another number in all files."
    )
