from typing import Any

import pytest

from updn_common.errors import InputError
from updn_common.records import field


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ([1], "a.json, record 3 should be an object with the key 'id', found list."),
        ({"name": 1}, "a.json, record 3 has no 'id'; it has 'name'."),
        ({}, "a.json, record 3 has no 'id'; it has no key at all."),
        ({"id": True}, "a.json, record 3: 'id' should be int, found True (bool)."),
        ({"id": {"x": 1}}, "a.json, record 3: 'id' should be int, found {'x': 1} (an object with the keys 'x')."),
    ],
)
def test_records_that_lack_what_they_should_have(record: Any, message: str) -> None:
    with pytest.raises(InputError) as error:
        field(record, "id", int, "a.json, record 3")
    assert str(error.value) == message


def test_a_field() -> None:
    assert field({"id": 4}, "id", int, "a.json") == 4
