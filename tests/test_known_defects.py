"""One test for each known defect of public re-implementations of HINT, named after what holds here instead.

Two defects concern trainers, not this library: pickled data, and choosing the best epoch on test.
"""

from functools import partial
from typing import Any

import pytest
import scipy.stats
import torch
from torch import Tensor

from hint_loss import (
    HintRankingLoss,
    hint_ranking_loss,
    human_importance,
    pointing_game,
    proposal_importance,
    rank_correlation,
)

from .networks import OneQuestion, Rectified


def network() -> OneQuestion:
    return OneQuestion(8, partial(Rectified, dropout=0.5))


def training_step(model: OneQuestion, batch: int, k: int) -> Tensor:
    """Runs a training step, and computes the metrics of an evaluation."""
    proposals = torch.rand(batch, k, 8, requires_grad=True)
    boxes = (torch.rand(batch, k, 2, 2) * 32).sort(-2).values.flatten(-2)
    s = human_importance(torch.rand(batch, 32, 32), boxes)
    alpha = proposal_importance(model(proposals).amax(1), proposals)
    assert alpha.shape == s.shape == (batch, k)
    assert rank_correlation(alpha, s).shape == pointing_game(alpha, s > 0.5).shape == (batch,)
    loss = HintRankingLoss()(alpha, s)
    loss.backward()
    return loss


@pytest.mark.parametrize("batch", [8, 3, 1])
def test_a_batch_of_one_and_a_smaller_last_batch_work(batch: int) -> None:
    model = network()
    assert training_step(model, batch, k=4).isfinite()
    assert model.attention.weight.grad is not None


def test_equal_human_scores_have_no_gradient() -> None:
    alpha = torch.tensor([[0.9, 0.1, -0.4]], requires_grad=True)
    hint_ranking_loss(alpha, torch.tensor([[0.7, 0.7, 0.7]])).backward()
    assert alpha.grad is not None
    assert alpha.grad.tolist() == [[0.0, 0.0, 0.0]]


def test_a_hint_of_zeros_gives_a_zero_loss() -> None:
    assert hint_ranking_loss(torch.randn(4, 36, requires_grad=True), torch.zeros(4, 36)) == 0


def test_the_mean_counts_hinted_samples_only() -> None:
    alpha, s = torch.randn(8, 6, requires_grad=True), torch.rand(8, 6)
    hinted = torch.arange(8) < 2
    loss = hint_ranking_loss(alpha, s, mask=hinted)
    assert loss > 0
    torch.testing.assert_close(loss, hint_ranking_loss(alpha[:2], s[:2]))


def test_the_loss_does_not_depend_on_padding() -> None:
    """With a mean over pairs, repeating every proposal does not change it either."""
    alpha, s = torch.randn(3, 6, requires_grad=True), torch.rand(3, 6)
    padded = [torch.cat([x, torch.zeros(3, 30)], 1) for x in (alpha, s)]
    loss = hint_ranking_loss(*padded, mask=(torch.arange(36) < 6).expand(3, 36))
    torch.testing.assert_close(loss, hint_ranking_loss(alpha, s))
    repeated = hint_ranking_loss(alpha.repeat(1, 4), s.repeat(1, 4), pair_reduction="mean")
    torch.testing.assert_close(repeated, hint_ranking_loss(alpha, s, pair_reduction="mean"))


@pytest.mark.parametrize("options", [{}, {"margin": 0.1}, {"min_gap": 0.1}, {"scale_free": True}])
def test_the_loss_trains_every_parameter(options: dict[str, Any]) -> None:
    """In one re-implementation, a loss of the softmax over a single column is always zero."""
    model, s = network().eval(), torch.rand(4, 6)
    values = []
    for _ in range(3):
        proposals = torch.randn(4, 6, 8, requires_grad=True)
        alpha = proposal_importance(model(proposals).log_softmax(1)[:, 0], proposals)
        loss = hint_ranking_loss(alpha, s, **options)
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        assert all(gradient.any() for gradient in gradients)
        values.append(loss.item())
    assert min(values) > 0
    assert len(set(values)) == 3


def test_rank_correlation_is_computed_on_ranks() -> None:
    alpha, s = torch.tensor([[0.2, 0.4, 0.1, 0.9]]), torch.tensor([[0.1, 0.3, 0.2, 0.9]])
    wrong = scipy.stats.pearsonr(alpha[0].argsort().tolist(), s[0].argsort().tolist()).statistic
    right = scipy.stats.spearmanr(alpha[0].tolist(), s[0].tolist()).statistic
    assert rank_correlation(alpha, s).item() == pytest.approx(right)
    assert abs(wrong - right) > 0.1


def test_an_importance_without_a_graph_raises() -> None:
    model, proposals = network(), torch.randn(2, 4, 8)
    with pytest.raises(ValueError, match=r"`proposals.requires_grad = False`"):
        proposal_importance(model(proposals)[:, 0], proposals)
    with torch.no_grad():
        score = model(proposals.requires_grad_())[:, 0]
    with pytest.raises(ValueError, match=r"`score.requires_grad = False`"):
        proposal_importance(score, proposals)
    with pytest.raises(ValueError, match="outside of its graph"):
        proposal_importance(model(proposals)[:, 0], proposals.detach().requires_grad_())
    with pytest.raises(RuntimeError, match="The importance of `proposals` cannot be trained"):
        proposal_importance(proposals.sum((1, 2)), proposals)


@pytest.mark.parametrize("training", [True, False])
def test_modes_and_flags_of_the_caller_stay(training: bool) -> None:
    model = network().train(training)
    model.image[0].bias.requires_grad_(False)
    modes = [module.training for module in model.modules()]
    flags = [parameter.requires_grad for parameter in model.parameters()]
    training_step(model, 4, k=6)
    assert [module.training for module in model.modules()] == modes
    assert [parameter.requires_grad for parameter in model.parameters()] == flags


def test_samples_without_a_hint_have_no_gradient() -> None:
    alpha = torch.randn(4, 6, requires_grad=True)
    hint_ranking_loss(alpha, torch.rand(4, 6), mask=torch.tensor([True, False, True, False])).backward()
    assert alpha.grad is not None
    assert alpha.grad[[0, 2]].any()
    assert not alpha.grad[[1, 3]].any()


@pytest.mark.parametrize("k", [1, 2, 10, 36, 100])
def test_any_number_of_proposals_and_any_device_work(k: int) -> None:
    training_step(network(), 2, k)
    if torch.cuda.is_available():
        alpha, s = torch.randn(2, k, requires_grad=True), torch.rand(2, k)
        for function in (hint_ranking_loss, rank_correlation):
            on_device = function(alpha.cuda(), s.cuda())
            assert on_device.is_cuda
            torch.testing.assert_close(on_device, function(alpha, s).cuda(), equal_nan=True)
