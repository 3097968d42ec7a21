"""All numbers about one question and one pair of networks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from human_study.analysis.agreement import alpha_with_interval
from human_study.analysis.answers import QUESTIONS, Answer, Question
from human_study.analysis.intervals import (
    Resampled,
    Share,
    bootstrap_interval,
    crossed_interval,
    exact_test,
    holm,
    wilson_interval,
)
from human_study.analysis.preference import Preference, fit_preference
from human_study.analysis.votes import Votes, collect_votes
from updn_common.reports.bootstrap import Interval, Number

RESAMPLED: tuple[Resampled, ...] = ("raters", "items", "both")


@dataclass(frozen=True)
class Group:
    """The preference among the items of one group."""

    name: str
    votes: Votes
    share: Share


@dataclass(frozen=True)
class Comparison:
    """How a pair of networks compares by one question; shares are those of the second network.

    Attributes:
        pair: The two networks, in alphabetical order.
        question: What participants were asked.
        votes: The answers that are analysed.
        share: The headline: preference share, interval and p-value that allow for raters and items.
        adjusted_p: The headline's p-value, adjusted by Holm's method for all comparisons of the report.
        share_of_all: The headline without exclusions.
        wilson: Wilson's interval, taking answers for independent.
        exact_p: P-value of the exact binomial test, neutral answers left out, the others taken for independent.
        bootstrap: Percentile bootstrap intervals by what is resampled.
        mixed: The mixed logistic model; None where it has no finite estimate.
        alpha_ordinal: Krippendorff's alpha of the five steps.
        alpha_nominal: Krippendorff's alpha of first, neutral or second.
        groups: The breakdown by type of question or category.
    """

    pair: tuple[str, str]
    question: Question
    votes: Votes
    share: Share
    adjusted_p: float
    share_of_all: Share
    wilson: Interval
    exact_p: float
    bootstrap: Mapping[Resampled, Interval]
    mixed: Preference | None
    alpha_ordinal: Number
    alpha_nominal: Number
    groups: Sequence[Group]


def compare_all(
    answers: Sequence[Answer], kept: Sequence[Answer], pairs: Sequence[tuple[str, str]], seed: int
) -> list[Comparison]:
    """Compare each pair by each question.

    Args:
        answers: All answers.
        kept: Answers by participants who are not excluded.
        pairs: Pairs of networks.
        seed: Seed of the bootstraps.
    """
    found = [
        _compare(collect_votes(answers, pair, question), kept, pair, question, seed)
        for pair, question in product(pairs, QUESTIONS)
    ]
    adjusted = holm([comparison.share.p_value for comparison in found])
    return [replace(comparison, adjusted_p=p) for comparison, p in zip(found, adjusted, strict=True)]


def _compare(
    all_votes: Votes, kept: Sequence[Answer], pair: tuple[str, str], question: Question, seed: int
) -> Comparison:
    votes = collect_votes(kept, pair, question)
    share = crossed_interval(votes)
    return Comparison(
        pair=pair,
        question=question,
        votes=votes,
        share=share,
        adjusted_p=share.p_value,
        share_of_all=crossed_interval(all_votes),
        wilson=wilson_interval(float(votes.points.sum()), len(votes)),
        exact_p=exact_test(votes),
        bootstrap={resampled: bootstrap_interval(votes, resampled, seed=seed) for resampled in RESAMPLED},
        mixed=fit_preference(votes),
        alpha_ordinal=alpha_with_interval(votes.steps, votes.items, "ordinal", seed=seed),
        alpha_nominal=alpha_with_interval(np.sign(votes.steps), votes.items, "nominal", seed=seed),
        groups=_by_group(votes, {answer.item: answer.group for answer in kept}),
    )


def _by_group(votes: Votes, groups: Mapping[str, str]) -> list[Group]:
    """The groups by their names; nothing if there is but one."""
    of_items = np.array([groups[item] for item in votes.item_ids], dtype=object)
    names = sorted(set(of_items))
    if len(names) < 2:
        return []
    parts = [(name, votes.where((of_items == name)[votes.items])) for name in names]
    return [Group(name, part, crossed_interval(part)) for name, part in parts]
