"""Tokenisation equals that of the official Java program on real and odd captions."""

import json
import random
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updn_captioning.data.tokenise import PUNCTUATION, tokenise
from updn_captioning.scores.java import package
from updn_common.errors import InputError

LINES = (Path(__file__).parent / "ptb_cases.txt").read_text().splitlines()
BY_JAVA = dict(zip(LINES[::2], LINES[1::2], strict=True))
"""What PTBTokenizer of CoreNLP 3.4.1 made of captions that we thought up, without punctuation."""

PIECES = sorted({word for caption in BY_JAVA for word in caption.split() if "<" not in word})


def java(captions: Iterable[str]) -> list[str]:
    """The official tokens."""
    try:
        jar = package("The official tokeniser") / "tokenizer" / "stanford-corenlp-3.4.1.jar"
    except InputError as error:
        pytest.skip(str(error))
    command = ["java", "-cp", str(jar), "edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase"]
    lines = "".join(f"{caption}\nx\n" for caption in captions)  # the next line may change the end of a caption
    done = subprocess.run(command, input=lines, capture_output=True, text=True, check=True)
    return [
        " ".join(token for token in line.rstrip().split(" ") if token not in PUNCTUATION)
        for line in done.stdout.split("\n")[:-1:2]
    ]


@pytest.mark.parametrize(("caption", "tokens"), BY_JAVA.items())
def test_equals_java(caption: str, tokens: str) -> None:
    assert tokenise(caption) == tokens


def test_thousand_real_captions(shared_data: Path) -> None:
    golden = json.loads((shared_data / "captions" / "ptb_tokeniser_golden.json").read_text())
    assert len(golden) == 1000
    assert [tokenise(row["raw"]) for row in golden] == [row["ptb"] for row in golden]


def test_equals_java_when_it_is_run() -> None:
    """On captions made of ordinary and odd pieces."""
    rng = random.Random(0)
    captions = [" ".join(rng.choices(PIECES, k=rng.randint(1, 9))) for _ in range(5000)]
    assert java(BY_JAVA) == list(BY_JAVA.values())
    assert java(captions) == [tokenise(caption) for caption in captions]


@given(st.text(st.sampled_from("aA b'.,-&1/(\"\u2019\n\u00bd😀"), max_size=12) | st.text(max_size=12))
def test_any_text_can_be_tokenised(text: str) -> None:
    tokens = tokenise(text)
    assert tokens == " ".join(tokens.split(" ")).strip(" ")
    assert PUNCTUATION.isdisjoint(tokens.split(" "))
    assert tokenise(f" {text}\n") == tokenise(f" {text} ")
    assert tokens or not any(map(str.isalnum, text))  # else a caption with words would have no reference


@given(st.lists(st.sampled_from(["a", "dog", "runs", "in", "Cannon"]), max_size=6))
def test_plain_words_are_their_own_tokens(words: list[str]) -> None:
    assert tokenise(" ".join(words)) == " ".join(words).lower()


def test_empty_text_has_no_tokens() -> None:
    assert [tokenise(text) for text in ("", " ", ".", "\n", "'...'")] == [""] * 5
