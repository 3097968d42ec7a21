"""Tracked proposals: exactly the importance, and the parameters' gradients, of the plain double backward."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hint_loss import (
    TrackedProposals,
    hint_ranking_loss,
    proposal_importance,
    track_proposals,
    tracking_report,
)

B, K, D = 3, 5, 6
REDUCTIONS = pytest.mark.parametrize("reduction", ["sum", "input", "norm"])


def features(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*(shape or (B, K, D)), generator=generator, dtype=torch.float64) + 0.1


def weight(*shape: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()


def along(v: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """The reduction that tracked proposals estimate the norm by, for directions ``(D, m)``."""
    return lambda gradient, _: torch.linalg.vector_norm(gradient @ v, dim=-1)


def assert_exact(
    score: Callable[[Tensor], Tensor],
    parameters: list[Tensor],
    data: Tensor,
    *,
    reduction: Any = "sum",
    feature_dim: int = -1,
) -> TrackedProposals:
    """Score, importance, and the gradients of a loss on both agree with plain double backward."""
    results = []
    v = weight(data.shape[feature_dim], 3, seed=5).detach()
    tracked = track_proposals(data, feature_dim=feature_dim, reduction=reduction, probes=v)
    for x in (data.detach().clone().requires_grad_(), tracked):
        torch.manual_seed(0)
        value = score(x)
        how = along(v) if reduction == "norm" and x is not tracked else reduction
        alpha = proposal_importance(value, x, feature_dim=feature_dim, reduction=how)
        coefficients = features(*alpha.shape, seed=2)
        loss = (alpha * coefficients).sum() + alpha.square().sum() + value.square().sum()
        results.append([value, alpha, *torch.autograd.grad(loss, parameters, materialize_grads=True)])
    for plain, found in zip(*results, strict=True):  # to 1e-10 of the largest entry; some are all zero but for rounding
        largest = plain.nan_to_num(0.0, 0.0, 0.0).abs().max().item()
        torch.testing.assert_close(found, plain, rtol=0, atol=1e-10 * max(largest, 0.1), equal_nan=True)
    return tracked


W, V, U = weight(4, D), weight(D), weight(B, K, 1)
RULES: dict[str, Callable[[Tensor], Any]] = {
    "linear": lambda x: F.linear(x, W, W[:, 0]),
    "linear without bias": lambda x: F.linear(x, W),
    "linear over proposals": lambda x: F.linear(x.transpose(1, 2), weight(2, K)),
    "matmul": lambda x: x @ W.T,
    "matmul vector": lambda x: torch.matmul(x, V),
    "matmul batched": lambda x: x @ V.tanh()[None, :, None].expand(B, D, 1),
    "matmul more dimensions": lambda x: x[:, None] @ W.T.expand(B, 2, D, 4),
    "matmul pooling": lambda x: F.linear(U.softmax(1).mT @ x, W),
    "matmul attention": lambda x: F.linear(weight(B, 2, K).softmax(-1) @ x, W),
    "matmul numpy order": lambda x: torch.bmm(U.mT, x),
    "einsum features": lambda x: torch.einsum("bkd,hd->bkh", x, W),
    "einsum queries": lambda x: torch.einsum("bkd,bd->bk", x, weight(B, D)),
    "einsum pooling": lambda x: torch.einsum("bk,bkd->bd", U[..., 0].softmax(1), x) @ W.T,
    "einsum transposed": lambda x: torch.einsum("bkd,bqk->dbq", x, weight(B, 2, K)) * V[:, None, None],
    "sum": lambda x: F.linear((U.softmax(1) * x).sum(1), W),
    "sum kept": lambda x: F.linear((x * U.softmax(1)).sum(1, keepdim=True), W),
    "sum over features": lambda x: (x * V).sum(-1),
    "sum over all": lambda x: (x * U).sum() * V[0],
    "sum over two": lambda x: (x * V).sum((0, 1)).sum(),
    "mean": lambda x: F.linear(x.mean(dim=1), W),
    "mean over two": lambda x: (x * U).mean((1, 2)),
    "add": lambda x: F.linear(1 + x + V, W),
    "sub": lambda x: F.linear(V - (-x - U), W),
    "mul": lambda x: F.linear(2 * x * U * V, W),
    "mul dense": lambda x: F.linear(x * weight(B, K, D), W),
    "div": lambda x: F.linear(x / (1 + U.square()), W),
    "dropout": lambda x: F.linear(F.dropout(x, 0.4), W),
    "dropout in evaluation": lambda x: F.linear(F.dropout(x, 0.4, training=False), W),
    "masked_fill": lambda x: F.linear(x.masked_fill(torch.arange(K)[:, None] == 2, 0.0), W),
    "cat features": lambda x: F.linear(torch.cat([x, weight(B, 1, 3).expand(-1, K, -1)], -1), weight(2, D + 3)),
    "getitem": lambda x: F.linear(x[:, 1:-1][torch.tensor([2, 0])], W),
    "getitem one": lambda x: F.linear(x[:, 0] * 2, W) * x[0, 1, 2],
    "list index": lambda x: F.linear(x[:, [0, 2]], W),
    "layout": lambda x: F.linear(x.reshape(B * K, D).view(B, 1, K, D).expand(B, 2, K, D).flatten(0, 1), W),
    "flatten by view": lambda x: F.linear(x.view(B, -1), weight(4, K * D)),
    "flatten by view of features": lambda x: F.linear((x * V).view(B, -1).view(B, 1, K * D), weight(4, K * D)),
    "squeeze": lambda x: F.linear(x.unsqueeze(1).squeeze(1).contiguous().clone(), W),
    "permute": lambda x: F.linear(x.permute(2, 0, 1).movedim(0, -1).transpose(0, 1), W),
    "casts": lambda x: F.linear(x.to(torch.float64).double(), W),
    "from one": lambda x: F.linear(1 - x, W),
    "expanded sum": lambda x: x.unsqueeze(1).expand(-1, 4, -1, -1).sum((1, 2, 3)) * V[0],
    "einsum of expanded": lambda x: torch.einsum("bkgd,k->b", x.unsqueeze(2).expand(-1, -1, 2, -1), U[0, :, 0]),
    "mean of a boolean mask": lambda x: F.linear(((torch.arange(K) > 1)[:, None] * x).sum(1) / 3, W),
    "glimpses": lambda x: F.linear((weight(B, K, 2).softmax(1)[..., None] * x[:, :, None]).sum(1), W),
    "mean times weights": lambda x: F.linear((x.mean(1, keepdim=True) * U).sum(1), W),
    "integers": lambda x: F.linear(x + (9 * x).long().double(), W),
}


@REDUCTIONS
@pytest.mark.parametrize("name", RULES)
def test_rules_are_exact_and_lazy(name: str, reduction: str) -> None:
    def score(x: Tensor) -> Tensor:
        return torch.tanh(RULES[name](x)).square().sum().expand(B) * torch.arange(1.0, B + 1)

    tracked = assert_exact(score, [W, V, U], features(), reduction=reduction)
    assert set(tracking_report(tracked).plain) <= {"tanh"}


PLAIN: dict[str, Callable[[Tensor], Any]] = {
    "residual": lambda x: F.linear(x + x * U - (x - V), W),
    "gram matrix": lambda x: x @ x.mT * U,
    "mul itself": lambda x: F.linear(x * x, W),
    "div by norm": lambda x: F.linear(x / x.norm(dim=-1, keepdim=True), W),
    "vector_norm": lambda x: torch.linalg.vector_norm(x, dim=-1, keepdim=True) * U,
    "normalize": lambda x: F.linear(F.normalize(x, dim=-1), W, W[:, 1]),
    "normalize clamped": lambda x: F.linear(F.normalize(x, dim=-1, eps=1.2), W),
    "cat normalised": lambda x: F.linear(
        torch.cat([F.normalize(x, dim=-1), weight(B, 1, 3).expand(-1, K, -1), x], 2), weight(2, 2 * D + 3), V[:2]
    ),
    "cat regions": lambda x: F.linear(torch.cat([weight(B, 1, D), x, x * 2], 1), W),
    "getitem mask": lambda x: F.linear(x[torch.arange(B * K).view(B, K) % 2 == 0], W),
    "getitem features": lambda x: x[..., :2] * U + x[:, :, 3:4] * U,
    "pairs": lambda x: (x[:, :, None] + x[:, None]).sum((1, 2, 3)) * V[0],
    "divide by a number": lambda x: F.linear(x / x[0, 0, 0] + x / torch.tensor(3), W),
    "divide by the sum": lambda x: F.linear(x / x.sum(), W),
    "many terms": lambda x: F.linear(sum((weight(D, seed=i) * x for i in range(12)), x), W),
    "layer_norm": lambda x: F.layer_norm(x * V, (D,)),
    "softmax": lambda x: F.linear(x.softmax(-1), W),
    "relu": lambda x: F.linear(torch.relu(x - 0.3), W),
    "unknown option": lambda x: F.linear(x.sum(1, dtype=torch.float64), W),
    "power": lambda x: F.linear(x**2, W),
    "reciprocal": lambda x: F.linear(1 / x, W),
    "stack": lambda x: F.linear(torch.stack([x, 2 * x], 2), W),
    "infinity norm": lambda x: F.linear(x / x.norm(float("inf"), -1, keepdim=True), W),
    "one-dimensional": lambda x: F.linear(torch.matmul(U[0, :, 0], x), W),
    "index of no dimension": lambda x: F.linear(x[torch.tensor(True)][0] * x[:, torch.tensor(1)][:, None], W),
    "complex numbers": lambda x: (x * torch.polar(V.detach().abs(), V.detach())).abs() * V,
    "vector of weights": lambda x: F.linear(x, V),
    "empty neighbour": lambda x: F.linear(torch.cat([torch.empty(0, dtype=x.dtype), x], 1), W),
}


@REDUCTIONS
@pytest.mark.parametrize("name", PLAIN)
def test_everything_else_is_exact_too(name: str, reduction: str) -> None:
    def score(x: Tensor) -> Tensor:
        return torch.tanh(PLAIN[name](x)).square().sum().expand(B) * torch.arange(1.0, B + 1)

    tracked = assert_exact(score, [W, V, U], features(), reduction=reduction)
    assert set(tracking_report(tracked).plain) - {"tanh"}


@REDUCTIONS
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("options", [{}, {"stride": 2, "padding": 1, "dilation": 2}, {"padding": "same"}], ids=str)
def test_convolution_of_a_feature_map(kernel: int, options: dict[str, Any], reduction: str) -> None:
    kernels = weight(4, D, kernel, kernel)

    def score(x: Tensor) -> Tensor:
        return torch.tanh(F.conv2d(x, kernels, kernels[:, 0, 0, 0], **options)).sum((1, 2, 3))

    tracked = assert_exact(score, [kernels], features(2, D, 5, 4), reduction=reduction, feature_dim=1)
    assert ("conv2d" in tracking_report(tracked).lazy) == (reduction != "input")


@REDUCTIONS
def test_grid_features_of_a_convolutional_network(reduction: str) -> None:
    def score(x: Tensor) -> Tensor:  # (B, C, H, W) to (B, HW, C)
        grid = x.flatten(2).transpose(1, 2)
        attention = F.linear(torch.tanh(F.linear(grid, W)), W[:1, :4]).softmax(1)
        return torch.tanh(F.linear((attention * grid).sum(1), W)).sum(1)

    tracked = assert_exact(score, [W], features(2, D, 3, 4), reduction=reduction, feature_dim=1)
    assert tracking_report(tracked).plain == {}


class UpDn(nn.Module):
    """Top-down attention over proposals, as in the paper's base network."""

    def __init__(self, normalise: bool = False) -> None:
        super().__init__()
        self.normalise = normalise
        self.value, self.question, self.attention = nn.Linear(D, 8), nn.Linear(4, 8), nn.Linear(8, 1)
        self.image, self.answer = nn.Linear(D, 8), nn.Linear(8, 7)
        self.double()

    def forward(self, x: Tensor, question: Tensor) -> Any:
        if self.normalise:
            x = F.normalize(x, dim=-1)
        joint = torch.relu(self.value(x)) * torch.relu(self.question(question))[:, None]
        attended = (self.attention(joint).softmax(1) * x).sum(1)
        return self.answer(torch.relu(self.image(attended)))


