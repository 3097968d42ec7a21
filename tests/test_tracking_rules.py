"""Operations on tracked proposals: exact everywhere, and lazy for those that have a rule."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hint_loss import track_proposals, tracking_report

from .tracking import REDUCTIONS, B, D, K, U, V, W, assert_exact, features, weight

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
def test_operations_with_a_rule_are_exact_and_lazy(name: str, reduction: str) -> None:
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
def test_operations_without_a_rule_are_exact(name: str, reduction: str) -> None:
    def score(x: Tensor) -> Tensor:
        return torch.tanh(PLAIN[name](x)).square().sum().expand(B) * torch.arange(1.0, B + 1)

    tracked = assert_exact(score, [W, V, U], features(), reduction=reduction)
    assert set(tracking_report(tracked).plain) - {"tanh"}


@REDUCTIONS
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("options", [{}, {"stride": 2, "padding": 1, "dilation": 2}, {"padding": "same"}], ids=str)
def test_convolutions_are_exact_and_lazy_except_for_gradient_times_input(
    kernel: int, options: dict[str, Any], reduction: str
) -> None:
    kernels = weight(4, D, kernel, kernel)

    def score(x: Tensor) -> Tensor:
        return torch.tanh(F.conv2d(x, kernels, kernels[:, 0, 0, 0], **options)).sum((1, 2, 3))

    tracked = assert_exact(score, [kernels], features(2, D, 5, 4), reduction=reduction, feature_dim=1)
    assert ("conv2d" in tracking_report(tracked).lazy) == (reduction != "input")


@REDUCTIONS
def test_a_convolution_of_a_pooled_map_is_exact(reduction: str) -> None:
    """A factor that is the same in every cell still differs from the padding."""
    kernels = weight(4, D, 3, 3)

    def score(x: Tensor) -> Tensor:
        pooled = x.mean((2, 3), keepdim=True)
        return F.conv2d(pooled.expand(-1, -1, 5, 4), kernels, padding=1).tanh().sum((1, 2, 3))

    assert_exact(score, [kernels], features(2, D, 5, 4), reduction=reduction, feature_dim=1)


@REDUCTIONS
def test_flattening_a_convolution_by_view_is_exact(reduction: str) -> None:
    kernels, head = weight(3, D, 2, 2), weight(5, 3 * 4 * 3)

    def score(x: Tensor) -> Tensor:
        hidden = F.conv2d(x.view(B, D, 20).view(B, D, 5, 4), kernels).tanh()
        return F.linear(hidden.view(B, -1), head).tanh().sum(1)

    assert_exact(score, [kernels, head], features(B, D, 5, 4), reduction=reduction, feature_dim=1)


def test_a_view_that_torch_refuses_raises_when_tracked_too() -> None:
    for x in (features(), track_proposals(features())):
        with pytest.raises(RuntimeError, match="view size is not compatible with input tensor's size and stride"):
            x.transpose(1, 2).view(B, -1)
