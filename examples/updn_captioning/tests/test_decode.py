"""Beam search against exhaustive search, and against loops over single captions."""

from collections.abc import Iterator
from itertools import pairwise, product

import pytest
import torch
from torch import Tensor

from updn_captioning.data.vocabulary import BEGIN, END, UNKNOWN
from updn_captioning.networks.decode import Decoded, beam_search
from updn_captioning.networks.updn import NetworkSizes, UpDnCaptioner

K, D = 4, 6
Images = tuple[Tensor, Tensor]


def make_model(words: int = 2, seed: int = 0) -> UpDnCaptioner:
    torch.manual_seed(seed)
    sizes = NetworkSizes(embedding=3, hidden=4, attention=5)
    model = UpDnCaptioner(sizes, vocabulary_size=UNKNOWN + 1 + words, feature_size=D).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4)  # so that words differ in probability
        model.word.bias[UNKNOWN] += 1  # so that it would often be predicted
    return model


def make_images(count: int = 3) -> Images:
    mask = torch.ones(count, K, dtype=torch.bool)
    mask[-1, -1] = False
    features = torch.rand(count, K, D, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return features * mask[..., None], mask


def log_probability(model: UpDnCaptioner, features: Tensor, mask: Tensor, said: list[int]) -> float:
    tokens = torch.tensor([[BEGIN, *said]])
    with torch.no_grad():
        log_probs = model(tokens[:, :-1], features[None], mask[None]).log_probs[0]
    return sum(log_probs[t, token].item() for t, token in enumerate(said))


def captions(words: int, max_length: int, repeats: bool) -> Iterator[list[int]]:
    """All captions that end or are cut."""
    for length in range(max_length + 1):
        for said in product(range(UNKNOWN + 1, UNKNOWN + 1 + words), repeat=length):
            if repeats or all(a != b for a, b in pairwise(said)):
                yield [*said, END] if length < max_length else [*said]


@pytest.mark.parametrize("repeats", [True, False])
@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 2.5])
@pytest.mark.parametrize("seed", range(3))
def test_a_beam_that_holds_all_captions_finds_the_best(seed: int, length_penalty: float, repeats: bool) -> None:
    model, (features, mask) = make_model(seed=seed), make_images()
    found = beam_search(
        model, features, mask, beam_size=27, max_length=3, length_penalty=length_penalty, repeats=repeats
    )
    for decoded, *image in zip(found, features, mask, strict=True):
        scored = [(log_probability(model, *image, said), said) for said in captions(2, 3, repeats)]
        total, said = max(scored, key=lambda pair: pair[0] / len(pair[1]) ** length_penalty)
        assert decoded.tokens == [token for token in said if token != END]
        assert decoded.log_probability == pytest.approx(total, rel=1e-12)


def beam_by_loops(
    model: UpDnCaptioner, image: tuple[Tensor, Tensor], size: int, max_length: int, penalty: float, repeats: bool
) -> tuple[float, list[int]]:
    """By definition: score all extensions of the kept captions, and keep the best."""

    def score(said: list[int]) -> float:
        return log_probability(model, *image, said) / len(said) ** penalty

    kept: list[list[int]] = [[]]
    for _ in range(max_length):
        longer = []
        for said in kept:
            if said[-1:] == [END]:
                longer.append(said)
                continue
            words = [token for token in range(END, model.word.out_features) if token != UNKNOWN]
            longer += [[*said, token] for token in words if repeats or said[-1:] != [token]]
        kept = sorted(longer, key=score, reverse=True)[:size]
    return log_probability(model, *image, kept[0]), kept[0]


@pytest.mark.parametrize(("length_penalty", "repeats"), [(0.0, True), (0.7, False)])
@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_a_narrow_beam_equals_its_definition(seed: int, size: int, length_penalty: float, repeats: bool) -> None:
    model, (features, mask) = make_model(words=6, seed=seed), make_images()
    options = {"length_penalty": length_penalty, "repeats": repeats}
    found = beam_search(model, features, mask, beam_size=size, max_length=5, **options)
    for decoded, *image in zip(found, features, mask, strict=True):
        total, said = beam_by_loops(model, (image[0], image[1]), size, 5, length_penalty, repeats)
        assert decoded.tokens == [token for token in said if token != END]
        assert decoded.log_probability == pytest.approx(total, rel=1e-12)
        tokens = torch.tensor([[BEGIN, *decoded.tokens]])[:, : len(decoded.tokens)]
        if decoded.tokens:
            looked = model(tokens, image[0][None], image[1][None]).attention[0]
            torch.testing.assert_close(decoded.attention, looked.detach())
        assert len(decoded.attention) == len(decoded.tokens)


def test_a_beam_of_one_takes_the_most_probable_word() -> None:
    model, (features, mask) = make_model(words=9), make_images()
    found = beam_search(model, features, mask, beam_size=1, max_length=7)
    for decoded, *image in zip(found, features, mask, strict=True):
        said: list[int] = []
        while len(said) < 7:
            tokens = torch.tensor([[BEGIN, *said]])
            log_probs = model(tokens, image[0][None], image[1][None]).log_probs[0, -1]
            log_probs[UNKNOWN] = -torch.inf
            said.append(int(log_probs.argmax()))
            if said[-1] == END:
                break
        assert decoded.tokens == [token for token in said if token != END]


def same(one: list[Decoded], other: list[Decoded]) -> None:
    assert [decoded.tokens for decoded in one] == [decoded.tokens for decoded in other]
    for a, b in zip(one, other, strict=True):
        assert a.log_probability == pytest.approx(b.log_probability, rel=1e-12)
        k = min(a.attention.shape[1], b.attention.shape[1])  # padding has none
        torch.testing.assert_close(a.attention[:, :k], b.attention[:, :k])


def test_images_are_decoded_independently() -> None:
    model, (features, mask) = make_model(words=6), make_images(5)
    together = beam_search(model, features, mask, beam_size=3)
    assert len({tuple(decoded.tokens) for decoded in together}) > 1
    apart = [
        beam_search(model, features[i : i + 1, :k], mask[i : i + 1, :k], beam_size=3)[0]
        for i, k in enumerate([4, 4, 4, 4, 3])
    ]
    same(together, apart)


def test_a_caption_may_be_cut_or_empty() -> None:
    model, (features, mask) = make_model(), make_images()
    with torch.no_grad():
        model.word.bias[END] = -100
    cut = beam_search(model, features, mask, beam_size=1, max_length=4)
    assert [len(decoded.tokens) for decoded in cut] == [4, 4, 4]
    with torch.no_grad():
        model.word.bias[END] = 100
    for decoded in beam_search(model, features, mask):
        assert decoded.tokens == []
        assert decoded.attention.shape == (0, K)
        assert decoded.log_probability == pytest.approx(0, abs=1e-9)


def test_no_images() -> None:
    assert beam_search(make_model(), torch.zeros(0, K, D).double(), torch.ones(0, K, dtype=torch.bool)) == []
