"""``report.html``: every number with how it was computed, plots, and all items with their votes."""

import math
import shutil
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from human_study.analysis import figures
from human_study.analysis.answers import Answer, Export, Question
from human_study.analysis.compare import Comparison, Group
from human_study.analysis.exclusions import rule_texts
from human_study.analysis.intervals import Share
from human_study.folder.items import Item
from updn_common.files.writing import atomic_file
from updn_common.reports.bootstrap import Interval, Number
from updn_common.reports.tables import format_interval, format_number

QUESTION_TEXTS: dict[Question, str] = {
    "reasonable": "Which explanation is more reasonable?",
    "trust": "Which program would you trust more?",
}
STEPS = (-2, -1, 0, 1, 2)


@dataclass(frozen=True)
class Analysis:
    """What the report shows.

    Attributes:
        export: The answers.
        broken: The exclusion rules that each participant broke; none for participants whose answers are analysed.
        kept: Answers by participants who are not excluded.
        comparisons: Each pair of networks by each question.
    """

    export: Export
    broken: Mapping[str, Sequence[str]]
    kept: Sequence[Answer]
    comparisons: Sequence[Comparison]


@dataclass(frozen=True)
class VoteBar:
    """The votes on one item in one comparison."""

    question: Question
    pair: tuple[str, str]
    counts: Sequence[int]
    """Number of votes for each of the five steps, from the first network to the second."""
    reasons: Sequence[str]

    @property
    def text(self) -> str:
        """The votes in words."""
        first, second = self.pair
        counts = self.counts
        return (
            f"{counts[0]} clearly and {counts[1]} rather for {first}, {counts[2]} neutral, "
            f"{counts[3]} rather and {counts[4]} clearly for {second}"
        )


@dataclass(frozen=True)
class ItemCard:
    """A main item with its votes; without a study folder, there is no `item`."""

    id: str
    group: str
    item: Item | None
    bars: Sequence[VoteBar]

    @property
    def words(self) -> list[tuple[str, bool]]:
        """The words of the question or caption, and whether they are marked."""
        words = self.item.text.split() if self.item else []
        return [(word, k in self.item.marked) for k, word in enumerate(words)] if self.item else []


def write_report(out: Path, analysis: Analysis, items: Mapping[str, Item], study: Path | None) -> None:
    """Write ``report.html`` with its figures and pictures.

    Args:
        out: The folder for the report.
        analysis: What to show.
        items: The study's items by their ids; empty without a study folder.
        study: The study folder, whose pictures are copied.
    """
    simulated = analysis.export.simulated
    (out / "figures").mkdir()
    figures.draw_shares(out / "figures" / "shares.svg", analysis.comparisons, simulated=simulated)
    excluded = [answer for answer in analysis.export.answers if analysis.broken[answer.participant]]
    figures.draw_seconds(out / "figures" / "seconds.svg", analysis.kept, excluded, simulated=simulated)
    spreads = []
    for number, comparison in enumerate(analysis.comparisons):
        if len(comparison.votes):
            figures.draw_raters(out / "figures" / f"spread{number}.svg", comparison, simulated=simulated)
            spreads.append((f"figures/spread{number}.svg", comparison))
    cards = item_cards(analysis.kept, items)
    if study is not None:
        _copy_pictures(study, out, cards)
    html = (
        environment()
        .get_template("report.html")
        .render(
            analysis=analysis,
            export=analysis.export,
            mark="Simulated answers. " if simulated else "",
            status=Counter(analysis.export.participants.values()),
            excluded=sum(map(bool, analysis.broken.values())),
            rules=_rules(analysis),
            groups=_groups(analysis.comparisons),
            spreads=spreads,
            cards=cards,
            questions=QUESTION_TEXTS,
            colours=figures.STEP_COLOURS,
        )
    )
    with atomic_file(out / "report.html") as temporary:
        temporary.write_text(html, encoding="utf-8")


