"""Self-critical training: sampled captions, their rewards, and the expected gradient."""

from itertools import product

import pytest
import torch
from torch import Tensor

from updn_captioning.data.prepared import CaptionBatch
from updn_captioning.data.vocabulary import BEGIN, END, PAD, UNKNOWN, CaptionVocabulary
from updn_captioning.networks.decode import MAX_LENGTH
from updn_captioning.networks.updn import NetworkSizes, UpDnCaptioner
from updn_captioning.scores.cider import CiderD, DocumentFrequencies
from updn_captioning.training.methods import METHODS
from updn_captioning.training.objective import Objective, SampledCaptions, word_log_probs
from updn_captioning.training.self_critical import Critic, sample

K, D = 3, 5
VOCABULARY = CaptionVocabulary(("a", "dog", "runs", "bus"))
REFERENCES = {7: ["a dog runs", "dog runs"], 8: ["a bus"], 9: ["runs"]}
A, DOG, RUNS, BUS = range(UNKNOWN + 1, UNKNOWN + 5)


def make_model(words: int = 4, dropout: float = 0.0, seed: int = 0) -> UpDnCaptioner:
    torch.manual_seed(seed)
    sizes = NetworkSizes(embedding=3, hidden=4, attention=5, dropout=dropout)
    model = UpDnCaptioner(sizes, vocabulary_size=UNKNOWN + 1 + words, feature_size=D).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    return model


def make_batch(image_ids: list[int]) -> CaptionBatch:
    """A batch of these images, with captions that self-critical training ignores."""
    B = len(image_ids)
    features = torch.rand(1, K, D, generator=torch.Generator().manual_seed(1), dtype=torch.float64).repeat(B, 1, 1)
    none = torch.zeros(B, 0)
    mask = torch.ones(B, K, dtype=torch.bool)
    return CaptionBatch(
        torch.tensor(image_ids), none, features, none, mask, none, none, none.view(B, 0, 1), none, none, none
    )


def test_rewards_are_cider_with_the_end_as_word() -> None:
    critic = Critic(REFERENCES, VOCABULARY)
    references = [[[*text.split(), "</s>"] for text in texts] for texts in REFERENCES.values()]
    cider = CiderD(DocumentFrequencies.of(references))
    captions = [[BEGIN, A, DOG, END, PAD, PAD], [BEGIN, A, BUS], [BEGIN, A, UNKNOWN, RUNS, END]]
    words = [["a", "dog", "</s>"], ["a", "bus"], ["a", "<unknown>", "runs", "</s>"]]
    expected = cider.score(words, references).tolist()
    assert critic.rewards([7, 8, 9], captions).tolist() == pytest.approx(expected)
    whole = critic.rewards([8, 8], [[A, BUS, END], [A, BUS]]).tolist()
    assert whole[0] == pytest.approx(10 * 3 / 4)  # three of the four lengths of n-grams match
    assert whole[1] < whole[0]


def probabilities(model: UpDnCaptioner, batch: CaptionBatch, max_length: int) -> dict[tuple[int, ...], Tensor]:
    """Differentiable probability of every possible caption of the first image."""
    found = {}
    said = [token for token in range(model.word.out_features) if token not in (PAD, BEGIN)]
    for length in range(1, max_length + 1):
        for tokens in product(said, repeat=length):
            if END in tokens[:-1] or (length < max_length and tokens[-1] != END):
                continue
            row = torch.tensor([[BEGIN, *tokens]])
            output = model(row[:, :-1], batch.features[:1], batch.mask[:1])
            found[tokens] = word_log_probs(output, row).sum().exp()
    return found


def test_captions_are_sampled_with_their_probability() -> None:
    model, batch = make_model(words=1), make_batch([7] * 4000)
    expected = probabilities(model, batch, max_length=3)
    assert sum(p.item() for p in expected.values()) == pytest.approx(1)
    chance = torch.rand(4000, 3, generator=torch.Generator().manual_seed(5))
    said = [
        tuple(t for t in row if t not in (BEGIN, PAD))
        for row in sample(model, batch.features, batch.mask, chance).tolist()
    ]
    assert set(said) <= expected.keys()
    chi_square = sum((said.count(c) - 4000 * p.item()) ** 2 / (4000 * p.item()) for c, p in expected.items())
    assert chi_square < 3 * len(expected)  # its mean is one less than the number of captions


