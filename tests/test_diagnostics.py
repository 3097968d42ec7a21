"""The diagnostic finds what is missing or wrong, names its module, and is silent about what is right."""

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
from hint_loss.second_order.kernels import double_backward_kernels

B, K, D = 2, 5, 8
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


def score(model: nn.Module, *inputs: Any) -> Tensor:
    outputs: Tensor = model(*inputs)
    return outputs.tanh().flatten(1).sum(1)


class Stash(torch.autograd.Function):
    """Cube. A third of its derivative hides in an intermediate of the forward pass: 2/3 of the second one is left."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        ctx.square = (x * x).detach()
        return x * x * x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return gradient * (ctx.square + 2 * x * x)


class Apply(nn.Module):
    """A function as a module, after a linear layer of its own or not."""

    def __init__(self, function: Callable[..., Any], *layers: nn.Module) -> None:
        super().__init__()
        self.function, self.layers = function, nn.Sequential(*layers)

    def forward(self, *inputs: Any) -> Any:
        return self.function(self.layers(inputs[0]), *inputs[1:])


cube: Callable[..., Any] = Stash.apply


def identity(x: Tensor) -> Tensor:
    return F.softplus(x) - F.softplus(-x)


class Counting(nn.Linear):
    calls: Tensor

    def __init__(self) -> None:
        super().__init__(D, 3)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x) * self.calls


def encoder(**options: Any) -> nn.Module:
    layer = nn.TransformerEncoderLayer(D, 2, 16, batch_first=True, **options)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


def relu_net(*middle: nn.Module) -> nn.Module:
    """With changes in place, and biases of zero, which put padded proposals on every kink."""
    first, second = nn.Linear(D, 64, bias=False), nn.Linear(64, 16)
    nn.init.zeros_(second.bias)
    return nn.Sequential(first, nn.ReLU(inplace=True), second, *middle, nn.ReLU(inplace=True), nn.Linear(16, 3))


RIGHT: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(D, 3),
    "relu": relu_net,
    "encoder in training": encoder,
    "LSTM over proposals": lambda: Apply(lambda states: states[0], nn.LSTM(D, 6, batch_first=True)),
    "GRU over proposals": lambda: Apply(lambda states: states[0], nn.GRU(D, 6, batch_first=True)),
    "batch statistics": lambda: nn.Sequential(nn.Linear(D, 6), nn.BatchNorm1d(K), nn.Dropout(), nn.Linear(6, 3)),
    "weight_norm": lambda: Apply(torch.tanh, nn.utils.parametrizations.weight_norm(nn.Linear(D, 3))),
    "spectral_norm": lambda: Apply(torch.tanh, nn.utils.parametrizations.spectral_norm(nn.Linear(D, 3))).eval(),
    "a buffer that each forward pass changes": Counting,
    "a part in float32": lambda: nn.Sequential(
        nn.Linear(D, 6),
        Apply(lambda x: x.to(torch.float32).rsqrt().to(x.dtype), nn.Softplus()),
        Apply(lambda x: x.float().softmax(-1, dtype=torch.float32).type_as(x)),
    ),
    "nothing trained": lambda: nn.Linear(D, 3).requires_grad_(False),
    "checkpoint": lambda: Apply(lambda x: checkpoint(torch.tanh, x, use_reentrant=False), nn.Linear(D, 3)),
}


OF_A_CPU = {"encoder in training", "LSTM over proposals", "GRU over proposals"}
"""A GPU's kernels for these have no second derivative."""


