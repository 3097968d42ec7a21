"""A batch in two parts gives what it gives in one piece: outputs in order, importances, and all gradients."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import pytest
import torch
import torch.distributed as dist
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

B, K, D, H, WORDS = 6, 5, 4, 8, 3


class UpDn(nn.Module):
    """A recurrent question, top-down attention, a gated product."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.question = nn.Embedding(9, 3), nn.GRU(3, H, batch_first=True)
        self.value, self.attention = nn.Linear(D, H), nn.Linear(H, 1)
        self.image, self.answer = nn.Linear(D, H), nn.Linear(H, 7)

    def attend(self, x: Tensor, question: Tensor) -> tuple[Tensor, Tensor]:
        weights = self.attention(torch.relu(self.value(x)) * question[:, None]).softmax(1)
        return weights, (weights * x).sum(1)

    def forward(self, x: Tensor, words: Tensor) -> Any:
        question = self.question(self.words(words))[0][:, -1]
        return self.answer(torch.tanh(self.image(self.attend(x, question)[1])) * question)


class Dictionary(UpDn):
    """More than logits, and a list among the inputs."""

    def forward(self, x: Tensor, texts: list[Tensor]) -> Any:  # type: ignore[override]
        question = torch.tanh(self.words(texts[0]).sum(1) @ self.value.weight[:, :3].T + texts[1][:, None])
        weights, attended = self.attend(x, question)
        return {"logits": self.answer(torch.relu(self.image(attended))), "attention": {"weights": weights.squeeze(2)}}


class Sequence(UpDn):
    """Tuples of outputs, a tensor as a keyword, and an option that is none."""

    def forward(self, x: Tensor, *, question: Tensor, temperature: float, name: str) -> Any:  # type: ignore[override]
        weights, attended = self.attend(x, question)
        return self.answer(torch.relu(self.image(attended))) / temperature, [weights, attended]


class Encoder(nn.Module):
    """Words and proposals attend to each other; words may be absent."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.value = nn.Embedding(9, H), nn.Linear(D, H)
        layer = nn.TransformerEncoderLayer(H, 2, 2 * H, dropout=0.0, batch_first=True)
        self.encoder, self.answer = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(H, 7)

    def forward(self, x: Tensor, words: Tensor, *, absent: Tensor) -> Any:
        sequence = torch.cat([self.words(words), self.value(x)], 1)
        return self.answer(self.encoder(sequence, src_key_padding_mask=F.pad(absent, (0, K)))[:, -K:].mean(1))


def rand(*shape: int, seed: int = 1) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


QUESTIONS = torch.arange(B * WORDS).view(B, WORDS) % 9
ABSENT = torch.arange(WORDS) > torch.arange(B)[:, None]
HUMAN = rand(B, K, seed=2)
CASES: dict[str, tuple[type[nn.Module], tuple[Any, ...], dict[str, Any]]] = {
    "recurrent": (UpDn, (QUESTIONS,), {}),
    "dictionary": (Dictionary, ([QUESTIONS, rand(B)],), {}),
    "tuple": (Sequence, (), {"question": rand(B, H), "temperature": 0.5, "name": "tuple"}),
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


def build(model: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return model().double()


def pairs(alpha: Tensor, human: Tensor) -> Tensor:
    """The paper's loss as it is written, averaged over samples."""
    wrong = (alpha[:, None] - alpha[:, :, None]).relu() * (human[:, None] < human[:, :, None])
    return wrong.sum() / max(len(alpha), 1)


def task(output: Any) -> Tensor:
    """Depends on all that the model returns, and differently on each sample."""
    order = torch.arange(1.0, B + 1)
    samples = [leaf.square().flatten(1).sum(1) for leaf in tree_leaves(output)]
    return torch.stack([(order[: len(sample)] * sample).mean() for sample in samples]).sum()


def gradients(loss: Tensor, *modules: nn.Module) -> list[Tensor]:
    return list(torch.autograd.grad(loss, [p for m in modules for p in m.parameters()], materialize_grads=True))


