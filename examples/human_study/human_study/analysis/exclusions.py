"""Which participants are excluded, by rules that are stated in ``study.json`` before any answer is seen."""

from collections import defaultdict
from collections.abc import Mapping
from statistics import median

from human_study.analysis.answers import QUESTIONS, Answer, Export

_TEXTS = {
    "max_failed_checks": "failed more than {limit:g} attention checks",
    "min_median_seconds": "took less than {limit:g} s for the median main item",
    "max_same_side_share": "chose the same side in more than {limit:.0%} of the answers that chose one",
    "min_share_answered": "answered less than {limit:.0%} of the main items",
}
RULES = tuple(_TEXTS)


def rule_texts(limits: Mapping[str, float]) -> dict[str, str]:
    """Each rule in words that go on from "a participant who"."""
    return {rule: text.format(limit=limits[rule]).replace("%", " %") for rule, text in _TEXTS.items()}


def broken_rules(export: Export) -> dict[str, list[str]]:
    """The rules that each participant broke, in the order of `RULES`.

    Participants who withdrew have no answers and are left out. A participant without an answer to a main item broke
    ``min_share_answered``.
    """
    by_participant: dict[str, list[Answer]] = defaultdict(list)
    for answer in export.answers:
        by_participant[answer.participant].append(answer)
    return {
        participant: _broken(export, by_participant[participant])
        for participant, status in export.participants.items()
        if status != "withdrawn"
    }


def _broken(export: Export, answers: list[Answer]) -> list[str]:
    main = [answer for answer in answers if answer.kind == "main"]
    limits = export.exclusion_rules
    votes = [getattr(answer, question) for answer in main for question in QUESTIONS]
    left, right = sum(vote < 0 for vote in votes), sum(vote > 0 for vote in votes)
    failed = sum(answer.failed for answer in answers if answer.kind == "check")
    broken = {
        "max_failed_checks": failed > limits["max_failed_checks"],
        "min_median_seconds": bool(main) and median(answer.seconds for answer in main) < limits["min_median_seconds"],
        "max_same_side_share": max(left, right) > limits["max_same_side_share"] * (left + right),
        "min_share_answered": len(main) < limits["min_share_answered"] * export.items_per_participant,
    }
    return [name for name in RULES if broken[name]]
