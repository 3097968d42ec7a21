import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from updn_common.reports.page import Figure, Section, write_page
from updn_common.reports.tables import Block, Line


class Outline(HTMLParser):
    """All tags with their attributes, and the text between them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append(data.strip())

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


TABLE = Block(
    "not shown", ["method", "test"], [Line("base", [("1", "")]), Line("hint & co", [("2", "[1, 3]")], "emphasised")]
)
SECTIONS = [
    Section("Table", "Means <over> seeds.", TABLE),
    Section("Pictures", figures=[Figure("a.png", "Is it <b>red</b>?"), Figure("b.png", "curves")]),
]


@pytest.fixture
def html(tmp_path: Path) -> str:
    write_page(tmp_path / "index.html", 'A "title" & more', "An introduction.", SECTIONS)
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]
    return (tmp_path / "index.html").read_text(encoding="utf-8")


def test_everything_is_on_the_page_in_order(html: str) -> None:
    texts = Outline(html.partition("<body>")[2]).texts
    assert texts == [
        *('A "title" & more', "An introduction."),
        *("Table", "Means <over> seeds.", "method", "test", "base", "1", "hint & co", "2 [1, 3]"),
        *("Pictures", "Is it <b>red</b>?", "curves"),
    ]


def test_text_is_escaped(html: str) -> None:
    assert not Outline(html).all("b")
    assert not Outline(html).all("over")


def test_rows_are_emphasised(html: str) -> None:
    assert [row.get("class") for row in Outline(html).all("tr")] == [None, None, "emphasised"]


def test_figures_have_a_text_for_readers_who_cannot_see_them(html: str) -> None:
    images = [(image["src"], image["alt"]) for image in Outline(html).all("img")]
    assert images == [("a.png", "Is it <b>red</b>?"), ("b.png", "curves")]


def test_the_page_needs_no_network_and_no_scripts(html: str) -> None:
    assert not {tag for tag, _ in Outline(html).tags} & {"script", "link", "iframe", "object"}
    assert not re.search(r"https?:|url\(|@import", html)


def test_an_old_page_survives_a_failure(tmp_path: Path) -> None:
    path = tmp_path / "index.html"
    write_page(path, "old", "", [])
    old = path.read_text()
    with pytest.raises(UndefinedError):
        write_page(path, "new", "", [object()])  # type: ignore[list-item]
    with pytest.raises(UnicodeEncodeError):
        write_page(path, "new, with half a character: \ud800", "", [])
    assert path.read_text() == old
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]