def assert_equal(parts: Any, whole: Any) -> None:
    torch.testing.assert_close(parts, whole, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("track", MODES)
@pytest.mark.parametrize("pattern", HINTED)
@pytest.mark.parametrize("case", CASES)
def test_parts_give_what_the_whole_gives(case: str, pattern: str, track: str) -> None:
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
    assert_equal(parts, whole)
    assert_equal(alpha, expected)
    assert_equal(gradients(loss, model), gradients(task(whole) + pairs(expected, HUMAN[hinted]), model))
    assert not features.requires_grad


@given(st.lists(st.booleans(), max_size=B))
def test_any_hints_of_any_batch(flags: list[bool]) -> None:
    model, n, hinted = build(UpDn), len(flags), torch.tensor(flags, dtype=torch.bool)
    logits, proposals = forward_hinted(model, rand(n, K, D), QUESTIONS[:n], hinted=hinted)
    alpha = proposal_importance(logits[hinted, 1], proposals)

    x = rand(n, K, D).requires_grad_()
    whole = model(x, QUESTIONS[:n])
    expected = torch.autograd.grad(whole[:, 1].sum(), x, create_graph=True)[0].sum(-1)[hinted]
    assert_equal([logits, alpha], [whole, expected])
    if n:
        loss = task(logits) + hint_ranking_loss(alpha, HUMAN[:n][hinted])
        assert_equal(gradients(loss, model), gradients(task(whole) + pairs(expected, HUMAN[:n][hinted]), model))


def test_several_decisions() -> None:
    model, features, hinted = build(UpDn), rand(B, K, D), HINTED["some"]
    logits, proposals = forward_hinted(model, features, QUESTIONS, hinted=hinted)
    alpha = proposal_importance(logits[hinted, :3], proposals)
    for i in range(3):
        x = features.clone().requires_grad_()
        score = model(x, QUESTIONS)[:, i]
        assert_equal(alpha[:, i], torch.autograd.grad(score.sum(), x)[0].sum(-1)[hinted])


def test_feature_maps() -> None:
    model = nn.Sequential(nn.Conv2d(D, H, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(H * 6, 7)).double()
    maps, hinted, human = rand(B, D, 2, 3), HINTED["some"], rand(B, 6)[HINTED["some"]]
    track: Callable[[Tensor], Tensor] = partial(track_proposals, feature_dim=1)
    logits, proposals = forward_hinted(model, maps, hinted=hinted, track=track)
    alpha = proposal_importance(logits[hinted, 0], proposals, feature_dim=1)
    loss = hint_ranking_loss(alpha.flatten(1), human)

    x = maps.clone().requires_grad_()
    expected = torch.autograd.grad(model(x)[:, 0].sum(), x, create_graph=True)[0].sum(1)[hinted]
    assert_equal(alpha, expected)
    assert_equal(gradients(loss, model), gradients(pairs(expected.flatten(1), human), model))


@pytest.mark.parametrize("pattern", HINTED)
def test_trainable_backbone(pattern: str) -> None:
    """Both losses reach what made the proposals."""
    model, backbone, hinted = build(UpDn), build(partial(nn.Linear, 3, D)), HINTED[pattern]  # type: ignore[arg-type]
    logits, proposals = forward_hinted(model, torch.tanh(backbone(rand(B, K, 3))), QUESTIONS, hinted=hinted)
    loss = task(logits) + hint_ranking_loss(proposal_importance(logits[hinted, 0], proposals), HUMAN[hinted])

    x = torch.tanh(backbone(rand(B, K, 3)))
    whole = model(x, QUESTIONS)
    alpha = torch.autograd.grad(whole[:, 0].sum(), x, create_graph=True)[0].sum(-1)[hinted]
    expected = gradients(task(whole) + pairs(alpha, HUMAN[hinted]), model, backbone)
    assert_equal(gradients(loss, model, backbone), expected)


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


def test_without_any_hint_the_loss_is_zero() -> None:
    logits, proposals = forward_hinted(build(UpDn), rand(B, K, D), QUESTIONS, hinted=HINTED["none"])
    alpha = proposal_importance(logits[HINTED["none"], 0], proposals)
    assert proposals.shape == (0, K, D)
    assert alpha.shape == (0, K)
    assert hint_ranking_loss(alpha, HUMAN[:0]).item() == 0


@pytest.mark.parametrize("track", MODES)
def test_without_any_hint_the_loss_can_be_back_propagated_alone(track: str) -> None:
    model, hinted = build(UpDn), HINTED["none"]
    logits, proposals = forward_hinted(model, rand(B, K, D), QUESTIONS, hinted=hinted, track=MODES[track])
    hint_ranking_loss(proposal_importance(logits[hinted, 0], proposals), HUMAN[:0]).backward()  # type: ignore[no-untyped-call]


def test_dropout_in_training() -> None:
    layer, features = nn.Linear(D, H).double(), rand(1, K, D).expand(B, K, D)
    output, _ = forward_hinted(nn.Sequential(layer, nn.Dropout(0.5)), features, hinted=HINTED["some"])
    assert_equal(output, torch.where(output == 0, 0, 2 * layer(features)))
    assert len({tuple(row.flatten().tolist()) for row in output}) == B  # each sample has its own mask


class TestBatchNormalisation:
    @pytest.fixture
    def model(self) -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(D, H), nn.Sequential(nn.Flatten(), nn.BatchNorm1d(K * H))).double()

    @pytest.mark.parametrize("name", ["BatchNorm1d", "SyncBatchNorm"])
    def test_is_refused_in_training(self, name: str, model: nn.Module, raises: Any) -> None:
        if name == "SyncBatchNorm":
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        message = (
            "Batch normalisation mixes the samples of a batch, so the batch cannot be split: put `1.1` "
            f"({name}) in `eval()` mode with running statistics, or run the whole batch with `track_proposals`."
        )
        with raises(ValueError, message):
            forward_hinted(model, rand(B, K, D), hinted=HINTED["some"])

    def test_is_allowed_in_evaluation(self, model: nn.Module) -> None:
        model(rand(B, K, D))  # moves the running statistics
        model[1].eval()  # type: ignore[index]
        output, _ = forward_hinted(model, rand(B, K, D), hinted=HINTED["some"])
        assert_equal(output, model(rand(B, K, D)))

    def test_is_refused_without_running_statistics(self) -> None:
        model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(K * D, track_running_stats=False)).double().eval()
        with pytest.raises(ValueError, match="Batch normalisation mixes"):
            forward_hinted(model, rand(B, K, D), hinted=HINTED["some"])


