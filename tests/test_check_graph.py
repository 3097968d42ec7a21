"""`check_graph` names operations without a second derivative, with their remedies, and passes all others."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.utils.checkpoint import checkpoint

from hint_loss import proposal_importance, track_proposals
from hint_loss.second_order import kernels
from hint_loss.second_order.kernels import check_graph

B, K, D = 2, 5, 8
SELECT = "run the model's forward pass inside of `with double_backward_kernels():`"
REPLACE = "replace it by operations that have one"
LACKS = "{} lies between `proposals` and score and has no second derivative: {}."


@pytest.fixture
def proposals() -> Tensor:
    return torch.randn(B, K, D, dtype=torch.float64, requires_grad=True)


class Once(torch.autograd.Function):
    """PyTorch drops its second derivative silently where the incoming gradient is a constant."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.exp()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * ctx.saved_tensors[0].exp()


class Twice(Once):
    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * ctx.saved_tensors[0].exp()


def fused(x: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(x[:, None], x[:, None], x[:, None])[:, 0]


OPERATIONS: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "ScaledDotProductFlashAttentionForCpu": (fused, SELECT),
    "CompiledFunction": (
        lambda x: torch.compile(torch.tanh, backend="aot_eager")(x),
        "leave the model uncompiled, or compile the whole step with `importance_and_output` in it",
    ),
    "CheckpointFunction": (
        lambda x: checkpoint(torch.tanh, x, use_reentrant=True),
        "pass `use_reentrant=False` to `torch.utils.checkpoint.checkpoint`",
    ),
    "Cdist": (lambda x: torch.cdist(x, x + 1, p=1), REPLACE),
    "CtcLoss": (
        lambda x: F.ctc_loss(
            x.mT.permute(2, 0, 1).log_softmax(-1), torch.ones(B, 1).long(), torch.full((B,), K), torch.ones(B).long()
        ),
        REPLACE,
    ),
    "Hardsigmoid": (F.hardsigmoid, REPLACE),
    "MaskedSoftmax": (lambda x: torch._masked_softmax(x, torch.zeros_like(x, dtype=torch.bool), -1, 2), REPLACE),
    "Pdist": (lambda x: torch.pdist(x[0]), REPLACE),
    "SegmentReduce": (lambda x: torch.segment_reduce(x.flatten(), "sum", lengths=torch.tensor([40, 40])), REPLACE),
}


EACH_OPERATION = pytest.mark.parametrize(
    "name", [pytest.param(x, marks=pytest.mark.cpu if "Cpu" in x else ()) for x in OPERATIONS]
)


