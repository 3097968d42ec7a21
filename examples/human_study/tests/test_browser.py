"""The page in a real browser, by the keyboard alone; seen by axe-core, in light and dark, at a desk and on a phone."""

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from human_study.server.app import Limits, create_app
from human_study.server.security import Limiter
from human_study.server.store import Store
from human_study.server.study import Study

SIZES = {"desk": {"width": 1400, "height": 900}, "phone": {"width": 390, "height": 844}}


@contextmanager
def serving(study: Study, store: Store, port: int) -> Iterator[str]:
    """The study's server in a thread."""
    limits = Limits(joins=Limiter(100, 1000), requests=Limiter(100, 1000))
    config = uvicorn.Config(create_app(study, store, limits=limits), port=port, log_level="error", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def address(study: Study, store: Store, unused_tcp_port: int) -> Iterator[str]:
    with serving(study, store, unused_tcp_port) as url:
        yield url


def test_by_the_keyboard_from_consent_to_the_completion_code(
    visitor: Callable[..., Any], address: str, store: Store
) -> None:
    one = visitor()
    page = one.page
    assert re.fullmatch(r"MADEUP42-[0-9A-F]{8}", one.take_part(f"{address}?workerId=A1B2C3", steps=3))
    assert page.url == address  # the account is not in the address any more
    people, answers = store.everything()
    assert [(row.status, row.source) for row in people] == [("completed", "mturk")]
    assert {(row.reasonable, row.trust) for row in answers} == {(1, 1)}
    seconds = [row.seconds for row in answers]  # 0 if the program answered before the pictures were there
    assert min(seconds) >= 0
    assert 0 < max(seconds) < 60


def test_the_completion_link_leads_to_prolific(visitor: Callable[..., Any], address: str) -> None:
    one = visitor()
    page = one.page
    assert one.take_part(f"{address}?PROLIFIC_PID=5f0e1d2c3b4a596877665544") == "MADEUP42"
    link = page.get_attribute("#completion-link", "href")
    assert link == "https://app.prolific.com/submissions/complete?cc=MADEUP42"


def test_three_browsers_at_once(visitor: Callable[..., Any], address: str, store: Store) -> None:
    visitors = [visitor(apart=True) for _ in range(3)]
    for one in visitors:
        one.begin(address)
    while any(one.page.is_visible("#item") for one in visitors):
        for one in visitors:
            one.answer(0)
            if one.page.is_visible("#feedback"):
                one.page.click("#go-on")
    people, answers = store.everything()
    assert [row.status for row in people] == ["completed"] * 3
    assert sorted(row.row for row in people) == [0, 1, 2]
    assert len(answers) == 24


def test_a_closed_page_goes_on_where_it_was(visitor: Callable[..., Any], address: str, store: Store) -> None:
    one = visitor()
    page = one.page
    one.begin(address)
    one.answer(0)
    page.close()
    again = one.page = page.context.new_page()
    again.goto(address)
    one.shown("item")
    assert again.inner_text("#number") == "Item 2 of 8"
    assert len(store.everything()[1]) == 1


@contextmanager
def killable(chromium: str, visitor: Callable[..., Any], profile: Path) -> Iterator[Any]:
    """A page of a browser that is killed at the end, as by the system that runs out of memory."""
    options = ["--headless", "--no-sandbox", f"--user-data-dir={profile}", "--remote-debugging-port=0"]
    process = subprocess.Popen([chromium, *options], stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        port = profile / "DevToolsActivePort"
        while not port.exists() or not port.read_text():
            time.sleep(0.1)
        yield visitor(debugged=f"http://127.0.0.1:{port.read_text().split()[0]}")
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        port.unlink()


def test_a_killed_browser_loses_no_answer(
    chromium: str, visitor: Callable[..., Any], address: str, store: Store, tmp_path: Path
) -> None:
    """If it had no time to save its cookies, the participant code brings it back to where it was."""
    with killable(chromium, visitor, tmp_path / "profile") as one:
        page = one.page
        page.goto(address)
        page.click("#agree")
        one.shown("instructions")
        code = page.inner_text("#instructions [data-code]")
        page.click("#begin")
        one.answer(0)
        page.click("#go-on")
        one.answer(0)
        page.check("[name=reasonable][value='2']")
    with killable(chromium, visitor, tmp_path / "profile") as one:
        page = one.page
        page.goto(address)
        page.wait_for_selector("main section:not([hidden])")
        if page.is_visible("#consent"):
            page.click("summary")
            page.fill("#code-input", code)
            page.keyboard.press("Enter")
        one.shown("item")
        assert page.inner_text("#number") == "Item 3 of 8"
    people, answers = store.everything()
    assert (len(people), len(answers)) == (1, 2)


def test_choices_that_are_missing_are_said(visitor: Callable[..., Any], address: str) -> None:
    one = visitor()
    page = one.page
    one.begin(address)
    page.click("#answer button[type=submit]")
    assert page.inner_text("#reasonable-error") == "Please choose one of the five."
    assert page.evaluate("document.activeElement.name") == "reasonable"
    page.check("[name=reasonable][value='0']")
    assert page.inner_text("#reasonable-error") == ""


def test_a_server_that_cannot_be_reached_loses_nothing(
    visitor: Callable[..., Any], study: Study, store: Store, unused_tcp_port: int
) -> None:
    one = visitor()
    page = one.page
    with serving(study, store, unused_tcp_port) as url:
        one.begin(url)
    page.check("[name=reasonable][value='-2']")
    page.check("[name=trust][value='2']")
    page.fill("#reason", "<img src=x onerror=document.title='attacked'>")
    page.click("#answer button[type=submit]")
    page.wait_for_selector("#problem:has-text('The server cannot be reached')")
    assert page.is_checked("[name=reasonable][value='-2']")
    with serving(study, store, unused_tcp_port):
        page.click("#answer button[type=submit]")
        one.shown("feedback")
    assert len(store.everything()[1]) == 1
    assert "attacked" not in page.title()


def test_withdrawing_asks_once_and_deletes(visitor: Callable[..., Any], address: str, store: Store) -> None:
    one = visitor()
    page = one.page
    one.begin(address)
    one.answer(0)
    page.click("#go-on")
    one.press_until("#leave")
    page.keyboard.press("Enter")
    assert one.focused() == "leave-no"
    page.keyboard.press("Escape")
    assert len(store.everything()[1]) == 1
    page.keyboard.press("Enter")
    one.press_until("#leave-yes")
    page.keyboard.press("Enter")
    one.shown("withdrawn")
    assert store.everything()[1] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_no_page_is_cut_off_or_hard_to_use(visitor: Callable[..., Any], address: str, size: str, scheme: str) -> None:
    """The sections by axe-core, where AXE names its file; none is wider than the window."""
    axe = os.environ.get("AXE", "")
    one = visitor(viewport=SIZES[size], color_scheme=scheme, bypass_csp=True)
    page = one.page
    violations = {}

    def look(name: str) -> None:
        assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size]["width"], name
        if axe:
            page.evaluate(Path(axe).read_text())
            found = page.evaluate("axe.run({rules: {region: {enabled: true}}})")["violations"]
            violations.update({f"{name}: {one['id']}": one["nodes"][0]["html"] for one in found})

    page.goto(address)
    one.shown("consent")
    page.click("summary")
    look("consent")
    page.click("#agree")
    look("instructions")
    page.click("#begin")
    page.click("#answer button[type=submit]")
    look("item")
    page.click(".enlarge >> nth=0")
    look("enlarged")
    page.keyboard.press("Escape")
    page.click("#leave")
    look("leaving")
    page.keyboard.press("Escape")
    one.answer(0)
    look("feedback")
    page.click("#go-on")
    for _ in range(7):
        one.answer(0)
    look("done")
    page.click("#leave")
    page.click("#leave-yes")
    one.shown("withdrawn")
    look("withdrawn")
    assert violations == {}
    if not axe:
        pytest.skip("AXE does not name axe.min.js: only the widths were tested")
