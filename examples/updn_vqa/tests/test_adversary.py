"""AdvReg: the parts of its loss, and training a network against an adversary."""

import math
from statistics import fmean

import pytest
import torch

from updn_vqa.data.prepared import VqaBatch
from updn_vqa.networks.layers import NetworkSizes
from updn_vqa.networks.updn import UpDn
from updn_vqa.training.adversary import QuestionOnlyAdversary, entropy, reverse_gradient
from updn_vqa.training.methods import Method
from updn_vqa.training.objective import Objective

OFF = 1e-9
"""A negligible weight, with which there is an adversary that does not affect the network."""


def test_reversal_changes_only_the_gradient() -> None:
    x = torch.tensor([1e-30, 0.1, 3e7], requires_grad=True)
    y = reverse_gradient(x, 0.25)
    assert torch.equal(y, x)
    y.backward(torch.tensor([1.0, -2.0, 4.0]))
    assert x.grad is not None
    assert x.grad.tolist() == [-0.25, 0.5, -1.0]


def test_entropy() -> None:
    logits = torch.tensor([[7.0, 7.0, 7.0, 7.0], [0.0, 200.0, 0.0, 0.0], [1.0, 2.0, 3.0, 4.0]], requires_grad=True)
    expected = torch.distributions.Categorical(logits=logits[2]).entropy()
    torch.testing.assert_close(entropy(logits), torch.stack([torch.tensor(math.log(4)), torch.tensor(0.0), expected]))
    entropy(logits).sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_a_frozen_adversary_computes_the_same_and_is_not_trained() -> None:
    adversary, question = QuestionOnlyAdversary(6, 5), torch.rand(3, 6, requires_grad=True)
    logits = adversary.frozen(question)
    assert torch.equal(logits, adversary(question))
    logits.sum().backward()
    assert question.grad is not None
    assert question.grad.any()
    assert all(parameter.grad is None for parameter in adversary.parameters())


def questions(size: int, seed: int) -> VqaBatch:
    """Four kinds of questions; one of three proposals shows the answer, and 85 % of a kind have the same answer."""
    draw = torch.Generator().manual_seed(seed)
    kinds, guesses = torch.randint(4, (2, size), generator=draw)
    answers = torch.where(torch.rand(size, generator=draw) < 0.8, kinds, guesses)  # a guess may be the kind's answer
    features = 0.1 * torch.rand(size, 3, 6, generator=draw)
    features[torch.arange(size), torch.randint(3, (size,), generator=draw), answers] += 2.0
    everything = torch.ones(size, 3, dtype=torch.bool)
    return VqaBatch(
        question_ids=torch.arange(size),
        tokens=kinds[:, None] + 1,
        features=features,
        boxes=torch.zeros(size, 3, 4),
        mask=everything,
        sizes=torch.ones(size, 2, dtype=torch.int32),
        answer_scores=torch.nn.functional.one_hot(answers, 4).float(),
        ground_truth=answers,
        human=torch.full((size, 3), torch.nan),
        relevant=everything,
        grounded=everything.any(-1),
    )


def play(adversary: float, entropy_gap: float) -> tuple[float, float, float]:
    """Train both; returns the accuracies of adversary and network, and the entropy gap, over the second half."""
    torch.manual_seed(0)
    sizes = NetworkSizes(embedding=4, hidden=16, attention_dropout=0.0, classifier_dropout=0.0)
    network = UpDn(sizes, words=5, answers=4, feature_size=6)
    objective = Objective(network, Method(adversary=adversary, entropy_gap=entropy_gap), questions(1, 0))
    assert objective.adversary is not None
    optimizer, test, seen = torch.optim.Adam(objective.parameters(), lr=3e-3), questions(500, 1_000_000), []
    for step in range(300):
        objective(questions(64, step), None).total.backward()
        optimizer.step()
        optimizer.zero_grad()
        if step >= 150 and step % 10 == 0:
            with torch.no_grad():
                output = network(test.tokens, test.features, test.mask)
                blind = objective.adversary(output.question)
            correct = [
                (logits.argmax(1) == test.ground_truth).float().mean().item() for logits in (blind, output.logits)
            ]
            seen.append((*correct, (entropy(blind) - entropy(output.logits)).mean().item()))
    return tuple(map(fmean, zip(*seen, strict=True)))  # type: ignore[return-value]


@pytest.fixture(scope="module")
def left_alone() -> tuple[float, float, float]:
    return play(OFF, OFF)


def test_reversal_lowers_the_accuracy_of_the_adversary(left_alone: tuple[float, float, float]) -> None:
    blind, seeing, _ = left_alone
    assert blind > 0.83  # by the prior of each kind
    assert seeing > 0.97
    blind, seeing, _ = play(1.0, OFF)
    assert blind < 0.6
    assert seeing > 0.97


def test_the_entropy_gap_widens(left_alone: tuple[float, float, float]) -> None:
    assert left_alone[2] < 0.8
    _, seeing, gap = play(OFF, 0.3)
    assert gap > 1.2  # its maximum is log 4 = 1.39
    assert seeing > 0.97
