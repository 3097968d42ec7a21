"""The page of pictures: its text, and its script in a browser if there is one."""

import html
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from updn_common.reports.gallery import Card, Fact, write_gallery

NAN = float("nan")
CARDS = [
    Card(
        path="7.png",
        size=(1400, 380),
        title="Is it <b>red</b>?",
        facts=[Fact("ground truth", "no"), Fact("before", 'the "yes"', "bad"), Fact("after", "no", "good")],
        filters={"question type": "is it", "before": "wrong", "after": "correct"},
        order={"change": 0.5, "score": 1.0},
    ),
    Card(
        "8.png", (300, 200), "What color?", [Fact("after", "blue", "fair")], {"after": "partly & more"}, {"change": NAN}
    ),
    Card("9.png", (300, 200), "What colour is the moon?", [], {"after": "correct"}, {"change": -2.0, "score": -1.0}),
    Card("10.png", (300, 200), "Is the Moon blue?", [], {"after": "correct", "before": "wrong"}, {"change": 1.5}),
]


class Elements(HTMLParser):
    """All tags with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


@pytest.fixture
def page(tmp_path: Path) -> Path:
    write_gallery(tmp_path / "index.html", "Before & after", "Some questions.", "Lit is important.", CARDS)
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]
    return tmp_path / "index.html"


def test_every_picture_has_its_size_and_is_loaded_when_it_is_seen(page: Path) -> None:
    images = [image for image in Elements(page.read_text()).all("img") if "src" in image]
    assert [(image["src"], image["width"], image["height"]) for image in images] == [
        (card.path, str(card.size[0]), str(card.size[1])) for card in CARDS
    ]
    assert {image["loading"] for image in images} == {"lazy"}
    assert images[0]["alt"] == 'Is it <b>red</b>? Ground truth: no. Before: the "yes". After: no.'


def test_the_script_gets_the_filters_and_orders_of_the_cards(page: Path) -> None:
    articles = Elements(page.read_text()).all("article")
    assert [json.loads(str(article["data-filters"])) for article in articles] == [dict(card.filters) for card in CARDS]
    assert [json.loads(str(article["data-order"])) for article in articles] == [
        {"change": 0.5, "score": 1.0},
        {},
        {"change": -2.0, "score": -1.0},
        {"change": 1.5},
    ]


def test_text_is_escaped(page: Path) -> None:
    assert not Elements(page.read_text()).all("b")


def test_the_page_needs_no_network(page: Path) -> None:
    text = page.read_text()
    assert not {tag for tag, _ in Elements(text).tags} & {"link", "iframe", "object"}
    assert [script for script in Elements(text).all("script") if "src" in script] == []
    assert not re.search(r"https?:|url\(|@import|fetch\(|XMLHttpRequest", text)


def test_filters_offer_the_values_of_the_cards(page: Path) -> None:
    selects = re.findall(r'<select name="([^"]+)"[^>]*>(.*?)</select>', page.read_text())
    options = {name: [html.unescape(x) for x in re.findall(r"<option[^>]*>([^<]+)", found)] for name, found in selects}
    assert options == {
        "question type": ["all", "is it"],
        "before": ["all", "wrong"],
        "after": ["all", "correct", "partly & more"],
        "sort": ["as chosen", *(f"{n}, {d}" for n in ("change", "score") for d in ("high to low", "low to high"))],
    }


@pytest.fixture
def browser(page: Path) -> Callable[..., Any]:
    """Runs a script on the page, and returns what it returns."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("there is no chromium to run the page's script in")

    def run(script: str, address: str = "") -> Any:
        reporter = f"""<script>setTimeout(() => {{
            const titles = () => [...document.querySelectorAll("article:not([hidden]) h2")].map((e) => e.textContent);
            const result = (() => {{ {script} }})();
            document.title = "RESULT" + JSON.stringify(result) + "END";
        }}, 50);</script>"""
        test_page = page.with_name("test.html")
        test_page.write_text(page.read_text() + reporter)
        command = [str(chromium), "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=1000"]
        command += [f"--user-data-dir={page.parent / 'profile'}", "--dump-dom", f"file://{test_page}{address}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        found = re.search(r"RESULT(.*?)END</title>", done.stdout)
        assert found, done.stderr
        return json.loads(html.unescape(found[1]))

    return run


ALL = [card.title for card in CARDS]


LINKS = {
    "#": ALL,
    "#search=MOON": ALL[2:],
    "#search=moon+blue": ALL[3:],  # every word
    "#search=blue": [ALL[1], ALL[3]],  # also in answers
    "#after=correct": [ALL[0], *ALL[2:]],
    "#after=correct&before=wrong": [ALL[0], ALL[3]],
    "#after=partly+%26+more": [ALL[1]],
    "#sort=-change": [ALL[3], ALL[0], ALL[2], ALL[1]],  # cards without a value come last
    "#sort=%2Bchange": [ALL[2], ALL[0], ALL[3], ALL[1]],
    "#sort=-change&search=is": [ALL[3], ALL[0], ALL[2]],
    "#search=nothing+like+it": [],
    "#unknown=1": ALL,
}


def test_links_search_filter_and_sort(browser: Callable[..., Any]) -> None:
    script = """
        return links.map((link) => {
            location.hash = link;
            restore();
            return [titles(), bar.querySelector("output").textContent, none.hidden];
        });
    """
    found = browser(f"const links = {json.dumps(list(LINKS))}; {script}")
    assert found == [[shown, f"{len(shown)} of 4", bool(shown)] for shown in LINKS.values()]


def test_a_link_is_followed_when_the_page_is_opened(browser: Callable[..., Any]) -> None:
    assert browser("return titles();", "#sort=-change&search=is") == LINKS["#sort=-change&search=is"]


def test_a_choice_is_shown_and_kept_in_the_link(browser: Callable[..., Any]) -> None:
    script = """
        bar.search.value = "moon"; bar.elements.sort.value = "-change"; bar.dispatchEvent(new Event("input"));
        const chosen = [titles(), location.hash];
        restore(); const same = titles();
        location.hash = ""; restore();
        return [chosen, same, titles()];
    """
    moons = [ALL[3], ALL[2]]
    assert browser(script) == [[moons, "#search=moon&sort=-change"], moons, ALL]


def test_a_picture_is_enlarged_and_the_arrows_stay_among_those_shown(browser: Callable[..., Any]) -> None:
    script = """
        document.querySelectorAll("article:not([hidden]) .picture")[0].click();
        const path = () => large.querySelector("img").src.split("/").pop();
        const seen = [large.open, path()];
        for (const key of ["ArrowRight", "ArrowRight", "ArrowLeft"]) {
            large.dispatchEvent(new KeyboardEvent("keydown", { key }));
            seen.push(path());
        }
        large.querySelectorAll("nav button")[2].click();
        return [...seen, large.open];
    """
    assert browser(script, "#search=moon") == [True, "9.png", "10.png", "9.png", "10.png", False]
