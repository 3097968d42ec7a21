"""The functional twin: importance and gradients of plain double backward, eagerly and in one compiled graph."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch._dynamo
import torch.nn.functional as F
from torch import Tensor, nn

from hint_loss import double_backward_kernels, hint_ranking_loss, importance_and_output, proposal_importance

from .networks import ANSWERS, H, Rectified, UpDn, convolutional_net

B, K, D = 3, 5, 6
REDUCTIONS = pytest.mark.parametrize("reduction", ["sum", "input", "norm"])


class Concat(nn.Module):
    """Attention reads normalised proposals beside the question; a matrix product pools the proposals."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.joint, self.attention = nn.Embedding(9, 4), nn.Linear(D + 4, H), nn.Linear(H, 1)
        self.answer = nn.Linear(D, ANSWERS)

    def forward(self, proposals: Tensor, words: Tensor) -> Any:
        question = self.embedding(words).mean(1, keepdim=True).expand(-1, K, -1)
        joint = torch.cat([F.normalize(proposals, dim=-1), question], -1)
        weights = self.attention(torch.tanh(self.joint(joint))).squeeze(-1).softmax(-1)
        return self.answer(torch.bmm(weights[:, None], proposals).squeeze(1)).square()


class Convolution(nn.Module):
    """A feature map, whose cells are the proposals; the question is not read."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = convolutional_net(D, 6)

    def forward(self, feature_map: Tensor, words: Tensor) -> Any:
        return self.layers(feature_map)


def make(name: str) -> tuple[nn.Module, Tensor, int]:
    """A model, features, and their dimension."""
    torch.manual_seed(0)
    model = {"updn": lambda: UpDn(D, Rectified), "concat": Concat, "convolution": Convolution}[name]().double()
    shape, feature_dim = ((B, D, 3, 2), 1) if name == "convolution" else ((B, K, D), -1)
    return model, torch.rand(shape, dtype=torch.float64) + 0.1, feature_dim


WORDS = torch.tensor([[1, 2], [4, 5], [7, 0]])
CHOSEN = torch.tensor([1, 4, 2])  # answers


def scores(model: nn.Module, proposals: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of the chosen answers, and of all."""
    with double_backward_kernels():  # which `torch.func` needs for recurrent layers on a GPU
        logits = model(proposals, WORDS)
    return logits.gather(1, CHOSEN[:, None]).squeeze(1), logits


def training_loss(alpha: Tensor, logits: Tensor) -> Tensor:
    s = torch.linspace(0, 1, alpha.numel(), dtype=torch.float64, device=alpha.device).sin().view_as(alpha).flatten(1)
    ranking = hint_ranking_loss(alpha.flatten(1), s, margin=0.1)
    return ranking + (alpha * s.view_as(alpha)).sum() + F.cross_entropy(logits, CHOSEN)


def plain_step(model: nn.Module, data: Tensor, **options: Any) -> Tensor:
    proposals = data.clone().requires_grad_()
    score, logits = scores(model, proposals)
    return training_loss(proposal_importance(score, proposals, **options), logits)


def functional_step(model: nn.Module, data: Tensor, **options: Any) -> Tensor:
    probes = torch.eye(D, dtype=data.dtype)  # makes the norm exact
    return training_loss(*importance_and_output(lambda x: scores(model, x), data, probes=probes, **options))


def assert_equals_plain_step(step: Callable[..., Tensor], name: str, reduction: str) -> None:
    model, data, feature_dim = make(name)
    results = []
    for compute in (plain_step, step):
        loss = compute(model, data, feature_dim=feature_dim, reduction=reduction)
        results.append([loss, *torch.autograd.grad(loss, list(model.parameters()))])
    torch.testing.assert_close(results[1], results[0], rtol=1e-10, atol=1e-12)


@REDUCTIONS
@pytest.mark.parametrize("name", ["updn", "concat", "convolution"])
def test_value_and_gradients_equal_those_of_plain_double_backward(name: str, reduction: str) -> None:
    assert_equals_plain_step(functional_step, name, reduction)