def test_sampled_captions_end_with_padding_or_are_cut() -> None:
    model, batch = make_model(), make_batch([7] * 50)
    tokens = sample(model, batch.features, batch.mask, torch.rand(50, 4))
    assert (tokens[:, 0] == BEGIN).all()
    assert tokens.shape == (50, 5)
    for row in tokens.tolist():
        after = row[row.index(END) + 1 :] if END in row else []
        assert after == [PAD] * len(after)
        assert PAD not in row[: len(row) - len(after)]
    with torch.no_grad():
        model.word.bias[END] = 100
    assert sample(model, batch.features, batch.mask, torch.rand(50, 4)).tolist() == [[BEGIN, END]] * 50
    for chance in (0.0, 1 - 2**-53):  # the first and the last word
        (row,) = sample(model, batch.features[:1], batch.mask[:1], torch.full((1, 1), chance).double()).tolist()
        assert row[1] not in (PAD, BEGIN)


def test_the_expected_gradient_is_that_of_the_expected_reward() -> None:
    """Over all captions of at most two words, with any baseline."""
    model, batch = make_model(words=2), make_batch([7])
    objective = Objective(model, METHODS["scst"])
    reward = {caption: 0.7 * i % 1.1 for i, caption in enumerate(probabilities(model, batch, 2))}
    baseline = 0.4
    expected_reward = sum(p * reward[caption] for caption, p in probabilities(model, batch, 2).items())
    exact = torch.autograd.grad(-expected_reward, list(model.parameters()))
    for caption, p in probabilities(model, batch, 2).items():
        advantage = torch.tensor([reward[caption] - baseline], dtype=torch.float64)
        losses = objective(batch, SampledCaptions(torch.tensor([[BEGIN, *caption]]), advantage))
        (p.detach() * losses.total).backward()
    for parameter, gradient in zip(model.parameters(), exact, strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, gradient)


@pytest.mark.parametrize("cut", [False, True])
def test_the_baseline_is_the_greedy_caption(cut: bool) -> None:
    """It has an END unless it is cut after twenty words."""
    model, batch, critic = make_model(seed=6), make_batch([7, 8, 9]), Critic(REFERENCES, VOCABULARY)
    with torch.no_grad():
        model.word.bias[UNKNOWN] = -1e6  # it may be sampled, but greedy search never chooses it
        model.word.bias[END] = -1e6 if cut else model.word.bias[END]
    chance = torch.rand(3, MAX_LENGTH, generator=torch.Generator().manual_seed(2))
    sampled = critic(model, batch, chance)
    torch.testing.assert_close(sampled.tokens, sample(model.eval(), batch.features, batch.mask, chance))
    greedy = [BEGIN]
    while greedy[-1] != END and len(greedy) <= MAX_LENGTH:
        output = model(torch.tensor([greedy]), batch.features[:1], batch.mask[:1])
        greedy.append(int(output.log_probs[0, -1].argmax()))
    assert len(greedy) == (1 + MAX_LENGTH if cut else 6)
    expected = critic.rewards([7, 8, 9], sampled.tokens.tolist()) - critic.rewards([7, 8, 9], [greedy] * 3)
    torch.testing.assert_close(sampled.advantage, expected)
    assert expected.any()


def test_captions_are_sampled_without_dropout() -> None:
    model, batch, critic = make_model(dropout=0.5), make_batch([7, 8, 9]), Critic(REFERENCES, VOCABULARY)
    chance = torch.rand(3, MAX_LENGTH, generator=torch.Generator().manual_seed(2))
    training = critic(model, batch, chance)
    assert model.training
    evaluated = critic(model.eval(), batch, chance)
    assert not model.training
    torch.testing.assert_close(training, evaluated, rtol=0, atol=0)
