"""Prepared captions as batches."""

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from updn_captioning.data.prepare import prepare
from updn_captioning.data.prepare_config import PrepareConfig
from updn_captioning.data.prepared import CaptionBatch, PreparedData
from updn_common.errors import InputError
from updn_common.proposals.readers import read_proposals

Configure = Callable[..., PrepareConfig]


@pytest.fixture
def data(config: Configure) -> PreparedData:
    prepare(config())
    return PreparedData.open(config().out)


def same(a: CaptionBatch, b: CaptionBatch) -> bool:
    return all(torch.equal(x.nan_to_num(-1), y.nan_to_num(-1)) for x, y in zip(a, b, strict=True))


def test_batch(data: PreparedData, world: Path) -> None:
    """Caption 20 of image 2, which has three proposals, and caption 11 of image 1."""
    batch = data.split("train").batch([2, 1])
    assert batch.image_ids.tolist() == [2, 1]
    assert batch.caption_ids.tolist() == [20, 11]
    images = {image.image_id: image for image in read_proposals(world / "features.tsv")}
    for row, image_id in enumerate((2, 1)):
        n = len(images[image_id].boxes)
        assert batch.mask[row].tolist() == [True] * n + [False] * (4 - n)
        torch.testing.assert_close(batch.features[row, :n], torch.from_numpy(images[image_id].features))
        torch.testing.assert_close(batch.boxes[row, :n], torch.from_numpy(images[image_id].boxes))
        assert not batch.features[row, n:].any()
    assert batch.sizes.tolist() == [[40, 30]] * 2
    texts = ["a cat near two hot dogs", "dogs and a kitten"]
    assert [data.vocabulary.decode(tokens) for tokens in batch.tokens.tolist()] == texts
    assert batch.tokens.shape == (2, 8)  # BEGIN, six words, END
    assert batch.tokens.dtype == batch.word_spans.dtype == batch.word_categories.dtype == torch.int64
    assert batch.word_spans.tolist() == [[[1, 2], [4, 6]], [[0, 1], [3, 4]]]
    assert [[data.categories[i] for i in row] for row in batch.word_categories.tolist()] == [
        ["cat", "hot dog"],
        ["dog", "cat"],
    ]
    assert batch.hinted.tolist() == [[True, True], [False, True]]
    torch.testing.assert_close(batch.human[0, :, :3], torch.tensor([[1, 0, 0.5], [0, 1, 0.5]]))
    assert batch.human[0, :, 3].isnan().all()
    assert batch.relevant.tolist() == [
        [[True, False, False, False], [False, True, False, False]],
        [[False] * 4, [True, False, False, False]],
    ]


def test_batch_is_padded_to_its_longest_caption(data: PreparedData) -> None:
    batch = data.split("train").batch([3])
    assert batch.tokens.shape == (1, 6)
    assert batch.features.shape == (1, 3, 5)
    assert batch.human.shape == batch.relevant.shape == (1, 2, 3)


def test_captions_without_visual_words(config: Configure, world: Path) -> None:
    words = world / "words.txt"
    words.write_text("cat\ndog, absent\nhot dog\n")
    text = (world / "dataset_coco.json").read_text().replace('"dogs"', '"birds"').replace('"kitten"', '"thing"')
    (world / "dataset_coco.json").write_text(text)
    prepare(config(visual_words=words))
    split = PreparedData.open(config().out).split("train")
    assert split.batch([1]).word_categories.shape == (1, 0)
    assert split.batch([1]).human.shape == (1, 0, 4)
    assert split.batch([0, 1]).word_categories.tolist() == [[0], [-1]]
    assert split.batch([0, 1]).word_spans.tolist() == [[[1, 2]], [[-1, -1]]]
    assert split.batch([0, 1]).hinted.tolist() == [[True], [False]]
    assert split.hinted_indices.tolist() == [0, 2, 4, 6]


