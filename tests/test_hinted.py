"""A batch in two parts gives the outputs, importances and gradients of the whole batch."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from hint_loss import (
    TrackedProposals,
    double_backward_kernels,
    forward_hinted,
    hint_ranking_loss,
    proposal_importance,
    track_proposals,
)

from .networks import ANSWERS, WORDS, H, UpDn, convolutional_net

B, K, D, L = 6, 5, 4, 3


class Dictionary(UpDn):
    """Takes a list of tensors, and returns a nested dictionary."""

    def forward(self, x: Tensor, texts: list[Tensor]) -> Any:  # type: ignore[override]
        question = self.question(texts[0])[:, -1] * texts[1][:, None]
        weights, attended = self.attend(x, question)
        return {"logits": self.reply(attended, question), "attention": {"weights": weights.squeeze(2)}}


class Sequence(UpDn):
    """Takes a tensor and other options by name, and returns a tuple with a list in it."""

    def forward(self, x: Tensor, *, question: Tensor, temperature: float, name: str) -> Any:  # type: ignore[override]
        weights, attended = self.attend(x, question)
        return self.reply(attended, question) / temperature, [weights, attended]


class Encoder(nn.Module):
    """Words and proposals attend to each other; words may be absent."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.value = nn.Embedding(WORDS, H), nn.Linear(D, H)
        layer = nn.TransformerEncoderLayer(H, 2, 2 * H, dropout=0.0, batch_first=True)
        self.encoder, self.answer = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(H, ANSWERS)

    def forward(self, x: Tensor, words: Tensor, *, absent: Tensor) -> Any:
        sequence = torch.cat([self.words(words), self.value(x)], 1)
        return self.answer(self.encoder(sequence, src_key_padding_mask=F.pad(absent, (0, K)))[:, -K:].mean(1))


updn = partial(UpDn, D)


def rand(*shape: int, seed: int = 1) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


QUESTIONS = torch.arange(B * L).view(B, L) % WORDS
ABSENT = torch.arange(L) > torch.arange(B)[:, None]
HUMAN = rand(B, K, seed=2)
CASES: dict[str, tuple[Callable[[], nn.Module], tuple[Any, ...], dict[str, Any]]] = {
    "recurrent": (updn, (QUESTIONS,), {}),
    "dictionary": (partial(Dictionary, D), ([QUESTIONS, rand(B)],), {}),
    "tuple": (partial(Sequence, D), (), {"question": rand(B, H), "temperature": 0.5, "name": "tuple"}),
    "encoder": (Encoder, (QUESTIONS,), {"absent": ABSENT}),
}
HINTED = {
    "none": torch.zeros(B).bool(),
    "all": torch.ones(B).bool(),
    "first": torch.arange(B) == 0,
    "last": torch.arange(B) == B - 1,
    "some": torch.tensor([False, True, True, False, True, False]),
}
MODES = {"tracked": track_proposals, "plain": lambda x: x.detach().requires_grad_()}


