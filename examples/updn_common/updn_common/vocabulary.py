"""What vocabularies have in common."""

from collections import Counter
from pathlib import Path
from typing import Any

from updn_common.errors import InputError


def by_frequency(counts: Counter[str]) -> list[str]:
    """The most frequent first, equally frequent ones in alphabetical order."""
    return sorted(counts, key=lambda text: (-counts[text], text))


def distinct_strings(document: Any, path: Path) -> tuple[str, ...]:
    """What the JSON file `path` holds, checked to be a list of strings that differ.

    Raises:
        InputError: If it is none, or is empty.
    """
    if not isinstance(document, list) or not document or not all(isinstance(item, str) for item in document):
        raise InputError(f"{path} should hold a JSON list of strings, found {type(document).__name__}.")
    if len(set(document)) != len(document):
        twice = next(item for item, count in Counter(document).items() if count > 1)
        raise InputError(f"{path} lists {twice!r} twice. Every entry needs an index of its own.")
    return tuple(document)
