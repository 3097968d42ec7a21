"""VisFIS: where each objective is minimal; test_objective.py compares the values with loops."""

import math

import pytest
import torch

from updn_vqa.training.visfis import alignment_loss, invariance_loss, remove, uncertainty_loss

ALL = torch.ones(1, 3, dtype=torch.bool)
FIRST = torch.tensor([[True, False, False]])


def test_removed_proposals_are_replaced() -> None:
    features = torch.arange(6.0).view(1, 3, 2)
    assert remove(features, FIRST).tolist() == [[[-1.0, -1.0], [2.0, 3.0], [4.0, 5.0]]]
    assert torch.equal(features, torch.arange(6.0).view(1, 3, 2))


def test_uncertainty_is_a_divergence_from_the_uniform_distribution() -> None:
    logits = torch.tensor([[-4.0, -4.0, -4.0, -4.0], [0.0, 1.0, 2.0, 3.0]])
    uniform, other = torch.full((4,), 0.25), torch.distributions.Categorical(logits=logits[1])
    expected = torch.distributions.kl_divergence(torch.distributions.Categorical(uniform), other)
    torch.testing.assert_close(uncertainty_loss(logits), torch.stack([torch.tensor(0.0), expected]))


def test_invariance_is_the_share_of_unimportant_proposals() -> None:
    alpha = torch.tensor([[3.0, -4.0, 0.0]])
    assert invariance_loss(alpha, FIRST, ALL).item() == pytest.approx(0.6 / 3)
    assert invariance_loss(100 * alpha, ~FIRST, ALL).item() == pytest.approx(0.8 / 3)
    assert invariance_loss(alpha, ~ALL, ALL).item() == 0


def test_alignment_depends_on_directions_only() -> None:
    human = torch.tensor([[0.2, 0.4, torch.nan]])
    known = ~human.isnan()
    for alpha, loss in ([10.0, 20.0, 99.0], 0.0), ([-1.0, -2.0, 99.0], 2.0), ([2.0, -1.0, 99.0], 1.0):
        assert alignment_loss(torch.tensor([alpha]), human, known).item() == pytest.approx(loss, abs=1e-6)
    assert alignment_loss(torch.ones(1, 3), human, ~ALL).item() == 0


def test_gradients_are_finite_if_all_importances_are_zero() -> None:
    alpha = torch.zeros(1, 3, requires_grad=True)
    (invariance_loss(alpha, ~FIRST, ALL) + alignment_loss(alpha, torch.rand(1, 3), ALL)).sum().backward()
    assert alpha.grad is not None
    assert all(map(math.isfinite, alpha.grad[0].tolist()))
