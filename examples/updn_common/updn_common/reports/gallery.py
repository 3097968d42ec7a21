"""One HTML page of many pictures that can be searched, filtered and sorted, to be opened from disk."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from updn_common.files.writing import atomic_file
from updn_common.reports.page import environment

Tone = Literal["", "good", "fair", "bad"]
COLOURS: dict[Tone, str] = {"good": "#1a7f37", "fair": "#9a6700", "bad": "#b42318"}
"""Of tones in pictures, which are on white; the page has its own."""


@dataclass(frozen=True)
class Fact:
    """Something that is known of a picture, such as an answer, and whether that is good."""

    label: str
    value: str
    tone: Tone = ""


@dataclass(frozen=True)
class Card:
    """A picture and what is known of it."""

    path: str
    """Relative to the page."""
    size: tuple[int, int]
    """Width and height in pixels: the page keeps the room before it loads the picture."""
    title: str
    facts: Sequence[Fact] = ()
    filters: Mapping[str, str] = field(default_factory=dict)
    """The page offers a choice of the values of each name."""
    order: Mapping[str, float] = field(default_factory=dict)
    """The page sorts by any of them; a card without a value, or with NaN, comes last."""

    @property
    def caption(self) -> str:
        """All in one sentence, also for those who cannot see the picture."""
        return " ".join([self.title, *(f"{fact.label.capitalize()}: {fact.value}." for fact in self.facts)])


def write_gallery(path: Path, title: str, introduction: str, guide: str, cards: Sequence[Card]) -> None:
    """Write a page that needs no network; its script is plain JavaScript, and without it all cards are shown.

    Args:
        path: The HTML file.
        title: Its heading.
        introduction: What is shown.
        guide: How to read the pictures; folded up at first.
        cards: The pictures, in the order that the page begins with.
    """
    names = dict.fromkeys(name for card in cards for name in card.filters)
    html = (
        environment()
        .get_template("gallery.html")
        .render(
            title=title,
            introduction=introduction,
            guide=guide,
            cards=[(card, {name: x for name, x in card.order.items() if not math.isnan(x)}) for card in cards],
            choices={name: sorted({card.filters[name] for card in cards if name in card.filters}) for name in names},
            orders=list(dict.fromkeys(name for card in cards for name in card.order)),
        )
    )
    with atomic_file(path) as temporary:
        temporary.write_text(html, encoding="utf-8")
