"""Grounding of visual words, against loops over single words."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from scipy.stats import spearmanr
from torch import Tensor

from updn_captioning.data.prepare import prepare
from updn_captioning.data.prepare_config import PrepareConfig
from updn_captioning.data.prepared import CaptionSplit, PreparedData
from updn_captioning.data.vocabulary import BEGIN, END
from updn_captioning.evaluation.grounding import (
    MEASURES,
    Words,
    generated_batch,
    measure_generated,
    measure_references,
    word_weights,
)
from updn_captioning.networks.generate import Decoding, generate, load_model
from updn_captioning.networks.updn import UpDnCaptioner
from updn_common.reports.bootstrap import estimate

Tiny = tuple[Path, Path]
CPU = Accelerator(cpu=True)


class Trained(NamedTuple):
    model: UpDnCaptioner
    data: PreparedData
    split: CaptionSplit


@pytest.fixture
def trained(tiny: Tiny, untrained: Callable[..., Path]) -> Trained:
    data = PreparedData.open(tiny[1])
    return Trained(load_model(untrained("run"), data), data, data.split("test"))


@pytest.fixture
def padded(config: Callable[..., PrepareConfig], untrained: Callable[..., Path]) -> Trained:
    """Images with 3 and with 4 proposals, and a visual word of two tokens."""
    options = config(split="robust")
    prepare(options)
    data = PreparedData.open(options.out)
    assert len({int(n) for n in data.split("test").images([0, 1, 2]).mask.sum(1)}) == 2
    return Trained(load_model(untrained("run", data=options.out), data), data, data.split("test"))


def by_loop(trained: Trained, image_id: int, tokens: list[int]) -> Iterator[tuple[int, int, list[float]]]:
    """Position of the image, category and four measures of each visual word of a caption."""
    model, data, split = trained
    position = split.image_ids.index(image_id)
    proposals = split.images([position])
    words = data.vocabulary.decode(tokens).split()
    for word in data.visual_words.find(words):
        row = next((i for i, pair in enumerate(split.pairs.tolist()) if pair == [position, word.category]), None)
        if row is None:
            continue
        features = proposals.features.clone().requires_grad_()
        output = model(torch.tensor([[BEGIN, *tokens]]), features, proposals.mask)
        steps = range(word.begin, word.end)
        sum(output.log_probs[0, t, tokens[t]] for t in steps).backward()
        assert features.grad is not None
        alpha = features.grad[0].sum(-1)
        attention = torch.stack([output.attention[0, t] for t in steps]).mean(0)
        measures: list[float] = []
        for looked in (alpha, attention.detach()):
            known = ~split.hints[row].isnan()
            measures.append(spearmanr(looked[known[: len(looked)]], split.hints[row][known]).statistic)
            measures.append(100.0 * bool(split.relevant[row][int(looked.argmax())]))
        if not split.relevant[row].any():
            measures[1] = measures[3] = np.nan
        yield position, word.category, measures


def assert_words(found: Words, expected: list[tuple[int, int, list[float]]]) -> None:
    assert list(zip(found.images.tolist(), found.categories.tolist(), strict=True)) == [word[:2] for word in expected]
    np.testing.assert_allclose(found.measures, [word[2] for word in expected], atol=1e-4, equal_nan=True)


def test_measures_of_references_equal_a_loop_over_words(trained: Trained) -> None:
    found = measure_references(trained.model, trained.split, CPU)
    batch = trained.split.batch(range(len(trained.split)))
    pairs = zip(batch.image_ids.tolist(), batch.tokens.tolist(), strict=True)
    expected = [
        word for image_id, tokens in pairs for word in by_loop(trained, image_id, tokens[1 : tokens.index(END)])
    ]
    assert len(expected) > 50
    assert_words(found, expected)


def test_padding_proposals_are_not_measured(padded: Trained) -> None:
    model, data, split = padded
    batch = split.batch(range(len(split)))
    pairs = [
        (i, tokens[1 : tokens.index(END)])
        for i, tokens in zip(batch.image_ids.tolist(), batch.tokens.tolist(), strict=True)
    ]
    expected = [word for image_id, tokens in pairs for word in by_loop(padded, image_id, tokens)]
    assert {data.categories[word[1]] for word in expected} == {"cat", "hot dog"}
    assert_words(measure_references(model, split, CPU), expected)
    captions = [tokens for _, tokens in pairs[::2]]
    expected = [word for image_id, tokens in pairs[::2] for word in by_loop(padded, image_id, tokens)]
    assert_words(measure_generated(model, split, captions, data.vocabulary, data.visual_words, CPU), expected)


def test_words_with_either_measure_are_measured(padded: Trained) -> None:
    """An object may be too small for a mask, or no proposal may overlap it."""
    model, data, split = padded
    kinds = [(data.categories[category], image) for image, category in split.pairs.tolist()]
    split.hints[kinds.index(("cat", 0))] = split.hints[kinds.index(("hot dog", 0))] = torch.nan
    split.relevant[kinds.index(("cat", 1))] = False
    split.hints[kinds.index(("cat", 2))], split.relevant[kinds.index(("cat", 2))] = torch.nan, False
    split.hints[kinds.index(("hot dog", 2))] = torch.nan
    found = measure_references(model, split, CPU)
    told = [
        (int(image), data.categories[int(category)], [not x for x in row])
        for image, category, row in zip(found.images, found.categories, found.measures.isnan().tolist(), strict=True)
    ]
    pointing, ranks = [False, True] * 2, [True, False] * 2
    cat, kitten = (0, "cat", pointing), (0, "cat", pointing)
    assert told == [
        *(cat, (0, "hot dog", pointing), kitten),
        *((1, "cat", ranks), (1, "cat", ranks)),
        (2, "hot dog", pointing),
    ]


def test_measures_of_generated_captions_equal_a_loop_over_words(trained: Trained) -> None:
    """Words whose category is not in the image are not measured."""
    model, data, split = trained
    captions = generate(model, split, CPU, Decoding(beam_size=1))
    names = [data.vocabulary.index[name] for name in data.categories]
    captions[:4] = [[*caption[:3], *names, *caption[3:5]] for caption in captions[:4]]  # only some are in the image
    captions[4] = []
    found = measure_generated(model, split, captions, data.vocabulary, data.visual_words, CPU)
    pairs = zip(split.image_ids, captions, strict=True)
    expected = [word for image_id, caption in pairs for word in by_loop(trained, image_id, caption)]
    assert len(expected) >= 8
    assert_words(found, expected)


def test_the_batch_size_does_not_change_the_measures(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = measure_references(trained.model, trained.split, CPU)
    monkeypatch.setattr("updn_captioning.evaluation.grounding.BATCH_SIZE", 3)
    found = measure_references(trained.model, trained.split, CPU)
    assert found.images.tolist() == expected.images.tolist()
    torch.testing.assert_close(found.measures, expected.measures, rtol=1e-4, atol=1e-4, equal_nan=True)


def test_the_mode_of_the_network_is_restored(trained: Trained) -> None:
    expected = measure_references(trained.model, trained.split, CPU)
    trained.model.dropout.p = 0.9
    found = measure_references(trained.model.train(), trained.split, CPU)
    assert trained.model.training
    torch.testing.assert_close(found.measures, expected.measures, equal_nan=True)


def test_generated_captions_become_a_batch(trained: Trained) -> None:
    model, data, split = trained
    name = data.vocabulary.index[data.categories[3]]
    captions = [[name, 5, name], [6], [6, 7, name]]
    named = [data.visual_words.find(data.vocabulary.decode(caption).split()) for caption in captions]
    batch = generated_batch(split, [2, 0, 5], captions, named)
    assert batch.image_ids.tolist() == [split.image_ids[i] for i in (2, 0, 5)]
    assert batch.tokens.tolist() == [[BEGIN, name, 5, name, END], [BEGIN, 6, END, 0, 0], [BEGIN, 6, 7, name, END]]
    assert batch.word_spans.tolist() == [[[0, 1], [2, 3]], [[-1, -1], [-1, -1]], [[2, 3], [-1, -1]]]
    assert batch.word_categories.tolist() == [[3, 3], [-1, -1], [3, -1]]
    assert not batch.hinted[1].any()
    found = word_weights(model, batch)
    assert found.gradient.shape == found.attention.shape == batch.human.shape
    assert found.gradient[1].abs().sum() == found.attention[1].abs().sum() == 0


def words(images: list[int], categories: list[int], measures: list[list[float]]) -> Words:
    return Words(torch.tensor(images), torch.tensor(categories), torch.tensor(measures, dtype=torch.float64))


NAN = float("nan")


def test_means_are_over_words_and_intervals_over_images() -> None:
    found = words(
        [0, 0, 2, 2], [0, 1, 0, 0], [[0.1, 100, NAN, 0], [0.3, NAN, NAN, 0], [0.5, 0, NAN, 0], [1.1, 0, NAN, 50]]
    )
    estimates = estimate(found.statistics("reference", 3))
    assert estimates.values == pytest.approx(
        {
            "reference_gradient_rank_correlation": 0.5,
            "reference_gradient_pointing": 100 / 3,
            "reference_attention_pointing": 12.5,
        }
    )
    drawn = np.random.default_rng(0).integers(0, 3, (1000, 3))
    sums, numbers = np.array([0.4, 0.0, 1.6]), np.array([2, 0, 2])
    with np.errstate(invalid="ignore"):
        expected = [sums[rows].sum() / numbers[rows].sum() for rows in drawn]
    np.testing.assert_allclose(estimates.resampled["reference_gradient_rank_correlation"], expected)


def test_means_of_each_category() -> None:
    found = words([0, 0, 2], [2, 1, 2], [[0.1, 100, NAN, 0], [0.3, NAN, NAN, 0], [0.5, 0, NAN, 50]])
    by_category = found.by_category(["cat", "dog", "hot dog"])
    assert list(by_category) == ["dog", "hot dog"]
    expected = {"words": 2, "words_with_pointing": 2, **dict(zip(MEASURES, [0.3, 50, NAN, 25], strict=True))}
    assert by_category["hot dog"] == pytest.approx(expected, nan_ok=True)
    assert (by_category["dog"]["words"], by_category["dog"]["words_with_pointing"]) == (1, 0)
    assert found.counts() == dict(zip(MEASURES, [3, 2, 0, 3], strict=True))


def test_captions_without_visual_words(trained: Trained) -> None:
    model, data, split = trained
    captions: list[list[int]] = [[] for _ in split.image_ids]
    found = measure_generated(model, split, captions, data.vocabulary, data.visual_words, CPU)
    assert [len(x) for x in found] == [0, 0, 0]
    assert estimate(found.statistics("generated", len(captions))).values == {}
    assert found.by_category(data.categories) == {}


def test_data_without_hints(tiny: Tiny, trained: Trained) -> None:
    """As after prepare --hints none."""
    _, _, split = trained
    split.pairs, split.hints, split.relevant = split.pairs[:0], split.hints[:0], split.relevant[:0]
    split._arrays["word_pairs"] = torch.full_like(split._arrays["word_pairs"], -1)
    found = measure_references(trained.model, split, CPU)
    assert len(found.images) == 0
    assert isinstance(found.measures, Tensor)