def build(model: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return model().double()


def pairs(alpha: Tensor, human: Tensor) -> Tensor:
    """The paper's loss over all pairs, averaged over samples."""
    wrong = (alpha[:, None] - alpha[:, :, None]).relu() * (human[:, None] < human[:, :, None])
    return wrong.sum() / max(len(alpha), 1)


def task(output: Any) -> Tensor:
    """A loss that depends on everything the model returns, with another weight for each sample."""
    order = torch.arange(1.0, B + 1)
    samples = [leaf.square().flatten(1).sum(1) for leaf in tree_leaves(output)]
    return torch.stack([(order[: len(sample)] * sample).mean() for sample in samples]).sum()


def gradients(loss: Tensor, *modules: nn.Module) -> list[Tensor]:
    return list(torch.autograd.grad(loss, [p for m in modules for p in m.parameters()], materialize_grads=True))


def assert_close(parts: Any, whole: Any) -> None:
    torch.testing.assert_close(parts, whole, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("track", MODES)
@pytest.mark.parametrize("pattern", HINTED)
@pytest.mark.parametrize("case", CASES)
def test_parts_equal_the_whole_batch(case: str, pattern: str, track: str) -> None:
    build_model, inputs, options = CASES[case]
    model, hinted, features = build(build_model), HINTED[pattern], rand(B, K, D)
    with double_backward_kernels() if case == "encoder" else nullcontext():
        parts, proposals = forward_hinted(model, features, *inputs, hinted=hinted, track=MODES[track], **options)
        x = features.clone().requires_grad_()
        whole = model(x, *inputs, **options)

    def score(output: Any) -> Tensor:
        logits: Tensor = tree_leaves(output)[0]
        return logits[:, 2]

    alpha = proposal_importance(score(parts)[hinted], proposals)
    loss = task(parts) + hint_ranking_loss(alpha, HUMAN[hinted])
    expected = torch.autograd.grad(score(whole).sum(), x, create_graph=True)[0].sum(-1)[hinted]

    assert type(parts) is type(whole)
    assert_close(parts, whole)
    assert_close(alpha, expected)
    assert_close(gradients(loss, model), gradients(task(whole) + pairs(expected, HUMAN[hinted]), model))
    assert not features.requires_grad


@given(st.lists(st.booleans(), max_size=B))
def test_any_choice_of_hinted_samples_works(flags: list[bool]) -> None:
    model, n, hinted = build(updn), len(flags), torch.tensor(flags, dtype=torch.bool)
    logits, proposals = forward_hinted(model, rand(n, K, D), QUESTIONS[:n], hinted=hinted)
    alpha = proposal_importance(logits[hinted, 1], proposals)

    x = rand(n, K, D).requires_grad_()
    whole = model(x, QUESTIONS[:n])
    expected = torch.autograd.grad(whole[:, 1].sum(), x, create_graph=True)[0].sum(-1)[hinted]
    assert_close([logits, alpha], [whole, expected])
    if n:
        loss = task(logits) + hint_ranking_loss(alpha, HUMAN[:n][hinted])
        assert_close(gradients(loss, model), gradients(task(whole) + pairs(expected, HUMAN[:n][hinted]), model))


def test_each_of_several_decisions_has_its_importance() -> None:
    model, features, hinted = build(updn), rand(B, K, D), HINTED["some"]
    logits, proposals = forward_hinted(model, features, QUESTIONS, hinted=hinted)
    alpha = proposal_importance(logits[hinted, :3], proposals)
    for i in range(3):
        x = features.clone().requires_grad_()
        score = model(x, QUESTIONS)[:, i]
        assert_close(alpha[:, i], torch.autograd.grad(score.sum(), x)[0].sum(-1)[hinted])


def test_feature_maps_may_have_channels_first() -> None:
    model = convolutional_net(D, 6).double()
    maps, hinted, human = rand(B, D, 2, 3), HINTED["some"], rand(B, 6)[HINTED["some"]]
    track: Callable[[Tensor], Tensor] = partial(track_proposals, feature_dim=1)
    logits, proposals = forward_hinted(model, maps, hinted=hinted, track=track)
    alpha = proposal_importance(logits[hinted, 0], proposals, feature_dim=1)
    loss = hint_ranking_loss(alpha.flatten(1), human)

    x = maps.clone().requires_grad_()
    expected = torch.autograd.grad(model(x)[:, 0].sum(), x, create_graph=True)[0].sum(1)[hinted]
    assert_close(alpha, expected)
    assert_close(gradients(loss, model), gradients(pairs(expected.flatten(1), human), model))


@pytest.mark.parametrize("pattern", HINTED)
def test_both_losses_train_a_backbone_before_the_proposals(pattern: str) -> None:
    model, backbone, hinted = build(updn), build(partial(nn.Linear, 3, D)), HINTED[pattern]
    logits, proposals = forward_hinted(model, torch.tanh(backbone(rand(B, K, 3))), QUESTIONS, hinted=hinted)
    loss = task(logits) + hint_ranking_loss(proposal_importance(logits[hinted, 0], proposals), HUMAN[hinted])

    x = torch.tanh(backbone(rand(B, K, 3)))
    whole = model(x, QUESTIONS)
    alpha = torch.autograd.grad(whole[:, 0].sum(), x, create_graph=True)[0].sum(-1)[hinted]
    expected = gradients(task(whole) + pairs(alpha, HUMAN[hinted]), model, backbone)
    assert_close(gradients(loss, model, backbone), expected)


@pytest.mark.parametrize(
    ("pattern", "calls"), [("none", [(B, False)]), ("all", [(B, True)]), ("some", [(3, False), (3, True)])]
)
def test_only_hinted_samples_are_tracked(pattern: str, calls: list[tuple[int, bool]]) -> None:
    seen = []

    def model(x: Tensor) -> Tensor:
        seen.append((len(x), isinstance(x, TrackedProposals)))
        return x.sum(1)

    forward_hinted(model, rand(B, K, D), hinted=HINTED[pattern])
    assert sorted(seen) == calls


@pytest.mark.parametrize("track", MODES)
def test_without_hints_the_loss_is_a_zero_that_can_be_back_propagated(track: str) -> None:
    model, hinted = build(updn), HINTED["none"]
    logits, proposals = forward_hinted(model, rand(B, K, D), QUESTIONS, hinted=hinted, track=MODES[track])
    alpha = proposal_importance(logits[hinted, 0], proposals)
    assert proposals.shape == (0, K, D)
    assert alpha.shape == (0, K)
    loss = hint_ranking_loss(alpha, HUMAN[:0])
    assert loss == 0
    loss.backward()  # type: ignore[no-untyped-call]


def test_each_sample_has_its_own_dropout_mask() -> None:
    layer, features = nn.Linear(D, H).double(), rand(1, K, D).expand(B, K, D)
    output, _ = forward_hinted(nn.Sequential(layer, nn.Dropout(0.5)), features, hinted=HINTED["some"])
    assert_close(output, torch.where(output == 0, 0, 2 * layer(features)))
    assert len({tuple(row.flatten().tolist()) for row in output}) == B


@pytest.mark.filterwarnings("ignore:Grad strides do not match")
@pytest.mark.parametrize("inside", [False, True], ids=["outside", "inside"])
@pytest.mark.usefixtures("process_group")
def test_works_with_data_parallel_training(inside: bool) -> None:
    """Two forward passes precede one backward pass, called on the wrapped model or inside of it."""
    features, hinted = rand(B, K, D), HINTED["some"]

    class Loss(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self) -> Tensor:
            logits, proposals = forward_hinted(self.model, features, QUESTIONS, hinted=hinted)
            alpha = proposal_importance(logits[hinted, 0], proposals)
            return task(logits) + hint_ranking_loss(alpha, HUMAN[hinted])

    model = build(updn)
    expected = gradients(Loss(model)(), model)
    parallel = nn.parallel.DistributedDataParallel
    loss = parallel(Loss(model)) if inside else Loss(parallel(model))
    loss().backward()
    assert_close([parameter.grad for parameter in model.parameters()], expected)


def test_outputs_that_are_no_tensors_are_kept() -> None:
    model = nn.Linear(D, 2).double()
    output, _ = forward_hinted(lambda x: (model(x), None, 3), rand(B, K, D), hinted=HINTED["some"])
    assert_close(output[0], model(rand(B, K, D)))
    assert output[1:] == (None, 3)


@pytest.mark.parametrize("first", [0, 4], ids=["hinted first", "hinted last"])
def test_consecutive_samples_are_not_copied(first: int) -> None:
    """The parts with and without hints are views of the features."""
    features, hinted = torch.rand(6, K, D), torch.zeros(6, dtype=torch.bool)
    hinted[first : first + 2] = True
    seen: list[Tensor] = []

    def model(x: Tensor) -> Tensor:
        seen.append(x.source.features if isinstance(x, TrackedProposals) else x)
        return x.sum((1, 2)).tanh()

    forward_hinted(model, features, hinted=hinted)
    assert {x.untyped_storage().data_ptr() for x in seen} == {features.untyped_storage().data_ptr()}
    assert sorted(len(x) for x in seen) == [2, 4]