class TestErrors:
    @pytest.mark.parametrize(
        ("hinted", "found"),
        [
            (torch.ones(B), "`hinted.dtype = torch.float32` and `hinted.shape = (6,)`"),
            (torch.ones(B, dtype=torch.int64), "`hinted.dtype = torch.int64` and `hinted.shape = (6,)`"),
            (torch.ones(B - 1).bool(), "`hinted.dtype = torch.bool` and `hinted.shape = (5,)`"),
            (torch.ones(B, K).bool(), "`hinted.dtype = torch.bool` and `hinted.shape = (6, 5)`"),
            (torch.tensor(True), "`hinted.dtype = torch.bool` and `hinted.shape = ()`"),
        ],
        ids=str,
    )
    def test_hinted(self, hinted: Tensor, found: str, raises: Any) -> None:
        with raises(ValueError, f"Parameter `hinted` should be boolean, of shape (6,). Found {found}."):
            forward_hinted(build(UpDn), rand(B, K, D), QUESTIONS, hinted=hinted)

    @pytest.mark.parametrize(
        ("inputs", "options", "shape"),
        [
            ((QUESTIONS[1:],), {}, "(5, 3)"),
            (([QUESTIONS, rand(1, B)],), {}, "(1, 6)"),
            ((QUESTIONS,), {"absent": ABSENT[0]}, "(3,)"),
            ((QUESTIONS,), {"absent": torch.tensor(0.5)}, "()"),
        ],
        ids=["positional", "in a list", "keyword", "without dimensions"],
    )
    @pytest.mark.parametrize("pattern", HINTED)
    def test_batch_size(
        self, inputs: tuple[Any, ...], options: dict[str, Any], shape: str, pattern: str, raises: Any
    ) -> None:
        with raises(ValueError, f"A tensor argument should have 6 samples. Found the shape {shape}."):
            forward_hinted(build(Encoder), rand(B, K, D), *inputs, hinted=HINTED[pattern], **options)