@pytest.fixture
def updn() -> UpDn:
    torch.manual_seed(0)
    return UpDn()


QUESTION = features(B, 4, seed=3)


def test_network_is_all_lazy(updn: UpDn) -> None:
    tracked = assert_exact(lambda x: updn(x, QUESTION)[:, 2], list(updn.parameters()), features())
    report = tracking_report(tracked)
    assert report.lazy == {"linear": 2, "mul": 1, "sum": 1}
    assert report.plain == {}
    assert str(report) == "lazy: linear x 2, mul x 1, sum x 1\nplain: none"


@REDUCTIONS
def test_several_decisions(updn: UpDn, reduction: str) -> None:
    assert_exact(lambda x: updn(x, QUESTION)[:, :4], list(updn.parameters()), features(), reduction=reduction)


@REDUCTIONS
def test_trainable_backbone(updn: UpDn, reduction: str) -> None:
    """The loss on the importance reaches what made the proposals, too."""
    backbone = nn.Linear(4, D).double()
    images = features(B, K, 4)
    results = []
    for track in (False, True):
        x: Tensor = torch.tanh(backbone(images))
        x = track_proposals(x, reduction=reduction, probes=torch.eye(D)) if track else x  # type: ignore[arg-type]
        score = updn(x, QUESTION)[:, 1]
        alpha = proposal_importance(score, x, reduction=reduction)  # type: ignore[arg-type]
        loss = alpha.square().sum() + score.sum()
        results.append([alpha, *torch.autograd.grad(loss, [*backbone.parameters(), *updn.parameters()])])
    torch.testing.assert_close(results[1], results[0], rtol=1e-10, atol=1e-12)


