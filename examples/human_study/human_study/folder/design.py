"""Who sees which items, in which order, with which network on the left: a balanced Latin square.

The U units to judge are the main items (with more than two networks, each item once for each pair of them), in a random
order, on a circle. Participant 0 judges the first M units, participant 1 the next M, and so on round the circle: so no
unit ever has two more raters than another. When the windows would begin at the same places again, they move on by one
unit. After U participants, each unit was judged once in each of the M positions; the next U see the same with sides
exchanged. Within a window, the order is that of a Williams square (first, last, second, last but one, ...), in which
each unit follows each other one equally often.
"""

import math
from collections.abc import Mapping
from functools import cached_property
from random import Random
from typing import NamedTuple

from human_study.folder.items import Item, Kind
from human_study.folder.settings import Settings
from updn_common.errors import InputError


class Placement(NamedTuple):
    """An item as one participant sees it, and the networks whose explanations are on the left and on the right."""

    item: str
    left: str
    right: str


class Unit(NamedTuple):
    """A main item and the networks to compare on it."""

    item: str
    pair: tuple[str, str]


class Design:
    """The sequences of all participants of a study.

    Attributes:
        settings: The study.
        items: Its items.
        units: What is to be judged, in the order of the circle.
    """

    def __init__(self, settings: Settings, items: Mapping[str, Item]) -> None:
        """Lay the units on the circle.

        Raises:
            InputError: Participants should judge more items than there are.
        """
        self.settings = settings
        self.items = items
        main = [item.id for item in items.values() if item.kind == "main"]
        if settings.items_per_participant > len(main):
            raise InputError(
                f"A participant should judge {settings.items_per_participant} items, but the study has {len(main)}: "
                "change items_per_participant in study.json."
            )
        Random(f"circle {settings.seed}").shuffle(main)
        pairs = items[main[0]].pairs
        self.units = [Unit(item, pair) for pair in pairs for item in main]

    @cached_property
    def rows(self) -> int:
        """Number of participants after which each unit has its number of raters."""
        return math.ceil(len(self.units) * self.settings.raters_per_item / self.settings.items_per_participant)

    @property
    def length(self) -> int:
        """Number of items that a participant sees, practice items and checks included."""
        return self.settings.items_per_participant + len(self._of_kind("practice")) + len(self._of_kind("check"))

    def sequence(self, row: int) -> list[Placement]:
        """All that the participant in a row sees: practice items, then main items with checks among them."""
        random = Random(f"row {self.settings.seed} {row}")
        sequence = self.main(row)
        checks = self._known(self._of_kind("check"), random)
        gaps = sorted(random.sample(range(1, len(sequence) + 1), min(len(checks), len(sequence))), reverse=True)
        for gap, check in zip(gaps, checks, strict=False):
            sequence.insert(gap, check)
        sequence += checks[len(gaps) :]  # more checks than items
        return self._known(self._of_kind("practice"), random) + sequence

    def main(self, row: int) -> list[Placement]:
        """The main items of a row."""
        U, M = len(self.units), self.settings.items_per_participant
        cycle, place = divmod(row, U)
        window = []
        for j, (item, pair) in enumerate(self._window(place)):
            side = (self._sides[place][j] + cycle) % 2
            window.append(Placement(item, pair[side], pair[1 - side]))
        order = [j // 2 if j % 2 == 0 else M - 1 - j // 2 for j in range(M)]
        if cycle // 2 % 2:
            order.reverse()  # what an odd number of units needs for the balance of what follows what
        return [window[j] for j in order]

    def _window(self, row: int) -> list[Unit]:
        """The units of one of the first U rows, in the order of the circle."""
        U, M = len(self.units), self.settings.items_per_participant
        windows_in_round = U // math.gcd(U, M)  # then they would begin at the same places again
        first = row * M + row // windows_in_round
        return [self.units[(first + j) % U] for j in range(M)]

    @cached_property
    def _sides(self) -> list[list[int]]:
        """For each of the first U rows, the side of each unit of its window.

        Half of a window is on either side: the units that were more often on the left so far are on the right.
        """
        lead, random, sides = dict.fromkeys(self.units, 0), Random(f"sides {self.settings.seed}"), []
        for row in range(len(self.units)):
            window = self._window(row)
            ranked = sorted(window, key=lambda unit: (lead[unit], random.random()))
            on_left = {*ranked[: (len(window) + row % 2) // 2]}
            sides.append([int(unit not in on_left) for unit in window])
            for unit in window:
                lead[unit] += 1 if unit in on_left else -1
        return sides

    def _of_kind(self, kind: Kind) -> list[Item]:
        return [item for item in self.items.values() if item.kind == kind]

    def _known(self, items: list[Item], random: Random) -> list[Placement]:
        """Items with a known answer, half of them with it on the left."""
        first = random.randrange(2)
        placements = []
        for i, item in enumerate(items):
            pair = item.pairs[0]
            side = (first + i) % 2
            placements.append(Placement(item.id, pair[side], pair[1 - side]))
        return placements
