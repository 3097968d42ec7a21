"""`check_double_backward` finds missing and wrong second derivatives, and names the module and the remedy."""

import random
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hint_loss.diagnostics import check_double_backward

from .diagnosed import Apply, B, D, K, Stash, cube, encoder, relu_net, score

FUSED = (
    "ScaledDotProductFlashAttentionForCpu lies between `proposals` and score and has no second derivative: "
    "run the model's forward pass inside of `with double_backward_kernels():`."
)
HARDSIGMOID = (
    "Hardsigmoid lies between `proposals` and score and has no second derivative: "
    "replace it by operations that have one."
)
NOT_FINITE = (
    "the gradient, or its derivative, is not finite. Are proposals padded with zeros, then normalised or put under a "
    "square root? Mask them before it, or add an epsilon inside of it."
)
UNSETTLED = "finite differences do not settle: not smooth, not in float64 throughout, or not repeatable."
WRONG = re.compile(
    r"`(?P<name>.*)`: double backward gives (?P<double>.*), finite differences (?P<expected>.*): "
    r"a derivative is wrong, or a part detached\."
)


@pytest.fixture
def proposals() -> Tensor:
    return torch.randn(B, K, D)


class TestNamesMissingDerivatives:
    """The innermost module is named, with the remedy."""

    @pytest.mark.cpu
    def test_of_fused_attention_in_an_encoder(self, proposals: Tensor) -> None:
        report = check_double_backward(score, encoder().eval(), proposals)
        names = ["model.layers.0.self_attn", "model.layers.1.self_attn"]
        assert str(report) == "\n- ".join(["Double backward: not possible.", *(f"`{name}`: {FUSED}" for name in names)])

    @pytest.mark.cpu
    def test_of_fused_attention_in_a_module(self, proposals: Tensor) -> None:
        class Model(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.attention = nn.MultiheadAttention(D, 2, batch_first=True)

            def forward(self, x: Tensor) -> Tensor:
                return self.attention(x, key=x, value=x, need_weights=False)[0]  # type: ignore[no-any-return]

        report = check_double_backward(score, Model(), proposals)
        assert report.problems == (f"`model.attention`: {FUSED}",)

    def test_of_an_operation_in_a_submodule_the_model_or_the_score(self, proposals: Tensor) -> None:
        def last(model: nn.Module, x: Tensor) -> Tensor:
            return F.hardsigmoid(model(x).sum((1, 2)))

        for function, model, name in [
            (score, nn.Sequential(nn.Linear(D, 3), nn.Hardsigmoid()), "model.1"),
            (score, Apply(F.hardsigmoid, nn.Linear(D, 3)), "model"),
            (last, nn.Linear(D, 3), "score"),
        ]:
            assert check_double_backward(function, model, proposals).problems == (f"`{name}`: {HARDSIGMOID}",)

    def test_of_reentrant_checkpoints(self, proposals: Tensor) -> None:
        model = Apply(lambda x: checkpoint(torch.tanh, x, use_reentrant=True), nn.Linear(D, 3))
        remedy = "pass `use_reentrant=False` to `torch.utils.checkpoint.checkpoint`."
        message = "CheckpointFunction lies between `proposals` and score and has no second derivative: " + remedy
        assert check_double_backward(score, model, proposals).problems == (f"`model`: {message}",)

    def test_of_an_operation_in_the_precision_of_the_model_only(self, proposals: Tensor) -> None:
        """On a GPU, attention is fused in float32, but never in float64."""
        model = Apply(lambda x: F.hardsigmoid(x) if x.dtype == torch.float32 else x.tanh(), nn.Linear(D, 3))
        assert check_double_backward(score, model, proposals).problems == (f"`model`: {HARDSIGMOID}",)
        assert check_double_backward(score, model.double(), proposals.double()).problems == ()

    def test_but_not_of_a_module_that_reads_no_proposals(self, proposals: Tensor) -> None:
        class Model(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.question, self.image, self.joint = encoder(), nn.Linear(D, D), nn.Hardsigmoid()

            def forward(self, x: Tensor, question: Tensor) -> Tensor:
                return self.joint(self.image(x) * self.question(question))  # type: ignore[no-any-return]

        def without_hooks(model: nn.Module, *inputs: Tensor) -> Tensor:
            return score(model.forward, *inputs)  # type: ignore[arg-type]

        for function in (score, without_hooks):
            report = check_double_backward(function, Model().eval(), proposals, torch.randn(B, K, D))
            assert report.problems == (f"`model.joint`: {HARDSIGMOID}",)


class TestFindsWrongDerivatives:
    """Second derivatives are wrong although PyTorch raises nothing."""

    def test_and_names_the_module_with_both_values(self, proposals: Tensor) -> None:
        head = nn.Sequential(nn.Linear(6, 6), Apply(cube), nn.LayerNorm(6))
        model = nn.Sequential(nn.Linear(D, 6), nn.ReLU(inplace=True), head)
        report = check_double_backward(score, model, proposals)
        title, problem = str(report).split("\n- ")
        found = WRONG.fullmatch(problem)
        assert found
        assert found["name"] == "model.2.1"
        assert float(found["double"]) / float(found["expected"]) == pytest.approx(2 / 3, rel=1e-4)
        assert title == (
            f"Double backward: {report.double_backward:.7g}, by finite differences {report.finite_differences:.7g}."
        )
        assert report.double_backward != pytest.approx(report.finite_differences, rel=1e-2)

    def test_with_any_seed(self, proposals: Tensor) -> None:
        for seed in range(8):
            torch.manual_seed(seed)
            (problem,) = check_double_backward(score, relu_net(Apply(cube)), proposals).problems
            assert problem.startswith("`model.3`: double backward gives ")

    def test_of_a_gradient_that_leaves_the_graph(self, proposals: Tensor) -> None:
        """As with kernels that PyTorch does not know: the importance is right, and its derivative is zero."""

        class Detached(Stash):
            @staticmethod
            def backward(ctx: Any, gradient: Tensor) -> Tensor:
                return gradient.detach() * 3 * ctx.square

        apply: Callable[..., Any] = Detached.apply
        (problem,) = check_double_backward(score, nn.Sequential(nn.Linear(D, 3), Apply(apply)), proposals).problems
        found = WRONG.fullmatch(problem)
        assert found
        assert (found["name"], found["double"]) == ("model.1", "0")

    def test_of_a_detached_factor(self, proposals: Tensor) -> None:
        model = nn.Sequential(nn.Linear(D, 3), Apply(lambda x: x * x.detach()))
        (problem,) = check_double_backward(score, model, proposals).problems
        assert WRONG.fullmatch(problem)
        assert problem.startswith("`model.1`: ")

    def test_of_a_module_whose_hook_changes_the_inputs(self, proposals: Tensor) -> None:
        model = nn.Sequential(nn.Linear(D, 3), Apply(cube))
        model[1].register_forward_pre_hook(lambda module, args: args[0].view(B, K, 3).flatten(1))
        (problem,) = check_double_backward(score, model, proposals).problems
        assert problem.startswith("`model.1`: double backward gives ")

    def test_of_a_module_with_an_output_of_another_type(self, proposals: Tensor) -> None:
        """It cannot be tested alone, so the module that contains it is named."""

        class Box:
            def __init__(self, x: Tensor) -> None:
                self.x = x

        apply = Apply(lambda box: cube(box.x), Apply(Box))
        (problem,) = check_double_backward(score, nn.Sequential(nn.Linear(D, 3), apply), proposals).problems
        assert problem.startswith("`model.1`: double backward gives ")

    def test_unless_the_differences_do_not_settle(self, proposals: Tensor) -> None:
        model = Apply(lambda x: x.square() * random.random(), nn.Linear(D, 3))
        report = check_double_backward(score, model, proposals)
        assert report.problems == (f"`model`: {UNSETTLED}",)

    def test_unless_a_part_in_float32_is_checkpointed(self, proposals: Tensor) -> None:
        part = Apply(lambda x: x.float().square().to(x.dtype))
        model = nn.Sequential(nn.Linear(D, 3), Apply(lambda x: checkpoint(part, x, use_reentrant=False)))
        (problem,) = check_double_backward(score, model, proposals).problems
        assert problem.startswith("`model.1`: a part that computes in float32 on purpose is checkpointed: check the ")
        assert check_double_backward(score, nn.Sequential(model[0], part), proposals).problems == ()


class TestFindsUselessImportances:
    """The importance is zero, not finite, or not defined."""

    @pytest.mark.parametrize("reduction", ["sum", "input"])
    def test_before_a_layer_norm_of_the_proposals(self, reduction: Any, proposals: Tensor) -> None:
        model = nn.Sequential(nn.LayerNorm(D), nn.Linear(D, 3))
        report = check_double_backward(score, model, proposals, reduction=reduction)
        assert report.problems == (
            f"the importance of every proposal is zero with `reduction='{reduction}'`. Does a LayerNorm, or for "
            "`'input'` another normalisation, come first? Take the importance of its output, or `reduction='norm'`.",
        )
        assert report.finite_differences == pytest.approx(report.double_backward, rel=1e-4)
        for other in ("norm", lambda g, p: (g.abs() * p).sum(-1)):
            assert check_double_backward(score, model, proposals, reduction=other).problems == ()
        assert check_double_backward(score, model[1], 1e-6 * proposals, reduction=reduction).problems == ()

    @pytest.mark.parametrize("name", ["normalise", "root"])
    def test_of_padding_under_a_root(self, name: str, proposals: Tensor) -> None:
        functions = {"normalise": lambda x: F.normalize(x, dim=-1), "root": lambda x: x.square().sum(-1).sqrt()}
        model = nn.Sequential(nn.Linear(D, 3, bias=False), Apply(functions[name]))
        padded = proposals * (torch.arange(K) < 3)[:, None]
        report = check_double_backward(score, model, padded)
        assert str(report) == f"Double backward: not possible.\n- `model.1`: {NOT_FINITE}"
        assert check_double_backward(score, model, proposals).problems == ()

    def test_of_a_score_that_does_not_depend_on_the_proposals(self, proposals: Tensor, raises: Any) -> None:
        message = (
            "Parameter `score` should depend on `proposals`. Found `proposals` of shape (2, 5, 8) outside of its "
            "graph: pass the very tensor that the model was given, not a copy or a slice of it."
        )
        with raises(ValueError, message):
            check_double_backward(lambda model, x: model.weight.sum(1), nn.Linear(D, 2), proposals)
