"""The captioner against a transcription of the paper, and its second derivatives against their definition."""

import math

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from hint_loss import (
    TrackedProposals,
    check_double_backward,
    hint_ranking_loss,
    proposal_importance,
    track_proposals,
    tracking_report,
)
from updn_captioning.data.vocabulary import BEGIN, END, PAD
from updn_captioning.networks.updn import NetworkSizes, UpDnCaptioner, lstm

B, T, K, D, V = 3, 5, 4, 6, 11
SIZES = NetworkSizes(embedding=3, hidden=4, attention=5)


def make_model(sizes: NetworkSizes = SIZES) -> UpDnCaptioner:
    torch.manual_seed(0)
    model = UpDnCaptioner(sizes, vocabulary_size=V, feature_size=D).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)  # further from linear
    return model


def make_inputs() -> tuple[Tensor, Tensor, Tensor]:
    """Captions, one of which is shorter, of images, one of which has fewer proposals."""
    draw = torch.Generator().manual_seed(1)
    tokens = torch.randint(END + 1, V, (B, T), generator=draw)
    tokens[:, 0] = BEGIN
    tokens[1, 3:] = torch.tensor([END, PAD])
    mask = torch.ones(B, K, dtype=torch.bool)
    mask[2, 3] = False
    features = torch.rand(B, K, D, generator=draw, dtype=torch.float64)
    return tokens, features * mask[..., None], mask


