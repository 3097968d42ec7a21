"""What vocabularies have in common."""

import hashlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from updn_common.errors import InputError
from updn_common.records import is_text, kind_of
from updn_common.run import read_config


def by_frequency(counts: Counter[str]) -> list[str]:
    """The most frequent first, equally frequent ones in alphabetical order."""
    return sorted(counts, key=lambda text: (-counts[text], text))


def distinct_strings(document: Any, path: Path) -> tuple[str, ...]:
    """What the JSON file `path` holds, checked to be a list of strings that differ.

    Raises:
        InputError: If it is none, or is empty.
    """
    if not isinstance(document, list):
        raise InputError(f"{path} should hold a JSON list of strings, found {kind_of(document)}.")
    if not document:
        raise InputError(f"{path} holds an empty list. It should hold at least one string.")
    if (odd := next((i for i, item in enumerate(document) if not isinstance(item, str)), None)) is not None:
        raise InputError(f"{path} should hold a JSON list of strings, but entry {odd} is {kind_of(document[odd])}.")
    if broken := next((item for item in document if not is_text(item)), None):
        raise InputError(f"{path} holds {broken!r}, which has half of a character. Repair it.")
    if len(set(document)) != len(document):
        twice = next(item for item, count in Counter(document).items() if count > 1)
        raise InputError(f"{path} lists {twice!r} twice. Every entry needs an index of its own.")
    return tuple(document)


def vocabulary_checksum(words: Iterable[str]) -> str:
    """The SHA-256 of words in their order: a run notes it, since indices mean nothing in another vocabulary."""
    return hashlib.sha256("\n".join(words).encode()).hexdigest()


def check_vocabulary(run: Path, data: Path, checksum: str, *, option: str = "") -> None:
    """Check that a run's words are those of prepared data: as many others would only make nonsense.

    Runs of old did not note their words, and pass.

    Args:
        run: The run's directory.
        data: The prepared directory.
        checksum: That of its words.
        option: The flag that the run was given by, for the error message.

    Raises:
        InputError: They are not.
    """
    config = read_config(run)
    if config.get("vocabulary", checksum) == checksum:
        return
    remedy = f"Give --data {config['data']}, which it was trained on."
    if Path(config["data"]).resolve() == data.resolve():
        remedy = "It was prepared anew after that: prepare it as it was, or train from the beginning."
    raise InputError(f"{option} {run} was trained with another vocabulary than that of {data}. {remedy}".lstrip())
