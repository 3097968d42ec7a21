"""One HTML page from sections of text, tables and figures, to be opened from disk."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from updn_common.files.writing import atomic_file


@dataclass(frozen=True)
class TableBlock:
    """A table; the first column is its rows' names."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    emphasised: Sequence[int] = ()
    """Rows to set in bold."""


@dataclass(frozen=True)
class Figure:
    """A picture, by its path relative to the page."""

    path: str
    caption: str
    description: str = ""
    """What it shows, for those who cannot see it."""


@dataclass(frozen=True)
class Section:
    """A heading with any of text, a table and figures below it."""

    heading: str
    text: str = ""
    table: TableBlock | None = None
    figures: Sequence[Figure] = ()


def write_page(path: Path, title: str, introduction: str, sections: Sequence[Section]) -> None:
    """Write a page without scripts or outside resources; text is escaped."""
    html = environment().get_template("page.html").render(title=title, introduction=introduction, sections=sections)
    with atomic_file(path) as temporary:
        temporary.write_text(html, encoding="utf-8")


def environment() -> Environment:
    """The templates; what they are filled with is escaped."""
    loader = PackageLoader("updn_common.reports")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