class TestRight:
    """Nothing is said where nothing is wrong."""

    @pytest.mark.parametrize("name", [pytest.param(x, marks=pytest.mark.cpu if x in OF_A_CPU else ()) for x in RIGHT])
    def test_models(self, name: str, proposals: Tensor) -> None:
        report = check_double_backward(score, RIGHT[name](), proposals)
        assert report.problems == ()
        assert abs(report.double_backward) > 1e-3
        assert report.finite_differences == pytest.approx(report.double_backward, rel=1e-4)

    def test_relu_networks_of_50_seeds(self) -> None:
        """A step over a kink would give a wrong difference; proposals of zero lie on every kink."""
        for seed in range(50):
            torch.manual_seed(seed)
            proposals = torch.randn(B, K, D) * (torch.arange(K) < 4)[:, None]
            assert check_double_backward(score, relu_net(), proposals).problems == ()

    def test_fused_attention_in_the_context_and_in_a_checkpoint(self, proposals: Tensor) -> None:
        kernels = double_backward_kernels()

        def checkpointed(model: nn.Module, x: Tensor) -> Tensor:
            with kernels:
                x = checkpoint(model, x, use_reentrant=False, context_fn=lambda: (kernels, kernels))
            return x.tanh().sum((1, 2))

        assert check_double_backward(checkpointed, encoder().eval(), proposals).problems == ()

    def test_channels_first_with_a_batch_in_containers(self) -> None:
        model = nn.Sequential(nn.Conv2d(D, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 3))
        weight = {"weights": [torch.randn(3)], "name": "float32"}

        def weighted(model: nn.Module, maps: Tensor, batch: dict[str, Any]) -> Tensor:
            return F.linear(model(maps).tanh(), batch["weights"][0])

        report = check_double_backward(weighted, model, torch.randn(B, D, 6, 6), weight, feature_dim=1)
        assert report.problems == ()

    @pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
    def test_a_weight_that_was_computed_in_an_earlier_forward_pass(self, proposals: Tensor) -> None:
        """Such tensors cannot be copied by ``deepcopy`` as they are."""
        model = nn.utils.weight_norm(nn.Linear(D, 3))
        model(proposals)
        assert check_double_backward(score, model, proposals).problems == ()

    def test_a_derivative_that_is_zero_but_for_rounding(self, proposals: Tensor) -> None:
        """The importance is 1, written as sigmoid(x) + sigmoid(-x)."""
        report = check_double_backward(lambda model, x: model(x).sum((1, 2)), Apply(identity), proposals)
        assert report.problems == ()
        assert report.double_backward == pytest.approx(0.0, abs=1e-12)

    def test_several_decisions(self, proposals: Tensor) -> None:
        def decisions(model: nn.Module, x: Tensor) -> Tensor:
            logits: Tensor = model(x).tanh().sum(1)
            return logits

        for reduction in ("sum", "input", "norm"):
            report = check_double_backward(decisions, nn.Linear(D, 3), proposals, reduction=reduction)  # type: ignore[arg-type]
            assert report.problems == ()