def test_gradient_checkpointing(updn: UpDn) -> None:
    def score(x: Tensor) -> Tensor:
        logits: Tensor = checkpoint(updn, x, QUESTION, use_reentrant=False)
        return logits[:, 0]

    assert_exact(score, list(updn.parameters()), features())


@pytest.mark.filterwarnings("ignore:Grad strides do not match")
def test_data_parallel(updn: UpDn) -> None:
    class Loss(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = updn

        def forward(self, x: Tensor, track: bool) -> Any:
            x = track_proposals(x) if track else x.clone().requires_grad_()
            score = self.model(x, QUESTION)[:, 0]
            return hint_ranking_loss(proposal_importance(score, x), features(B, K, seed=4)) + score.sum()

    dist.init_process_group("gloo", store=torch._C._distributed_c10d.HashStore(), rank=0, world_size=1)
    try:
        wrapped = nn.parallel.DistributedDataParallel(Loss())
        gradients = []
        for track in (False, True):
            updn.zero_grad()
            wrapped(features(), track).backward()
            gradients.append([p.grad for p in updn.parameters()])
        torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-10, atol=1e-12)
    finally:
        dist.destroy_process_group()


def test_model_may_write_into_what_a_layer_made(updn: UpDn) -> None:
    layers = nn.Sequential(nn.Linear(D, 8, bias=False), nn.ReLU(inplace=True), nn.Linear(8, 1)).double()

    def score(x: Tensor) -> Any:
        hidden = F.linear(x, W)
        hidden += 1
        hidden[:, 0] = 0
        product = x @ W.T
        product[:, 1] *= 2
        cells = F.conv1d(x.transpose(1, 2), W[..., None])
        cells[..., 2] = 1
        return sum(y.tanh_().sum((1, 2)) for y in (layers(x), hidden, product, cells))

    for reduction in ("sum", "input", "norm"):
        assert_exact(score, [W, *layers.parameters()], features(), reduction=reduction)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_features(dtype: torch.dtype) -> None:
    x = track_proposals(features().to(dtype))
    alpha = proposal_importance(torch.tanh(F.linear(x, W.to(dtype))).sum((1, 2)), x)
    assert alpha.dtype == torch.float32
    plain = features().requires_grad_()
    expected = proposal_importance(torch.tanh(F.linear(plain, W)).sum((1, 2)), plain)
    torch.testing.assert_close(alpha.double(), expected, rtol=0.1, atol=0.1)


