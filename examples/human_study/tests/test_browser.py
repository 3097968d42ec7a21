"""The page in a real browser, by the keyboard alone; seen by axe-core, in light and dark, at a desk and on a phone."""

import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
import uvicorn

from human_study.folder.made_up import write_made_up_study
from human_study.server.app import Limits, create_app
from human_study.server.security import Limiter
from human_study.server.serve import open_store
from human_study.server.static_site import StaticConfig, write_static
from human_study.server.store import Store
from human_study.server.study import Study
from human_study.server.take_in import ImportConfig, take_in

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-headless-shell", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
SIZES = {"desk": {"width": 1400, "height": 900}, "phone": {"width": 390, "height": 844}}


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


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


def new_page(chromium: Any, **options: Any) -> Any:
    """A page of a browser of its own, in which nothing may go wrong unseen."""
    page = chromium.new_context(**options).new_page()
    page.set_default_timeout(60_000)
    page.wrong = []
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    page.on("console", lambda said: page.wrong.append(said.text) if "Refused" in said.text else None)
    return page


def focused(page: Any) -> str:
    """The id of what has the focus, or its text."""
    return str(page.evaluate("document.activeElement.id || document.activeElement.innerText"))


def press_until(page: Any, target: str, *, key: str = "Tab") -> None:
    """Press a key until something has the focus."""
    for _ in range(30):
        if page.evaluate("target => document.activeElement.matches(target)", target):
            return
        page.keyboard.press(key)
    raise AssertionError(f"{target} cannot be reached by {key}")


def shown(page: Any, section: str) -> None:
    page.wait_for_selector(f"#{section}:not([hidden])")


def answer_by_keyboard(page: Any, steps: int) -> None:
    """Choose by arrow keys, and save."""
    before = page.inner_text("#number")
    for name in ("reasonable", "trust"):
        press_until(page, f"[name={name}]")
        page.keyboard.press("Space")
        for _ in range(steps):
            page.keyboard.press("ArrowRight")
    press_until(page, "#answer button[type=submit]")
    page.keyboard.press("Enter")
    page.wait_for_function(
        "before => document.getElementById('number').textContent !== before || document.getElementById('item').hidden",
        arg=before,
    )


def take_part(page: Any, url: str, *, steps: int = 1) -> str:
    """From consent to the completion code, by the keyboard alone."""
    page.goto(url)
    shown(page, "consent")
    press_until(page, "#agree")
    page.keyboard.press("Enter")
    shown(page, "instructions")
    assert focused(page) == "How it works"
    press_until(page, "#begin")
    page.keyboard.press("Enter")
    shown(page, "item")
    while page.is_visible("#item"):
        assert re.fullmatch(r"Item \d of 8( Practice)?", focused(page))
        answer_by_keyboard(page, steps)
        if page.is_visible("#feedback"):
            press_until(page, "#go-on")
            page.keyboard.press("Enter")
            shown(page, "item")
    shown(page, "done")
    assert page.wrong == []
    return str(page.inner_text("#completion-code"))


def test_by_the_keyboard_from_consent_to_the_completion_code(chromium: Any, address: str, store: Store) -> None:
    page = new_page(chromium)
    assert re.fullmatch(r"MADEUP42-[0-9A-F]{8}", take_part(page, f"{address}?workerId=A1B2C3", steps=3))
    assert page.url == address  # the account is not in the address any more
    people, answers = store.everything()
    assert [(row.status, row.source) for row in people] == [("completed", "mturk")]
    assert {(row.reasonable, row.trust) for row in answers} == {(1, 1)}
    assert all(0 < row.seconds < 60 for row in answers)


def test_prolific_is_told_by_a_link(chromium: Any, address: str) -> None:
    page = new_page(chromium)
    assert take_part(page, f"{address}?PROLIFIC_PID=5f0e1d2c3b4a596877665544") == "MADEUP42"
    link = page.get_attribute("#completion-link", "href")
    assert link == "https://app.prolific.com/submissions/complete?cc=MADEUP42"


