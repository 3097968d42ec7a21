"""A study in the browser: from consent to the completion code, and everything that is refused on the way."""

import json
import sqlite3
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import OperationalError

from human_study.server.answer import LONGEST_REASON, read_answer
from human_study.server.app import MESSAGES
from human_study.server.store import Store
from human_study.server.study import Study

Browsers = Callable[..., Any]


def refusal(response: Any) -> str:
    """The reason of a refusal, whose status and message are those of the table."""
    reason = response.json()["error"]
    assert (response.status_code, response.json()["message"]) == MESSAGES[reason]
    return str(reason)


def test_from_consent_to_completion(study: Study, store: Store, browser: Browsers) -> None:
    one = browser()
    html = one.open()
    assert "This is a <strong>made-up</strong> study." in html
    assert "<script>alert" not in html
    assert one.get("/api/state").json() == {"stage": "consent"}
    state = one.join()
    assert (state["stage"], state["position"], state["total"]) == ("item", 0, 8)
    assert state["item"]["practice"]
    first = one.answer(state, reason="because\x00 of 'this'\n", reasonable=-2).json()
    expected = study.design.sequence(0)[0]
    assert first["feedback"]["expected"] == ("A" if expected.left == "valid" else "B")
    assert one.get("/api/state").json() == first["next"]  # as after closing the page
    last = one.finish(first["next"])
    assert last["stage"] == "done"
    assert last["completion_code"].startswith("MADEUP42-")
    assert one.get("/api/state").json() == last
    _, answers = store.everything()
    assert [row.item for row in answers] == [placement.item for placement in study.design.sequence(0)]
    assert answers[0].reason == "because of 'this'\n"
    assert all(0 <= row.seconds <= 1.5 for row in answers)  # as said, but no longer than it was


def test_no_answer_of_the_server_names_a_network_or_a_check(study: Study, browser: Browsers) -> None:
    one = browser()
    state, sent = one.join(), ""
    while state["stage"] == "item":
        sent += json.dumps(state)
        assert set(state["item"]) == {"id", "practice", "text", "marked", "answer", "image", "a", "b", "size"}
        response = one.answer(state).json()
        assert (response["feedback"] is not None) == state["item"]["practice"]
        state = response["next"]
    assert not [name for name in ("base", "hint", "valid", "decoy", "check", "expected", "MADEUP") if name in sent]


def test_platforms_accounts_are_replaced_by_opaque_names(study: Study, store: Store, browser: Browsers) -> None:
    account = "5f0e1d2c3b4a596877665544"
    prolific = browser()
    last = prolific.finish(prolific.join(prolific=account))
    assert last["completion_url"] == "https://app.prolific.com/submissions/complete?cc=MADEUP42"
    assert refusal(browser_join(browser(), prolific=account)) == "known"
    turk = browser()
    codes = {last["completion_code"], turk.finish(turk.join(mturk="A1B2C3"))["completion_code"]}
    assert len(codes) == 2
    assert all(code.startswith("MADEUP42") for code in codes)
    store.database.close()
    kept = b"".join(path.read_bytes() for path in study.folder.glob("answers.sqlite3*"))
    assert account.encode() not in kept
    assert b"A1B2C3" not in kept


def browser_join(one: Any, **accounts: str) -> Any:
    one.open()
    return one.call("join", accounts)


def test_another_browser_goes_on_by_the_code(browser: Browsers) -> None:
    one, other = browser(), browser()
    state = one.answer(one.join()).json()["next"]
    other.open()
    assert refusal(other.call("resume", {"code": "ABCDE-FGHIJ-KLMNO-PQRST"})) == "unknown-code"
    assert refusal(other.call("resume", {"code": None})) == "unknown-code"
    assert refusal(other.call("resume", {"code": "\ud800"})) == "unknown-code"
    typed = state["code"].replace("-", " ").lower()
    assert other.call("resume", {"code": typed}).json() == state
    assert other.finish(state)["stage"] == "done"


def test_withdrawing_deletes_all_answers_for_good(study: Study, store: Store, browser: Browsers) -> None:
    one = browser()
    secret = "a reason that should not remain"
    state = one.answer(one.join(), reason=secret).json()["next"]
    assert secret.encode() in b"".join(path.read_bytes() for path in study.folder.glob("answers.sqlite3*"))
    assert one.call("withdraw", {}).json() == {"stage": "withdrawn"}
    assert one.get("/api/state").json() == {"stage": "withdrawn"}
    assert refusal(one.answer(state)) == "withdrawn"
    people, answers = store.everything()
    assert [(row.status, row.row) for row in people] == [("withdrawn", 0)]
    assert answers == []
    assert secret.encode() not in b"".join(path.read_bytes() for path in study.folder.glob("answers.sqlite3*"))
    other = browser()
    other.join()
    assert [row.row for row in store.everything()[0]] == [0, 0]  # the place is free again


def test_participants_who_never_answer_do_not_keep_others_out(
    study: Study, store: Store, browser: Browsers, monkeypatch: pytest.MonkeyPatch
) -> None:
    browsers = [browser() for _ in range(study.design.rows)]
    states = [one.join() for one in browsers]
    browsers[0].answer(states[0])
    assert refusal(browser_join(browser())) == "full"
    monkeypatch.setattr("human_study.server.store.UNUSED_AFTER", -1.0)
    assert browser().join()["stage"] == "item"
    assert sorted(row.row for row in store.everything()[0]) == [0, 1, 1, 2, 3]