class TestMissing:
    """No second derivative: the remedy is named, and the innermost module."""

    @pytest.mark.cpu
    def test_fused_attention_of_an_encoder(self, proposals: Tensor) -> None:
        report = check_double_backward(score, encoder().eval(), proposals)
        names = ["model.layers.0.self_attn", "model.layers.1.self_attn"]
        assert str(report) == "\n- ".join(["Double backward: not possible.", *(f"`{name}`: {FUSED}" for name in names)])

    @pytest.mark.cpu
    def test_attention_without_weights(self, proposals: Tensor) -> None:
        class Model(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.attention = nn.MultiheadAttention(D, 2, batch_first=True)

            def forward(self, x: Tensor) -> Tensor:
                return self.attention(x, key=x, value=x, need_weights=False)[0]  # type: ignore[no-any-return]

        report = check_double_backward(score, Model(), proposals)
        assert report.problems == (f"`model.attention`: {FUSED}",)

    def test_operations_of_a_module_of_the_model_and_of_the_score(self, proposals: Tensor) -> None:
        def last(model: nn.Module, x: Tensor) -> Tensor:
            return F.hardsigmoid(model(x).sum((1, 2)))

        for function, model, name in [
            (score, nn.Sequential(nn.Linear(D, 3), nn.Hardsigmoid()), "model.1"),
            (score, Apply(F.hardsigmoid, nn.Linear(D, 3)), "model"),
            (last, nn.Linear(D, 3), "score"),
        ]:
            assert check_double_backward(function, model, proposals).problems == (f"`{name}`: {HARDSIGMOID}",)

    def test_reentrant_checkpoints(self, proposals: Tensor) -> None:
        model = Apply(lambda x: checkpoint(torch.tanh, x, use_reentrant=True), nn.Linear(D, 3))
        remedy = "pass `use_reentrant=False` to `torch.utils.checkpoint.checkpoint`."
        message = "CheckpointFunction lies between `proposals` and score and has no second derivative: " + remedy
        assert check_double_backward(score, model, proposals).problems == (f"`model`: {message}",)

    def test_kernels_of_the_models_own_precision(self, proposals: Tensor) -> None:
        """As on a GPU, where attention in float64 is never fused."""
        model = Apply(lambda x: F.hardsigmoid(x) if x.dtype == torch.float32 else x.tanh(), nn.Linear(D, 3))
        assert check_double_backward(score, model, proposals).problems == (f"`model`: {HARDSIGMOID}",)
        assert check_double_backward(score, model.double(), proposals.double()).problems == ()

    def test_what_reads_no_proposals_is_not_to_blame(self, proposals: Tensor) -> None:
        class Model(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.question, self.image, self.joint = encoder(), nn.Linear(D, D), nn.Hardsigmoid()

            def forward(self, x: Tensor, question: Tensor) -> Tensor:
                return self.joint(self.image(x) * self.question(question))  # type: ignore[no-any-return]

        def past_the_call(model: nn.Module, *inputs: Tensor) -> Tensor:
            return score(model.forward, *inputs)  # type: ignore[arg-type]

        for function in (score, past_the_call):
            report = check_double_backward(function, Model().eval(), proposals, torch.randn(B, K, D))
            assert report.problems == (f"`model.joint`: {HARDSIGMOID}",)


class TestWrong:
    """A second derivative that is wrong without any error."""

    def test_the_module_is_named_with_both_values(self, proposals: Tensor) -> None:
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

    def test_it_is_found_with_every_seed(self, proposals: Tensor) -> None:
        for seed in range(8):
            torch.manual_seed(seed)
            (problem,) = check_double_backward(score, relu_net(Apply(cube)), proposals).problems
            assert problem.startswith("`model.3`: double backward gives ")

    def test_a_gradient_that_leaves_the_graph(self, proposals: Tensor) -> None:
        """As of kernels that are called past PyTorch: the importance is right, and its derivative is zero."""

        class Detached(Stash):
            @staticmethod
            def backward(ctx: Any, gradient: Tensor) -> Tensor:
                return gradient.detach() * 3 * ctx.square

        apply: Callable[..., Any] = Detached.apply
        (problem,) = check_double_backward(score, nn.Sequential(nn.Linear(D, 3), Apply(apply)), proposals).problems
        found = WRONG.fullmatch(problem)
        assert found
        assert (found["name"], found["double"]) == ("model.1", "0")

    def test_a_part_that_is_detached(self, proposals: Tensor) -> None:
        model = nn.Sequential(nn.Linear(D, 3), Apply(lambda x: x * x.detach()))
        (problem,) = check_double_backward(score, model, proposals).problems
        assert WRONG.fullmatch(problem)
        assert problem.startswith("`model.1`: ")

    def test_hooks_see_the_inputs_once(self, proposals: Tensor) -> None:
        model = nn.Sequential(nn.Linear(D, 3), Apply(cube))
        model[1].register_forward_pre_hook(lambda module, args: args[0].view(B, K, 3).flatten(1))
        (problem,) = check_double_backward(score, model, proposals).problems
        assert problem.startswith("`model.1`: double backward gives ")

    def test_a_module_whose_output_is_no_container_of_tensors(self, proposals: Tensor) -> None:
        """It cannot be tested alone: what contains it is named."""

        class Box:
            def __init__(self, x: Tensor) -> None:
                self.x = x

        apply = Apply(lambda box: cube(box.x), Apply(Box))
        (problem,) = check_double_backward(score, nn.Sequential(nn.Linear(D, 3), apply), proposals).problems
        assert problem.startswith("`model.1`: double backward gives ")

    def test_nothing_is_claimed_where_differences_do_not_settle(self, proposals: Tensor) -> None:
        model = Apply(lambda x: x.square() * random.random(), nn.Linear(D, 3))
        report = check_double_backward(score, model, proposals)
        assert report.problems == (f"`model`: {UNSETTLED}",)

    def test_a_checkpoint_of_what_is_in_float32_on_purpose(self, proposals: Tensor) -> None:
        part = Apply(lambda x: x.float().square().to(x.dtype))
        model = nn.Sequential(nn.Linear(D, 3), Apply(lambda x: checkpoint(part, x, use_reentrant=False)))
        (problem,) = check_double_backward(score, model, proposals).problems
        assert problem.startswith("`model.1`: a part that computes in float32 on purpose is checkpointed: check the ")
        assert check_double_backward(score, nn.Sequential(model[0], part), proposals).problems == ()


class TestMeaning:
    """Importances that say nothing."""

    @pytest.mark.parametrize("reduction", ["sum", "input"])
    def test_a_layer_norm_on_the_proposals(self, reduction: Any, proposals: Tensor) -> None:
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
    def test_padding_under_a_root(self, name: str, proposals: Tensor) -> None:
        functions = {"normalise": lambda x: F.normalize(x, dim=-1), "root": lambda x: x.square().sum(-1).sqrt()}
        model = nn.Sequential(nn.Linear(D, 3, bias=False), Apply(functions[name]))
        padded = proposals * (torch.arange(K) < 3)[:, None]
        report = check_double_backward(score, model, padded)
        assert str(report) == f"Double backward: not possible.\n- `model.1`: {NOT_FINITE}"
        assert check_double_backward(score, model, proposals).problems == ()

    def test_a_score_without_proposals(self, proposals: Tensor, raises: Callable[..., Any]) -> None:
        message = (
            "Parameter `score` should depend on `proposals`. Found `proposals` of shape (2, 5, 8) outside of its "
            "graph: pass the very tensor that the model was given, not a copy or a slice of it."
        )
        with raises(ValueError, message):
            check_double_backward(lambda model, x: model.weight.sum(1), nn.Linear(D, 2), proposals)

    def test_a_report_without_problems(self, proposals: Tensor) -> None:
        report = check_double_backward(score, nn.Linear(D, 3), proposals)
        value = f"{report.double_backward:.7g}"
        expected = f"{report.finite_differences:.7g}"
        assert str(report) == f"Double backward: {value}, by finite differences {expected}.\n- No problem was found."


@pytest.mark.cpu
@pytest.mark.parametrize(
    ("middle", "found"),
    [(nn.Identity, ["model.3"]), (nn.Hardsigmoid, ["model.4"]), (lambda: Apply(cube), ["model.3", "model.4"])],
    ids=["right", "missing", "wrong"],
)
def test_everything_of_the_caller_stays_as_it_was(
    middle: Callable[[], nn.Module], found: list[str], proposals: Tensor
) -> None:
    spectral = nn.utils.parametrizations.spectral_norm(nn.Linear(6, 6))  # detaches its singular vectors: model.3
    model = nn.Sequential(
        nn.Linear(D, 6), nn.BatchNorm1d(K), nn.Dropout(), spectral, middle(), nn.Linear(6, 3)
    ).double()
    model[1].eval()
    model[0].bias.requires_grad_(False)
    proposals, batch = proposals.double(), torch.randn(B, K, D, dtype=torch.float64)
    score(model, proposals).sum().backward()
    loss = score(model, proposals).sum()  # its graph must survive

    def state() -> list[Any]:
        modules = [(module.training, len(module._forward_pre_hooks)) for module in model.modules()]
        flags = [(id(x), x.dtype, x.requires_grad, x._version) for x in (*model.parameters(), proposals, batch)]
        values = [*model.state_dict().values(), *(x.grad for x in model.parameters()), proposals, batch]
        kernels = [torch.backends.cuda.flash_sdp_enabled(), torch.is_grad_enabled(), torch.random.get_rng_state()]
        return [*modules, *flags, *(None if x is None else x.clone() for x in values), *kernels]

    before = state()
    with torch.no_grad():
        report = check_double_backward(lambda model, x, b: score(model, x + b), model, proposals, batch)
    assert [problem.split("`")[1] for problem in report.problems] == found
    for one, other in zip(before, state(), strict=True):
        assert torch.equal(one, other) if isinstance(one, Tensor) else one == other
    loss.backward()
