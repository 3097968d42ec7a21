"""The one exception that a command shows its user without a traceback, and the commonest reason for it."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


class InputError(ValueError):
    """Something the user gave is wrong: the message names it, the value found, and the remedy."""


@contextmanager
def refused_as_input(what: str) -> Iterator[None]:
    """Show what the library refuses in data from files as the user's error: ``what`` names the data.

    Raises:
        InputError: For any other ValueError.
    """
    try:
        yield
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{what} cannot be used. {error}") from None


def check_range(low: float, high: float = math.inf, /, **options: float) -> None:
    """Checks numbers from the command line.

    Args:
        low: The smallest that makes sense.
        high: The largest.
        options: The numbers, by the names of their flags with `_` for `-`.

    Raises:
        InputError: If one of them is outside, or is not a number.

    >>> check_range(1, micro_batches=0)
    Traceback (most recent call last):
    updn_common.errors.InputError: --micro-batches should be at least 1, found 0.
    """
    for name, value in options.items():
        if not low <= value <= high:
            allowed = f"at least {low}" if high == math.inf else f"from {low} to {high}"
            raise InputError(f"--{name.replace('_', '-')} should be {allowed}, found {value}.")


def first_few(items: Sequence[object]) -> str:
    """The first five of many, for an error message.

    >>> first_few(range(7))
    '0, 1, 2, 3, 4 and so on'
    """
    return ", ".join(map(str, items[:5])) + (" and so on" if len(items) > 5 else "")
