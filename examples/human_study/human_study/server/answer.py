"""Answers as browsers send them, checked."""

from typing import Any

from human_study.server.store import Answer
from updn_common.files.json_fields import is_text

LONGEST_REASON = 1000
LONGEST_TIME = 24 * 3600.0


def read_answer(record: Any) -> Answer | None:
    """An answer from JSON; None if it is none.

    Control characters are taken out of the reason: nobody types them, and some databases refuse them.
    """
    if not isinstance(record, dict):
        return None
    item: Any = record.get("item")
    reason: Any = record.get("reason")
    seconds: Any = record.get("seconds")
    choices: list[Any] = [record.get(name) for name in ("reasonable", "trust")]
    if not is_text(item) or not is_text(reason) or len(reason) > LONGEST_REASON:
        return None
    if not all(type(choice) is int and -2 <= choice <= 2 for choice in choices):
        return None
    if type(seconds) not in (int, float) or not 0 <= seconds <= LONGEST_TIME:  # false for NaN
        return None
    clean = "".join(c for c in reason if c == "\n" or c.isprintable())
    return Answer(item, reasonable=choices[0], trust=choices[1], reason=clean, seconds=float(seconds))
