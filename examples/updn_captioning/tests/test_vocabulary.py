from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updn_captioning.data.vocabulary import BEGIN, END, PAD, UNKNOWN, UNKNOWN_WORD, CaptionVocabulary
from updn_common.errors import InputError

CAPTIONS = [("a", "dog"), ("the", "dog", "and", "a", "cat"), ("cat", "dog")]


def test_frequent_words_come_first_and_rare_ones_are_dropped() -> None:
    assert CaptionVocabulary.build(CAPTIONS, 2).words == ("dog", "a", "cat")
    assert CaptionVocabulary.build(CAPTIONS, 1).words == ("dog", "a", "cat", "and", "the")
    assert len(CaptionVocabulary.build(CAPTIONS, 2)) == 7


def test_vocabulary_without_frequent_words() -> None:
    with pytest.raises(InputError) as error:
        CaptionVocabulary.build(CAPTIONS)
    assert str(error.value) == (
        "No word occurs 5 times or more in the train captions, the most frequent one 3 times. Give a lower "
        "--min-word-occurrences."
    )


def test_encode() -> None:
    vocabulary = CaptionVocabulary(("dog", "a"))
    assert vocabulary.encode(("a", "dog"), 4).tolist() == [BEGIN, 5, 4, END, PAD, PAD]
    assert vocabulary.encode(("a", "cat", "dog"), 2).tolist() == [BEGIN, 5, UNKNOWN, END]
    assert vocabulary.encode((), 1).tolist() == [BEGIN, END, PAD]


def test_decode() -> None:
    vocabulary = CaptionVocabulary(("dog", "a"))
    assert vocabulary.decode([BEGIN, 5, UNKNOWN, 4, END, 4]) == f"a {UNKNOWN_WORD} dog"
    assert vocabulary.decode([5, 4]) == "a dog"
    assert vocabulary.decode([]) == vocabulary.decode([END, 5]) == vocabulary.decode([PAD]) == ""


@given(st.lists(st.sampled_from(("dog", "a", "cat")), max_size=8), st.integers(0, 8))
def test_decoding_undoes_encoding(words: list[str], length: int) -> None:
    vocabulary = CaptionVocabulary(("dog", "a", "cat"))
    assert vocabulary.decode(vocabulary.encode(words, length).tolist()) == " ".join(words[:length])


def test_round_trip(tmp_path: Path) -> None:
    vocabulary = CaptionVocabulary(("dog", "æ"))
    vocabulary.write(tmp_path / "words.json")
    assert CaptionVocabulary.read(tmp_path / "words.json") == vocabulary


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1}', "{} should hold a JSON list of strings, found an object with the keys 'a'."),
        ("[]", "{} holds an empty list. It should hold at least one string."),
        ('["a", "b", "a"]', "{} lists 'a' twice. Remove one of the two."),
    ],
)
def test_wrong_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "words.json"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        CaptionVocabulary.read(path)
    assert str(error.value) == message.format(path)
