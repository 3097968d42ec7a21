"""The page as files in a real browser: answers go to a file, to Mechanical Turk, or to an address."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from human_study.folder.made_up import write_made_up_study
from human_study.server.serve import open_store
from human_study.server.static_site import StaticConfig, write_static
from human_study.server.study import Study
from human_study.server.take_in import ImportConfig, take_in


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
    visitor: Callable[..., Any], tmp_path: Path, captions: bool, unused_tcp_port: int
) -> None:
    write_made_up_study(tmp_path / "study", captions=captions)
    study = Study.open(tmp_path / "study")
    write_static(StaticConfig(study.folder, tmp_path / "site"))
    one = visitor()
    page = one.page
    with hosting(tmp_path / "site", unused_tcp_port) as url:
        assert one.take_part(f"{url}?row=2") == "MADEUP42"
        with page.expect_download() as download:
            page.click("#answers-file")
        page.reload()
        one.shown("done")
    rows = imported(study, Path(download.value.path()).read_text(), tmp_path / "answers.json")
    assert [row.item for row in rows] == [placement.item for placement in study.design.sequence(2)]


def test_the_page_as_files_answers_mechanical_turk(
    visitor: Callable[..., Any], study: Study, tmp_path: Path, unused_tcp_port: int
) -> None:
    write_static(StaticConfig(study.folder, tmp_path / "site"))
    one, sent = visitor(), []
    page = one.page

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
            one.take_part(f"{url}?row=1&assignmentId=A1&workerId=W1&turkSubmitTo={host}")
    fields = parse_qs(sent[0].post_data)
    assert fields["assignmentId"] == ["A1"]
    assert "W1" not in fields["answers"][0]
    assert len(imported(study, fields["answers"][0], tmp_path / "answers.json")) == 8


def test_the_page_as_files_remembers_answers_and_withdrawals(
    visitor: Callable[..., Any], study: Study, tmp_path: Path, unused_tcp_port: int
) -> None:
    write_static(StaticConfig(study.folder, tmp_path / "site"))
    one = visitor()
    page = one.page
    with hosting(tmp_path / "site", unused_tcp_port) as url:
        one.begin(url)
        one.answer(0)
        page.reload()
        one.shown("item")
        assert page.inner_text("#number") == "Item 2 of 8"
        page.click("#leave")
        page.click("#leave-yes")
        one.shown("withdrawn")
        page.reload()
        one.shown("withdrawn")
        assert page.inner_text("#problem") == ""
        assert "reasonable" not in page.evaluate("JSON.stringify(localStorage)")


def test_the_page_as_files_works_where_nothing_may_be_kept(
    visitor: Callable[..., Any], study: Study, tmp_path: Path, unused_tcp_port: int
) -> None:
    write_static(StaticConfig(study.folder, tmp_path / "site"))
    one = visitor()
    page = one.page
    page.add_init_script("Object.defineProperty(window, 'localStorage', {get() { throw new Error('forbidden'); }});")
    with hosting(tmp_path / "site", unused_tcp_port) as url:
        assert one.take_part(url) == "MADEUP42"


def test_the_page_as_files_sends_nothing_to_strangers(
    visitor: Callable[..., Any], study: Study, tmp_path: Path, unused_tcp_port: int
) -> None:
    write_static(StaticConfig(study.folder, tmp_path / "site"))
    one = visitor()
    page = one.page
    with hosting(tmp_path / "site", unused_tcp_port) as url:
        one.begin(f"{url}?assignmentId=A1&turkSubmitTo=https://evil.example")
        for _ in range(7):
            one.answer(0)
            if page.is_visible("#feedback"):
                page.click("#go-on")
        page.check("[name=reasonable][value='0']")
        page.check("[name=trust][value='0']")
        page.click("#answer button[type=submit]")
        page.wait_for_selector("#problem:has-text('was not opened by Mechanical Turk')")
        assert page.url.startswith(url)


def test_the_page_as_files_posts_answers_and_keeps_what_could_not_be_sent(
    visitor: Callable[..., Any], study: Study, tmp_path: Path, unused_tcp_port: int
) -> None:
    write_static(StaticConfig(study.folder, tmp_path / "site", post_url="https://collect.example/in"))
    one, sent = visitor(), []
    page = one.page

    def collect(route: Any) -> None:
        sent.append(route.request.post_data)
        headers = {"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Headers": "content-type"}
        route.fulfill(status=500 if len(sent) == 1 else 200, headers=headers)

    page.context.route("https://collect.example/**", collect)
    with hosting(tmp_path / "site", unused_tcp_port) as url:
        one.begin(f"{url}?row=3&PROLIFIC_PID=abc")
        for _ in range(7):
            one.answer(0)
            if page.is_visible("#feedback"):
                page.click("#go-on")
        page.check("[name=reasonable][value='0']")
        page.check("[name=trust][value='0']")
        page.click("#answer button[type=submit]")
        page.wait_for_selector("#problem:has-text('could not be sent')")
        page.click("#answer button[type=submit]")
        one.shown("done")
        assert page.get_attribute("#completion-link", "href").endswith("cc=MADEUP42")
    assert "abc" not in sent[-1]
    assert len(imported(study, sent[-1], tmp_path / "answers.json")) == 8
