"""Checked access to the values of JSON documents."""

import re
from pathlib import Path
from typing import Any, TypeVar

from updn_common.errors import InputError

Value = TypeVar("Value", int, str, list[Any])
LARGEST_ID = 2**63 - 1
"""Largest id, which is stored as int64."""
LARGEST_NUMBER = 3.4e38
"""Largest number of pixels and the like, which are stored as float32."""
_DIGITS = re.compile("[0-9]{1,30}")


def field(record: Any, key: str, kind: type[Value], where: str) -> Value:
    """`record[key]`, after a check of its type and range.

    Args:
        record: A JSON value that should be an object.
        key: A key that the object should have.
        kind: The exact type of the value: True is not accepted as an int.
        where: Place of the record for error messages, such as `"a.json, record 3"`.

    Raises:
        InputError: The record is not an object, lacks the key, or the value has another type or cannot be stored.
    """
    if not isinstance(record, dict):
        raise InputError(f"{where} should be an object with the key {key!r}, found {kind_of(record)}.")
    if key not in record:
        raise InputError(f"{where} has no {key!r}; it has {', '.join(map(repr, record)) or 'no keys'}.")
    value = record[key]
    if type(value) is not kind:  # isinstance would take True for an int
        raise InputError(f"{where}: {key!r} should be {kind.__name__}, found {value!r} ({kind_of(value)}).")
    if isinstance(value, int) and abs(value) > LARGEST_ID:
        raise InputError(f"{where}: {key!r} should be an integer of 64 bits, found {str(value)[:40]}.")
    if isinstance(value, str) and not is_text(value):
        raise InputError(f"{where}: {key!r} should be text, found an unpaired surrogate in {value!r}.")
    return value


def is_text(value: Any) -> bool:
    """Whether a value is a string that can be encoded: JSON can also hold unpaired surrogates, which cannot."""
    if not isinstance(value, str):
        return False
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_number(value: Any) -> bool:
    """Whether a value is a finite number that float32 can hold; True and False are not numbers."""
    return type(value) in (int, float) and abs(value) <= LARGEST_NUMBER  # False for NaN


def as_id(value: Any) -> int | None:
    """An id of at most 64 bits from an integer or a string of digits; None for other values."""
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        value = int(value)
    return value if type(value) is int and abs(value) <= LARGEST_ID else None


def by_id(document: Any, path: Path, values: str) -> dict[int, Any]:
    """Convert the keys of an object, which are question ids, to integers. ``values`` names the values in errors.

    Raises:
        InputError: The document is not an object, a key is not an id, or two keys are one id, such as "1" and "01".
    """
    if not isinstance(document, dict):
        raise InputError(f"{path} should hold an object from question ids to {values}, found {kind_of(document)}.")
    found: dict[int, Any] = {}
    for key, value in document.items():
        number = as_id(key)
        if number is None:
            raise InputError(f"{path}: {key[:60]!r} is not a question id. Keys should be question ids.")
        if number in found:
            raise InputError(
                f"{path} has question {number} twice, once as {key!r}. Keep one of the two or, if they are "
                "two questions, give one of them another number in all files."
            )
        found[number] = value
    return found


def kind_of(value: Any) -> str:
    """A description of a JSON value for error messages: its type, or the keys of an object."""
    if isinstance(value, dict):
        return f"an object with the keys {', '.join(map(repr, value)) or '(none)'}"
    return type(value).__name__