@pytest.fixture
def _fresh_compiler() -> Any:
    torch._dynamo.reset()
    with torch._dynamo.config.patch(allow_rnn=True):
        yield
    torch._dynamo.reset()


@pytest.mark.usefixtures("_fresh_compiler")
@pytest.mark.filterwarnings("ignore")  # warnings of the compiler
@pytest.mark.parametrize(
    ("backend", "name", "reduction"),
    [
        ("aot_eager", "updn", "input"),
        ("aot_eager", "concat", "sum"),
        ("aot_eager", "concat", "input"),
        ("aot_eager", "convolution", "sum"),
        ("aot_eager", "updn", "norm"),
        ("aot_eager", "convolution", "norm"),
        ("inductor", "updn", "sum"),
    ],
)
def test_compiles_in_one_graph(backend: str, name: str, reduction: str) -> None:
    step = torch.compile(functional_step, fullgraph=True, backend=backend)
    assert_equals_plain_step(step, name, reduction)
    with torch.compiler.set_stance("fail_on_recompile"):
        assert_equals_plain_step(step, name, reduction)


def test_can_be_differentiated_by_torch_func() -> None:
    model, data, _ = make("concat")
    parameters = dict(model.named_parameters())

    def loss(values: dict[str, Tensor]) -> Tensor:
        def forward(proposals: Tensor) -> tuple[Tensor, tuple[()]]:
            return torch.func.functional_call(model, values, (proposals, WORDS))[:, 2], ()

        return importance_and_output(forward, data)[0].square().sum()

    functional = torch.func.grad(loss)(parameters)
    proposals = data.clone().requires_grad_()
    alpha = proposal_importance(model(proposals, WORDS)[:, 2], proposals)
    expected = torch.autograd.grad(alpha.square().sum(), list(parameters.values()), materialize_grads=True)
    torch.testing.assert_close(list(functional.values()), list(expected), rtol=1e-10, atol=1e-12)


def test_importance_of_half_precision_proposals_is_in_float32() -> None:
    alpha, _ = importance_and_output(lambda x: (x.square().sum((1, 2)), ()), torch.rand(2, 3, 4).bfloat16())
    assert alpha.dtype == torch.float32


@pytest.mark.parametrize(
    ("proposals", "message"),
    [
        ([1.0], "should be a torch.Tensor. Found a list: pass `torch.as_tensor(proposals)`."),
        (
            torch.ones(1, 2, 3).long(),
            "should be a floating point tensor. Found `proposals.dtype = torch.int64`: pass `proposals.float()`.",
        ),
    ],
    ids=["list", "integers"],
)
def test_wrong_proposals_raise(raises: Any, proposals: Any, message: str) -> None:
    with raises(TypeError, f"Parameter `proposals` {message}"):
        importance_and_output(lambda x: (x.sum((1, 2)), ()), proposals)


TWO = "two things: scores, and other output, `()` for none."


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (lambda x: (x.sum(1), ()), ValueError, "scores (2,) first. Found (2, 4)."),
        (lambda x: (x.sum((1, 2))[:1], ()), ValueError, "scores (2,) first. Found (1,)."),
        (lambda x: x.sum((1, 2)), TypeError, TWO),
        (lambda x: (x.sum((1, 2)), None), TypeError, TWO),
    ],
    ids=["scores of proposals", "too few scores", "only scores", "None"],
)
def test_wrong_outputs_raise(raises: Any, function: Any, error: type[Exception], message: str) -> None:
    with raises(error, f"Parameter `function` should return {message}"):
        importance_and_output(function, torch.ones(2, 3, 4))


def test_an_unknown_reduction_raises() -> None:
    with pytest.raises(ValueError, match="Parameter `reduction` should be 'sum', 'input' or 'norm'"):
        importance_and_output(lambda x: (x.sum((1, 2)), ()), torch.ones(2, 3, 4), reduction="mean")  # type: ignore[arg-type]


def test_kernels_without_a_second_derivative_raise() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, dropout=0.0, batch_first=True)
    with pytest.raises(RuntimeError, match=r"inside of `with double_backward_kernels\(\):`"):
        importance_and_output(lambda x: (layer(x).square().sum((1, 2)), ()), torch.rand(2, 3, 8))
