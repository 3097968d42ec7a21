"""The functional twin: importance and gradients of plain double backward, eagerly and in one compiled graph."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch._dynamo
import torch.nn.functional as F
from torch import Tensor, nn

from hint_loss import double_backward_kernels, hint_ranking_loss, importance_and_output, proposal_importance

B, K, D, A = 3, 5, 6, 7
REDUCTIONS = pytest.mark.parametrize("reduction", ["sum", "input", "norm"])


class UpDn(nn.Module):
    """A GRU reads the question; attention pools the proposals; their product answers."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.gru = nn.Embedding(9, 4), nn.GRU(4, 8, batch_first=True)
        self.value, self.attention = nn.Linear(D, 8), nn.Linear(8, 1)
        self.image, self.answer = nn.Linear(D, 8), nn.Linear(8, A)

    def forward(self, proposals: Tensor, words: Tensor) -> Any:
        with double_backward_kernels():  # which `torch.func` needs for recurrent layers on a GPU
            question = self.gru(self.embedding(words))[0][:, -1]
        weights = self.attention(torch.relu(self.value(proposals)) * question[:, None]).softmax(1)
        return self.answer(torch.tanh(self.image((weights * proposals).sum(1))) * question)


class Concat(nn.Module):
    """Normalised proposals beside the question; attention pools them by a matrix product."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.joint, self.attention = nn.Embedding(9, 4), nn.Linear(D + 4, 8), nn.Linear(8, 1)
        self.answer = nn.Linear(D, A)

    def forward(self, proposals: Tensor, words: Tensor) -> Any:
        proposals = F.normalize(proposals, dim=-1)
        question = self.embedding(words).mean(1, keepdim=True).expand(-1, K, -1)
        weights = self.attention(torch.tanh(self.joint(torch.cat([proposals, question], -1)))).squeeze(-1).softmax(-1)
        return self.answer(torch.bmm(weights[:, None], proposals).squeeze(1)).square()


class Convolution(nn.Module):
    """Cells of a feature map are the proposals."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.answer = nn.Conv2d(D, 4, 1), nn.Linear(4, A)

    def forward(self, grid: Tensor, words: Tensor) -> Any:
        return self.answer(torch.tanh(self.convolution(grid)).mean((2, 3)))


def make(name: str) -> tuple[nn.Module, Tensor, int]:
    torch.manual_seed(0)
    model = {"updn": UpDn, "concat": Concat, "convolution": Convolution}[name]().double()
    shape, feature_dim = ((B, D, 3, 2), 1) if name == "convolution" else ((B, K, D), -1)
    return model, torch.rand(shape, dtype=torch.float64) + 0.1, feature_dim


WORDS = torch.tensor([[1, 2, 3], [4, 5, 6], [7, 8, 0]])
ANSWERS = torch.tensor([1, 4, 2])


def training_loss(alpha: Tensor, logits: Tensor) -> Tensor:
    s = torch.linspace(0, 1, alpha.numel(), dtype=torch.float64, device=alpha.device).sin().view_as(alpha).flatten(1)
    ranking = hint_ranking_loss(alpha.flatten(1), s, margin=0.1)
    return ranking + (alpha * s.view_as(alpha)).sum() + F.cross_entropy(logits, ANSWERS)


def plain_step(model: nn.Module, data: Tensor, **how: Any) -> Tensor:
    proposals = data.clone().requires_grad_()
    logits = model(proposals, WORDS)
    alpha = proposal_importance(logits.gather(1, ANSWERS[:, None]).squeeze(1), proposals, **how)
    return training_loss(alpha, logits)


def functional_step(model: nn.Module, data: Tensor, **how: Any) -> Tensor:
    def forward(proposals: Tensor) -> tuple[Tensor, Tensor]:
        logits = model(proposals, WORDS)
        return logits.gather(1, ANSWERS[:, None]).squeeze(1), logits

    probes = torch.eye(D, dtype=data.dtype)  # which make the norm exact
    return training_loss(*importance_and_output(forward, data, probes=probes, **how))


def assert_equal(step: Callable[..., Tensor], name: str, reduction: str) -> None:
    model, data, feature_dim = make(name)
    results = []
    for compute in (plain_step, step):
        loss = compute(model, data, feature_dim=feature_dim, reduction=reduction)
        results.append([loss, *torch.autograd.grad(loss, list(model.parameters()))])
    torch.testing.assert_close(results[1], results[0], rtol=1e-10, atol=1e-12)


@REDUCTIONS
@pytest.mark.parametrize("name", ["updn", "concat", "convolution"])
def test_equals_plain_double_backward(name: str, reduction: str) -> None:
    assert_equal(functional_step, name, reduction)


@pytest.fixture
def _fresh_compiler() -> Any:
    torch._dynamo.reset()
    with torch._dynamo.config.patch(allow_rnn=True):
        yield
    torch._dynamo.reset()


@pytest.mark.usefixtures("_fresh_compiler")
@pytest.mark.filterwarnings("ignore")  # the compiler's own
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
def test_compiled_in_one_graph(backend: str, name: str, reduction: str) -> None:
    step = torch.compile(functional_step, fullgraph=True, backend=backend)
    assert_equal(step, name, reduction)
    with torch.compiler.set_stance("fail_on_recompile"):
        assert_equal(step, name, reduction)


def test_works_within_other_transforms() -> None:
    """The gradient of a loss on the importance, by ``torch.func`` throughout."""
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


def test_importance_of_half_precision_is_in_float32() -> None:
    alpha, _ = importance_and_output(lambda x: (x.square().sum((1, 2)), ()), torch.rand(2, 3, 4).bfloat16())
    assert alpha.dtype == torch.float32


def test_bad_input(raises: Callable[..., Any]) -> None:
    with raises(
        TypeError,
        "Parameter `proposals` should be a floating point tensor. Found `proposals.dtype = torch.int64`: pass "
        "`proposals.float()`.",
    ):
        importance_and_output(lambda x: (x.sum((1, 2)), ()), torch.ones(1, 2, 3, dtype=torch.int64))
    with raises(ValueError, "Parameter `function` should return scores (2,) first. Found (2, 4)."):
        importance_and_output(lambda x: (x.sum(1), ()), torch.ones(2, 3, 4))
    with raises(ValueError, "Parameter `function` should return scores (2,) first. Found (1,)."):
        importance_and_output(lambda x: (x.sum((1, 2))[:1], ()), torch.ones(2, 3, 4))
    for wrong in (lambda x: x.sum((1, 2)), lambda x: (x.sum((1, 2)), None)):
        with raises(
            TypeError, "Parameter `function` should return two things: scores, and other output, `()` for none."
        ):
            importance_and_output(wrong, torch.ones(2, 3, 4))
    with pytest.raises(ValueError, match="Parameter `reduction` should be 'sum', 'input' or 'norm'"):
        importance_and_output(lambda x: (x.sum((1, 2)), ()), torch.ones(2, 3, 4), reduction="mean")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Found a list"):
        importance_and_output(lambda x: (x.sum(), ()), [1.0])  # type: ignore[arg-type]


def test_forgotten_kernels() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, dropout=0.0, batch_first=True)
    with pytest.raises(RuntimeError, match=r"inside of `with double_backward_kernels\(\):`"):
        importance_and_output(lambda x: (layer(x).square().sum((1, 2)), ()), torch.rand(2, 3, 8))