def transcription(model: UpDnCaptioner, tokens: list[int], v: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Probabilities and attention of one caption by the paper's equations, in a loop over proposals."""
    w = {name: parameter.detach() for name, parameter in model.named_parameters()}

    def cell(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        i, f, g, o = gates.reshape(4, -1)
        c = c / (1 + (-f).exp()) + g.tanh() / (1 + (-i).exp())
        return c.tanh() / (1 + (-o).exp()), c

    mean = sum(v) / len(v)
    h1 = c1 = h2 = c2 = torch.zeros(SIZES.hidden, dtype=torch.float64)
    said, looked = [], []
    for token in tokens:
        word = w["embedding.weight"][token]
        gates = w["attend_word.weight"] @ word + w["attend_word.bias"] + w["attend_image.weight"] @ mean
        h1, c1 = cell(gates + w["attend_state.weight"] @ torch.cat([h1, h2]), c1)
        scores = [w["weigh.weight"][0] @ (w["key.weight"] @ x + w["query.weight"] @ h1).tanh() for x in v]
        total = sum(math.exp(score) for score in scores)
        attention = [math.exp(score) / total for score in scores]
        pooled = sum(a * x for a, x in zip(attention, v, strict=True))
        gates = w["language_image.weight"] @ pooled + w["language_image.bias"]
        h2, c2 = cell(gates + w["language_state.weight"] @ torch.cat([h1, h2]), c2)
        logits = w["word.weight"] @ h2 + w["word.bias"]
        p = [0.0 if word in (PAD, BEGIN) else math.exp(logit) for word, logit in enumerate(logits)]
        said.append(torch.tensor(p, dtype=torch.float64) / sum(p))
        looked.append(torch.tensor(attention, dtype=torch.float64))
    return said, looked


def test_the_papers_equations() -> None:
    model, (tokens, features, mask) = make_model(), make_inputs()
    output = model(tokens, features, mask)
    for b in range(B):
        said, looked = transcription(model, tokens[b].tolist(), list(features[b][mask[b]]))
        torch.testing.assert_close(output.log_probs[b].exp().detach(), torch.stack(said), rtol=0, atol=1e-12)
        attention = output.attention[b].detach()
        torch.testing.assert_close(attention[:, mask[b]], torch.stack(looked), rtol=0, atol=1e-12)
        assert not attention[:, ~mask[b]].any()
    assert output.attention.std() > 0.01


def test_single_steps_equal_the_whole_caption() -> None:
    model, (tokens, features, mask) = make_model(), make_inputs()
    output = model(tokens, features, mask)
    memory, state = model.start(features, mask)
    for t in range(T):
        step = model.step(tokens[:, t], memory, state)
        state = step.state
        torch.testing.assert_close(step.log_probs, output.log_probs[:, t])
        torch.testing.assert_close(step.attention, output.attention[:, t])


def test_padding_proposals_change_nothing() -> None:
    """Neither values nor derivatives, whatever their features are."""
    model, (tokens, features, mask) = make_model(), make_inputs()
    expected = model(tokens, features, mask)
    features = torch.where(mask[..., None], features, 100.0).requires_grad_()
    output = model(tokens, features, mask)
    torch.testing.assert_close(output.log_probs, expected.log_probs)
    alpha = proposal_importance(output.log_probs[:, -1, END], features)
    assert not alpha[~mask].any()
    assert alpha[mask].all()


def test_padding_and_the_beginning_are_never_predicted() -> None:
    model = make_model()
    output = model(*make_inputs())
    assert (output.log_probs[..., [PAD, BEGIN]] == -torch.inf).all()
    torch.testing.assert_close(output.log_probs.exp().sum(-1), torch.ones(B, T, dtype=torch.float64))
    words = output.log_probs[..., END:].sum()
    words.backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.grad is not None)


def test_words_are_predicted_from_the_returned_hidden_states() -> None:
    """With dropout, these are the states after dropout."""
    model = make_model(NetworkSizes(embedding=3, hidden=4, attention=5, dropout=0.5))
    output = model(*make_inputs())
    torch.testing.assert_close(model.log_probs(output.hidden[:, 2:4]), output.log_probs[:, 2:4])
    assert (output.hidden == 0).any()


def test_lstm_equals_torch_s() -> None:
    torch.manual_seed(0)
    cell, x, h, c = torch.nn.LSTMCell(3, 4), torch.rand(2, 3), torch.rand(2, 4), torch.rand(2, 4)
    gates = x @ cell.weight_ih.T + cell.bias_ih + h @ cell.weight_hh.T + cell.bias_hh
    torch.testing.assert_close(lstm(gates, c), cell(x, (h, c)))


def test_second_derivatives_of_the_cell() -> None:
    torch.manual_seed(0)
    gates, cell = (torch.randn(2, size, dtype=torch.float64, requires_grad=True) for size in (12, 3))
    assert gradcheck(lstm, (gates, cell))
    assert gradgradcheck(lstm, (gates, cell))


def score_of_a_word(model: UpDnCaptioner, features: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
    log_probs: Tensor = model(tokens, features, mask).log_probs
    return log_probs[:, -1, END + 2] + log_probs[:, 2, END]


def test_second_derivatives_of_the_network_by_finite_differences() -> None:
    tokens, features, mask = make_inputs()
    report = check_double_backward(score_of_a_word, make_model(), features, tokens, mask)
    assert not report.problems, report
    assert abs(report.double_backward) > 1e-3
    assert report.double_backward == pytest.approx(report.finite_differences, rel=1e-5)


@pytest.mark.parametrize("words", [None, 3], ids=["one word", "three words"])
def test_tracked_proposals_are_exact_and_lazy(words: int | None) -> None:
    """Value, importance and every parameter's gradient are those of double backward.

    Of the proposals nothing took the plain way; what a step pooled of them did, which is one vector an image.
    """
    model, (tokens, features, mask) = make_model(), make_inputs()
    human = torch.rand(B, *([words] if words else []), K, generator=torch.Generator().manual_seed(2)).double()
    found = []
    for proposals in (features.clone().requires_grad_(), track_proposals(features)):
        output = model(tokens, proposals, mask)
        every = model.log_probs(output.hidden)[..., END + 1]
        score = every[:, 2 : 2 + words] if words else every[:, -1]
        alpha = proposal_importance(score, proposals)
        loss = hint_ranking_loss(alpha, human, mask=mask.expand_as(alpha.movedim(0, -2)).movedim(-2, 0))
        loss = loss - output.log_probs[..., END].mean() + alpha.square().sum() + output.attention.square().sum()
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        found.append([score, alpha, *gradients])
        if isinstance(proposals, TrackedProposals):
            report = tracking_report(proposals)
    for plain, tracked in zip(*found, strict=True):
        assert plain.abs().max() > 0
        torch.testing.assert_close(tracked, plain, rtol=0, atol=1e-10 * max(1.0, plain.abs().max().item()))
    assert report.plain == {"addmm": T}, report
    assert report.lazy == {"matmul": T + 1, "squeeze": T + 1, "linear": 2}, report


def test_large_weights_enter_the_graph_once() -> None:
    """Otherwise a second-order step would hold a gradient of each weight for every step."""
    model = make_model()
    uses: dict[object, int] = {}
    stack, seen = [model(*make_inputs()).log_probs[..., END:].sum().grad_fn], set()
    while stack:
        node = stack.pop()
        if node is not None and node not in seen:
            seen.add(node)
            for child, _ in node.next_functions:
                uses[getattr(child, "variable", None)] = uses.get(getattr(child, "variable", None), 0) + 1
                stack.append(child)
    several = [name for name, parameter in model.named_parameters() if uses[parameter] > 1]
    assert several == ["weigh.weight", "language_image.bias"]  # both are vectors


def test_bfloat16_autocast() -> None:
    model, (tokens, features, mask) = make_model().float(), make_inputs()
    exact = model(tokens, features.float(), mask)
    with torch.autocast("cpu", torch.bfloat16):
        tracked = track_proposals(features.float())
        output = model(tokens, tracked, mask)
    torch.testing.assert_close(output.log_probs[..., END:], exact.log_probs[..., END:], rtol=0, atol=0.1)
    alpha = proposal_importance(output.log_probs[:, -1, END], tracked)
    assert alpha.dtype == torch.float32
    alpha.square().sum().backward()
    assert tracking_report(tracked).plain.keys() == {"addmm"}
