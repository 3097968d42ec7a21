"""Network importance equals captum, separate calls, and finite differences of the whole training loss."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hint_loss import HintRankingLoss, proposal_importance, track_proposals

from .networks import OneQuestion, convolutional_net

B, K, D, T = 3, 5, 4, 7


@pytest.fixture
def model() -> OneQuestion:
    return OneQuestion(D, hidden=3, words=6, answers=4).double()


@pytest.fixture
def proposals() -> Tensor:
    return torch.randn(B, K, D, dtype=torch.float64, requires_grad=True)


ANSWERS = torch.tensor([2, 0, 3])


def answer_score(logits: Tensor) -> Tensor:
    """The logit of the true answer, ``(B,)``."""
    return logits.gather(1, ANSWERS[:, None]).squeeze(1)


@pytest.fixture
def logits(model: OneQuestion, proposals: Tensor) -> Tensor:
    return model(proposals)  # type: ignore[no-any-return]


@pytest.fixture
def score(logits: Tensor) -> Tensor:
    return answer_score(logits)


def captum() -> Any:
    return pytest.importorskip("captum.attr", reason="captum is not installed")


class TestValues:
    """The importance equals what captum, or one call for each decision, gives."""

    @pytest.mark.parametrize("reduction", ["sum", "input", "norm"])
    def test_equals_captum(self, model: OneQuestion, score: Tensor, proposals: Tensor, reduction: Any) -> None:
        method = captum().InputXGradient if reduction == "input" else captum().Saliency
        options = {"abs": False} if reduction == "sum" else {}
        found = method(model).attribute(proposals, ANSWERS, **options)
        expected = found.square().sum(-1).sqrt() if reduction == "norm" else found.sum(-1)
        alpha = proposal_importance(score, proposals, reduction=reduction)
        torch.testing.assert_close(alpha, expected, rtol=1e-12, atol=1e-15)

    def test_a_function_may_reduce_gradient_and_proposals(self, score: Tensor, proposals: Tensor) -> None:
        (gradient,) = torch.autograd.grad(score.sum(), proposals, retain_graph=True)
        alpha = proposal_importance(score, proposals, reduction=lambda g, p: (g * p).relu().amax(-1))
        torch.testing.assert_close(alpha, (gradient * proposals).relu().amax(-1))

    @pytest.mark.parametrize("reduction", ["sum", "input", "norm"])
    def test_a_feature_map_with_channels_first_has_a_map_of_importances(self, reduction: Any) -> None:
        """(B, C, H, W) gives (B, H, W)."""
        net = convolutional_net(D, 12).double()
        maps = torch.randn(B, D, 3, 4, dtype=torch.float64, requires_grad=True)
        alpha = proposal_importance(answer_score(net(maps)), maps, feature_dim=1, reduction=reduction)
        gradient = captum().Saliency(net).attribute(maps, ANSWERS, abs=False)
        expected = {
            "sum": gradient.sum(1),
            "input": (gradient * maps).sum(1),
            "norm": gradient.square().sum(1).sqrt(),
        }
        assert alpha.shape == (B, 3, 4)
        torch.testing.assert_close(alpha, expected[reduction], rtol=1e-12, atol=1e-15)

    @pytest.mark.parametrize("reduction", ["sum", "input", "norm", lambda g, p: (g * p).square().sum(-1)])
    @pytest.mark.parametrize("differentiable", [True, False])
    def test_several_decisions_equal_separate_calls(
        self, logits: Tensor, proposals: Tensor, reduction: Any, differentiable: bool
    ) -> None:
        """(B, T) gives (B, T, K), through the GRU and the attention."""
        options: dict[str, Any] = {"reduction": reduction, "differentiable": differentiable}
        alpha = proposal_importance(logits, proposals, **options)
        separate = [proposal_importance(logits[:, t], proposals, **options) for t in range(logits.shape[1])]
        assert alpha.shape == (B, 4, K)
        torch.testing.assert_close(alpha, torch.stack(separate, 1), rtol=1e-12, atol=1e-15)

    @pytest.mark.parametrize("reduction", ["sum", "input", "norm"])
    def test_several_decisions_on_a_feature_map_equal_separate_calls(self, reduction: Any) -> None:
        weight = torch.randn(2, D, dtype=torch.float64, requires_grad=True)
        maps = torch.randn(B, D, 3, 4, dtype=torch.float64, requires_grad=True)
        scores = torch.einsum("td,bdhw->bthw", weight, maps).tanh().sum((2, 3))
        alpha = proposal_importance(scores, maps, feature_dim=1, reduction=reduction)
        separate = [proposal_importance(scores[:, t], maps, feature_dim=-3, reduction=reduction) for t in range(2)]
        assert alpha.shape == (B, 2, 3, 4)
        torch.testing.assert_close(alpha, torch.stack(separate, 1), rtol=1e-12, atol=1e-15)

    def test_a_scalar_score_is_taken_as_the_sum_of_the_batch(self, score: Tensor, proposals: Tensor) -> None:
        torch.testing.assert_close(
            proposal_importance(score.sum(), proposals), proposal_importance(score, proposals), rtol=0, atol=0
        )

    def test_each_sample_has_the_importance_that_it_has_alone(
        self, model: OneQuestion, score: Tensor, proposals: Tensor
    ) -> None:
        alpha = proposal_importance(score, proposals)
        for b in range(B):
            single = proposals[b : b + 1].detach().requires_grad_()
            alone = proposal_importance(model(single)[:, ANSWERS[b]], single)
            torch.testing.assert_close(alone, alpha[b : b + 1], rtol=1e-10, atol=1e-14)

    def test_proposals_need_not_be_leaves(self, model: OneQuestion) -> None:
        leaf = torch.randn(B, K, D, dtype=torch.float64, requires_grad=True)
        embedded = leaf.tanh()
        alpha = proposal_importance(answer_score(model(embedded)), embedded)
        data = embedded.detach().requires_grad_()
        saliency = captum().Saliency(model).attribute(data, ANSWERS, abs=False)
        torch.testing.assert_close(alpha, saliency.sum(-1), rtol=1e-12, atol=1e-15)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_gradients_are_summed_in_float32(self, dtype: torch.dtype) -> None:
        """1024 + 1 is 1024 in bfloat16, and 2048 + 1 is 2048 in float16."""
        weight = torch.ones(D, dtype=dtype, requires_grad=True)
        scale = torch.tensor([2048.0, 1.0, 1.0, 1.0], dtype=dtype)
        proposals = torch.ones(1, 1, D, dtype=dtype, requires_grad=True)
        alpha = proposal_importance((proposals * weight * scale).flatten(1).sum(1), proposals)
        assert alpha.dtype == torch.float32
        assert alpha.item() == 2051.0


class TestSecondOrder:
    """The gradients of a loss on the importance are exact for every parameter."""

    @staticmethod
    def training_loss(model: OneQuestion, proposals: Tensor, s: Tensor, reduction: Any) -> Tensor:
        logits = model(proposals)
        alpha = proposal_importance(answer_score(logits), proposals, reduction=reduction)
        task = nn.functional.cross_entropy(logits, ANSWERS)
        return HintRankingLoss(margin=0.05)(alpha, s) + 0.1 * task

    @pytest.mark.parametrize("reduction", ["sum", "input", "norm"])
    def test_gradients_of_all_parameters_equal_finite_differences(
        self, model: OneQuestion, proposals: Tensor, reduction: Any
    ) -> None:
        s = torch.rand(B, K).double()
        loss = self.training_loss(model, proposals, s, reduction)
        parameters = dict(model.named_parameters())
        gradients = torch.autograd.grad(loss, list(parameters.values()))
        step = 1e-5
        for (name, parameter), gradient in zip(parameters.items(), gradients, strict=True):
            direction, ends = torch.randn_like(parameter), []
            for sign in (1, -1):
                parameter.data.add_(direction, alpha=sign * step)
                ends.append(self.training_loss(model, proposals, s, reduction).item())
                parameter.data.sub_(direction, alpha=sign * step)
            difference = (ends[0] - ends[1]) / (2 * step)
            assert (gradient * direction).sum().item() == pytest.approx(difference, abs=1e-8), name
            assert (gradient.abs() > 1e-6).any(), name

    def test_the_importance_passes_gradcheck_in_the_parameters(self, model: OneQuestion, proposals: Tensor) -> None:
        names, values = zip(*model.named_parameters(), strict=True)

        def importance(*parameters: Tensor) -> Tensor:
            state = dict(zip(names, parameters, strict=True))
            logits = torch.func.functional_call(model, state, (proposals,))
            return proposal_importance(answer_score(logits), proposals)

        assert torch.autograd.gradcheck(importance, values, fast_mode=True)

    def test_several_decisions_have_the_same_parameter_gradients(
        self, model: OneQuestion, logits: Tensor, proposals: Tensor
    ) -> None:
        weights = torch.randn(B, 4, K).double()
        parameters = [p for name, p in model.named_parameters() if name != "answer.1.bias"]  # it has no influence
        joint = (proposal_importance(logits, proposals) * weights).sum()
        separate = sum((proposal_importance(logits[:, t], proposals) * weights[:, t]).sum() for t in range(4))
        found = torch.autograd.grad(joint, parameters, retain_graph=True)
        torch.testing.assert_close(found, torch.autograd.grad(separate, parameters), rtol=1e-10, atol=1e-14)

    def test_the_norm_of_a_zero_gradient_has_a_finite_derivative(self) -> None:
        weight = torch.ones(D, requires_grad=True)
        proposals = torch.zeros(1, K, D, requires_grad=True)
        alpha = proposal_importance((proposals * weight).square().sum((1, 2)), proposals, reduction="norm")
        alpha.sum().backward()
        assert weight.grad is not None
        assert weight.grad.isfinite().all()


class TestCallersState:
    """Tensors, flags, modes and gradients of the caller stay as they were."""

    @pytest.mark.parametrize("differentiable", [True, False])
    @pytest.mark.parametrize("several", [True, False])
    def test_tensors_flags_and_modes_stay(
        self, model: OneQuestion, proposals: Tensor, differentiable: bool, several: bool
    ) -> None:
        model.question.embedding.weight.requires_grad_(False)
        model.answer.eval()

        def state() -> list[Any]:
            tensors = [proposals, *model.parameters()]
            return [
                [(x.grad, x.requires_grad, x._version) for x in tensors],
                [module.training for module in model.modules()],
                torch.is_grad_enabled(),
            ]

        logits = model(proposals)
        values = [x.detach().clone() for x in (proposals, logits, *model.parameters())]
        before = state()
        score = logits if several else answer_score(logits)
        alpha = proposal_importance(score, proposals, differentiable=differentiable)
        assert state() == before
        assert all(torch.equal(x, y) for x, y in zip(values, (proposals, logits, *model.parameters()), strict=True))
        assert alpha.requires_grad == differentiable

        nn.functional.cross_entropy(logits, ANSWERS).backward()  # the caller's graph can still be used
        assert proposals.grad is not None

    def test_gradients_stay(self, model: OneQuestion, proposals: Tensor) -> None:
        model(proposals).sum().backward()
        before = [x.grad.clone() for x in (proposals, *model.parameters()) if x.grad is not None]
        proposal_importance(answer_score(model(proposals)), proposals)
        after = [x.grad for x in (proposals, *model.parameters()) if x.grad is not None]
        assert len(before) == len(after)
        assert all(torch.equal(x, y) for x, y in zip(before, after, strict=True))

    def test_not_differentiable_has_the_same_value_and_no_graph(self, score: Tensor, proposals: Tensor) -> None:
        alpha = proposal_importance(score, proposals, differentiable=False)
        assert alpha.grad_fn is None
        torch.testing.assert_close(alpha, proposal_importance(score, proposals).detach(), rtol=1e-12, atol=1e-15)

    def test_not_differentiable_works_on_a_frozen_model(self, model: OneQuestion, proposals: Tensor) -> None:
        model.requires_grad_(False)
        assert proposal_importance(answer_score(model(proposals)), proposals, differentiable=False).any()


@pytest.mark.parametrize("track", [track_proposals, lambda x: x.clone().requires_grad_()])
def test_a_checkpoint_repeats_its_dropout_for_every_decision(track: Callable[[Tensor], Tensor]) -> None:
    network = nn.Sequential(nn.Linear(D, 8), nn.Dropout(0.2), nn.Tanh(), nn.Linear(8, T))
    proposals = track(torch.rand(B, K, D))
    scores = checkpoint(network, proposals, use_reentrant=False).sum(1)
    alpha = proposal_importance(scores, proposals)
    each = torch.stack([proposal_importance(scores[:, t], proposals) for t in range(T)], 1)
    torch.testing.assert_close(alpha, each)
    found, expected = (
        torch.autograd.grad(x.square().sum(), network[0].weight, retain_graph=True) for x in (alpha, each)
    )
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("batch", [0, 1, 2])
@pytest.mark.parametrize("several", [True, False])
def test_works_for_any_batch_size(batch: int, several: bool) -> None:
    proposals = torch.randn(batch, K, D, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(D, 2, dtype=torch.float64, requires_grad=True)
    attended = (proposals @ weight).tanh().sum(1)
    alpha = proposal_importance(attended if several else attended[:, 0], proposals)
    assert alpha.shape == ((batch, 2, K) if several else (batch, K))
    alpha.sum().backward()


@pytest.mark.parametrize("several", [True, False])
def test_no_grad_changes_nothing_if_the_score_has_a_graph(several: bool) -> None:
    weight, proposals = torch.ones(2, requires_grad=True), torch.ones(1, 3, 2, requires_grad=True)
    score = (proposals @ weight).square()
    score = score if several else score.sum(1)
    with torch.no_grad():
        alpha = proposal_importance(score, proposals, differentiable=False)
    assert torch.equal(alpha, proposal_importance(score, proposals, differentiable=False))
