"""Functions that vocabularies of both pipelines share."""

import hashlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from updn_common.errors import InputError
from updn_common.files.json_fields import is_text, kind_of


def by_frequency(counts: Counter[str]) -> list[str]:
    """The most frequent strings first, equally frequent ones in alphabetical order."""
    return sorted(counts, key=lambda text: (-counts[text], text))


def distinct_strings(document: Any, path: Path) -> tuple[str, ...]:
    """The content of a JSON file, after a check that it is a list of distinct strings.

    Raises:
        InputError: It is not such a list, or is empty.
    """
    if not isinstance(document, list):
        raise InputError(f"{path} should hold a JSON list of strings, found {kind_of(document)}.")
    if not document:
        raise InputError(f"{path} holds an empty list. It should hold at least one string.")
    if (odd := next((i for i, item in enumerate(document) if not isinstance(item, str)), None)) is not None:
        raise InputError(f"{path} should hold a JSON list of strings, but entry {odd} is {kind_of(document[odd])}.")
    if broken := next((item for item in document if not is_text(item)), None):
        raise InputError(f"{path} holds {broken!r}, which has an unpaired surrogate. Repair it.")
    if len(set(document)) != len(document):
        twice = next(item for item, count in Counter(document).items() if count > 1)
        raise InputError(f"{path} lists {twice!r} twice. Remove one of the two.")
    return tuple(document)


def vocabulary_checksum(words: Iterable[str]) -> str:
    """The SHA-256 of words in their order. Runs record it, since their weights only fit this vocabulary."""
    return hashlib.sha256("\n".join(words).encode()).hexdigest()