@pytest.mark.filterwarnings("ignore:Grad strides do not match")
@pytest.mark.parametrize("inside", [False, True], ids=["outside", "inside"])
def test_data_parallel(inside: bool) -> None:
    """Two forward passes before one backward pass, of a wrapped model or inside of one."""
    features, hinted = rand(B, K, D), HINTED["some"]

    class Loss(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self) -> Tensor:
            logits, proposals = forward_hinted(self.model, features, QUESTIONS, hinted=hinted)
            alpha = proposal_importance(logits[hinted, 0], proposals)
            return task(logits) + hint_ranking_loss(alpha, HUMAN[hinted])

    model = build(UpDn)
    expected = gradients(Loss(model)(), model)
    dist.init_process_group("gloo", store=torch._C._distributed_c10d.HashStore(), rank=0, world_size=1)
    try:
        parallel = nn.parallel.DistributedDataParallel
        loss = parallel(Loss(model)) if inside else Loss(parallel(model))
        loss().backward()
        assert_equal([parameter.grad for parameter in model.parameters()], expected)
    finally:
        dist.destroy_process_group()


def test_outputs_without_samples() -> None:
    model = nn.Linear(D, 2).double()
    output, _ = forward_hinted(lambda x: (model(x), None, 3), rand(B, K, D), hinted=HINTED["some"])
    assert_equal(output[0], model(rand(B, K, D)))
    assert output[1:] == (None, 3)


def test_a_method_of_a_model_with_batch_normalisation() -> None:
    with pytest.raises(ValueError, match="Batch normalisation mixes the samples of a batch"):
        forward_hinted(nn.BatchNorm1d(K).double().forward, rand(B, K, D), hinted=HINTED["some"])


def test_batch_normalisation_that_is_no_module() -> None:
    with pytest.raises(ValueError, match=r"put `torch.nn.functional.batch_norm` in `eval\(\)` mode"):
        forward_hinted(lambda x: F.batch_norm(x, None, None, training=True), rand(B, K, D), hinted=HINTED["some"])
    with pytest.raises(ValueError, match=r"put `torch.nn.functional.batch_norm` in `eval\(\)` mode"):
        forward_hinted(partial(nn.BatchNorm1d(K).double()), rand(B, K, D), hinted=HINTED["some"])


@pytest.mark.parametrize(
    ("model", "shapes"),
    [(lambda x: x.mean(), "() of 4 and () of 2"), (lambda x: x.transpose(0, 1), "(5, 4, 4) of 4 and (5, 2, 4) of 2")],
    ids=["its own loss", "the batch second"],
)
def test_outputs_without_the_batch_first(model: Callable[..., Any], shapes: str, raises: Any) -> None:
    message = (
        f"Outputs of `model` should have the batch first. Found the shapes {shapes} samples: let it return logits, "
        "of which to take the loss afterwards."
    )
    with raises(ValueError, message):
        forward_hinted(model, rand(B, K, D), hinted=torch.arange(B) < 2)


def test_outputs_of_another_kind(raises: Any) -> None:
    message = (
        "Outputs of `model` should be tensors, or tuples, lists and dictionaries of them. Found a range: return what "
        "you need of it."
    )
    with raises(TypeError, message):
        forward_hinted(lambda x: range(3), rand(B, K, D), hinted=torch.arange(B) < 2)


def test_lists() -> None:
    with pytest.raises(TypeError, match="`hinted`"):
        forward_hinted(nn.Linear(D, 2).double(), rand(B, K, D), hinted=[True] * B)  # type: ignore[arg-type]


@pytest.mark.parametrize("first", [0, 4], ids=["hinted first", "hinted last"])
def test_neighbours_are_not_copied(first: int) -> None:
    """Samples with a hint that lie together are read where they are, those without too."""
    features, hinted = torch.rand(6, K, D), torch.zeros(6, dtype=torch.bool)
    hinted[first : first + 2] = True
    seen: list[Tensor] = []

    def model(x: Tensor) -> Tensor:
        seen.append(x.source.features if isinstance(x, TrackedProposals) else x)
        return x.sum((1, 2)).tanh()

    forward_hinted(model, features, hinted=hinted)
    assert {x.untyped_storage().data_ptr() for x in seen} == {features.untyped_storage().data_ptr()}
    assert sorted(len(x) for x in seen) == [2, 4]
