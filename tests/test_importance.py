"""Network importance against captum, separate calls, and finite differences of the whole training loss."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hint_loss import HintRankingLoss, proposal_importance, track_proposals

B, K, D, T = 3, 5, 4, 7


class UpDn(nn.Module):
    """Bottom-up top-down attention in small: GRU question, top-down attention, gated product, classifier."""

    def __init__(self, words: int = 6, hidden: int = 5, answers: int = 4) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, 3)
        self.question = nn.GRU(3, hidden, batch_first=True)
        self.joint, self.attention = nn.Linear(D + hidden, hidden), nn.Linear(hidden, 1)
        self.image, self.gate = nn.Linear(D, hidden), nn.Linear(D, hidden)
        self.classifier = nn.Linear(hidden, answers)

    def forward(self, proposals: Tensor, words: Tensor) -> Tensor:
        """Logits ``(B, answers)`` of proposals ``(B, K, D)`` and words ``(B, L)``."""
        question = self.question(self.embedding(words))[1].squeeze(0)
        asked = question.unsqueeze(1).expand(-1, proposals.shape[1], -1)
        attention = self.attention(torch.tanh(self.joint(torch.cat([proposals, asked], -1)))).softmax(1)
        seen = (attention * proposals).sum(1)
        logits: Tensor = self.classifier(torch.tanh(self.image(seen)) * self.gate(seen).sigmoid() * question)
        return logits


@pytest.fixture
def model() -> UpDn:
    return UpDn().double()


@pytest.fixture
def proposals() -> Tensor:
    return torch.randn(B, K, D, dtype=torch.float64, requires_grad=True)


@pytest.fixture
def words() -> Tensor:
    return torch.randint(6, (B, T))


ANSWERS = torch.tensor([2, 0, 3])


def answer_score(logits: Tensor) -> Tensor:
    """The ground truth's logit, ``(B,)``; also for a smaller batch."""
    answers = ANSWERS[torch.arange(len(logits)) % len(ANSWERS)]
    return logits.gather(1, answers[:, None]).squeeze(1)


def captum() -> Any:
    return pytest.importorskip("captum.attr", reason="captum is not installed")


