"""The export of a study, read and checked: ``study.json``, ``participants.jsonl`` and ``answers.jsonl``."""

from collections import Counter
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, cast, get_args

from human_study.folder.items import Kind
from human_study.folder.settings import EXCLUSION_RULES, FORMAT
from updn_common.errors import InputError
from updn_common.files.json_fields import field, is_number, kind_of
from updn_common.files.reading import read_json, read_json_lines

Question = Literal["reasonable", "trust"]
Status = Literal["completed", "started", "withdrawn"]
QUESTIONS: tuple[Question, ...] = get_args(Question)
_STRONGEST = 2
"""Answers go from -2, clearly the left explanation, to 2, clearly the right one."""


@dataclass(frozen=True)
class Answer:
    """What one participant said about one item.

    Attributes:
        participant: Opaque code of the participant.
        item: Id of the item.
        kind: Only main items are analysed.
        group: Type of the question, or category that the caption's word names.
        position: The participant saw this many items before this one.
        left: Network whose explanation was on the left.
        right: Network whose explanation was on the right.
        reasonable: Which explanation is more reasonable, from -2 (left) to 2 (right); 0 is neutral.
        trust: Which network the participant would trust more, on the same steps.
        reason: What the participant wrote.
        seconds: Time from showing the item to the answer.
        expected: The explanation that is known to be more reasonable, for practice items and checks.
    """

    participant: str
    item: str
    kind: Kind
    group: str
    position: int
    left: str
    right: str
    reasonable: int
    trust: int
    reason: str
    seconds: float
    expected: str | None

    @property
    def pair(self) -> tuple[str, str]:
        """The two networks in alphabetical order."""
        first, second = sorted((self.left, self.right))
        return first, second

    @property
    def failed(self) -> bool:
        """Whether the answer to a check does not prefer the expected explanation; neutral answers fail."""
        toward = 1 if self.expected == self.right else -1
        return self.expected is not None and self.reasonable * toward <= 0


@dataclass(frozen=True)
class Export:
    """The answers to a study.

    Attributes:
        id: Opaque name of the study.
        title: Title of the page that participants saw.
        arms: Names of the networks, in alphabetical order.
        raters_per_item: Number of participants who were to judge each item.
        items_per_participant: Number of main items that each participant was to judge.
        exclusion_rules: Rules, stated before any answer was seen, by which participants are excluded.
        simulated: Whether a program made the answers.
        participants: Status of each participant.
        answers: All answers, those to practice items and checks included.
    """

    id: str
    title: str
    arms: tuple[str, ...]
    raters_per_item: int
    items_per_participant: int
    exclusion_rules: dict[str, float]
    simulated: bool
    participants: dict[str, Status]
    answers: list[Answer]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Pairs of networks that are compared, each in alphabetical order."""
        return list(combinations(self.arms, 2))


def read_export(folder: Path) -> Export:
    """Read and check an export.

    Answers count as simulated if ``study.json`` or the source of any participant says so.

    Raises:
        InputError: A file is missing or damaged, or the files contradict each other.
    """
    facts, where = _facts(folder / "study.json"), str(folder / "study.json")
    arms = tuple(sorted(field(facts, "arms", list, where)))
    rules = facts.get("exclusion_rules")
    if not isinstance(rules, dict) or {*rules} != {*EXCLUSION_RULES} or not all(map(is_number, rules.values())):
        raise InputError(f"{where}: 'exclusion_rules' should give a number to each of {', '.join(EXCLUSION_RULES)}.")
    participants: dict[str, Status] = {}
    simulated = facts.get("simulated") is True
    for place, record in read_json_lines(folder / "participants.jsonl", expected="the participants of an export"):
        code, status = field(record, "participant", str, place), field(record, "status", str, place)
        if status not in get_args(Status):
            raise InputError(f"{place}: 'status' should be one of {', '.join(get_args(Status))}, found {status!r}.")
        if code in participants:
            raise InputError(f"{place}: participant {code!r} is there twice. Keep one of them.")
        participants[code] = cast(Status, status)
        simulated |= record.get("source") == "simulated"
    answers = [
        _answer(record, place, arms)
        for place, record in read_json_lines(folder / "answers.jsonl", expected="the answers of an export")
    ]
    _check_consistent(folder / "answers.jsonl", participants, answers)
    return Export(
        id=field(facts, "id", str, where),
        title=field(facts, "title", str, where),
        arms=arms,
        raters_per_item=field(facts, "raters_per_item", int, where),
        items_per_participant=field(facts, "items_per_participant", int, where),
        exclusion_rules=rules,
        simulated=simulated,
        participants=participants,
        answers=answers,
    )


def _facts(path: Path) -> dict[str, Any]:
    facts = read_json(path, expected="the study.json of a folder that `human-study export` wrote")
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        found = facts.get("format") if isinstance(facts, dict) else kind_of(facts)
        raise InputError(f"{path}: format {found}; expected {FORMAT}. Export the answers again.")
    if not isinstance(facts.get("arms"), list):  # a study folder has an object here, and no answers
        raise InputError(f"{path} is not from an export: give the folder that `human-study export` wrote.")
    return facts


def _answer(record: Any, where: str, arms: tuple[str, ...]) -> Answer:
    texts = {key: field(record, key, str, where) for key in ("participant", "item", "group", "left", "right", "reason")}
    kind = field(record, "kind", str, where)
    if kind not in get_args(Kind):
        raise InputError(f"{where}: 'kind' should be one of {', '.join(get_args(Kind))}, found {kind!r}.")
    sides = (texts["left"], texts["right"])
    if sides[0] == sides[1] or (kind == "main" and not {*sides} <= {*arms}):
        raise InputError(f"{where}: 'left' and 'right' should be two of {', '.join(arms)}, found {sides}.")
    reasonable, trust = (field(record, question, int, where) for question in QUESTIONS)
    if max(abs(reasonable), abs(trust)) > _STRONGEST:
        raise InputError(f"{where}: 'reasonable' and 'trust' should be from -2 to 2, found {reasonable} and {trust}.")
    seconds, expected = record.get("seconds"), record.get("expected")
    if not is_number(seconds) or seconds < 0:
        raise InputError(f"{where}: 'seconds' should be a number of at least 0, found {seconds!r}.")
    if (kind == "check" or expected is not None) and expected not in sides:
        raise InputError(f"{where}: 'expected' should be one of {sides}, found {expected!r}.")
    return Answer(
        participant=texts["participant"],
        item=texts["item"],
        kind=cast(Kind, kind),
        group=texts["group"],
        position=field(record, "position", int, where),
        left=texts["left"],
        right=texts["right"],
        reasonable=reasonable,
        trust=trust,
        reason=texts["reason"],
        seconds=float(seconds),
        expected=expected,
    )


def _check_consistent(path: Path, participants: dict[str, Status], answers: list[Answer]) -> None:
    for answer in answers:
        if participants.get(answer.participant, "withdrawn") == "withdrawn":
            state = "has withdrawn" if answer.participant in participants else "is not in participants.jsonl"
            raise InputError(f"{path} has answers by {answer.participant!r}, who {state}. Export the answers again.")
    often = Counter((answer.participant, answer.item, answer.pair) for answer in answers)
    for (participant, item, _), times in often.items():
        if times > 1:
            raise InputError(f"{path}: participant {participant!r} answered item {item!r} {times} times. Keep one.")
