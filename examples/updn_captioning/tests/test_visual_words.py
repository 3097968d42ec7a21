"""Words that name categories, found in captions."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updn_captioning.data.tokenise import tokenise
from updn_captioning.data.visual_words import NO_CATEGORY, VisualWord, VisualWords
from updn_common.errors import InputError

OWN = VisualWords.read_list()


def named(caption: str, words: VisualWords = OWN) -> list[tuple[str, str]]:
    """Each visual word of a caption, and the category it names."""
    tokens = caption.split()
    return [(" ".join(tokens[w.begin : w.end]), words.categories[w.category]) for w in words.find(tokens)]


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("a man eats a hot dog", [("man", "person"), ("hot dog", "hot dog")]),
        ("two hot dogs and two dogs", [("hot dogs", "hot dog"), ("dogs", "dog")]),
        ("a teddy bear beside a bear", [("teddy bear", "teddy bear"), ("bear", "bear")]),
        ("traffic lights by the bus stop", [("traffic lights", "traffic light")]),
        ("a train at the train station", [("train", "train")]),
        ("a baby elephant and a baby", [("baby elephant", "elephant"), ("baby", "person")]),
        ("glasses of wine on the table", [("glasses of wine", "wine glass"), ("table", "dining table")]),
        ("knives , geese and people", [("knives", "knife"), ("geese", "bird"), ("people", "person")]),
        ("a bow tie and a baseball mitt", [("bow tie", "tie"), ("baseball mitt", "baseball glove")]),
        ("the dirt bike is no bike", [("dirt bike", "motorcycle"), ("bike", "bicycle")]),
        ("a game of baseball on a ski slope", []),
        ("a bowl in a toilet bowl", [("bowl", "bowl"), ("toilet bowl", "toilet")]),
        ("chair lifts by a man made lake with a snow man and snow men", []),
        ("an elephant calf and a giraffe calf", [("elephant calf", "elephant"), ("giraffe calf", "giraffe")]),
        ("a remote controlled car on a tennis table", [("car", "car")]),
        ("a cat bed and a toothbrush holder", []),
        ("a passenger train , a passenger jet and passengers", [("passenger train", "train"),
            ("passenger jet", "airplane"), ("passengers", "person")]),
        ("double decker buses and a double decker bus", [("double decker buses", "bus"), ("double decker bus", "bus")]),
        ("a flat screen tv by a stove top oven", [("flat screen tv", "tv"), ("stove top oven", "oven")]),
        ("a jet ski , a wheel chair and hello kitty", []),
        ("a sheep dog and a wiener dog", [("sheep dog", "dog"), ("wiener dog", "dog")]),
        ("a cow boy on a flat bed with a side car", [("cow boy", "person"), ("flat bed", "truck")]),
        ("two persons", [("persons", "person")]),
        ("a pickup truck , a ferry boat and a bunk bed", [("pickup truck", "truck"), ("ferry boat", "boat"),
            ("bunk bed", "bed")]),
        ("a baby duck , a mother cow and baby carrots", [("baby duck", "bird"), ("mother cow", "cow"),
            ("baby carrots", "carrot")]),
        ("a dog , dog and dog", [("dog", "dog")] * 3),
        ("a man in a baby stroller", [("man", "person")]),
        ("fire", []),
        ("", []),
    ],
)  # fmt: skip
def test_our_list(caption: str, expected: list[tuple[str, str]]) -> None:
    assert named(caption) == expected


def test_our_list_has_the_categories_of_coco(shared_data: Path) -> None:
    """Lines are in COCO's order, each word is in one line, and each name stands for its own category."""
    document = json.loads((shared_data / "coco/instances_val2014_100.json").read_text())
    assert OWN.categories == tuple(category["name"] for category in document["categories"])
    assert not OWN.ambiguous
    assert [OWN.phrases[name] for name in OWN.categories] == list(range(80))


@pytest.mark.parametrize(("file", "share"), [("coco_class_name.txt", 0.91), ("chair_synonyms.txt", 0.96)])
def test_our_list_finds_the_words_of_other_lists(shared_data: Path, file: str, share: float) -> None:
    """In 5,005 real captions, ours finds nearly all words of the other lists, with the same category."""
    other = VisualWords.read_list(shared_data / "coco" / file)
    captions = json.loads((shared_data / "captions/gts_tokenised.json").read_text())
    texts = [text.split() for texts in captions.values() for text in texts]
    theirs = [(i, word) for i, text in enumerate(texts) for word in other.find(text)]
    ours = [{position: word.category for word in OWN.find(text) for position in range(*word[:2])} for text in texts]
    agree = sum(ours[i].get(word.begin) == word.category for i, word in theirs)
    assert agree / len(theirs) > share