class TestValues:
    """Against captum, and against one call for each decision."""

    def test_sum_equals_captum_saliency_summed(self, model: UpDn, proposals: Tensor, words: Tensor) -> None:
        saliency = captum().Saliency(model).attribute(proposals, ANSWERS, abs=False, additional_forward_args=words)
        alpha = proposal_importance(answer_score(model(proposals, words)), proposals)
        torch.testing.assert_close(alpha, saliency.sum(-1), rtol=1e-12, atol=1e-15)

    def test_input_equals_captum_input_x_gradient(self, model: UpDn, proposals: Tensor, words: Tensor) -> None:
        product = captum().InputXGradient(model).attribute(proposals, ANSWERS, additional_forward_args=words)
        alpha = proposal_importance(answer_score(model(proposals, words)), proposals, reduction="input")
        torch.testing.assert_close(alpha, product.sum(-1), rtol=1e-12, atol=1e-15)

    def test_norm_equals_captum_saliency_s_norm(self, model: UpDn, proposals: Tensor, words: Tensor) -> None:
        saliency = captum().Saliency(model).attribute(proposals, ANSWERS, additional_forward_args=words)
        alpha = proposal_importance(answer_score(model(proposals, words)), proposals, reduction="norm")
        torch.testing.assert_close(alpha, saliency.square().sum(-1).sqrt(), rtol=1e-12, atol=1e-15)

    def test_a_function_reduces_gradient_and_proposals(self, model: UpDn, proposals: Tensor, words: Tensor) -> None:
        score = answer_score(model(proposals, words))
        (gradient,) = torch.autograd.grad(score.sum(), proposals, retain_graph=True)
        alpha = proposal_importance(score, proposals, reduction=lambda g, p: (g * p).relu().amax(-1))
        torch.testing.assert_close(alpha, (gradient * proposals).relu().amax(-1))

    @pytest.mark.parametrize("reduction", ["sum", "input", "norm"])
    def test_feature_map_with_channels_first(self, reduction: Any) -> None:
        """(B, C, H, W) gives (B, H, W)."""
        net = nn.Sequential(nn.Conv2d(D, 6, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(6 * 12, 4)).double()
        maps = torch.randn(B, D, 3, 4, dtype=torch.float64, requires_grad=True)
        alpha = proposal_importance(answer_score(net(maps)), maps, feature_dim=1, reduction=reduction)
        gradient = captum().Saliency(net).attribute(maps, ANSWERS, abs=False)
        expected = {
            "sum": gradient.sum(1), "input": (gradient * maps).sum(1), "norm": gradient.square().sum(1).sqrt()
        }  # fmt: skip
        assert alpha.shape == (B, 3, 4)
        torch.testing.assert_close(alpha, expected[reduction], rtol=1e-12, atol=1e-15)

    @pytest.mark.parametrize("reduction", ["sum", "input", "norm", lambda g, p: (g * p).square().sum(-1)])
    @pytest.mark.parametrize("differentiable", [True, False])
    def test_several_decisions_equal_separate_calls(
        self, model: UpDn, proposals: Tensor, words: Tensor, reduction: Any, differentiable: bool
    ) -> None:
        """(B, T) gives (B, T, K), through the GRU and the attention."""
        logits = model(proposals, words)
        options: dict[str, Any] = {"reduction": reduction, "differentiable": differentiable}
        alpha = proposal_importance(logits, proposals, **options)
        separate = [proposal_importance(logits[:, t], proposals, **options) for t in range(logits.shape[1])]
        assert alpha.shape == (B, 4, K)
        torch.testing.assert_close(alpha, torch.stack(separate, 1), rtol=1e-12, atol=1e-15)

    @pytest.mark.parametrize("reduction", ["sum", "input", "norm"])
    def test_several_decisions_on_a_feature_map(self, reduction: Any) -> None:
        weight = torch.randn(2, D, dtype=torch.float64, requires_grad=True)
        maps = torch.randn(B, D, 3, 4, dtype=torch.float64, requires_grad=True)
        scores = torch.einsum("td,bdhw->bthw", weight, maps).tanh().sum((2, 3))
        alpha = proposal_importance(scores, maps, feature_dim=1, reduction=reduction)
        separate = [
            proposal_importance(scores[:, t], maps, feature_dim=-3, reduction=reduction) for t in range(2)
        ]  # fmt: skip
        assert alpha.shape == (B, 2, 3, 4)
        torch.testing.assert_close(alpha, torch.stack(separate, 1), rtol=1e-12, atol=1e-15)

    def test_a_scalar_score_is_the_sum_of_the_batch(self, model: UpDn, proposals: Tensor, words: Tensor) -> None:
        score = answer_score(model(proposals, words))
        torch.testing.assert_close(
            proposal_importance(score.sum(), proposals), proposal_importance(score, proposals), rtol=0, atol=0
        )

    def test_each_sample_is_as_good_as_alone(self, model: UpDn, proposals: Tensor, words: Tensor) -> None:
        alpha = proposal_importance(answer_score(model(proposals, words)), proposals)
        for b in range(B):
            single = proposals[b : b + 1].detach().requires_grad_()
            score = model(single, words[b : b + 1])[:, ANSWERS[b]]
            torch.testing.assert_close(proposal_importance(score, single), alpha[b : b + 1], rtol=1e-10, atol=1e-14)

    def test_intermediate_proposals(self, model: UpDn, words: Tensor) -> None:
        """Embeddings that the model computes itself, such as a detector's, need not be leaves."""
        leaf = torch.randn(B, K, D, dtype=torch.float64, requires_grad=True)
        embedded = leaf.tanh()
        alpha = proposal_importance(answer_score(model(embedded, words)), embedded)
        saliency = (
            captum()
            .Saliency(model)
            .attribute(embedded.detach().requires_grad_(), ANSWERS, abs=False, additional_forward_args=words)
        )
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
    """A loss on the importance trains every parameter, exactly."""

    @staticmethod
    def training_loss(model: UpDn, proposals: Tensor, words: Tensor, s: Tensor, reduction: Any) -> Tensor:
        logits = model(proposals, words)
        alpha = proposal_importance(answer_score(logits), proposals, reduction=reduction)
        task = nn.functional.cross_entropy(logits, ANSWERS)
        return HintRankingLoss(margin=0.05)(alpha, s) + 0.1 * task

    @pytest.mark.parametrize("reduction", ["sum", "input", "norm"])
    def test_gradients_of_all_parameters_equal_finite_differences(
        self, model: UpDn, proposals: Tensor, words: Tensor, reduction: Any
    ) -> None:
        s = torch.rand(B, K).double()
        loss = self.training_loss(model, proposals, words, s, reduction)
        parameters = dict(model.named_parameters())
        gradients = torch.autograd.grad(loss, list(parameters.values()))
        step = 1e-5
        for (name, parameter), gradient in zip(parameters.items(), gradients, strict=True):
            flat, numeric = parameter.data.view(-1), torch.zeros(parameter.numel(), dtype=torch.float64)
            for i in range(len(flat)):
                value = flat[i].item()
                flat[i] = value + step
                above = self.training_loss(model, proposals, words, s, reduction).item()
                flat[i] = value - step
                below = self.training_loss(model, proposals, words, s, reduction).item()
                flat[i] = value
                numeric[i] = (above - below) / (2 * step)
            error = (gradient.flatten() - numeric).abs().max()
            assert error < 1e-8, f"{name} {error}"
            assert name == "attention.bias" or (gradient.abs() > 1e-6).any(), name  # softmax does not feel that one

    def test_gradcheck_of_the_importance_in_the_parameters(self, model: UpDn, proposals: Tensor, words: Tensor) -> None:
        names, values = zip(*model.named_parameters(), strict=True)

        def importance(*parameters: Tensor) -> Tensor:
            state = dict(zip(names, parameters, strict=True))
            logits = torch.func.functional_call(model, state, (proposals, words))
            return proposal_importance(answer_score(logits), proposals)

        assert torch.autograd.gradcheck(importance, values)

    def test_several_decisions_have_the_same_parameter_gradients(
        self, model: UpDn, proposals: Tensor, words: Tensor
    ) -> None:
        logits = model(proposals, words)
        weights = torch.randn(B, 4, K).double()
        parameters = [p for name, p in model.named_parameters() if name != "classifier.bias"]  # it has no influence
        joint = (proposal_importance(logits, proposals) * weights).sum()
        separate = sum((proposal_importance(logits[:, t], proposals) * weights[:, t]).sum() for t in range(4))
        for actual, expected in zip(
            torch.autograd.grad(joint, parameters, retain_graph=True),
            torch.autograd.grad(separate, parameters),
            strict=True,
        ):
            torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-14)

    def test_the_norm_of_a_zero_gradient_has_a_finite_derivative(self) -> None:
        weight = torch.ones(D, requires_grad=True)
        proposals = torch.zeros(1, K, D, requires_grad=True)
        alpha = proposal_importance((proposals * weight).square().sum((1, 2)), proposals, reduction="norm")
        alpha.sum().backward()
        assert weight.grad is not None
        assert weight.grad.isfinite().all()


