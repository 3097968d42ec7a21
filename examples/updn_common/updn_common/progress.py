"""Progress bars on stderr, if stderr is a terminal."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, TypeVar

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.progress import open as rich_open

from updn_common.console import plain_console

T = TypeVar("T")


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Iterate over `items` with a progress bar; without `total` or a length, the bar only shows the count."""
    console = plain_console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        yield from progress.track(items, description=description, total=total)


def open_tracked(path: Path, description: str) -> AbstractContextManager[BinaryIO]:
    """Open a file for reading with a bar that shows the bytes read and disappears when the file is closed."""
    console = plain_console(stderr=True)
    return rich_open(
        path, "rb", description=escape(description), console=console, transient=True, disable=not console.is_terminal
    )
