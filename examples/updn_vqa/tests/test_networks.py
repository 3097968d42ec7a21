"""Properties of every network: padding, batches of one, tracked proposals, second derivatives; and shared layers."""

from typing import get_args

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from hint_loss import check_double_backward, proposal_importance, track_proposals, tracking_report
from updn_vqa.networks import NETWORKS, NetworkSizes, VqaNetwork
from updn_vqa.networks.gvqa.lexicon import Concepts
from updn_vqa.networks.layers import Network, WeightNorm
from updn_vqa.networks.question import _last_state, encode_question

WORDS, ANSWERS, D = 11, 4, 6
TOKENS = torch.tensor([[0, 3, 4], [5, 6, 1], [0, 0, 2]])
FEATURES = torch.rand(3, 3, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
MASK = torch.tensor([[True, True, True], [True, True, False], [False, True, False]])
CONCEPTS = Concepts(
    question_types=torch.tensor([[5, 0], [1, 4]]),
    content=torch.arange(WORDS) > 1,
    of_word=torch.tensor([-1, -1, 2, 3, 0, -1, 4, -1, -1, -1, 1]),
    of_answer=torch.tensor([0, -1, 1, -1]),
    cluster=torch.tensor([1, 2, 0, 0, 0]),
    verdicts=torch.tensor([3, 1]),
)
"""For GVQA: two answers in two clusters, and three concepts that only questions name."""


def build(network: Network, dropout: float = 0.0) -> VqaNetwork:
    torch.manual_seed(0)
    sizes = NetworkSizes(network, embedding=5, hidden=8, attention_dropout=dropout, classifier_dropout=dropout)
    knowledge = {"concepts": CONCEPTS} if network == "gvqa" else {}
    return NETWORKS[network](sizes, words=WORDS, answers=ANSWERS, feature_size=D, **knowledge).double()


@pytest.fixture(params=get_args(Network))
def model(request: pytest.FixtureRequest) -> VqaNetwork:
    return build(request.param)


def test_every_name_is_a_network() -> None:
    assert list(NETWORKS) == list(get_args(Network))


def test_shapes(model: VqaNetwork) -> None:
    output = model(TOKENS, FEATURES, MASK)
    assert output.logits.shape == (3, ANSWERS)
    assert output.attention.shape == (3, 3)
    assert output.question.shape == (3, 8)


def test_attention_is_on_existing_proposals_only(model: VqaNetwork) -> None:
    attention = model(TOKENS, FEATURES, MASK).attention
    assert (attention[~MASK] == 0).all()
    torch.testing.assert_close(attention.sum(-1), torch.ones(3, dtype=torch.float64))


def test_padding_proposals_change_nothing(model: VqaNetwork) -> None:
    padded = torch.cat([torch.full((3, 2, D), 1e3, dtype=torch.float64), FEATURES], 1)
    mask = torch.cat([torch.zeros(3, 2, dtype=torch.bool), MASK], 1)
    found, expected = model(TOKENS, padded, mask), model(TOKENS, FEATURES, MASK)
    torch.testing.assert_close(found.logits, expected.logits)
    torch.testing.assert_close(found.attention[:, 2:], expected.attention)


def test_batches_of_one(model: VqaNetwork) -> None:
    whole = model(TOKENS, FEATURES, MASK)
    for i in range(3):
        one = model(TOKENS[i : i + 1], FEATURES[i : i + 1], MASK[i : i + 1])
        torch.testing.assert_close(one.logits, whole.logits[i : i + 1])
        torch.testing.assert_close(one.question, whole.question[i : i + 1])


def test_the_order_of_proposals_does_not_matter(model: VqaNetwork) -> None:
    order = torch.tensor([2, 0, 1])
    found, expected = model(TOKENS, FEATURES[:, order], MASK[:, order]), model(TOKENS, FEATURES, MASK)
    torch.testing.assert_close(found.logits, expected.logits)
    torch.testing.assert_close(found.attention, expected.attention[:, order])


def test_the_question_is_encoded_without_proposals(model: VqaNetwork) -> None:
    features = FEATURES.clone().requires_grad_()
    question = model(TOKENS, features, MASK).question
    assert torch.autograd.grad(question.sum(), features, allow_unused=True) == (None,)


def hint_gradients(model: VqaNetwork, features: Tensor) -> list[Tensor]:
    """Parameters' gradients of a loss on importance and logits, with dropout from a fixed seed."""
    torch.manual_seed(5)
    logits = model(TOKENS, features, MASK).logits
    alpha = proposal_importance(logits[:, 1], features)
    loss = (alpha[MASK] * torch.linspace(-1, 1, int(MASK.sum()))).sum() + logits.square().sum()
    return list(torch.autograd.grad(loss, list(model.parameters()), materialize_grads=True))


@pytest.mark.parametrize("network", get_args(Network))
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_tracked_proposals_are_lazy_and_exact(network: Network, dropout: float) -> None:
    model, tracked = build(network, dropout), track_proposals(FEATURES)
    found = hint_gradients(model, tracked)
    expected = hint_gradients(model, FEATURES.clone().requires_grad_())
    torch.testing.assert_close(found, expected)
    report = tracking_report(tracked)
    assert not report.plain, report
    assert report.lazy["linear"] >= 1


def test_unsigned_importance_is_unbiased() -> None:
    """The mean square over 10,000 random directions is within three standard errors of the exact one."""
    model, draws = build("updn"), 10_000

    def score(features: Tensor) -> Tensor:
        logits: Tensor = model(TOKENS, features, MASK).logits
        return logits[:, 1]

    plain = FEATURES.clone().requires_grad_()
    expected = proposal_importance(score(plain), plain, reduction="norm", differentiable=False).square()
    proposals = track_proposals(FEATURES, reduction="norm", probes=draws)
    (gradient,) = torch.autograd.grad(score(proposals).sum(), proposals.source.t)
    squares = draws * gradient.square().flatten(1)
    assert (squares.sum(1).mean() - expected.sum()).abs() < 3 * squares.sum(1).std() / draws**0.5
    errors = (squares.mean(0) - expected.flatten()) / (squares.std(0) / draws**0.5).clamp(min=1e-12)
    assert errors.abs().max() < 4
    assert tracking_report(proposals).plain == {}


def test_second_derivatives(model: VqaNetwork) -> None:
    def score(model: nn.Module, features: Tensor) -> Tensor:
        logits: Tensor = model(TOKENS, features, MASK).logits
        return logits[:, 1]

    report = check_double_backward(score, model, FEATURES)
    assert not report.problems, report


# The question


def padded_questions(kind: type[nn.GRU | nn.LSTM], begins: list[int]) -> tuple[nn.Embedding, nn.GRU | nn.LSTM, Tensor]:
    """An embedding, a recurrent layer, and questions of five tokens that begin at the given positions."""
    torch.manual_seed(0)
    embedding = nn.Embedding(WORDS, 3, padding_idx=0).double()
    recurrent = kind(3, 4, batch_first=True).double()
    tokens = torch.randint(1, WORDS, (len(begins), 5))
    for row, begin in zip(tokens, begins, strict=True):
        row[:begin] = 0
    return embedding, recurrent, tokens


def assert_same_gradients(found: Tensor, expected: Tensor, parameters: list[nn.Parameter]) -> None:
    """Compare values, and gradients of a random linear function of them."""
    torch.testing.assert_close(found, expected)
    coefficients = torch.rand_like(found)
    torch.testing.assert_close(
        torch.autograd.grad((found * coefficients).sum(), parameters),
        torch.autograd.grad((expected * coefficients).sum(), parameters),
    )


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
@pytest.mark.parametrize(
    "begins",
    [[0, 3, 1, 3], [0, 0, 0, 0], [4, 4, 4, 4], [2], [0], [4], [4, 3, 2, 1, 0]],
    ids=lambda begins: "-".join(map(str, begins)),
)
def test_padding_that_is_read_once_encodes_the_same(kind: type[nn.GRU | nn.LSTM], begins: list[int]) -> None:
    embedding, recurrent, tokens = padded_questions(kind, begins)
    found = encode_question(recurrent, embedding, tokens)
    expected = recurrent(embedding(tokens))[0][:, -1]
    assert_same_gradients(found, expected, [*recurrent.parameters(), embedding.weight])


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
def test_a_question_without_words_and_one_with_padding_inside(kind: type[nn.GRU | nn.LSTM]) -> None:
    torch.manual_seed(0)
    embedding, recurrent = nn.Embedding(WORDS, 3, padding_idx=0), kind(3, 4, batch_first=True)
    tokens = torch.tensor([[0, 0, 0], [0, 3, 0], [4, 0, 0]])
    torch.testing.assert_close(encode_question(recurrent, embedding, tokens), recurrent(embedding(tokens))[0][:, -1])


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
@pytest.mark.parametrize(
    "begins",
    [[0, 3, 1, 3], [0, 0, 0, 0], [4, 4, 4, 4], [2], [0], [4], [4, 3, 2, 1, 0], [0, 0, 1], [1, 5, 0], [5, 5], [5]],
    ids=lambda begins: "-".join(map(str, begins)),
)
@pytest.mark.parametrize("fused", [False, True])
def test_skipped_padding_has_no_effect(kind: type[nn.GRU | nn.LSTM], begins: list[int], fused: bool) -> None:
    """Each question is encoded as without padding; one without words is read as a single padding token."""
    embedding, recurrent, tokens = padded_questions(kind, begins)
    expected = torch.cat(
        [recurrent(embedding(row[None, min(b, 4) :]))[0][:, -1] for row, b in zip(tokens, begins, strict=True)]
    )
    if fused:
        first = torch.tensor(begins).clamp(max=4)
        found = _last_state(recurrent, embedding, tokens, first)
    else:
        found = encode_question(recurrent, embedding, tokens, skip_padding=True)
    assert_same_gradients(found, expected, [*recurrent.parameters(), embedding.weight])


@pytest.mark.parametrize("network", get_args(Network))
def test_padding_changes_answers_only_where_the_reference_reads_it(network: Network) -> None:
    """The public codes of SAN and GVQA skip padding. The code of UpDn reads it, as do all our other networks."""
    model = build(network).eval()
    longer = torch.nn.functional.pad(TOKENS, (3, 0))
    same = torch.allclose(model(longer, FEATURES, MASK).logits, model(TOKENS, FEATURES, MASK).logits)
    assert same == (network in ("san", "gvqa"))


# Weight norm


def test_weight_norm_equals_torch_s() -> None:
    torch.manual_seed(0)
    ours, theirs = nn.Linear(5, 4).double(), nn.Linear(5, 4).double()
    theirs.load_state_dict(ours.state_dict())
    nn.utils.parametrize.register_parametrization(ours, "weight", WeightNorm())
    parametrizations.weight_norm(theirs, dim=None)  # type: ignore[arg-type]  # torch documents dim=None
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for name, tensor in ours.state_dict().items():
        torch.testing.assert_close(tensor, theirs.state_dict()[name])
    theirs.load_state_dict({name: 2 * tensor for name, tensor in ours.state_dict().items()})
    ours.load_state_dict(theirs.state_dict())
    x = torch.rand(2, 5, dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs(x))
    coefficients = torch.rand(2, 4, dtype=torch.float64)
    torch.testing.assert_close(
        torch.autograd.grad((ours(x) * coefficients).sum(), list(ours.parameters())),
        torch.autograd.grad((theirs(x) * coefficients).sum(), list(theirs.parameters())),
    )


def test_weight_norm_of_a_large_matrix_is_exact() -> None:
    torch.manual_seed(0)
    direction = torch.rand(3129, 2048)
    found = WeightNorm()(torch.tensor(2.0), direction)
    expected = 2 * direction.double() / direction.double().square().sum().sqrt()
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=0)