def test_three_browsers_at_once(chromium: Any, address: str, store: Store) -> None:
    others = [chromium.browser_type.launch(executable_path=CHROMIUM, args=["--no-sandbox"]) for _ in range(2)]
    pages = [new_page(browser) for browser in (chromium, *others)]
    for page in pages:
        page.goto(address)
        page.click("#agree")
        page.click("#begin")
    while any(page.is_visible("#item") for page in pages):
        for page in pages:
            answer_by_keyboard(page, 0)
            if page.is_visible("#feedback"):
                page.click("#go-on")
    for browser in others:
        browser.close()
    people, answers = store.everything()
    assert [row.status for row in people] == ["completed"] * 3
    assert sorted(row.row for row in people) == [0, 1, 2]
    assert len(answers) == 24


def test_a_closed_page_goes_on_where_it_was(chromium: Any, address: str, store: Store) -> None:
    page = new_page(chromium)
    page.goto(address)
    page.click("#agree")
    page.click("#begin")
    answer_by_keyboard(page, 0)
    page.close()
    again = page.context.new_page()
    again.goto(address)
    shown(again, "item")
    assert again.inner_text("#number") == "Item 2 of 8"
    assert len(store.everything()[1]) == 1


@contextmanager
def killable(chromium: Any, profile: Path) -> Iterator[Any]:
    """A page of a browser that is killed at the end, as by the system that runs out of memory."""
    options = ["--headless", "--no-sandbox", f"--user-data-dir={profile}", "--remote-debugging-port=0"]
    process = subprocess.Popen([str(CHROMIUM), *options], stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        port = profile / "DevToolsActivePort"
        while not port.exists() or not port.read_text():
            time.sleep(0.1)
        browser = chromium.connect_over_cdp(f"http://127.0.0.1:{port.read_text().split()[0]}")
        yield browser.contexts[0].new_page()
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        port.unlink()


def test_a_killed_browser_loses_no_answer(chromium: Any, address: str, store: Store, tmp_path: Path) -> None:
    """If it had no time to save its cookies, the participant code brings it back to where it was."""
    with killable(chromium.browser_type, tmp_path / "profile") as page:
        page.goto(address)
        page.click("#agree")
        shown(page, "instructions")
        code = page.inner_text("#instructions [data-code]")
        page.click("#begin")
        answer_by_keyboard(page, 0)
        page.click("#go-on")
        answer_by_keyboard(page, 0)
        page.check("[name=reasonable][value='2']")
    with killable(chromium.browser_type, tmp_path / "profile") as page:
        page.goto(address)
        page.wait_for_selector("main section:not([hidden])")
        if page.is_visible("#consent"):
            page.click("summary")
            page.fill("#code-input", code)
            page.keyboard.press("Enter")
        shown(page, "item")
        assert page.inner_text("#number") == "Item 3 of 8"
    people, answers = store.everything()
    assert (len(people), len(answers)) == (1, 2)


def test_choices_that_are_missing_are_said(chromium: Any, address: str) -> None:
    page = new_page(chromium)
    page.goto(address)
    page.click("#agree")
    page.click("#begin")
    page.click("#answer button[type=submit]")
    assert page.inner_text("#reasonable-error") == "Please choose one of the five."
    assert page.evaluate("document.activeElement.name") == "reasonable"
    page.check("[name=reasonable][value='0']")
    assert page.inner_text("#reasonable-error") == ""


def test_a_server_that_cannot_be_reached_loses_nothing(
    chromium: Any, study: Study, store: Store, unused_tcp_port: int
) -> None:
    page = new_page(chromium)
    with serving(study, store, unused_tcp_port) as url:
        page.goto(url)
        page.click("#agree")
        page.click("#begin")
    page.check("[name=reasonable][value='-2']")
    page.check("[name=trust][value='2']")
    page.fill("#reason", "<img src=x onerror=document.title='attacked'>")
    page.click("#answer button[type=submit]")
    page.wait_for_selector("#problem:has-text('The server cannot be reached')")
    assert page.is_checked("[name=reasonable][value='-2']")
    with serving(study, store, unused_tcp_port):
        page.click("#answer button[type=submit]")
        shown(page, "feedback")
    assert len(store.everything()[1]) == 1
    assert "attacked" not in page.title()


def test_withdrawing_asks_once_and_deletes(chromium: Any, address: str, store: Store) -> None:
    page = new_page(chromium)
    page.goto(address)
    page.click("#agree")
    page.click("#begin")
    answer_by_keyboard(page, 0)
    page.click("#go-on")
    press_until(page, "#leave")
    page.keyboard.press("Enter")
    assert focused(page) == "leave-no"
    page.keyboard.press("Escape")
    assert len(store.everything()[1]) == 1
    page.keyboard.press("Enter")
    press_until(page, "#leave-yes")
    page.keyboard.press("Enter")
    shown(page, "withdrawn")
    assert store.everything()[1] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_no_page_is_cut_off_or_hard_to_use(chromium: Any, address: str, size: str, scheme: str) -> None:
    """The sections by axe-core, where AXE names its file; none is wider than the window."""
    axe = os.environ.get("AXE", "")
    page = new_page(chromium, viewport=SIZES[size], color_scheme=scheme, bypass_csp=True)
    violations = {}

    def look(name: str) -> None:
        assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size]["width"], name
        if axe:
            page.evaluate(Path(axe).read_text())
            found = page.evaluate("axe.run({rules: {region: {enabled: true}}})")["violations"]
            violations.update({f"{name}: {one['id']}": one["nodes"][0]["html"] for one in found})

    page.goto(address)
    shown(page, "consent")
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
    answer_by_keyboard(page, 0)
    look("feedback")
    page.click("#go-on")
    for _ in range(7):
        answer_by_keyboard(page, 0)
    look("done")
    page.click("#leave")
    page.click("#leave-yes")
    shown(page, "withdrawn")
    look("withdrawn")
    assert violations == {}
    if not axe:
        pytest.skip("AXE does not name axe.min.js: only the widths were tested")