def _rules(analysis: Analysis) -> list[tuple[str, int]]:
    """Each exclusion rule in words, and the number of participants who broke it."""
    texts = rule_texts(analysis.export.exclusion_rules)
    return [(text, sum(rule in broken for broken in analysis.broken.values())) for rule, text in texts.items()]


def _groups(comparisons: Sequence[Comparison]) -> dict[str, tuple[int, list[Group | None]]]:
    """For each group its number of items, and its part of each comparison (None without answers)."""
    found = [{group.name: group for group in comparison.groups} for comparison in comparisons]
    names = sorted({name for groups in found for name in groups})
    rows = {name: [groups.get(name) for groups in found] for name in names}
    return {name: (max(cell.votes.n_items for cell in cells if cell), cells) for name, cells in rows.items()}


def environment() -> Environment:
    """The templates; what they are filled with is escaped."""
    loader = ChoiceLoader([PackageLoader("human_study.analysis"), PackageLoader("updn_common.reports")])
    found = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    found.filters |= {"share": _share, "interval": _interval, "p": format_p, "alpha": _alpha}
    return found


def percent(share: Share) -> Number:
    """A share and its interval in percent."""
    low, high = share.interval
    return Number(100 * share.value, Interval(100 * low, 100 * high))


def _share(share: Share) -> str:
    return "-" if math.isnan(share.value) else f"{100 * share.value:.1f} %"


def _interval(interval: Interval, factor: float = 100, digits: int = 1) -> str:
    low, high = interval
    return format_interval(Interval(factor * low, factor * high), digits)


def _alpha(number: Number) -> str:
    value, (low, high) = number
    value, low, high = (round(part, 2) + 0.0 for part in (value, low, high))  # no "-0.00"
    return format_number(Number(value, Interval(low, high)), 2)


def format_p(value: float) -> str:
    """A p-value to three digits, as journals ask for.

    >>> format_p(0.03214), format_p(0.00002), format_p(float("nan"))
    ('0.032', '< 0.001', '-')
    """
    if math.isnan(value):
        return "-"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def item_cards(answers: Sequence[Answer], items: Mapping[str, Item]) -> list[ItemCard]:
    """All main items with their votes, those first on which most prefer the second network of the first pair."""
    by_item: dict[str, list[Answer]] = defaultdict(list)
    for answer in answers:
        if answer.kind == "main":
            by_item[answer.item].append(answer)
    for item in items.values():
        if item.kind == "main":
            by_item.setdefault(item.id, [])
    cards = [
        ItemCard(item, found[0].group if found else items[item].group, items.get(item), _bars(found))
        for item, found in by_item.items()
    ]
    return sorted(cards, key=lambda card: (-_lean(card), card.id))


def _bars(answers: Sequence[Answer]) -> list[VoteBar]:
    votes: dict[tuple[tuple[str, str], Question], list[int]] = defaultdict(list)
    reasons: dict[tuple[str, str], list[str]] = defaultdict(list)
    for answer in answers:
        toward_second = 1 if answer.right == answer.pair[1] else -1
        votes[answer.pair, "reasonable"].append(toward_second * answer.reasonable)
        votes[answer.pair, "trust"].append(toward_second * answer.trust)
        if answer.reason.strip():
            reasons[answer.pair].append(answer.reason)
    return [
        VoteBar(
            question, pair, [steps.count(step) for step in STEPS], reasons[pair] if question == "reasonable" else []
        )
        for (pair, question), steps in sorted(votes.items())
    ]


def _lean(card: ItemCard) -> float:
    """Mean direction of the votes in the card's first comparison."""
    if not card.bars or not sum(card.bars[0].counts):
        return 0.0
    counts = card.bars[0].counts
    return (sum(counts[3:]) - sum(counts[:2])) / sum(counts)


def _copy_pictures(study: Path, out: Path, cards: Sequence[ItemCard]) -> None:
    (out / "pictures").mkdir()
    for card in cards:
        if card.item is not None:
            for picture in (card.item.image, *card.item.explanations.values()):
                shutil.copyfile(study / picture, out / picture)