@pytest.mark.filterwarnings("ignore")  # warnings of the compiler
class TestOperations:
    @EACH_OPERATION
    def test_without_a_second_derivative_are_named_with_their_remedies(
        self, name: str, proposals: Tensor, raises: Any
    ) -> None:
        operation, remedy = OPERATIONS[name]
        with raises(RuntimeError, LACKS.format(name, remedy)):
            check_graph(operation(proposals * 2).square().sum(), proposals)

    @EACH_OPERATION
    def test_that_are_named_cannot_be_differentiated_twice(self, name: str, proposals: Tensor) -> None:
        score = OPERATIONS[name][0](proposals * 2).square().sum()
        with pytest.raises(RuntimeError):
            torch.autograd.grad(score, proposals, create_graph=True)[0].square().sum().backward()

    @pytest.mark.parametrize(
        ("name", "remedy"),
        [
            *[(f"ScaledDotProduct{x}Attention", SELECT) for x in ("Flash", "Efficient", "Cudnn")],
            ("ScaledDotProductFusedAttentionOverrideable", SELECT),
            ("CudnnRnn", SELECT),
            ("MiopenRnn", SELECT),
            ("LstmMps", REPLACE),
            ("FlexAttentionAutogradOp", REPLACE),
        ],
    )
    def test_of_other_devices_are_known_by_name(self, name: str, remedy: str, proposals: Tensor, raises: Any) -> None:
        """An operation of ours with the same name stands in for the operation of the device."""
        operation: Any = type(name, (Twice,), {})
        with raises(RuntimeError, LACKS.format(name, remedy)):
            check_graph(operation.apply(proposals).sum(), proposals)

    def test_that_are_differentiable_once_are_named(self, proposals: Tensor, raises: Any) -> None:
        apply: Any = Once.apply
        (gradient,) = torch.autograd.grad(apply(proposals).sum(), proposals, create_graph=True)
        assert not gradient.requires_grad  # PyTorch itself raises nothing
        with raises(RuntimeError, LACKS.format("Once", REPLACE)):
            check_graph(apply(proposals).sum(), proposals)

    @pytest.mark.cpu
    def test_with_a_second_derivative_pass(self, proposals: Tensor) -> None:
        apply: Any = Twice.apply
        layers = nn.Sequential(nn.Linear(D, D), nn.LayerNorm(D), nn.GELU()).double()
        hidden, _ = nn.LSTM(D, D).double()(layers(proposals))
        hidden = checkpoint(layers, hidden, use_reentrant=False)
        check_graph(apply(hidden).sum(), proposals)

    def test_that_are_not_between_proposals_and_score_pass(self, proposals: Tensor) -> None:
        """They are in a question encoder, in the backbone, and behind another output of an operation."""
        question = torch.randn(B, K, D, dtype=torch.float64, requires_grad=True)
        features, others = torch.cat([fused(proposals)] * 2, -1).chunk(2, -1)
        score = (features.tanh() * fused(question) * F.hardsigmoid(others)).sum((1, 2))
        check_graph(score, features)
        proposal_importance(score, features).square().sum().backward()
        with pytest.raises(RuntimeError, match=r"\AHardsigmoid lies"):
            check_graph(score, others)

    def test_may_be_absent_if_the_proposals_are_the_score(self, proposals: Tensor) -> None:
        check_graph(proposals, proposals)

    def test_are_visited_at_most_twice_in_deep_and_wide_graphs(
        self, proposals: Tensor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen, walk = [], kernels._walk

        def counted(*args: Any) -> Iterator[Any]:
            for item in walk(*args):
                seen.append(item[0])
                yield item

        monkeypatch.setattr(kernels, "_walk", counted)
        beside = torch.randn(3, dtype=torch.float64, requires_grad=True)
        for _ in range(2000):  # 2,000 operations to name, and 2 ** 2000 paths
            beside = F.hardsigmoid(beside + beside)
        check_graph(proposals.sum() + beside.sum(), proposals)
        assert 4000 < len(seen) < 2 * 4010


@pytest.mark.cpu
@pytest.mark.usefixtures("process_group")
@pytest.mark.filterwarnings("ignore")  # warnings of FSDP2 about views
@pytest.mark.parametrize("track", [False, True])
def test_weights_that_fsdp_frees_raise(track: bool) -> None:
    """FSDP2 frees the weights of sharded inner layers after the importance, unless it is configured to keep them."""

    def loss(model: nn.Module) -> Tensor:
        features = torch.ones(2, 3, D)
        x = track_proposals(features) if track else features.requires_grad_()
        return proposal_importance(model(x).square().sum((1, 2)), x).square().sum()

    model = nn.Sequential(nn.Linear(D, D), nn.Tanh(), nn.Linear(D, 2))
    expected = torch.autograd.grad(loss(model), list(model.parameters())[:3])
    for layer in (model[0], model[2], model):
        fully_shard(layer, mesh=init_device_mesh("cpu", (1,)))
    with pytest.raises(RuntimeError, match=r"FSDP2 frees .* or call the root's `set_reshard_after_backward\(False\)`"):
        loss(model)
    sharded: Any = list(model.parameters())  # as the optimiser holds them; the model later has whole ones
    root: Any = model
    root.set_reshard_after_backward(False)
    loss(root).backward()
    for parameter, gradient in zip(sharded, expected, strict=False):
        torch.testing.assert_close(parameter.grad.full_tensor(), gradient)
