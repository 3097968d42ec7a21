"""What leaves a study: the export, the page as files, answers from there, and what someone takes back."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from human_study.folder.settings import EXCLUSION_RULES
from human_study.server.export import ExportConfig, export
from human_study.server.static_site import StaticConfig, write_static
from human_study.server.store import Store
from human_study.server.study import Study
from human_study.server.take_in import ImportConfig, take_in
from human_study.server.withdraw import WithdrawConfig, withdraw
from updn_common.errors import InputError


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def session(study: Study) -> dict[str, Any]:
    """What the page as files sends of one participant."""
    answers = [
        {"position": i, "item": placement.item, "reasonable": -1, "trust": 2, "reason": "so", "seconds": 4.5}
        for i, placement in enumerate(study.design.sequence(2))
    ]
    return {"study": study.settings.id, "session": "ab" * 16, "row": 2, "source": "link", "answers": answers}


def test_export_says_all_of_answers_and_nothing_of_people(
    study: Study, store: Store, browser: Callable[..., Any], tmp_path: Path
) -> None:
    one, other, gone = browser(), browser(), browser()
    one.finish(one.join(prolific="abc"), reason="because\nof it")
    other.answer(other.join())
    gone.answer(gone.join())
    gone.call("withdraw", {})
    export(ExportConfig(study.folder, tmp_path / "export"))
    people = {row["status"]: row for row in lines(tmp_path / "export" / "participants.jsonl")}
    assert {status: row["source"] for status, row in people.items()} == {
        "completed": "prolific",
        "started": "link",
        "withdrawn": "link",
    }
    assert all(set(row) == {"participant", "status", "source"} for row in people.values())
    answers = lines(tmp_path / "export" / "answers.jsonl")
    mine = [row for row in answers if row["participant"] == people["completed"]["participant"]]
    assert len(answers) == study.design.length + 1
    for position, (row, placement) in enumerate(zip(mine, study.design.sequence(0), strict=True)):
        item = study.items[placement.item]
        assert row["seconds"] >= 0
        assert row | {"seconds": 0, "participant": ""} == {
            "participant": "",
            "item": item.id,
            "position": position,
            "left": placement.left,
            "right": placement.right,
            "kind": item.kind,
            "group": item.group,
            "reasonable": 1,
            "trust": -2,
            "reason": "because\nof it",
            "seconds": 0,
            "expected": item.expected,
        }
    facts = json.loads((tmp_path / "export" / "study.json").read_text())
    assert facts["exclusion_rules"] == EXCLUSION_RULES
    assert facts["arms"] == ["base", "hint"]
    assert "MADEUP42" not in json.dumps(facts)


def test_the_page_as_files_tells_nothing_and_has_all_it_needs(study: Study, tmp_path: Path) -> None:
    write_static(StaticConfig(study.folder, tmp_path / "site", post_url="https://example.org/in?x=1"))
    site = tmp_path / "site"
    published = "".join(path.read_text() for path in [*site.rglob("*.json")])
    assert not [name for name in ("base", "hint", "valid", "decoy", "check") if name in published]
    assert {path.name for path in (site / "pictures").iterdir()} == {*study.pictures}
    html = (site / "index.html").read_text()
    assert "connect-src 'self' https://example.org;" in html.replace("&#39;", "'")
    assert 'data-post-url="https://example.org/in?x=1"' in html
    assert "static/files.js" in html
    assert not (site / "static" / "served.js").exists()
    rows = [json.loads((site / "rows" / f"{row}.json").read_text()) for row in range(4)]
    for row, sequence in enumerate(rows):
        assert [item["id"] for item in sequence] == [placement.item for placement in study.design.sequence(row)]
        assert [bool(item["feedback"]) for item in sequence] == [True] + [False] * 7


@pytest.mark.parametrize("url", ["http://example.org", "https://", "nonsense", "https://a b/", "https://x;img-src *"])
def test_addresses_that_would_weaken_the_page_are_refused(study: Study, tmp_path: Path, url: str) -> None:
    with pytest.raises(InputError, match=r"--post-url should be an address that begins with https://"):
        write_static(StaticConfig(study.folder, tmp_path / "site", post_url=url))
    assert not (tmp_path / "site").exists()


@pytest.mark.parametrize("kind", ["json", "jsonl", "csv"])
def test_answers_from_files_are_imported_once(
    study: Study, session: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    path, text = tmp_path / f"answers.{kind}", json.dumps(session)
    if kind == "csv":
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([["HITId", "WorkerId", "Answer.answers"], ["1", "A1B2", text]])
    else:
        path.write_text(text + "\n")
    take_in(ImportConfig(study.folder, (path,)))
    take_in(ImportConfig(study.folder, (path,)))
    assert capsys.readouterr().out.splitlines() == [
        "1 participants imported, 0 known already",
        "0 participants imported, 1 known already",
    ]
    export(ExportConfig(study.folder, tmp_path / "export"))
    answers = lines(tmp_path / "export" / "answers.jsonl")
    assert [(row["item"], row["left"], row["right"]) for row in answers] == study.design.sequence(2)
    assert {row["seconds"] for row in answers} == {4.5}
    assert [row["status"] for row in lines(tmp_path / "export" / "participants.jsonl")] == ["completed"]


def test_answers_that_stop_early_are_imported_as_started(study: Study, session: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(session | {"answers": session["answers"][:3]}))
    take_in(ImportConfig(study.folder, (tmp_path / "a.json",)))
    export(ExportConfig(study.folder, tmp_path / "export"))
    assert [row["status"] for row in lines(tmp_path / "export" / "participants.jsonl")] == ["started"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"study": "another"}, "holds answers to study another, not to"),
        ({"row": 4}, "'row' should be from 0 to 3, found 4"),
        ({"row": -1}, "'row' should be from 0 to 3, found -1"),
        ({"row": 1}, "answer 2 is damaged, or not about the item of row 1 at this place"),
        ({"source": "simulated"}, "'source' should be one of prolific, mturk, link, found 'simulated'"),
        ({"session": 7}, "'session' should be str"),
        ({"answers": [{}]}, "answer 1 is damaged"),
        ({"answers": [None] * 99}, "has 99 answers, but participants see 8 items"),
    ],
)
def test_answers_that_do_not_belong_to_the_study_are_refused(
    study: Study, session: dict[str, Any], tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(json.dumps(session))
    bad.write_text(json.dumps(session | changes))
    with pytest.raises(InputError, match=message):
        take_in(ImportConfig(study.folder, (good, bad)))
    export(ExportConfig(study.folder, tmp_path / "export"))
    assert lines(tmp_path / "export" / "answers.jsonl") == []


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "Answer.answers\nnonsense\n"])
def test_damaged_results_of_mechanical_turk_are_refused(study: Study, tmp_path: Path, text: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(InputError, match=r"Answer\.answers"):
        take_in(ImportConfig(study.folder, (tmp_path / "a.csv",)))


def test_answers_can_be_withdrawn_by_their_code(
    study: Study, store: Store, session: dict[str, Any], browser: Callable[..., Any], tmp_path: Path
) -> None:
    one = browser()
    state = one.answer(one.join()).json()["next"]
    (tmp_path / "a.json").write_text(json.dumps(session))
    take_in(ImportConfig(study.folder, (tmp_path / "a.json",)))
    with pytest.raises(InputError, match="--code nonsense belongs to no participant"):
        withdraw(WithdrawConfig(study.folder, "nonsense"))
    assert len(store.everything()[1]) == 9
    withdraw(WithdrawConfig(study.folder, state["code"]))
    assert len(store.everything()[1]) == 8
    withdraw(WithdrawConfig(study.folder, session["session"]))
    assert store.everything()[1] == []
    assert store.counts() == {"withdrawn": 2}