def test_list_of_neural_baby_talk(shared_data: Path) -> None:
    words = VisualWords.read_list(shared_data / "coco/coco_class_name.txt")
    assert words.categories == OWN.categories
    assert words.ambiguous == {"surfboard": "surfboard", "cattle": "sheep", "ewe": "sheep", "recliner": "chair"}
    assert named("an iphone by a surfboard", words) == [("iphone", "cell phone"), ("surfboard", "surfboard")]


def test_precedence_of_phrases_in_several_lines(tmp_path: Path) -> None:
    """Names take precedence over other phrases, earlier lines over later ones, and listed phrases over plurals."""
    path = tmp_path / "list.txt"
    path.write_text(
        "Boat,  surfboard, ship # a comment\n\n# nothing\nsurfboard, ship\nski\nskis , Big  Ski\n! ski lift, lifts\n"
    )
    words = VisualWords.read_list(path)
    assert words.categories == ("boat", "surfboard", "ski", "skis")
    assert words.ambiguous == {"surfboard": "surfboard", "ship": "boat"}
    expected = {"boat": 0, "surfboard": 1, "ship": 0, "ski": 2, "skis": 3, "big ski": 3, "ski lift": -1, "lifts": -1}
    plurals = {"boats": 0, "surfboards": 1, "ships": 0, "big skis": 3, "ski lifts": -1, "liftses": -1}
    assert words.phrases == expected | plurals


@given(st.data())
def test_find_equals_a_slow_search(data: st.DataObject) -> None:
    letters = st.sampled_from("abc")
    phrase = st.lists(letters, min_size=1, max_size=3).map(" ".join)
    phrases = data.draw(st.dictionaries(phrase, st.integers(NO_CATEGORY, 2), max_size=8))
    caption = data.draw(st.lists(letters, max_size=9))
    begin, expected = 0, list[VisualWord]()
    while begin < len(caption):
        ends = [end for end in range(begin + 1, len(caption) + 1) if " ".join(caption[begin:end]) in phrases]
        end = max(ends, default=begin + 1)
        if ends and (category := phrases[" ".join(caption[begin:end])]) != NO_CATEGORY:
            last = expected[-1] if expected else None
            if (
                last
                and last.end == begin
                and last.category == category
                and caption[last.begin : begin] != caption[begin:end]
            ):
                expected.pop()
                begin = last.begin
            expected.append(VisualWord(begin, end, category))
        begin = end
    assert VisualWords(("x", "y", "z"), phrases).find(caption) == expected


def test_other_categories_are_named_by_their_names() -> None:
    words = VisualWords.of_names(["circle", "Box"])
    assert words.phrases == {"circle": 0, "box": 1, "circles": 0, "boxes": 1}
    assert words.categories == ("circle", "Box")


def test_subset_of_the_categories() -> None:
    words = OWN.of(["dog", "cat"])
    assert named("a hot dog , a dog and a kitten", words) == [("dog", "dog"), ("kitten", "cat")]
    with pytest.raises(InputError) as error:
        OWN.of(["dog", "unicorn", "yeti"], "words.txt")
    assert str(error.value) == (
        "words.txt has no words for categories of the instances: unicorn, yeti. Give each category a line that begins "
        "with its name."
    )


def test_round_trip(tmp_path: Path) -> None:
    OWN.write(tmp_path / "words.json")
    again = VisualWords.read(tmp_path / "words.json")
    assert again == OWN
    (tmp_path / "other.json").write_text("[1]")
    with pytest.raises(InputError) as error:
        VisualWords.read(tmp_path / "other.json")
    assert str(error.value) == f"{tmp_path / 'other.json'} is not a file of visual words. Prepare it again."


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "{} should hold words separated by commas, one category a line."),
        ("cat\n , \n", "{} should hold words separated by commas, one category a line."),
        ("! bus stop\n", "{} should hold words separated by commas, one category a line."),
        ("cat, kitty\ndog\ncat\n", "{}: the category 'cat' has two lines. Join them."),
    ],
)
def test_wrong_lists(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "list.txt"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        VisualWords.read_list(path)
    assert str(error.value) == message.format(path)


def test_tokens_of_the_official_tokeniser_are_found() -> None:
    assert named(tokenise("The catcher's mitt.")) == [("catcher 's mitt", "baseball glove")]
