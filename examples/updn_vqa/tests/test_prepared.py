"""Batches of a prepared directory."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from updn_common.errors import InputError
from updn_vqa.data.prepare import PrepareConfig, prepare
from updn_vqa.data.prepared import PreparedData

NAN = float("nan")


@pytest.fixture
def data(config: Callable[..., PrepareConfig]) -> PreparedData:
    options = config(hints="hat", development_share=0)
    prepare(options)
    return PreparedData.open(options.out)


def test_open(data: PreparedData) -> None:
    assert data.split_names == ["train", "test"]
    assert data.answers.answers == ("red", "yes")
    assert data.words.words[:3] == ("is", "'s", "bob")
    assert data.store.feature_size == 5
    assert len(data.split("train")) == 8
    assert data.split("test").annotations[1].multiple_choice_answer == "yes"
    assert data.split("test").questions[2].image_id == 12


def test_batch(data: PreparedData) -> None:
    split = data.split("train")
    assert split.hinted_indices.tolist() == [0, 3]
    assert split.hints.isnan().tolist() == [[False] * 4, [False] * 3 + [True]]
    batch = split.batch([3, 0, 1])
    assert batch.question_ids.tolist() == [2001, 1000, 1001]
    assert batch.features.shape == (3, 4, 5)
    assert batch.mask.tolist() == [[True] * 3 + [False], [True] * 4, [True] * 4]
    assert batch.sizes.tolist() == [[40, 30]] * 3
    assert batch.answer_scores.tolist() == [[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]
    assert batch.hinted.tolist() == [True, True, False]
    assert batch.ground_truth.tolist() == [1, 0, 1]
    torch.testing.assert_close(batch.human, torch.tensor([[0, 1, 0.5, NAN], [1, 0, 0.5, 0], [NAN] * 4]), equal_nan=True)
    assert batch.grounded.tolist() == [True, True, False]
    assert batch.relevant.tolist() == [[False] * 4, [True, False, False, False], [False] * 4]
    assert [data.words.words[i - 2] for i in batch.tokens[1].tolist() if i >= 2] == [
        "what",
        "color",
        "is",
        "the",
        "cat",
    ]
    for tensor, name in ((batch.features, "features"), (batch.boxes, "boxes")):
        expected = getattr(data.store.batch(data.store.rows([2, 1, 1])), name)
        assert torch.equal(tensor, expected)


def test_batch_is_padded_to_its_widest_image(data: PreparedData) -> None:
    batch = data.split("train").batch(torch.tensor([3, 2]))  # image 2 alone has three proposals
    assert batch.features.shape == (2, 3, 5)
    torch.testing.assert_close(batch.human, torch.tensor([[0.0, 1.0, 0.5], [NAN] * 3]), equal_nan=True)
    assert batch.relevant.shape == (2, 3)


def test_answer_scores_are_the_soft_scores(config: Callable[..., PrepareConfig], dump: Callable[..., Path]) -> None:
    options = config(answers=dump(["dark red", "blue", "no", "red"], "answers.json"))
    prepare(options)
    scores = PreparedData.open(options.out).split("test").batch([0, 1]).answer_scores
    torch.testing.assert_close(scores, torch.tensor([[0.3, 0, 0, 1], [0, 0, 0.9, 0]]))


def test_split_without_hints_or_boxes(data: PreparedData) -> None:
    split = data.split("test")
    batch = split.batch([0, 3])
    assert split.hinted_indices.tolist() == []
    assert not batch.hinted.any()
    assert not batch.grounded.any()
    assert batch.human.isnan().all()
    assert not batch.relevant.any()


def test_to_moves_every_tensor(data: PreparedData) -> None:
    moved = data.split("test").batch([0]).to("meta")
    assert {tensor.device.type for tensor in moved} == {"meta"}


def test_batch_has_the_documented_types(data: PreparedData) -> None:
    batch = data.split("train").batch([0])
    kinds = {name: str(tensor.dtype).removeprefix("torch.") for name, tensor in batch._asdict().items()}
    assert kinds == {
        **dict.fromkeys(("question_ids", "tokens", "ground_truth"), "int64"),
        **dict.fromkeys(("features", "boxes", "answer_scores", "human"), "float32"),
        **dict.fromkeys(("mask", "relevant", "grounded"), "bool"),
        "sizes": "int32",
    }


def test_errors(data: PreparedData, tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        data.split("val")
    assert str(error.value) == f"{data.directory} has no split 'val'; it has train, test. Give --split one of these."
    with pytest.raises(InputError) as error:
        PreparedData.open(tmp_path)
    assert str(error.value) == (
        f"{tmp_path / 'prepared.json'} does not exist; expected a directory that `updn-vqa prepare` wrote."
    )
    arrays = data.directory / "test" / "arrays.safetensors"
    arrays.write_bytes(arrays.read_bytes()[:50])
    with pytest.raises(InputError, match=f"{arrays} cannot be read .*Prepare it again"):
        data.split("test")
    record = data.directory / "prepared.json"
    record.write_text('{"format_version": 0}')
    with pytest.raises(InputError) as error:
        PreparedData.open(data.directory)
    assert str(error.value) == f"{record}: format version 0; expected 3. Prepare it again."
