"""The Latin square is balanced in items, positions, sides and what follows what."""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from human_study.folder.design import Design
from human_study.folder.items import Item
from human_study.folder.settings import Settings
from updn_common.errors import InputError


def design(items: int, per_participant: int, *, arms: int = 2, raters: int = 3, checks: int = 2) -> Design:
    names = [f"arm{i}" for i in range(arms)]
    made = []
    for kind, count in (("practice", 2), ("check", checks), ("main", items)):
        pictures = dict.fromkeys(names if kind == "main" else ("valid", "decoy"), "")
        made += [Item(f"{kind}{i}", kind, "?", (), "a", "g", "p", pictures) for i in range(count)]  # type: ignore[arg-type]
    settings = Settings("id", "t", 5, raters, per_participant, "en", "c", "code", "unsigned", "test", {}, {})
    return Design(settings, {item.id: item for item in made})


@given(st.integers(1, 12), st.data())
def test_no_item_ever_has_two_more_raters_than_another(items: int, data: st.DataObject) -> None:
    made = design(items, data.draw(st.integers(1, items)), arms=data.draw(st.integers(2, 4)))
    counts = Counter({(item, *pair): 0 for item, pair in made.units})
    for row in range(data.draw(st.integers(1, 40))):
        main = made.main(row)
        assert len({placement.item for placement in main}) == len(main)  # nobody sees an item twice
        counts.update((item, *sorted((left, right))) for item, left, right in main)
        assert max(counts.values()) - min(counts.values()) <= 1


@given(st.integers(1, 12), st.data())
def test_after_all_rows_each_item_has_its_raters(items: int, data: st.DataObject) -> None:
    raters = data.draw(st.integers(1, 7))
    made = design(items, data.draw(st.integers(1, items)), raters=raters)
    counts = Counter(placement.item for row in range(made.rows) for placement in made.main(row))
    assert {*counts.values()} <= {raters, raters + 1}
    assert sum(counts.values()) < items * raters + made.settings.items_per_participant


@given(st.integers(1, 10), st.data())
def test_each_item_is_once_in_each_position_on_each_side(items: int, data: st.DataObject) -> None:
    made = design(items, data.draw(st.integers(1, items)), arms=data.draw(st.integers(2, 3)))
    rows = range(2 * len(made.units))
    seen = Counter((position, *placement) for row in rows for position, placement in enumerate(made.main(row)))
    assert {*seen.values()} == {1}
    assert len(seen) == 2 * len(made.units) * made.settings.items_per_participant


@given(st.integers(1, 12), st.data())
def test_sides_are_balanced_for_each_item_and_each_participant(items: int, data: st.DataObject) -> None:
    made = design(items, data.draw(st.integers(1, items)))
    left: Counter[str] = Counter()
    for row in range(data.draw(st.integers(1, 30))):
        main = made.main(row)
        on_left = sum(placement.left == "arm0" for placement in main)
        assert abs(2 * on_left - len(main)) <= 1
        left.update({placement.item: 1 if placement.left == "arm0" else -1 for placement in main})
        assert all(abs(difference) <= 3 for difference in left.values())


@pytest.mark.parametrize("items", [4, 5, 6, 9])
def test_each_item_follows_each_other_equally_often(items: int) -> None:
    made = design(items, items)
    follows: Counter[tuple[str, str]] = Counter()
    for row in range(4 * items):
        main = [placement.item for placement in made.main(row)]
        follows.update(pairwise(main))
    assert len(follows) == items * (items - 1)
    assert {*follows.values()} == {4}


@given(st.integers(1, 8), st.integers(0, 10), st.integers(0, 50))
def test_a_sequence_has_practice_first_and_checks_among_the_items(items: int, checks: int, row: int) -> None:
    made = design(items, items, checks=checks)
    sequence = made.sequence(row)
    kinds = [made.items[placement.item].kind for placement in sequence]
    assert len(sequence) == made.length == 2 + checks + items
    assert len({placement.item for placement in sequence}) == len(sequence)
    assert kinds[:3] == ["practice", "practice", "main"]
    assert sequence == made.sequence(row)  # a participant who comes back sees the same
    known = [placement.left for placement in sequence if placement.left in ("valid", "decoy")]
    assert abs(known[2:].count("valid") - known[2:].count("decoy")) <= 1


def test_more_items_for_a_participant_than_there_are_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="judge 5 items, but the study has 4: change items_per_participant"):
        design(4, 5)