def test_autocast(updn: UpDn) -> None:
    """In bfloat16 the forward pass rounds; the terms do not."""
    model = updn.float()
    results = []
    for cast in (False, True):
        x = track_proposals(features().float())
        with torch.autocast("cpu", torch.bfloat16, enabled=cast):
            score = model(x, QUESTION.float())[:, 2]
            alpha = proposal_importance(score.float(), x)
        assert alpha.dtype == torch.float32
        results.append([alpha, *torch.autograd.grad(alpha.square().sum(), [model.value.weight, model.image.weight])])
    for exact, rounded in zip(*results, strict=True):
        assert (rounded - exact).norm() < 0.1 * exact.norm()


AUTOCAST: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda x: F.linear(x, W.float()),
    "matmul": lambda x: x @ W.float().T,
    "pooling": lambda x: U.float().mT @ x,
    "einsum": lambda x: torch.einsum("bkd,hd->bkh", x, W.float()),
    "sum": lambda x: (x * V.float()).sum(-1),
    "pooled sum": lambda x: (x * U.float()).sum(1),
    "conv1d": lambda x: F.conv1d(x.transpose(1, 2), W.float()[..., None]),
}


@pytest.mark.parametrize("reduction", ["sum", "norm"])
@pytest.mark.parametrize("name", AUTOCAST)
def test_terms_keep_float32_under_autocast(name: str, reduction: str) -> None:
    """A score that is linear in the proposals: its value rounds to bfloat16, its importance does not."""
    data, score, directions = features().float(), AUTOCAST[name], weight(D, 3, seed=5).detach().float()
    plain = data.clone().requires_grad_()
    how: Any = along(directions) if reduction == "norm" else reduction
    expected = proposal_importance(score(plain).flatten(1).sum(1), plain, reduction=how)
    x = track_proposals(data, reduction=reduction, probes=directions)  # type: ignore[arg-type]
    with torch.autocast("cpu", torch.bfloat16):
        value = score(x).flatten(1).float().sum(1)
    found = proposal_importance(value, x, reduction=reduction)  # type: ignore[arg-type]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@REDUCTIONS
