"""`proposal_importance` refuses scores and proposals of which it would compute a wrong importance, or none."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hint_loss import proposal_importance, track_proposals

B, K, D = 3, 5, 4


@pytest.fixture
def model() -> nn.Module:
    """Takes proposals to logits ``(B, 4)``."""
    return nn.Sequential(nn.Linear(D, 8), nn.Tanh(), nn.Flatten(), nn.Linear(8 * K, 4)).double()


@pytest.fixture
def proposals() -> Tensor:
    return torch.randn(B, K, D, dtype=torch.float64, requires_grad=True)


ANSWERS = torch.tensor([2, 0, 3])


class TestScore:
    NO_GRAPH = (
        "Parameter `score` should carry a graph. Found `score.requires_grad = False`: run the model's forward pass "
        "with gradients enabled (not under `torch.no_grad` or `torch.inference_mode`), and do not detach the score."
    )

    @pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
    def test_computed_without_gradients_raises(
        self, raises: Any, model: nn.Module, proposals: Tensor, context: Callable[[], Any]
    ) -> None:
        with context():
            score = model(proposals)[:, 0]
        with raises(ValueError, self.NO_GRAPH):
            proposal_importance(score, proposals)

    @pytest.mark.parametrize(
        "cut", [lambda logits: logits[:, 0].detach(), lambda logits: logits.argmax(1)], ids=["detached", "integers"]
    )
    def test_detached_or_of_integers_raises(
        self, raises: Any, model: nn.Module, proposals: Tensor, cut: Callable[[Tensor], Tensor]
    ) -> None:
        with raises(ValueError, self.NO_GRAPH):
            proposal_importance(cut(model(proposals)), proposals)

    @pytest.mark.parametrize(
        "loss",
        [
            lambda logits: F.cross_entropy(logits, ANSWERS),
            lambda logits: F.cross_entropy(logits, ANSWERS, reduction="none"),
            lambda logits: F.cross_entropy(logits, ANSWERS, reduction="sum") / 3,
            lambda logits: F.binary_cross_entropy_with_logits(logits, torch.rand(B, 4).double()),
            lambda logits: F.binary_cross_entropy(logits.sigmoid(), torch.rand(B, 4).double()),
            lambda logits: F.mse_loss(logits, torch.rand(B, 4).double()),
        ],
        ids=["cross entropy", "of each sample", "divided", "binary", "of probabilities", "squared error"],
    )
    def test_that_is_a_loss_raises(self, model: nn.Module, proposals: Tensor, loss: Callable[[Tensor], Tensor]) -> None:
        score = loss(model(proposals))
        with pytest.raises(ValueError, match=r"Found a loss \(\w+\), whose importance has the opposite sign"):
            proposal_importance(score, proposals)
        assert proposal_importance(-score, proposals).any()  # such as a log-probability

    @pytest.mark.parametrize(
        ("score", "shape"),
        [(lambda proposals: proposals * 2, (B, K, D)), (lambda proposals: proposals.sum(2)[:, :0], (B, 0))],
        ids=["three dimensions", "no decisions"],
    )
    def test_of_another_shape_raises(
        self, raises: Any, proposals: Tensor, score: Callable[[Tensor], Tensor], shape: tuple[int, ...]
    ) -> None:
        message = f"Parameter `score` should have shape (B,), (B, T) or (). Found `score.shape = {shape}`."
        with raises(ValueError, message):
            proposal_importance(score(proposals), proposals)

    @pytest.mark.parametrize("batch", [1, B + 1])
    def test_of_another_batch_raises(self, raises: Any, proposals: Tensor, batch: int) -> None:
        message = (
            "Parameters `score` and `proposals` should have the same batch first. Found `score.shape = "
            f"({batch},)` and `proposals.shape = (3, 5, 4)`: score each sample once or, where the batch of proposals "
            "is another dimension, pass `score.sum()`."
        )
        with raises(ValueError, message):
            proposal_importance(proposals.square().sum().expand(batch), proposals)

    def test_summed_works_where_the_batch_is_the_second_dimension(self, proposals: Tensor) -> None:
        """The remedy that the error names, for proposals (K, B, D)."""
        turned = proposals.detach().transpose(0, 1).contiguous().requires_grad_()
        weight = torch.randn(D, dtype=torch.float64, requires_grad=True)
        expected = proposal_importance((proposals @ weight).square().sum(1), proposals)
        found = proposal_importance((turned @ weight).square().sum(0).sum(), turned)
        torch.testing.assert_close(found, expected.T)

    @pytest.mark.parametrize("make", [lambda x: {"logits": x}, lambda x: x.detach().cpu().numpy(), lambda x: [x]])
    def test_that_is_no_tensor_raises(self, proposals: Tensor, make: Callable[[Tensor], Any]) -> None:
        score = make(proposals.sum((1, 2)))
        with pytest.raises(
            TypeError, match=rf"`score` should be a torch.Tensor.* Found a {type(score).__name__}: pass"
        ):
            proposal_importance(score, proposals)


class TestProposals:
    def test_that_require_no_gradient_raise(self, raises: Any, model: nn.Module) -> None:
        message = (
            "Parameter `proposals` should require a gradient. Found `proposals.requires_grad = False`: call "
            "`proposals.requires_grad_()` before the model's forward pass, and run that with gradients enabled."
        )
        proposals = torch.randn(B, K, D).double()
        with raises(ValueError, message):
            proposal_importance(model(proposals)[:, 0], proposals)

    @pytest.mark.parametrize(
        "other",
        [lambda p: p[:, :4], lambda p: p.clone(), lambda p: p.detach().requires_grad_()],
        ids=["slice", "clone", "copy"],
    )
    @pytest.mark.parametrize("several", [True, False])
    def test_that_the_model_was_not_given_raise(
        self, raises: Any, model: nn.Module, proposals: Tensor, other: Callable[[Tensor], Tensor], several: bool
    ) -> None:
        unrelated = other(proposals)
        message = (
            f"Parameter `score` should depend on `proposals`. Found `proposals` of shape {tuple(unrelated.shape)} "
            "outside of its graph: pass the very tensor that the model was given, not a copy or a slice of it."
        )
        logits = model(proposals)
        with raises(ValueError, message):
            proposal_importance(logits if several else logits[:, 0], unrelated)

    def test_that_are_no_tensor_raise(self, raises: Any, proposals: Tensor) -> None:
        message = "Parameter `proposals` should be the very torch.Tensor that the model was given. Found a list."
        with raises(TypeError, message):
            proposal_importance(proposals.sum((1, 2)), [proposals])  # type: ignore[arg-type]


class TestImportanceThatCannotBeTrained:
    @pytest.mark.parametrize("track", [False, True])
    def test_of_a_frozen_model_raises(self, proposals: Tensor, track: bool) -> None:
        """The model is not linear, so the importance depends on the proposals, but on no parameter that is trained."""
        frozen = nn.Sequential(nn.Linear(D, 2), nn.Tanh()).double().requires_grad_(False)
        x = track_proposals(proposals.detach()) if track else proposals
        with pytest.raises(RuntimeError, match="The importance of `proposals` cannot be trained"):
            proposal_importance(frozen(x).sum((1, 2)), x)
        prompts = nn.Parameter(proposals.detach())  # these are what is trained
        assert proposal_importance(frozen(prompts).sum((1, 2)), prompts).requires_grad

    @pytest.mark.parametrize("several", [True, False])
    def test_of_a_frozen_linear_model_raises(self, raises: Any, proposals: Tensor, several: bool) -> None:
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


def test_an_unknown_reduction_raises(raises: Any, proposals: Tensor) -> None:
    message = "Parameter `reduction` should be 'sum', 'input', 'norm' or a function. Found 'mean'."
    with raises(ValueError, message):
        proposal_importance(proposals.square().sum((1, 2)), proposals, reduction="mean")  # type: ignore[arg-type]


@pytest.mark.parametrize("feature_dim", [3, -4, (1, 2)])
def test_a_dimension_that_proposals_lack_raises(raises: Any, proposals: Tensor, feature_dim: Any) -> None:
    message = (
        "Parameter `feature_dim` should be a dimension of `proposals`. Found `feature_dim = "
        f"{feature_dim}` and `proposals.shape = (3, 5, 4)`."
    )
    with raises(ValueError, message):
        proposal_importance(proposals.sum((1, 2)), proposals, feature_dim=feature_dim)


def test_inference_mode_raises(raises: Any, proposals: Tensor) -> None:
    score = proposals.square().sum((1, 2))
    message = "The importance is a gradient: call `proposal_importance` outside of `torch.inference_mode`."
    with torch.inference_mode(), raises(ValueError, message):
        proposal_importance(score, proposals, differentiable=False)
