"""Study folders: what is refused, and what the pictures tell."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from human_study.folder.items import read_items
from human_study.folder.made_up import write_made_up_study
from human_study.folder.settings import Settings
from human_study.server.security import Key, plain_code
from human_study.server.study import Study
from updn_common.errors import InputError


@pytest.fixture
def change(study: Study) -> Callable[[str, Callable[[Any], Any]], None]:
    """Rewrites a file of the study."""

    def rewrite(name: str, edit: Callable[[Any], Any]) -> None:
        path = study.folder / name
        document = json.loads(path.read_text())
        path.write_text(json.dumps(edit(document)))

    return rewrite


def test_a_study_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = write_made_up_study(tmp_path, captions=True)
    assert Settings.read(tmp_path) == written
    items = read_items(tmp_path)
    assert [item.record() for item in items.values()] == json.loads((tmp_path / "items.json").read_text())
    assert {item.marked for item in items.values()} == {(2,)}
    assert {item.kind for item in items.values()} == {"practice", "check", "main"}


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda record: [], "format list; expected 1. Build the study again"),
        (lambda record: record | {"format": 2}, "format 2; expected 1"),
        (lambda record: record | {"title": 3}, "'title' should be str"),
        (lambda record: record | {"raters_per_item": 0}, "'raters_per_item' should be at least 1, found 0"),
        (lambda record: record | {"arms": {"base": {}}}, "'arms' should name two networks or more, found 1"),
        (lambda record: record | {"made_by": None}, "'made_by' should be an object"),
        (lambda record: record | {"exclusion_rules": {}}, "'exclusion_rules' should hold max_failed_checks, "),
    ],
)
def test_damaged_settings_are_refused(
    study: Study, change: Callable[..., None], edit: Callable[[Any], Any], message: str
) -> None:
    change("study.json", edit)
    with pytest.raises(InputError, match=message):
        Study.open(study.folder)


def first(**changes: Any) -> Callable[[Any], Any]:
    return lambda records: [records[0] | changes, *records[1:]]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda records: {}, "should hold a list of items"),
        (lambda records: [], "has no item of the kind 'main'"),
        (lambda records: [records[0], *records], "has the item '.*' twice"),
        (first(kind="other"), "item 1: 'kind' should be one of practice, check, main, found 'other'"),
        (first(explanations={"valid": "pictures/a.png"}), "'explanations' should be an object with two pictures"),
        (first(expected={"reasonable": "hint"}), "'expected' names 'hint', which has no explanation"),
        (first(image="pictures/missing.png"), "missing.png does not exist, but"),
        (first(image="secret.key"), "'secret.key' should be a file in the folder pictures"),
        (first(image="pictures/../secret.key"), "should be a file in the folder pictures"),
        (first(caption="a b", marked=[2]), "'marked' should be positions of the caption's words"),
    ],
)
def test_damaged_items_are_refused(
    study: Study, change: Callable[..., None], edit: Callable[[Any], Any], message: str
) -> None:
    change("items.json", edit)
    with pytest.raises(InputError, match=message):
        Study.open(study.folder)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("study.json", "study.json does not exist; expected the study.json of a folder that `human-study build` wrote"),
        ("secret.key", "secret.key does not exist"),
        ("consent.md", "consent.md does not exist; expected the consent text of a study"),
    ],
)
def test_missing_files_are_named(study: Study, name: str, message: str) -> None:
    (study.folder / name).unlink()
    with pytest.raises(InputError, match=message):
        Study.open(study.folder)


@pytest.mark.parametrize("text", ["", "zz" * 32, "ab" * 31])
def test_keys_that_are_none_are_refused(study: Study, text: str) -> None:
    (study.folder / "secret.key").write_text(text or "\n")
    with pytest.raises(InputError, match=r"secret\.key"):
        Key.read(study.folder / "secret.key")


def test_placeholders_in_the_texts_are_found(study: Study) -> None:
    assert study.placeholders == []
    (study.folder / "consent.md").write_text("A study by [institution].")
    assert Study.open(study.folder).placeholders == ["consent"]


def test_codes_are_read_as_people_type_them() -> None:
    assert plain_code("abcde fghij-klmno pqrs0") == plain_code("ABCDE-FGHIJ-KLMNO-PQRSO") == "ABCDE-FGHIJ-KLMNO-PQRSO"
    assert plain_code("<script>") == "SCRIP-T"
