"""Word vectors from text, kept with the vocabulary, and networks that start from them."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from updn_common.errors import InputError
from updn_vqa.data.glove import read_word_vectors, start_from_word_vectors
from updn_vqa.data.prepare import prepare
from updn_vqa.data.prepare_config import PrepareConfig
from updn_vqa.data.prepared import PreparedData
from updn_vqa.data.vocabulary import QuestionVocabulary
from updn_vqa.networks import build_network
from updn_vqa.networks.updn import UpDn
from updn_vqa.training.config import TrainConfig
from updn_vqa.training.methods import METHODS, SCALES, SMALL
from updn_vqa.training.train import train

WORDS = QuestionVocabulary(("the", "cat", "where's", "café"))
TEXT = "the 1 2.5 -3e-1\ndog 7 8 9\n. . . 4 5 6\ncafé 0 0 1\nthe 9 9 9\n"


@pytest.fixture
def text(tmp_path: Path) -> Callable[..., Path]:
    def write(content: str | bytes = TEXT) -> Path:
        path = tmp_path / "glove.txt"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def test_words_without_a_vector_get_zeros(text: Callable[..., Path]) -> None:
    vectors, found = read_word_vectors(text(), WORDS)
    assert found == 2
    expected = np.array([[0, 0, 0], [0, 0, 0], [1, 2.5, -0.3], [0, 0, 0], [0, 0, 0], [0, 0, 1]], dtype=np.float32)
    np.testing.assert_array_equal(vectors, expected)


def test_header_of_word2vec_is_skipped(text: Callable[..., Path]) -> None:
    expected = read_word_vectors(text(), WORDS)[0]
    np.testing.assert_array_equal(read_word_vectors(text("5 3\n" + TEXT), WORDS)[0], expected)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("the 1 2 3\ncat 1 2\n", "{}, line 2: 2 numbers; the first line of a word has 3."),
        ("the 1 2 3\ncat 1 2 x\n", "{}, line 2: could not convert string to float: b'x'."),
        ("the 1 2 3\ncat 1 2 nan\n", "{}, line 2: a number is not finite."),
        ("dog 1 2 3\n", "{} has a vector for none of the 4 words of the train questions."),
        ("", "{} does not hold word vectors: expected a word and its numbers in each line."),
        ("the\ncat\n", "{} does not hold word vectors: expected a word and its numbers in each line."),
        (b"PK\x03\x04\x00\n", "{} does not hold word vectors: expected a word and its numbers in each line."),
    ],
)
def test_malformed_text(text: Callable[..., Path], content: str | bytes, message: str) -> None:
    path = text(content)
    with pytest.raises(InputError) as error:
        read_word_vectors(path, WORDS)
    assert str(error.value) == message.format(path)


@pytest.fixture
def prepared(config: Callable[..., PrepareConfig], text: Callable[..., Path]) -> Path:
    options = config(glove=text("is 0.5 0.25\ncat -1 1\nzebra 9 9\n"))
    prepare(options)
    return options.out


def test_prepare_writes_vectors(prepared: Path) -> None:
    words = json.loads((prepared / "words.json").read_text())
    vectors = load_file(prepared / "embeddings.safetensors")["vectors"]
    assert vectors.shape == (len(words) + 2, 2)
    assert {word: v.tolist() for word, v in zip(words, vectors[2:], strict=True) if v.any()} == {
        "is": [0.5, 0.25],
        "cat": [-1.0, 1.0],
    }
    record = json.loads((prepared / "prepared.json").read_text())["word_vectors"]
    assert record.pop("sha256").isalnum()
    assert record == {"name": "glove.txt", "size": 2, "words": 2}


def test_prepare_prints_the_number_of_vectors(
    config: Callable[..., PrepareConfig], text: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(config(glove=text("is 0.5 0.25\ncat -1 1\nzebra 9 9\n")))
    assert "Word vectors: glove.txt has 2 of 10 words, 2 numbers each." in capsys.readouterr().out


@pytest.mark.parametrize("network", ["updn", "updn-bypass", "san"])
def test_networks_start_from_vectors(prepared: Path, network: Any, capsys: pytest.CaptureFixture[str]) -> None:
    vectors = load_file(prepared / "embeddings.safetensors")["vectors"]
    sizes = replace(SMALL, network=network, embedding=2, hidden=4)
    model = build_network(sizes, PreparedData.open(prepared))
    others = {name: value.clone() for name, value in model.state_dict().items() if name != "embedding.weight"}
    capsys.readouterr()
    start_from_word_vectors(model, prepared)
    assert torch.equal(model.get_parameter("embedding.weight"), vectors)
    assert model.get_parameter("embedding.weight").requires_grad
    assert all(torch.equal(model.state_dict()[name], value) for name, value in others.items())
    assert capsys.readouterr().err == ""


def test_vectors_of_another_size_are_not_used(prepared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = UpDn(replace(SMALL, embedding=3), words=13, answers=3, feature_size=5)
    before = model.get_parameter("embedding.weight").detach().clone()
    capsys.readouterr()
    start_from_word_vectors(model, prepared)
    assert torch.equal(model.get_parameter("embedding.weight"), before)
    assert capsys.readouterr().err == (
        f"note: the word vectors in {prepared} have 2 numbers, but the network's 3: they are not used. "
        "Give --model.embedding 2 for them.\n"
    )


def test_training_starts_from_vectors(prepared: Path, tmp_path: Path) -> None:
    scale = replace(
        SCALES["shapes"], model=replace(SMALL, embedding=2, hidden=4), steps=1, evaluate_every=1, learning_rate=0.0
    )
    train(TrainConfig(data=prepared, out=tmp_path / "run", method=METHODS["base"], scale=scale, cpu=True))
    weights = load_file(tmp_path / "run" / "last.safetensors")
    assert torch.equal(weights["model.embedding.weight"], load_file(prepared / "embeddings.safetensors")["vectors"])


def test_missing_file(config: Callable[..., PrepareConfig], tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        prepare(config(glove=tmp_path / "glove.txt"))
    assert str(error.value) == f"{tmp_path / 'glove.txt'} does not exist; expected word vectors as text. Check --glove."
    assert not (tmp_path / "out").exists()