class TestCallersState:
    """Nothing that belongs to the caller changes."""

    @pytest.mark.parametrize("differentiable", [True, False])
    @pytest.mark.parametrize("several", [True, False])
    def test_is_left_as_it_was(
        self, model: UpDn, proposals: Tensor, words: Tensor, differentiable: bool, several: bool
    ) -> None:
        model.embedding.weight.requires_grad_(False)
        model.classifier.eval()

        def state() -> list[Any]:
            tensors = [proposals, *model.parameters()]
            return [
                [(x.grad, x.requires_grad, x._version) for x in tensors],
                [module.training for module in model.modules()],
                torch.is_grad_enabled(),
            ]

        logits = model(proposals, words)
        values = [x.detach().clone() for x in (proposals, logits, *model.parameters())]
        before = state()
        score = logits if several else answer_score(logits)
        alpha = proposal_importance(score, proposals, differentiable=differentiable)
        assert state() == before
        assert all(torch.equal(x, y) for x, y in zip(values, (proposals, logits, *model.parameters()), strict=True))
        assert alpha.requires_grad == differentiable

        nn.functional.cross_entropy(logits, ANSWERS).backward()  # the caller's graph can still be used
        assert proposals.grad is not None

    def test_gradients_that_are_there_stay(self, model: UpDn, proposals: Tensor, words: Tensor) -> None:
        model(proposals, words).sum().backward()
        before = [x.grad.clone() for x in (proposals, *model.parameters()) if x.grad is not None]
        proposal_importance(answer_score(model(proposals, words)), proposals)
        after = [x.grad for x in (proposals, *model.parameters()) if x.grad is not None]
        assert len(before) == len(after)
        assert all(torch.equal(x, y) for x, y in zip(before, after, strict=True))

    def test_not_differentiable_has_the_same_value_and_no_graph(
        self, model: UpDn, proposals: Tensor, words: Tensor
    ) -> None:
        score = answer_score(model(proposals, words))
        alpha = proposal_importance(score, proposals, differentiable=False)
        assert alpha.grad_fn is None
        torch.testing.assert_close(alpha, proposal_importance(score, proposals).detach(), rtol=1e-12, atol=1e-15)

    def test_not_differentiable_works_on_a_frozen_model(self, model: UpDn, proposals: Tensor, words: Tensor) -> None:
        model.requires_grad_(False)
        assert proposal_importance(answer_score(model(proposals, words)), proposals, differentiable=False).any()


