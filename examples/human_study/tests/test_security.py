"""What holds for every request: limits, headers, cookies, and which files can be read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from human_study.server.app import Limits, create_app
from human_study.server.security import BODY_LIMIT, Limiter
from human_study.server.store import Store
from human_study.server.study import Study

Browsers = Callable[..., Any]


@pytest.mark.parametrize("chunked", [False, True])
def test_bodies_that_are_too_long_are_refused(browser: Browsers, chunked: bool) -> None:
    one = browser()
    one.join()
    body = b" " * (BODY_LIMIT + 1)
    content = iter([body]) if chunked else body
    headers = {"X-CSRF-Token": one.token, "Content-Type": "application/json"}
    response = one.post("/api/answer", content=content, headers=headers)
    assert (response.status_code, response.json()["error"]) == (413, "too-long")
    assert "content-security-policy" in response.headers


@pytest.mark.parametrize(
    "path",
    [
        "/pictures/../study.json",
        "/pictures/..%2fstudy.json",
        "/pictures/%2e%2e/items.json",
        "/pictures/..\\study.json",
        "/static/../app.py",
        "/static/..%2fapp.py",
        "/static/%2e%2e/app.py",
        "/study.json",
        "/items.json",
        "/secret.key",
        "/answers.sqlite3",
        "/pictures/",
        "/pictures/nothing.png",
        "/docs",
        "/api/export",
    ],
)
def test_no_file_but_pictures_and_the_page_can_be_read(browser: Browsers, path: str) -> None:
    assert browser().get(path).status_code in (404, 405)


def test_every_response_has_the_security_headers(study: Study, browser: Browsers) -> None:
    one = browser()
    picture = next(iter(study.pictures))
    for path in ("/", "/api/state", f"/pictures/{picture}", "/static/page.js", "/nothing", "/admin"):
        headers = one.get(path).headers
        assert "script-src 'self';" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-frame-options"] == "DENY"
        assert "server" not in headers


def test_the_page_has_no_inline_script_or_style(browser: Browsers) -> None:
    html = browser().open()
    assert " style=" not in html
    assert "<style" not in html
    assert " onclick" not in html
    assert html.count("<script") == 1


def test_cookies_are_out_of_reach_of_scripts_and_bound_to_https(browser: Browsers) -> None:
    one = browser()
    kept = one.get("/").headers["set-cookie"]
    assert "HttpOnly" in kept
    assert "SameSite=lax" in kept
    secure = browser(base_url="https://testserver")
    kept = secure.get("/").headers["set-cookie"]
    assert kept.startswith("__Host-visit=")
    assert "Secure" in kept
    assert secure.get("/").headers["strict-transport-security"] == "max-age=31536000"
    assert secure.join()["stage"] == "item"


def test_the_admin_page_needs_its_token(study: Study, store: Store, browser: Browsers) -> None:
    one = browser()
    state = one.join()
    one.finish(state)
    assert one.get("/admin").status_code == 401
    assert one.get("/admin", auth=("any", "wrong")).status_code == 401
    assert one.get("/admin", headers={"Authorization": "Basic ###"}).status_code == 401
    assert one.get("/admin", headers={"Authorization": "Bearer a token of the tests"}).status_code == 401
    page = one.get("/admin", auth=("any", "a token of the tests"))
    assert "1 of 4 participants have completed the study" in page.text
    without = TestClient(create_app(study, store))
    assert without.get("/admin", auth=("any", "")).status_code == 404
    assert without.get("/health").text == "ok"


def test_too_many_requests_are_refused(study: Study, store: Store) -> None:
    now = [0.0]
    limits = Limits(joins=Limiter(1, 2, clock=lambda: now[0]))
    client = TestClient(create_app(study, store, limits=limits, admin_token="x" * 16))
    assert [client.get("/admin").status_code for _ in range(3)] == [401, 401, 429]
    assert client.get("/admin").headers["retry-after"] == "1"
    now[0] = 1.0
    assert client.get("/admin").status_code == 401


def test_limiter_forgets_whoever_was_quiet_for_longest() -> None:
    limiter = Limiter(1, 1, clock=lambda: 0.0, remembered=2)
    assert [limiter.wait(who) for who in "aba"] == [0, 0, 1]
    assert limiter.wait("c") == 0
    assert limiter.wait("b") == 0  # forgotten, and let in again


def test_the_page_works_below_a_path(study: Study) -> None:
    """A reverse proxy may serve the study from /study/: all addresses of the page are relative."""
    for path in Path(__file__).parents[1].glob("human_study/server/static/*.js"):
        assert "fetch(`/" not in path.read_text()
    html = study.page(mode="served", csrf="", policy="", post_url="")
    assert 'href="/' not in html
    assert 'src="/' not in html
