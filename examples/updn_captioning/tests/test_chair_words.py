"""The words of CHAIR's authors and their rules, with examples and their published list."""

import json
from pathlib import Path

import pytest

from updn_captioning.data.visual_words import VisualWords
from updn_captioning.scores.chair_words import ChairWords
from updn_common.errors import InputError

LIST = """\
person, man, passenger, baby, people
motorcycle, scooter,  motor bike, motorbike
airplane, plane, jet
train, cattle car
dog, puppy
sheep, lamb, cattle
cow, cattle
tie, bow, bow tie
hot dog
wine glass
chair, seat
toilet
boat, ship, ferry
"""


@pytest.fixture
def words(tmp_path: Path) -> ChairWords:
    path = tmp_path / "synonyms.txt"
    path.write_text(LIST)
    return ChairWords.read(path)


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("two men and a puppy", ["person", "dog"]),
        ("a baby dog by a baby puppy", ["dog", "person", "dog"]),
        ("an adult animal", []),
        ("passenger trains and a passenger boat", ["train", "person", "boat"]),
        ("a hot dog", ["hot dog"]),
        ("hot dogs and wine glasses", ["hot dog", "wine glass"]),
        ("a man in a bow tie", ["person", "tie"]),
        ("a toilet seat", ["toilet"]),
        ("a seat by a toilet", ["toilet"]),
        ("a seat by a ferry boat", ["chair", "boat", "boat"]),
        ("a motor bike and motorbikes", ["motorcycle"]),  # in their list it is written after two spaces
        ("cattle", ["cow"]),  # the last line that has it
        ("a cattle car", ["cow"]),  # only phrases in their code are found
        ("a person at home plate", ["person"]),
        ("", []),
    ],
)
def test_mentions_are_those_of_their_code(words: ChairWords, caption: str, expected: list[str]) -> None:
    assert [words.categories[word.category] for word in words.find(caption.split())] == expected


def test_positions_of_mentions(words: ChairWords) -> None:
    found = words.find(["two", "baby", "dogs", "and", "men"])
    assert [tuple(word)[:2] for word in found] == [(1, 3), (4, 5)]


def test_categories_have_the_order_of_the_instances(words: ChairWords, tmp_path: Path) -> None:
    path = tmp_path / "synonyms.txt"
    few = ChairWords.read(path, ("toilet", "cow", "person"))
    assert few.categories == ("toilet", "cow", "person")
    found = few.find(["men", ",", "cows", "and", "a", "dog", "on", "a", "toilet", "seat"])
    assert [word.category for word in found] == [2, 1, 0]
    with pytest.raises(InputError) as error:
        ChairWords.read(path, ("person", "unicorn"))
    assert str(error.value) == (
        f"{path} has no words for categories of the instances: unicorn. Give each category a line that begins with its "
        "name."
    )


def test_the_published_list_beside_ours(shared_data: Path) -> None:
    """Ours finds nearly all words that it finds in 5,005 real captions, in the same category."""
    published = ChairWords.read(shared_data / "coco/chair_synonyms.txt", VisualWords.read_list().categories)
    ours = VisualWords.read_list()
    captions = json.loads((shared_data / "captions/gts_tokenised.json").read_text())
    texts = [text.split() for texts in captions.values() for text in texts]
    theirs = [(i, word) for i, text in enumerate(texts) for word in published.find(text)]
    by_us = [{at: word.category for word in ours.find(text) for at in range(*word[:2])} for text in texts]
    agree = sum(word.category in (by_us[i].get(word.begin), by_us[i].get(word.end - 1)) for i, word in theirs)
    assert len(theirs) > 5000
    assert agree / len(theirs) > 0.96
