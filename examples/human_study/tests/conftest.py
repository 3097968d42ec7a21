"""A made-up study, its application, and visitors of its page."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from human_study.folder.made_up import write_made_up_study
from human_study.server.app import Limits, create_app
from human_study.server.database import Database, sqlite_url
from human_study.server.security import Limiter
from human_study.server.store import Store
from human_study.server.study import Study

ADMIN_TOKEN = "a token of the tests"


class Browser(TestClient):
    """A client with cookies of its own, which sends the page's token as the page does."""

    token = ""

    def open(self, path: str = "/") -> str:
        """Load the page."""
        html = self.get(path).text
        self.token = re.search('name="csrf-token" content="([0-9a-f]+)"', html)[1]  # type: ignore[index]
        return html

    def call(self, name: str, body: Any, **headers: str) -> Any:
        """POST as the page does; returns the response."""
        own = {"X-CSRF-Token": self.token, "Sec-Fetch-Site": "same-origin", "Content-Type": "application/json"}
        return self.post(f"/api/{name}", content=json.dumps(body), headers=own | headers)

    def join(self, **accounts: str) -> Any:
        """Agree; returns the first state."""
        self.open()
        return self.call("join", accounts).json()

    def answer(self, state: Any, **changes: Any) -> Any:
        """Answer the item of a state; returns the response."""
        answer = {"position": state["position"], "item": state["item"]["id"], "reasonable": 1, "trust": -2}
        return self.call("answer", answer | {"reason": "", "seconds": 1.5} | changes)

    def finish(self, state: Any, **changes: Any) -> Any:
        """Answer everything that is left; returns the last state."""
        while state["stage"] == "item":
            state = self.answer(state, **changes).json()["next"]
        return state


@pytest.fixture
def study(tmp_path: Path) -> Study:
    write_made_up_study(tmp_path / "study")
    return Study.open(tmp_path / "study")


@pytest.fixture
def store(study: Study) -> Iterator[Store]:
    database = Database(sqlite_url(study.folder / "answers.sqlite3"))
    yield Store(database, study.design)
    database.close()


@pytest.fixture
def browser(study: Study, store: Store) -> Iterator[Callable[..., Browser]]:
    """Makes browsers; all talk to one server."""
    limits = Limits(joins=Limiter(100, 1000), requests=Limiter(100, 1000))
    app = create_app(study, store, limits=limits, admin_token=ADMIN_TOKEN)
    with ExitStack() as stack:

        def make(**options: Any) -> Browser:
            return stack.enter_context(Browser(app, **options))

        yield make


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-headless-shell", "google-chrome"))), None)


class Visitor:
    """Someone at a page in a real browser, where nothing may go wrong unseen."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.wrong: list[str] = []
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("console", lambda said: self.wrong.append(said.text) if "Refused" in said.text else None)

    def focused(self) -> str:
        """The id of what has the focus, or its text."""
        return str(self.page.evaluate("document.activeElement.id || document.activeElement.innerText"))

    def press_until(self, target: str) -> None:
        """Press Tab until something has the focus."""
        for _ in range(30):
            if self.page.evaluate("target => document.activeElement.matches(target)", target):
                return
            self.page.keyboard.press("Tab")
        raise AssertionError(f"{target} cannot be reached by Tab")

    def shown(self, section: str) -> None:
        """Wait for a section."""
        self.page.wait_for_selector(f"#{section}:not([hidden])")

    def begin(self, url: str) -> None:
        """Agree, and go to the first item."""
        self.page.goto(url)
        self.page.click("#agree")
        self.page.click("#begin")

    def answer(self, steps: int) -> None:
        """Choose by arrow keys, and save."""
        before = self.page.inner_text("#number")
        for name in ("reasonable", "trust"):
            self.press_until(f"[name={name}]")
            self.page.keyboard.press("Space")
            for _ in range(steps):
                self.page.keyboard.press("ArrowRight")
        self.press_until("#answer button[type=submit]")
        self.page.keyboard.press("Enter")
        changed = "before => document.getElementById('number').textContent !== before"
        self.page.wait_for_function(f"{changed} || document.getElementById('item').hidden", arg=before)

    def take_part(self, url: str, *, steps: int = 1) -> str:
        """From consent to the completion code, by the keyboard alone."""
        self.page.goto(url)
        self.shown("consent")
        self.press_until("#agree")
        self.page.keyboard.press("Enter")
        self.shown("instructions")
        assert self.focused() == "How it works"
        self.press_until("#begin")
        self.page.keyboard.press("Enter")
        self.shown("item")
        while self.page.is_visible("#item"):
            assert re.fullmatch(r"Item \d of 8( Practice)?", self.focused())
            self.answer(steps)
            if self.page.is_visible("#feedback"):
                self.press_until("#go-on")
                self.page.keyboard.press("Enter")
                self.shown("item")
        self.shown("done")
        assert self.wrong == []
        return str(self.page.inner_text("#completion-code"))


@pytest.fixture(scope="session")
def chromium() -> str:
    """The program."""
    pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    return CHROMIUM


@pytest.fixture(scope="module")
def playwright(chromium: str) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="module")
def visitor(chromium: str, playwright: Any) -> Iterator[Callable[..., Visitor]]:
    """Makes visitors, each with a browser's memory of their own."""
    with ExitStack() as stack:

        def launch() -> Any:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            stack.callback(browser.close)
            return browser

        shared = launch()

        def make(*, apart: bool = False, debugged: str = "", **options: Any) -> Visitor:
            if debugged:
                return Visitor(playwright.chromium.connect_over_cdp(debugged).contexts[0].new_page())
            browser = launch() if apart else shared  # a process of its own
            return Visitor(browser.new_context(**options).new_page())

        yield make
