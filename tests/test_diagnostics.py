"""`check_double_backward` reports no problem where there is none, and leaves the caller's objects as they were."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hint_loss.diagnostics import check_double_backward
from hint_loss.second_order.kernels import double_backward_kernels

from .diagnosed import Apply, B, D, K, cube, encoder, relu_net, score


@pytest.fixture
def proposals() -> Tensor:
    return torch.randn(B, K, D)


class Counting(nn.Linear):
    calls: Tensor

    def __init__(self) -> None:
        super().__init__(D, 3)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x) * self.calls


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


NEEDS_A_CPU = {"encoder in training", "LSTM over proposals", "GRU over proposals"}  # fused kernels on a GPU


class TestNoProblem:
    @pytest.mark.parametrize(
        "name", [pytest.param(x, marks=pytest.mark.cpu if x in NEEDS_A_CPU else ()) for x in RIGHT]
    )
    def test_is_found_in_models_with_a_second_derivative(self, name: str, proposals: Tensor) -> None:
        report = check_double_backward(score, RIGHT[name](), proposals)
        assert report.problems == ()
        assert abs(report.double_backward) > 1e-3
        assert report.finite_differences == pytest.approx(report.double_backward, rel=1e-4)

    def test_is_found_in_50_relu_networks(self) -> None:
        """A finite difference across a kink would be wrong, and proposals of zeros are on every kink."""
        for seed in range(50):
            torch.manual_seed(seed)
            proposals = torch.randn(B, K, D) * (torch.arange(K) < 4)[:, None]
            assert check_double_backward(score, relu_net(), proposals).problems == ()

    def test_is_found_in_fused_attention_in_the_context_and_in_a_checkpoint(self, proposals: Tensor) -> None:
        kernels = double_backward_kernels()

        def checkpointed(model: nn.Module, x: Tensor) -> Tensor:
            with kernels:
                x = checkpoint(model, x, use_reentrant=False, context_fn=lambda: (kernels, kernels))
            return x.tanh().sum((1, 2))

        assert check_double_backward(checkpointed, encoder().eval(), proposals).problems == ()

    def test_is_found_with_channels_first_and_a_batch_in_containers(self) -> None:
        model = nn.Sequential(nn.Conv2d(D, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 3))
        weight = {"weights": [torch.randn(3)], "name": "float32"}

        def weighted(model: nn.Module, maps: Tensor, batch: dict[str, Any]) -> Tensor:
            return F.linear(model(maps).tanh(), batch["weights"][0])

        report = check_double_backward(weighted, model, torch.randn(B, D, 6, 6), weight, feature_dim=1)
        assert report.problems == ()

    @pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
    def test_is_found_with_a_weight_computed_in_an_earlier_forward_pass(self, proposals: Tensor) -> None:
        """``deepcopy`` cannot copy such tensors."""
        model = nn.utils.weight_norm(nn.Linear(D, 3))
        model(proposals)
        assert check_double_backward(score, model, proposals).problems == ()

    def test_is_found_if_the_derivative_is_zero_but_for_rounding(self, proposals: Tensor) -> None:
        """The importance is sigmoid(x) + sigmoid(-x) = 1."""

        def identity(x: Tensor) -> Tensor:
            return F.softplus(x) - F.softplus(-x)

        report = check_double_backward(lambda model, x: model(x).sum((1, 2)), Apply(identity), proposals)
        assert report.problems == ()
        assert report.double_backward == pytest.approx(0.0, abs=1e-12)

    def test_is_found_with_several_decisions(self, proposals: Tensor) -> None:
        def decisions(model: nn.Module, x: Tensor) -> Tensor:
            logits: Tensor = model(x).tanh().sum(1)
            return logits

        for reduction in ("sum", "input", "norm"):
            report = check_double_backward(decisions, nn.Linear(D, 3), proposals, reduction=reduction)  # type: ignore[arg-type]
            assert report.problems == ()

    def test_is_reported_with_both_values(self, proposals: Tensor) -> None:
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
def test_the_callers_objects_stay_as_they_were(
    middle: Callable[[], nn.Module], found: list[str], proposals: Tensor
) -> None:
    spectral = nn.utils.parametrizations.spectral_norm(nn.Linear(6, 6))  # model.3: detaches its singular vectors
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
