"""Tracked proposals in networks give the importance and the gradients of plain double backward, exactly."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hint_loss import hint_ranking_loss, proposal_importance, track_proposals, tracking_report

from .networks import OneQuestion, Rectified
from .tracking import REDUCTIONS, B, D, K, W, assert_exact, features, weight


@pytest.fixture
def updn() -> nn.Module:
    return OneQuestion(D, Rectified).double()


def test_tracking_keeps_values_shape_and_dtype() -> None:
    data = features()
    x = track_proposals(data)
    assert torch.equal(x, data)
    assert x.shape == data.shape
    assert x.dtype == data.dtype
    assert type(x.detach()) is Tensor
    assert tracking_report(x).plain == {}
    assert not data.requires_grad


def test_all_operations_of_updn_are_lazy(updn: nn.Module) -> None:
    tracked = assert_exact(lambda x: updn(x)[:, 2], list(updn.parameters()), features())
    report = tracking_report(tracked)
    assert report.lazy == {"linear": 2, "mul": 1, "sum": 1}
    assert report.plain == {}
    assert str(report) == "lazy: linear x 2, mul x 1, sum x 1\nplain: none"


@REDUCTIONS
def test_several_decisions_are_exact(updn: nn.Module, reduction: str) -> None:
    assert_exact(lambda x: updn(x)[:, :4], list(updn.parameters()), features(), reduction=reduction)


@REDUCTIONS
def test_a_loss_on_the_importance_trains_a_backbone_before_the_proposals(updn: nn.Module, reduction: str) -> None:
    backbone = nn.Linear(4, D).double()
    images = features(B, K, 4)
    results = []
    for track in (False, True):
        x: Tensor = torch.tanh(backbone(images))
        x = track_proposals(x, reduction=reduction, probes=torch.eye(D)) if track else x  # type: ignore[arg-type]
        score = updn(x)[:, 1]
        alpha = proposal_importance(score, x, reduction=reduction)  # type: ignore[arg-type]
        loss = alpha.square().sum() + score.sum()
        results.append([alpha, *torch.autograd.grad(loss, [*backbone.parameters(), *updn.parameters()])])
    torch.testing.assert_close(results[1], results[0], rtol=1e-10, atol=1e-12)


def test_checkpointing_is_exact(updn: nn.Module) -> None:
    def score(x: Tensor) -> Tensor:
        logits: Tensor = checkpoint(updn, x, use_reentrant=False)
        return logits[:, 0]

    assert_exact(score, list(updn.parameters()), features())


@pytest.mark.filterwarnings("ignore:Grad strides do not match")
@pytest.mark.usefixtures("process_group")
def test_data_parallel_training_is_exact(updn: nn.Module) -> None:
    class Loss(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = updn

        def forward(self, x: Tensor, track: bool) -> Any:
            x = track_proposals(x) if track else x.clone().requires_grad_()
            score = self.model(x)[:, 0]
            return hint_ranking_loss(proposal_importance(score, x), features(B, K, seed=4)) + score.sum()

    wrapped = nn.parallel.DistributedDataParallel(Loss())
    gradients = []
    for track in (False, True):
        updn.zero_grad()
        wrapped(features(), track).backward()
        gradients.append([p.grad for p in updn.parameters()])
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-10, atol=1e-12)


@REDUCTIONS
def test_outputs_of_layers_may_be_overwritten(reduction: str) -> None:
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

    assert_exact(score, [W, *layers.parameters()], features(), reduction=reduction)


@REDUCTIONS
def test_concatenated_parts_may_be_overwritten_later(reduction: str) -> None:
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
def test_factors_may_be_overwritten_before_their_product_is_summed(written: str) -> None:
    """A lazy weighted sum must use the values that the factors had in the product."""
    weights, features = torch.rand(B, K, 1), torch.rand(B, K, D)
    product = weights * track_proposals(features)
    expected = (weights * features).sum(1)
    {"weights": weights, "features": features}[written].mul_(2)
    torch.testing.assert_close(product.sum(1), expected)


@REDUCTIONS
def test_parts_under_no_grad_are_exact(reduction: str) -> None:
    def score(x: Tensor) -> Tensor:
        with torch.no_grad():
            still = F.normalize(x.clone(), dim=-1)
        return torch.tanh(F.linear(x * still, W)).sum((1, 2))

    assert_exact(score, [W], features(), reduction=reduction)


@REDUCTIONS
def test_grid_features_are_exact_and_lazy(reduction: str) -> None:
    def score(x: Tensor) -> Tensor:  # (B, C, H, W) to (B, HW, C)
        grid = x.flatten(2).transpose(1, 2)
        attention = F.linear(torch.tanh(F.linear(grid, W)), W[:1, :4]).softmax(1)
        return torch.tanh(F.linear((attention * grid).sum(1), W)).sum(1)

    tracked = assert_exact(score, [W], features(2, D, 3, 4), reduction=reduction, feature_dim=1)
    assert tracking_report(tracked).plain == {}