def test_convolution_of_a_pooled_map(reduction: str) -> None:
    """A factor that does not vary over space still meets the padding."""
    kernels = weight(4, D, 3, 3)

    def score(x: Tensor) -> Tensor:
        pooled = x.mean((2, 3), keepdim=True)
        return F.conv2d(pooled.expand(-1, -1, 5, 4), kernels, padding=1).tanh().sum((1, 2, 3))

    assert_exact(score, [kernels], features(2, D, 5, 4), reduction=reduction, feature_dim=1)


@REDUCTIONS
def test_convolution_then_flatten_by_view(reduction: str) -> None:
    kernels, head = weight(3, D, 2, 2), weight(5, 3 * 4 * 3)

    def score(x: Tensor) -> Tensor:
        hidden = F.conv2d(x.view(B, D, 20).view(B, D, 5, 4), kernels).tanh()
        return F.linear(hidden.view(B, -1), head).tanh().sum(1)

    assert_exact(score, [kernels, head], features(B, D, 5, 4), reduction=reduction, feature_dim=1)


def test_a_view_that_torch_refuses_is_refused_alike() -> None:
    for x in (features(), track_proposals(features())):
        with pytest.raises(RuntimeError, match="view size is not compatible with input tensor's size and stride"):
            x.transpose(1, 2).view(B, -1)


@REDUCTIONS
def test_parts_that_are_written_into_later(reduction: str) -> None:
    weights = weight(2, D + 3)

    def score(x: Tensor) -> Tensor:
        other = torch.zeros(B, K, 3, dtype=torch.float64)
        parts = [F.normalize(x, dim=-1), other]
        both = torch.cat(parts, -1)
        other.fill_(7)
        parts[0] = other
        return torch.tanh(F.linear(both, weights)).sum((1, 2))

    assert_exact(score, [weights], features(), reduction=reduction)


@pytest.mark.parametrize("written", ["weights", "features"])
def test_what_a_sum_weighs_may_be_written_into_before_it(written: str) -> None:
    """The product has been taken by then, though the sum would not read it."""
    weights, features = torch.rand(B, K, 1), torch.rand(B, K, D)
    product = weights * track_proposals(features)
    expected = (weights * features).sum(1)
    {"weights": weights, "features": features}[written].mul_(2)
    torch.testing.assert_close(product.sum(1), expected)


def test_a_weighted_sum_has_the_type_that_it_has_without_tracking() -> None:
    weights, features = (torch.rand(B, K, size).bfloat16() for size in (1, D))
    with torch.autocast("cpu", torch.bfloat16):
        expected, found = ((weights * x).sum(1) for x in (features, track_proposals(features)))
    assert found.dtype == expected.dtype
    assert torch.equal(found, expected)


@REDUCTIONS
def test_parts_of_the_model_without_a_gradient(reduction: str) -> None:
    def score(x: Tensor) -> Tensor:
        with torch.no_grad():
            still = F.normalize(x.clone(), dim=-1)
        return torch.tanh(F.linear(x * still, W)).sum((1, 2))

    assert_exact(score, [W], features(), reduction=reduction)


@REDUCTIONS
def test_half_precision_normalised(reduction: Any) -> None:
    x = track_proposals(features().bfloat16(), reduction=reduction)
    normalised = F.normalize(x, dim=-1) + x / x.norm(dim=-1, keepdim=True)
    alpha = proposal_importance(torch.tanh(normalised @ V.bfloat16()).sum(1), x, reduction=reduction)
    assert alpha.dtype == torch.float32
    assert alpha.isfinite().all()