def test_without_hints_importance_is_nan(config: Configure, world: Path) -> None:
    (world / "words.txt").write_text("cat, kitten\ndog\n")
    prepare(config(hints="none", visual_words=world / "words.txt"))
    split = PreparedData.open(config().out).split("train")
    batch = split.batch([0, 1])
    assert batch.human.shape == (2, 2, 4)
    assert batch.human.isnan().all()
    assert not batch.relevant.any()
    assert split.hinted_indices.tolist() == []
    assert split.comparable_indices.tolist() == []


def test_control_hints_replace_importance(data: PreparedData) -> None:
    """Only the importance changes, not the pair of each word."""
    split = data.split("train")
    assert split.pairs.tolist() == [[0, 0], [0, 2], [1, 0], [1, 2], [2, 0], [3, 0]]
    other = torch.arange(24.0).view(6, 4).where(~split.hints.isnan(), torch.nan)
    batch, usual = split.batch([2, 1], hints=other), split.batch([2, 1])
    assert batch.human[0, :, :3].tolist() == [[8, 9, 10], [12, 13, 14]]
    assert batch.human[1, 1].tolist() == [0, 1, 2, 3]
    assert same(batch._replace(human=usual.human), usual)
    assert torch.equal(batch.human.isnan(), usual.human.isnan())


def test_attributes_of_a_split(data: PreparedData) -> None:
    split = data.split("val")
    assert (split.name, len(split), split.image_ids) == ("val", 4, [5, 6])
    assert split.references == {i: ["a cat near two hot dogs", "dogs and a kitten"] for i in (5, 6)}
    assert split.categories == ["cat", "dog", "hot dog"]
    assert split.pair_rows == {(5, 0): 0, (5, 2): 1, (6, 0): 2}
    assert split.annotated == split.pair_rows.keys()
    assert split.hinted_indices.tolist() == [0, 1, 2, 3]


def test_images(data: PreparedData) -> None:
    split = data.split("train")
    images = split.images(split.positions([2, 1]))
    batch = split.batch([2, 1])
    for name in ("features", "boxes", "mask", "sizes"):
        assert torch.equal(getattr(images, name), getattr(batch, name))
    with pytest.raises(InputError) as error:
        split.positions([2, 77])
    assert str(error.value) == f"{split.directory} has no image 77; give ids of this split's captions.json."


def test_batch_equals_single_captions(tiny: tuple[Path, Path]) -> None:
    split = PreparedData.open(tiny[1]).split("train")
    whole = split.batch(range(6))
    for i in range(6):
        one = split.batch(torch.tensor([i]))
        length = one.tokens.shape[1]
        assert torch.equal(whole.tokens[i, :length], one.tokens[0])
        assert not whole.tokens[i, length:].any()
        assert same(CaptionBatch(*(x[i : i + 1] for x in whole))._replace(tokens=one.tokens), one)


def test_split_can_be_pickled(data: PreparedData) -> None:
    split = data.split("train")
    assert same(pickle.loads(pickle.dumps(split)).batch([0, 5]), split.batch([0, 5]))


def test_to_moves_every_tensor(data: PreparedData) -> None:
    batch = data.split("train").batch([0])
    assert {tensor.device.type for tensor in batch.to("meta")} == {"meta"}
    assert same(batch.to("cpu"), batch)


def test_errors(data: PreparedData, tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        data.split("dev")
    assert (
        str(error.value) == f"{data.directory} has no split 'dev'; it has train, val, test. Give --split one of these."
    )
    with pytest.raises(InputError) as error:
        PreparedData.open(tmp_path)
    assert str(error.value) == (
        f"{tmp_path / 'prepared.json'} does not exist; expected a directory that `updn-captioning prepare` wrote."
    )
    record = (data.directory / "prepared.json").read_text()
    (data.directory / "prepared.json").write_text(record.replace('"format_version": 2', '"format_version": 9'))
    with pytest.raises(InputError) as error:
        PreparedData.open(data.directory)
    assert str(error.value) == (f"{data.directory / 'prepared.json'}: format version 9; expected 2. Prepare it again.")


def test_damaged_arrays(data: PreparedData) -> None:
    path = data.directory / "train" / "arrays.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError) as error:
        data.split("train")
    assert str(error.value).startswith(f"{path} cannot be read (")
    assert str(error.value).endswith("). Prepare it again.")
