"""An HTML page of text, tables and figures; it is opened from disk."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from updn_common.files.writing import atomic_file
from updn_common.reports.tables import Block


@dataclass(frozen=True)
class Figure:
    """A picture.

    Attributes:
        path: Path of the file, relative to the page.
        caption: Text below the picture.
    """

    path: str
    caption: str


@dataclass(frozen=True)
class Section:
    """A heading, and below it any of text, a table and figures; the title of the table is not shown."""

    heading: str
    text: str = ""
    table: Block | None = None
    figures: Sequence[Figure] = ()


def write_page(path: Path, title: str, introduction: str, sections: Sequence[Section]) -> None:
    """Write a page without scripts and without resources from outside; text is escaped."""
    html = environment().get_template("page.html").render(title=title, introduction=introduction, sections=sections)
    with atomic_file(path) as temporary:
        temporary.write_text(html, encoding="utf-8")


def environment() -> Environment:
    """The templates of the pages; they escape the text that is put into them."""
    loader = PackageLoader("updn_common.reports")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