@pytest.mark.parametrize(
    ("error", "reason"), [("database or disk is full", "disk-full"), ("database is locked", "not-saved")]
)
def test_what_could_not_be_saved_is_said(
    store: Store, browser: Browsers, monkeypatch: pytest.MonkeyPatch, error: str, reason: str
) -> None:
    one = browser()
    state = one.join()

    def fail(*_: Any) -> None:
        raise OperationalError("INSERT", {}, sqlite3.OperationalError(error))

    with monkeypatch.context() as broken:
        broken.setattr(store, "_save", fail)
        assert refusal(one.answer(state)) == reason
    assert one.answer(state).json()["next"]["position"] == 1


def test_rows_are_given_until_each_item_has_its_raters(study: Study, store: Store, browser: Browsers) -> None:
    assert study.design.rows == 4
    assert [browser().join()["stage"] for _ in range(4)] == ["item"] * 4
    assert sorted(row.row for row in store.everything()[0]) == [0, 1, 2, 3]
    assert refusal(browser_join(browser())) == "full"
    store._abandoned_after = -1.0  # everybody has been away for too long
    assert browser().join()["stage"] == "item"


@pytest.mark.parametrize(
    "changes",
    [
        {"item": "0123456789abcdef"},  # forged
        {"position": 1},  # skips an item
        {"position": 99},
        {"position": -1},
        {"position": 2**70},
    ],
)
def test_answers_to_other_items_are_refused(store: Store, browser: Browsers, changes: dict[str, Any]) -> None:
    one = browser()
    assert refusal(one.answer(one.join(), **changes)) == "conflict"
    assert store.everything()[1] == []


def test_the_item_of_another_participant_is_refused(study: Study, browser: Browsers) -> None:
    one, other = browser(), browser()
    one.answer(one.join())
    other.answer(other.join())
    mine, theirs = (who.get("/api/state").json() for who in (one, other))
    assert mine["item"]["id"] != theirs["item"]["id"]
    assert refusal(one.answer(theirs)) == "conflict"


def test_an_answer_that_comes_twice_counts_once(store: Store, browser: Browsers) -> None:
    """A browser repeats what was not acknowledged; a replay cannot change what was said."""
    one = browser()
    state = one.join()
    assert one.answer(state).json() == one.answer(state).json()
    assert refusal(one.answer(state, reasonable=-1)) == "conflict"
    ((answer,),) = [store.everything()[1]]
    assert answer.reasonable == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"reasonable": 3},
        {"reasonable": True},
        {"reasonable": 1.0},
        {"trust": None},
        {"trust": "1"},
        {"reason": None},
        {"reason": "x" * (LONGEST_REASON + 1)},
        {"reason": "\ud800"},
        {"seconds": -1},
        {"seconds": float("1e300")},
        {"seconds": None},
        {"item": 7},
        {"position": "0"},
        {"position": True},
    ],
)
def test_answers_that_are_none_are_refused(store: Store, browser: Browsers, changes: dict[str, Any]) -> None:
    one = browser()
    assert refusal(one.answer(one.join(), **changes)) == "bad-request"
    assert store.everything()[1] == []


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"[" * 5000, b'{"seconds": NaN}', b"\xff", b"1" * 5000])
def test_bodies_that_are_no_object_are_refused(browser: Browsers, body: bytes) -> None:
    one = browser()
    one.join()
    headers = {"X-CSRF-Token": one.token, "Content-Type": "application/json"}
    assert refusal(one.post("/api/answer", content=body, headers=headers)) == "bad-request"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
FIELDS = ["position", "item", "reasonable", "trust", "reason", "seconds"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, JSON)))
def test_whatever_is_sent_is_saved_or_refused(browser: Browsers, body: dict[str, Any]) -> None:
    one = browser()
    if not one.cookies.get("participant"):
        one.open()
        one.call("join", {})
    response = one.call("answer", body)
    assert response.status_code in (200, 400, 401, 409)
    if response.status_code == 200:
        assert read_answer(body) is not None


def test_requests_from_elsewhere_are_refused(browser: Browsers) -> None:
    one, other = browser(), browser()
    state = one.join()
    other.open()
    good = {"position": 0, "item": state["item"]["id"], "reasonable": 0, "trust": 0, "reason": "", "seconds": 1}
    assert refusal(one.call("answer", good, **{"Sec-Fetch-Site": "cross-site"})) == "wrong-page"
    assert refusal(one.call("answer", good, **{"X-CSRF-Token": ""})) == "wrong-page"
    assert refusal(one.call("answer", good, **{"X-CSRF-Token": other.token})) == "wrong-page"
    token = {"X-CSRF-Token": one.token}
    assert (
        refusal(one.post("/api/answer", json=good, headers=token | {"Origin": "https://evil.example"})) == "wrong-page"
    )
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert refusal(one.post("/api/answer", content=json.dumps(good), headers=token | form)) == "bad-request"
    assert one.post("/api/answer", json=good, headers=token | {"Origin": "http://testserver"}).status_code == 200


def test_without_a_session_nothing_can_be_answered(browser: Browsers) -> None:
    one = browser()
    one.open()
    body = {"position": 0, "item": "x", "reasonable": 0, "trust": 0, "reason": "", "seconds": 1}
    assert refusal(one.call("answer", body)) == "no-session"
    assert refusal(one.call("withdraw", {})) == "no-session"
    one.cookies.set("participant", "ABCDE-FGHIJ-KLMNO-PQRST")  # another participant's, guessed
    assert refusal(one.call("answer", body)) == "no-session"
    assert one.get("/api/state").json() == {"stage": "consent"}


def test_other_tables_of_accounts_are_refused(browser: Browsers) -> None:
    one = browser()
    one.open()
    for account in ("<script>", "", "x" * 65, 7, ["a"]):
        assert refusal(one.call("join", {"prolific": account})) == "bad-request"