def test_autocast_changes_no_value() -> None:
    data, weights = features().float(), U.float()
    with torch.autocast("cpu", torch.bfloat16):
        found, plain = ((weights * x).sum(1) for x in (track_proposals(data), data))
        torch.testing.assert_close(found.as_subclass(Tensor), plain)


def test_values_and_metadata_do_not_change() -> None:
    data = features()
    x = track_proposals(data)
    assert torch.equal(x, data)
    assert x.shape == data.shape
    assert x.dtype == data.dtype
    assert type(x.detach()) is Tensor
    assert tracking_report(x).plain == {}
    assert not data.requires_grad


@pytest.mark.parametrize(
    "write",
    [
        lambda x: x.add_(1),
        lambda x: x.__setitem__(0, 0.0),
        lambda x: x.__imul__(2),
        lambda x: F.relu(x, inplace=True),
        lambda x: F.dropout(x, 0.5, True, True),
        lambda x: torch.add(x.detach(), 1, out=x),
    ],
)
def test_writing_raises(write: Callable[[Tensor], Any]) -> None:
    with pytest.raises(RuntimeError, match="writes into tracked proposals, but the importance is of the values that"):
        write(track_proposals(features()))


@pytest.mark.parametrize(
    "write", [lambda x: (x * 2).clamp_(min=0), lambda x: F.relu(x.mean(1), inplace=True), lambda x: x[:, 0].add_(1)]
)
def test_writing_into_what_the_model_made_raises(write: Callable[[Tensor], Any]) -> None:
    with pytest.raises(
        RuntimeError, match=r"writes into what the model made of tracked proposals, of shape \(3, .*6\)"
    ):
        write(track_proposals(features()))


def test_bad_input(updn: UpDn) -> None:
    with pytest.raises(TypeError, match=r"Found `features.dtype = torch.int64`: pass `features.float\(\)`"):
        track_proposals(torch.ones(2, 3, 4, dtype=torch.int64))
    with pytest.raises(TypeError, match=r"Found a list: pass `torch.as_tensor\(features\)`"):
        track_proposals([1.0])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"Found `feature_dim = 3` and `features.shape = \(3, 5, 6\)`"):
        track_proposals(features(), feature_dim=3)
    with pytest.raises(TypeError, match="Found TrackedProposals"):
        track_proposals(track_proposals(features()))
    with pytest.raises(ValueError, match=r"should be 'sum', 'input' or 'norm' for tracked proposals. Found 'mean'"):
        track_proposals(features(), reduction="mean")  # type: ignore[arg-type]
    for probes in (0, -3, 1.5, True, "4", torch.ones(D), torch.ones(D + 1, 2), torch.ones(D, 0)):
        with pytest.raises(
            ValueError, match=r"`probes` should be the number of random directions, at least 1, or a te"
        ):
            track_proposals(features(), probes=probes)  # type: ignore[arg-type]
    assert track_proposals(features(), reduction="norm", probes=np.int64(4)).source.t.shape == (4, B, K)
    with torch.inference_mode(), pytest.raises(ValueError, match=r"outside of `torch.inference_mode`"):
        track_proposals(features())
    with pytest.raises(TypeError, match=r"what `track_proposals\(features\)` returned. Found an untracked Tensor"):
        tracking_report(features())

    x = track_proposals(features())
    score = updn(x, QUESTION)[:, 0]
    with pytest.raises(ValueError, match=r"tracked for, 'sum' and -1. Found 'input' and -1"):
        proposal_importance(score, x, reduction="input")
    with pytest.raises(ValueError, match=r"tracked for, 'sum' and -1. Found 'sum' and 1"):
        proposal_importance(score, x, feature_dim=1)
    with pytest.raises(ValueError, match="that a model made of it"):
        proposal_importance(score, x[:, :2])
    with pytest.raises(ValueError, match="`score` should depend on `proposals`"):
        proposal_importance(score, track_proposals(features()))
    with pytest.raises(ValueError, match="`score` should depend on `proposals`"):
        proposal_importance(score, features().requires_grad_())
    with torch.no_grad(), pytest.raises(ValueError, match="`score` should carry a graph"):
        proposal_importance(updn(x, QUESTION)[:, 0], x)
    score.sum().backward()
    with pytest.raises(RuntimeError, match="The graph of `score` is gone: take the importance before `backward`"):
        proposal_importance(score, x)