@pytest.mark.parametrize("track", [track_proposals, lambda x: x.clone().requires_grad_()])
def test_several_decisions_behind_a_checkpoint_with_dropout(track: Callable[[Tensor], Tensor]) -> None:
    """It draws again, within the batched backward pass, what the forward pass drew."""
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
def test_any_batch_size(model: UpDn, batch: int, several: bool) -> None:
    """A batch of one, the last smaller batch, and none at all."""
    proposals = torch.randn(batch, K, D, dtype=torch.float64, requires_grad=True)
    attended = (proposals @ model.image.weight.T).tanh().sum(1)
    alpha = proposal_importance(attended if several else attended[:, 0], proposals)
    assert alpha.shape == ((batch, 5, K) if several else (batch, K))
    alpha.sum().backward()


class TestErrors:
    """Whole messages."""

    NO_SCORE_GRAPH = (
        "Parameter `score` should carry a graph. Found `score.requires_grad = False`: run the model's forward pass "
        "with gradients enabled (not under `torch.no_grad` or `torch.inference_mode`), and do not detach the score."
    )

    @pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
    def test_forward_without_gradients(
        self, raises: Any, model: UpDn, proposals: Tensor, words: Tensor, context: Callable[[], Any]
    ) -> None:
        with context():
            score = answer_score(model(proposals, words))
        with raises(ValueError, self.NO_SCORE_GRAPH):
            proposal_importance(score, proposals)

    def test_detached_score(self, raises: Any, model: UpDn, proposals: Tensor, words: Tensor) -> None:
        with raises(ValueError, self.NO_SCORE_GRAPH):
            proposal_importance(answer_score(model(proposals, words)).detach(), proposals)

    def test_integer_score(self, raises: Any, model: UpDn, proposals: Tensor, words: Tensor) -> None:
        with raises(ValueError, self.NO_SCORE_GRAPH):
            proposal_importance(model(proposals, words).argmax(1), proposals)

    def test_proposals_without_requires_grad(self, raises: Any, model: UpDn, words: Tensor) -> None:
        message = (
            "Parameter `proposals` should require a gradient. Found `proposals.requires_grad = False`: call "
            "`proposals.requires_grad_()` before the model's forward pass, and run that with gradients enabled."
        )
        proposals = torch.randn(B, K, D).double()
        with raises(ValueError, message):
            proposal_importance(answer_score(model(proposals, words)), proposals)

    @pytest.mark.parametrize(
        "other",
        [lambda p: p[:, :4], lambda p: p.clone(), lambda p: p.detach().requires_grad_()],
        ids=["slice", "clone", "copy"],
    )
    @pytest.mark.parametrize("several", [True, False])
    def test_another_tensor(
        self, raises: Any, model: UpDn, proposals: Tensor, words: Tensor, other: Any, several: bool
    ) -> None:
        unrelated = other(proposals)
        message = (
            f"Parameter `score` should depend on `proposals`. Found `proposals` of shape {tuple(unrelated.shape)} "
            "outside of its graph: pass the very tensor that the model was given, not a copy or a slice of it."
        )
        logits = model(proposals, words)
        with raises(ValueError, message):
            proposal_importance(logits if several else answer_score(logits), unrelated)

    @pytest.mark.parametrize("track", [False, True])
    def test_frozen_model(self, proposals: Tensor, track: bool) -> None:
        """Not linear, so that the importance depends on the proposals, but on nothing that is trained."""
        frozen = nn.Sequential(nn.Linear(D, 2), nn.Tanh()).double().requires_grad_(False)
        x = track_proposals(proposals.detach()) if track else proposals
        with pytest.raises(RuntimeError, match="The importance of `proposals` cannot be trained"):
            proposal_importance(frozen(x).sum((1, 2)), x)
        prompts = nn.Parameter(proposals.detach())  # these are what is trained
        assert proposal_importance(frozen(prompts).sum((1, 2)), prompts).requires_grad

    @pytest.mark.parametrize("several", [True, False])
    def test_constant_importance(self, raises: Any, proposals: Tensor, several: bool) -> None:
        message = (
            "The importance of `proposals` cannot be trained: nothing that requires a gradient influences it, beside "
            "the proposals themselves. Unfreeze the model's parameters or, for evaluation, pass `differentiable=False`."
        )
        frozen = nn.Linear(D, 2).double().requires_grad_(False)
        scores = frozen(proposals).sum(1)
        score = scores if several else scores[:, 0]
        with raises(RuntimeError, message):
            proposal_importance(score, proposals)
        alpha = proposal_importance(score, proposals, differentiable=False)
        weights = frozen.weight.sum(1)[:, None] if several else frozen.weight[0].sum()
        torch.testing.assert_close(alpha, weights.expand_as(alpha))

    def test_score_of_three_dimensions(self, raises: Any, proposals: Tensor) -> None:
        message = (
            "Parameter `score` should have shape (B,), (B, T) or (). "
            f"Found `score.shape = {(B, K, D)}`."
        )  # fmt: skip
        with raises(ValueError, message):
            proposal_importance(proposals * 2, proposals)

    def test_reduction(self, raises: Any, proposals: Tensor) -> None:
        message = "Parameter `reduction` should be 'sum', 'input', 'norm' or a function. Found 'mean'."
        with raises(ValueError, message):
            proposal_importance(proposals.square().sum((1, 2)), proposals, reduction="mean")  # type: ignore[arg-type]


