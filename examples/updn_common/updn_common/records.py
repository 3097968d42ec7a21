"""Records of JSON files, looked into with errors that say where."""

from typing import Any, TypeVar

from updn_common.errors import InputError

Value = TypeVar("Value", int, str, list[Any])


def field(record: Any, key: str, kind: type[Value], where: str) -> Value:
    """`record[key]`, checked to be there and to be of the type that the format says.

    Args:
        record: What should be an object with this key.
        key: The key.
        kind: The type of the value, exactly: True is no int.
        where: What an error should call the record, such as `"a.json, record 3"`.

    Raises:
        InputError: If it is none.
    """
    if not isinstance(record, dict):
        raise InputError(f"{where} should be an object with the key {key!r}, found {kind_of(record)}.")
    if key not in record:
        raise InputError(f"{where} has no {key!r}; it has {', '.join(map(repr, record)) or 'no key at all'}.")
    value = record[key]
    if type(value) is not kind:  # isinstance would take True for an int
        raise InputError(f"{where}: {key!r} should be {kind.__name__}, found {value!r} ({kind_of(value)}).")
    return value


def kind_of(value: Any) -> str:
    """What an error should call a JSON value: its type, or the keys of an object."""
    if isinstance(value, dict):
        return f"an object with the keys {', '.join(map(repr, value)) or '(none)'}"
    return type(value).__name__
