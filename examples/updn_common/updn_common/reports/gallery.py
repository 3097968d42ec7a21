"""An HTML page of many pictures that can be searched, filtered and sorted; it is opened from disk."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from updn_common.files.writing import atomic_file
from updn_common.reports.page import environment

Tone = Literal["", "good", "fair", "bad"]
COLOURS: dict[Tone, str] = {"good": "#1a7f37", "fair": "#9a6700", "bad": "#b42318"}
"""Colours of the tones in pictures, whose background is white; the page has its own."""


@dataclass(frozen=True)
class Fact:
    """A fact about a picture, such as an answer, and whether that is good."""

    label: str
    value: str
    tone: Tone = ""


@dataclass(frozen=True)
class Card:
    """A picture, and facts about it."""

    path: str
    """Path of the picture, relative to the page."""
    size: tuple[int, int]
    """Width and height in pixels, so that the page can reserve the space before it loads the picture."""
    title: str
    facts: Sequence[Fact] = ()
    filters: Mapping[str, str] = field(default_factory=dict)
    """Values by which the page filters, by the name of the filter."""
    order: Mapping[str, float] = field(default_factory=dict)
    """Values by which the page sorts; a card without a value, or with NaN, comes last."""

    @property
    def caption(self) -> str:
        """The title and all facts as text, also for readers who cannot see the picture."""
        return " ".join([self.title, *(f"{fact.label.capitalize()}: {fact.value}." for fact in self.facts)])


def write_gallery(path: Path, title: str, introduction: str, guide: str, cards: Sequence[Card]) -> None:
    """Write a page that needs no network. Its script is plain JavaScript; without scripts it shows all cards.

    Args:
        path: The HTML file.
        title: The heading.
        introduction: What the page shows.
        guide: How to read the pictures; hidden until the reader asks for it.
        cards: The pictures, in their first order.
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