LOSSES: dict[str, Callable[[Tensor], Tensor]] = {
    "CrossEntropy": lambda logits: nn.functional.cross_entropy(logits, ANSWERS),
    "each sample's": lambda logits: nn.functional.cross_entropy(logits, ANSWERS, reduction="none"),
    "divided": lambda logits: nn.functional.cross_entropy(logits, ANSWERS, reduction="sum") / 3,
    "binary": lambda logits: nn.functional.binary_cross_entropy_with_logits(logits, torch.rand(B, 4).double()),
    "of probabilities": lambda logits: nn.functional.binary_cross_entropy(logits.sigmoid(), torch.rand(B, 4).double()),
    "squares": lambda logits: nn.functional.mse_loss(logits, torch.rand(B, 4).double()),
}


class TestMistakes:
    """What gave a wrong importance, or an error that named nothing."""

    @pytest.mark.parametrize("loss", LOSSES)
    def test_a_loss_as_score(self, model: UpDn, proposals: Tensor, words: Tensor, loss: str) -> None:
        score = LOSSES[loss](model(proposals, words))
        with pytest.raises(ValueError, match=r"Found a loss \(\w+\), whose importance has the opposite sign"):
            proposal_importance(score, proposals)
        assert proposal_importance(-score, proposals).any()  # such as a log-probability

    @pytest.mark.parametrize("batch", [1, B + 1])
    def test_a_score_of_another_batch(self, raises: Any, proposals: Tensor, batch: int) -> None:
        message = (
            "Parameters `score` and `proposals` should have the same batch first. Found `score.shape = "
            f"({batch},)` and `proposals.shape = (3, 5, 4)`: score each sample once or, where the batch of proposals "
            "is another dimension, pass `score.sum()`."
        )
        with raises(ValueError, message):
            proposal_importance(proposals.square().sum().expand(batch), proposals)

    def test_sequence_first(self, proposals: Tensor) -> None:
        """Proposals (K, B, D), with the remedy that the error names."""
        turned = proposals.detach().transpose(0, 1).contiguous().requires_grad_()
        weight = torch.randn(D, dtype=torch.float64, requires_grad=True)
        expected = proposal_importance((proposals @ weight).square().sum(1), proposals)
        found = proposal_importance((turned @ weight).square().sum(0).sum(), turned)
        torch.testing.assert_close(found, expected.T)

    @pytest.mark.parametrize("make", [lambda x: {"logits": x}, lambda x: x.detach().cpu().numpy(), lambda x: [x]])
    def test_a_score_that_is_no_tensor(self, proposals: Tensor, make: Callable[[Tensor], Any]) -> None:
        score = make(proposals.sum((1, 2)))
        with pytest.raises(
            TypeError, match=rf"`score` should be a torch.Tensor.* Found a {type(score).__name__}: pass"
        ):
            proposal_importance(score, proposals)

    def test_proposals_that_are_no_tensor(self, raises: Any, proposals: Tensor) -> None:
        message = "Parameter `proposals` should be the very torch.Tensor that the model was given. Found a list."
        with raises(TypeError, message):
            proposal_importance(proposals.sum((1, 2)), [proposals])  # type: ignore[arg-type]

    @pytest.mark.parametrize("feature_dim", [3, -4, (1, 2)])
    def test_a_dimension_that_proposals_lack(self, raises: Any, proposals: Tensor, feature_dim: Any) -> None:
        message = (
            "Parameter `feature_dim` should be a dimension of `proposals`. Found `feature_dim = "
            f"{feature_dim}` and `proposals.shape = (3, 5, 4)`."
        )
        with raises(ValueError, message):
            proposal_importance(proposals.sum((1, 2)), proposals, feature_dim=feature_dim)


@pytest.mark.parametrize("several", [True, False])
def test_evaluation_within_no_grad_of_a_score_that_has_a_graph(several: bool) -> None:
    weight, proposals = torch.ones(2, requires_grad=True), torch.ones(1, 3, 2, requires_grad=True)
    score = (proposals @ weight).square()
    score = score if several else score.sum(1)
    with torch.no_grad():
        alpha = proposal_importance(score, proposals, differentiable=False)
    assert torch.equal(alpha, proposal_importance(score, proposals, differentiable=False))


def test_within_inference_mode_the_error_says_so(raises: Any) -> None:
    proposals = torch.ones(1, 3, 2, requires_grad=True)
    score = proposals.square().sum((1, 2))
    message = "The importance is a gradient: call `proposal_importance` outside of `torch.inference_mode`."
    with torch.inference_mode(), raises(ValueError, message):
        proposal_importance(score, proposals, differentiable=False)


def test_no_decisions(raises: Any) -> None:
    proposals = torch.ones(4, 3, 2, requires_grad=True)
    message = "Parameter `score` should have shape (B,), (B, T) or (). Found `score.shape = (4, 0)`."
    with raises(ValueError, message):
        proposal_importance(proposals.sum(2)[:, :0], proposals)
