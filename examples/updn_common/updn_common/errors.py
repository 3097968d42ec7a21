"""The exception that commands show without a traceback, and checks that raise it."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


class InputError(ValueError):
    """Wrong input from the user. The message names the option or file, the value found, and the remedy."""


@contextmanager
def refused_as_input(what: str) -> Iterator[None]:
    """Turn a ValueError about data from a file into an InputError.

    Args:
        what: Name of the data, for the message.
    """
    try:
        yield
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{what} cannot be used. {error}") from None


def check_range(low: float, high: float = math.inf, /, **options: float) -> None:
    """Check numbers from the command line.

    Args:
        low: Smallest allowed number.
        high: Largest allowed number.
        options: The numbers, by the names of their options with `_` for `-`.

    Raises:
        InputError: A number is out of range or NaN.

    >>> check_range(1, micro_batches=0)
    Traceback (most recent call last):
    updn_common.errors.InputError: --micro-batches should be at least 1, found 0.
    """
    for name, value in options.items():
        if not low <= value <= high:
            allowed = f"at least {low}" if high == math.inf else f"from {low} to {high}"
            raise InputError(f"--{name.replace('_', '-')} should be {allowed}, found {value}.")


def first_few(items: Sequence[object]) -> str:
    """The first five items, for an error message.

    >>> first_few(range(7))
    '0, 1, 2, 3, 4 and so on'
    """
    return ", ".join(map(str, items[:5])) + (" and so on" if len(items) > 5 else "")