@contextmanager
def hosting(site: Path, port: int) -> Iterator[str]:
    """A host of files, without any program of ours."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), partial(Quiet, directory=site)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{port}/index.html"
        finally:
            server.shutdown()
            thread.join()


def imported(study: Study, answers: str, path: Path) -> list[Any]:
    """Import what a page as files has sent; returns all answers."""
    path.write_text(answers)
    take_in(ImportConfig(study.folder, (path,)))
    store = open_store(study, "")
    people, rows = store.everything()
    store.database.close()
    assert [row.status for row in people] == ["completed"]
    return rows


@pytest.mark.parametrize("captions", [False, True])
def test_the_page_as_files_gives_answers_that_can_be_imported(
    chromium: Any, tmp_path: Path, captions: bool, unused_tcp_port: int
) -> None:
    write_made_up_study(tmp_path / "study", captions=captions)
    study = Study.open(tmp_path / "study")
    write_static(StaticConfig(study.folder, tmp_path / "site"))
    page = new_page(chromium)
    with hosting(tmp_path / "site", unused_tcp_port) as url:
        assert take_part(page, f"{url}?row=2") == "MADEUP42"
        with page.expect_download() as download:
            page.click("#answers-file")
        page.reload()
        shown(page, "done")
    rows = imported(study, Path(download.value.path()).read_text(), tmp_path / "answers.json")
    assert [row.item for row in rows] == [placement.item for placement in study.design.sequence(2)]


def test_the_page_as_files_answers_mechanical_turk(
    chromium: Any, study: Study, tmp_path: Path, unused_tcp_port: int
) -> None:
    write_static(StaticConfig(study.folder, tmp_path / "site"))
    page, sent = new_page(chromium), []

    def collect(route: Any) -> None:
        sent.append(route.request)
        route.fulfill(status=204)  # the page stays

    page.context.route("https://workersandbox.mturk.com/**", collect)
    with hosting(tmp_path / "site", unused_tcp_port) as url:
        page.goto(f"{url}?assignmentId=ASSIGNMENT_ID_NOT_AVAILABLE")
        page.click("#agree")
        page.wait_for_selector("#problem:has-text('This is a preview.')")
        host = "https%3A%2F%2Fworkersandbox.mturk.com"
        with page.expect_request("https://workersandbox.mturk.com/mturk/externalSubmit"):
            take_part(page, f"{url}?row=1&assignmentId=A1&workerId=W1&turkSubmitTo={host}")
    fields = parse_qs(sent[0].post_data)
    assert fields["assignmentId"] == ["A1"]
    assert "W1" not in fields["answers"][0]
    assert len(imported(study, fields["answers"][0], tmp_path / "answers.json")) == 8


def test_the_page_as_files_remembers_answers_and_withdrawals(
    chromium: Any, study: Study, tmp_path: Path, unused_tcp_port: int
) -> None:
    write_static(StaticConfig(study.folder, tmp_path / "site"))
    page = new_page(chromium)
    with hosting(tmp_path / "site", unused_tcp_port) as url:
        page.goto(url)
        page.click("#agree")
        page.click("#begin")
        answer_by_keyboard(page, 0)
        page.reload()
        shown(page, "item")
        assert page.inner_text("#number") == "Item 2 of 8"
        page.click("#leave")
        page.click("#leave-yes")
        shown(page, "withdrawn")
        page.reload()
        shown(page, "withdrawn")
        assert page.inner_text("#problem") == ""
        assert "reasonable" not in page.evaluate("JSON.stringify(localStorage)")


def test_the_page_as_files_works_where_nothing_may_be_kept(
    chromium: Any, study: Study, tmp_path: Path, unused_tcp_port: int
) -> None:
    write_static(StaticConfig(study.folder, tmp_path / "site"))
    page = new_page(chromium)
    page.add_init_script("Object.defineProperty(window, 'localStorage', {get() { throw new Error('forbidden'); }});")
    with hosting(tmp_path / "site", unused_tcp_port) as url:
        assert take_part(page, url) == "MADEUP42"


def test_the_page_as_files_sends_nothing_to_strangers(
    chromium: Any, study: Study, tmp_path: Path, unused_tcp_port: int
) -> None:
    write_static(StaticConfig(study.folder, tmp_path / "site"))
    page = new_page(chromium)
    with hosting(tmp_path / "site", unused_tcp_port) as url:
        page.goto(f"{url}?assignmentId=A1&turkSubmitTo=https://evil.example")
        page.click("#agree")
        page.click("#begin")
        for _ in range(7):
            answer_by_keyboard(page, 0)
            if page.is_visible("#feedback"):
                page.click("#go-on")
        page.check("[name=reasonable][value='0']")
        page.check("[name=trust][value='0']")
        page.click("#answer button[type=submit]")
        page.wait_for_selector("#problem:has-text('was not opened by Mechanical Turk')")
        assert page.url.startswith(url)


def test_the_page_as_files_posts_answers_and_keeps_what_could_not_be_sent(
    chromium: Any, study: Study, tmp_path: Path, unused_tcp_port: int
) -> None:
    write_static(StaticConfig(study.folder, tmp_path / "site", post_url="https://collect.example/in"))
    page, sent = new_page(chromium), []

    def collect(route: Any) -> None:
        sent.append(route.request.post_data)
        headers = {"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Headers": "content-type"}
        route.fulfill(status=500 if len(sent) == 1 else 200, headers=headers)

    page.context.route("https://collect.example/**", collect)
    with hosting(tmp_path / "site", unused_tcp_port) as url:
        page.goto(f"{url}?row=3&PROLIFIC_PID=abc")
        page.click("#agree")
        page.click("#begin")
        for _ in range(7):
            answer_by_keyboard(page, 0)
            if page.is_visible("#feedback"):
                page.click("#go-on")
        page.check("[name=reasonable][value='0']")
        page.check("[name=trust][value='0']")
        page.click("#answer button[type=submit]")
        page.wait_for_selector("#problem:has-text('could not be sent')")
        page.click("#answer button[type=submit]")
        shown(page, "done")
        assert page.get_attribute("#completion-link", "href").endswith("cc=MADEUP42")
    assert "abc" not in sent[-1]
    assert len(imported(study, sent[-1], tmp_path / "answers.json")) == 8
