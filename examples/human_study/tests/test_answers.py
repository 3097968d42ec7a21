"""Reading an export, and excluding participants."""

import json
from pathlib import Path
from typing import Any

import pytest

from human_study.analysis.answers import read_export
from human_study.analysis.exclusions import broken_rules, rule_texts
from human_study.analysis.votes import collect_votes
from human_study.folder.settings import EXCLUSION_RULES
from updn_common.errors import InputError

STUDY = {
    "format": 1,
    "id": "abc",
    "title": "A study",
    "raters_per_item": 2,
    "items_per_participant": 2,
    "arms": ["hint", "base"],
    "exclusion_rules": EXCLUSION_RULES,
}


def answer(item: str = "i1", **changes: Any) -> dict[str, Any]:
    """An answer to a main item that prefers `hint`, on the right."""
    main = {"participant": "p", "item": item, "kind": "main", "group": "g", "position": 0, "left": "base"}
    return (
        main | {"right": "hint", "reasonable": 1, "trust": 2, "reason": "", "seconds": 5.0, "expected": None} | changes
    )


def check(**changes: Any) -> dict[str, Any]:
    sides = {"left": "decoy", "right": "valid", "expected": "valid"}
    return answer("c1", **{"kind": "check", **sides, **changes})


def write(
    folder: Path, answers: list[Any], participants: list[Any] | None = None, study: dict[str, Any] = STUDY
) -> Path:
    if participants is None:
        participants = [{"participant": "p", "status": "completed", "source": "link"}]
    (folder / "study.json").write_text(json.dumps(study))
    for name, lines in (("answers", answers), ("participants", participants)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_export_is_read(tmp_path: Path) -> None:
    export = read_export(write(tmp_path, [answer(), check()]))
    assert export.arms == ("base", "hint")
    assert export.pairs == [("base", "hint")]
    assert not export.simulated
    assert export.participants == {"p": "completed"}
    assert export.answers[0].seconds == 5.0


@pytest.mark.parametrize("by", ["study", "participant"])
def test_answers_are_simulated_if_any_file_says_so(tmp_path: Path, by: str) -> None:
    participants = [{"participant": "p", "status": "started", "source": "simulated" if by == "participant" else "link"}]
    study = STUDY | ({"simulated": True} if by == "study" else {})
    assert read_export(write(tmp_path, [answer()], participants, study)).simulated


LINE = "{folder}/answers.jsonl, line 1"


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([answer(kind="odd")], f"{LINE}: 'kind' should be one of practice, check, main, found 'odd'."),
        (
            [answer(left="hint")],
            f"{LINE}: 'left' and 'right' should be two of base, hint, found ('hint', 'hint').",
        ),
        ([answer(left="x")], f"{LINE}: 'left' and 'right' should be two of base, hint, found ('x', 'hint')."),
        ([answer(trust=3)], f"{LINE}: 'reasonable' and 'trust' should be from -2 to 2, found 1 and 3."),
        (
            [answer(reasonable=True)],
            f"{LINE}: 'reasonable' should be int, found True (bool).",
        ),
        ([answer(seconds=-1)], f"{LINE}: 'seconds' should be a number of at least 0, found -1."),
        ([check(expected=None)], f"{LINE}: 'expected' should be one of ('decoy', 'valid'), found None."),
        (
            [answer(), answer()],
            "{folder}/answers.jsonl: participant 'p' answered item 'i1' 2 times. Keep one.",
        ),
        (
            [answer(participant="q")],
            "{folder}/answers.jsonl has answers by 'q', who is not in participants.jsonl. Export the answers again.",
        ),
    ],
)
def test_damaged_answers_are_refused(tmp_path: Path, answers: list[Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        read_export(write(tmp_path, answers))
    assert str(error.value) == message.format(folder=tmp_path)


@pytest.mark.parametrize(
    ("participants", "message"),
    [
        (
            [{"participant": "p", "status": "gone"}],
            "{folder}/participants.jsonl, line 1: 'status' should be one of completed, started, withdrawn, found "
            "'gone'.",
        ),
        (
            [{"participant": "p", "status": "started"}] * 2,
            "{folder}/participants.jsonl, line 2: participant 'p' is there twice. Keep one of them.",
        ),
        (
            [{"participant": "p", "status": "withdrawn"}],
            "{folder}/answers.jsonl has answers by 'p', who has withdrawn. Export the answers again.",
        ),
    ],
)
def test_damaged_participants_are_refused(tmp_path: Path, participants: list[Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        read_export(write(tmp_path, [answer()], participants))
    assert str(error.value) == message.format(folder=tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "{folder}/study.json: format 2; expected 1. Export the answers again."),
        (
            {"arms": {"base": {}, "hint": {}}},
            "{folder}/study.json is not from an export: give the folder that `human-study export` wrote.",
        ),
        (
            {"exclusion_rules": {"max_failed_checks": 0}},
            "{folder}/study.json: 'exclusion_rules' should give a number to each of max_failed_checks, "
            "min_median_seconds, max_same_side_share, min_share_answered.",
        ),
    ],
)
def test_damaged_facts_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        read_export(write(tmp_path, [answer()], study=STUDY | changes))
    assert str(error.value) == message.format(folder=tmp_path)


def test_a_participant_may_judge_an_item_once_for_each_pair(tmp_path: Path) -> None:
    study = STUDY | {"arms": ["base", "hint", "third"]}
    export = read_export(write(tmp_path, [answer(), answer(right="third")], study=study))
    assert export.pairs == [("base", "hint"), ("base", "third"), ("hint", "third")]
    assert [len(collect_votes(export.answers, pair, "trust")) for pair in export.pairs] == [1, 1, 0]


GOOD = [answer(), answer("i2", left="hint", right="base", reasonable=-1, trust=-1)]


@pytest.mark.parametrize(
    ("answers", "broken"),
    [
        ([*GOOD, check()], []),
        ([*GOOD, check(reasonable=-1)], ["max_failed_checks"]),
        ([*GOOD, check(reasonable=0)], ["max_failed_checks"]),
        ([*GOOD, check(left="valid", right="decoy", reasonable=-2)], []),
        ([*GOOD, check(kind="practice", reasonable=-2)], []),
        ([answer(seconds=1.9), answer("i2", seconds=1.8, reasonable=-1)], ["min_median_seconds"]),
        ([answer(seconds=1.9), answer("i2", seconds=2.1, reasonable=-1)], []),
        ([answer(), answer("i2")], ["max_same_side_share"]),
        ([answer(reasonable=0, trust=0), answer("i2", reasonable=0, trust=0)], []),
        ([answer(reasonable=-1)], ["min_share_answered"]),
        ([], ["min_share_answered"]),
        ([answer(seconds=1.0), check(reasonable=-1)], [*EXCLUSION_RULES]),
    ],
)
def test_participants_outside_the_limits_break_rules(tmp_path: Path, answers: list[Any], broken: list[str]) -> None:
    assert broken_rules(read_export(write(tmp_path, answers))) == {"p": broken}


def test_participants_at_the_limits_break_no_rules(tmp_path: Path) -> None:
    rules = {"max_failed_checks": 1, "min_median_seconds": 5.0, "max_same_side_share": 1.0, "min_share_answered": 0.8}
    study = STUDY | {"items_per_participant": 5, "exclusion_rules": rules}
    answers = [*(answer(f"i{k}") for k in range(4)), check(reasonable=-1)]
    assert broken_rules(read_export(write(tmp_path, answers, study=study))) == {"p": []}


def test_withdrawn_participants_break_no_rules(tmp_path: Path) -> None:
    assert not broken_rules(read_export(write(tmp_path, [], [{"participant": "p", "status": "withdrawn"}])))


def test_rules_are_stated_in_words() -> None:
    assert [*rule_texts(EXCLUSION_RULES).values()] == [
        "failed more than 0 attention checks",
        "took less than 2 s for the median main item",
        "chose the same side in more than 95 % of the answers that chose one",
        "answered less than 80 % of the main items",
    ]


def test_votes_point_to_the_later_network_whatever_its_side(tmp_path: Path) -> None:
    answers = [answer(), answer("i2", left="hint", right="base"), check()]
    votes = collect_votes(read_export(write(tmp_path, answers)).answers, ("base", "hint"), "trust")
    assert votes.steps.tolist() == [2, -2]
    assert votes.second_left.tolist() == [False, True]
    assert votes.points.tolist() == [1, 0]
    assert votes.item_ids == ("i1", "i2")
    part = votes.where(votes.steps < 0)
    assert (part.items.tolist(), part.raters.tolist(), part.item_ids) == ([0], [0], ("i2",))
