"""Kernels with a second derivative: which are chosen, what stays as it was, and what is said about the others."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.backends import cudnn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils.rnn import pack_padded_sequence
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint

from hint_loss import proposal_importance, track_proposals
from hint_loss.second_order import kernels
from hint_loss.second_order.kernels import check_graph, double_backward_kernels

B, K, D = 2, 5, 8
SELECT = "run the model's forward pass inside of `with double_backward_kernels():`"
REPLACE = "replace it by operations that have one"
LACKS = "{} lies between `proposals` and score and has no second derivative: {}."


@pytest.fixture
def proposals() -> Tensor:
    return torch.randn(B, K, D, dtype=torch.float64, requires_grad=True)


def second_order(score: Tensor, proposals: Tensor, model: nn.Module) -> list[Tensor]:
    """Every parameter's gradient of a loss on the importance."""
    loss = proposal_importance(score.sum(), proposals).square().sum()
    return list(torch.autograd.grad(loss, list(model.parameters()), materialize_grads=True))


def flags() -> tuple[Any, ...]:
    backends = ("flash", "mem_efficient", "math", "cudnn")
    return (
        *(getattr(torch.backends.cuda, f"{name}_sdp_enabled")() for name in backends),
        *(getattr(cudnn, name) for name in ("enabled", "benchmark", "deterministic", "allow_tf32")),
    )


class Calls(TorchFunctionMode):
    """What every call of PyTorch finds: its name, the state of cuDNN, and all other flags of it."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, tuple[bool, bool, bool]] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen[getattr(func, "__name__", "")] = (cudnn.enabled, cudnn.benchmark, cudnn.deterministic)
        return func(*args, **kwargs or {})


class TestAttention:
    """Fused attention becomes differentiable twice, and nothing else changes."""

    @pytest.fixture(params=["encoder", "decoder", "attention", "functional"])
    def model(self, request: pytest.FixtureRequest) -> nn.Module:
        options: dict[str, Any] = {"batch_first": True, "dtype": torch.float64}

        class Attention(nn.MultiheadAttention):
            def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
                return super().forward(x, x, x, need_weights=False)[0]

        class Decoder(nn.TransformerDecoderLayer):
            def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
                return super().forward(x, x)

        class Functional(nn.Linear):
            def forward(self, x: Tensor) -> Tensor:
                x = super().forward(x)[:, None]
                return F.scaled_dot_product_attention(x, x, x, attn_mask=torch.eye(K, dtype=torch.bool).logical_not())

        layer = nn.TransformerEncoderLayer(D, 2, 16, **options)
        return {
            "encoder": nn.TransformerEncoder(layer, 2, enable_nested_tensor=False),
            "decoder": Decoder(D, 2, 16, **options),
            "attention": Attention(D, 2, **options),
            "functional": Functional(D, D, dtype=torch.float64),
        }[request.param].eval()

    def test_gradients_equal_those_of_the_mathematical_kernel(self, model: nn.Module, proposals: Tensor) -> None:
        with double_backward_kernels():
            score = model(proposals).tanh()
        with sdpa_kernel(SDPBackend.MATH):
            expected = model(proposals).tanh()
        gradients = second_order(score, proposals, model)
        assert any(gradient.any() for gradient in gradients)
        for gradient, other in zip(gradients, second_order(expected, proposals, model), strict=True):
            torch.testing.assert_close(gradient, other, rtol=1e-12, atol=1e-14)

    @pytest.mark.cpu
    def test_it_is_missed_where_it_is_forgotten(self, model: nn.Module, proposals: Tensor) -> None:
        with pytest.raises(RuntimeError, match=r"no second derivative|not implemented"):
            second_order(model(proposals).tanh(), proposals, model)

    @pytest.mark.cpu
    def test_it_prevails_over_the_callers_choice_and_gives_it_back(self, proposals: Tensor) -> None:
        x = proposals[:, None]
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            with double_backward_kernels():
                inside = F.scaled_dot_product_attention(x, x, x)
            outside = F.scaled_dot_product_attention(x, x, x)
        check_graph(inside, proposals)
        with pytest.raises(RuntimeError):
            check_graph(outside, proposals)


class TestRecurrent:
    """cuDNN is off while the layer is called, and then only. (On a GPU, `benchmarks/on_gpu.sh` trains through it.)"""

    @pytest.mark.parametrize(
        ("layer", "function"),
        [
            (nn.LSTM(D, 3), "lstm"),
            (nn.LSTM(D, 4, num_layers=2, bidirectional=True, proj_size=3), "lstm"),
            (nn.GRU(D, 3), "gru"),
            (nn.RNN(D, 3), "rnn_tanh"),
            (nn.RNN(D, 3, nonlinearity="relu"), "rnn_relu"),
        ],
        ids=str,
    )
    @pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
    @pytest.mark.parametrize("packed", [False, True])
    @pytest.mark.parametrize("enabled", [False, True])
    def test_cudnn_is_off_for_the_call_alone(
        self, layer: nn.Module, function: str, packed: bool, enabled: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, value in {"enabled": enabled, "benchmark": True, "deterministic": True}.items():
            monkeypatch.setattr(cudnn, name, value)
        x = torch.randn(K, B, D)
        with Calls() as calls, double_backward_kernels():
            layer(pack_padded_sequence(x, torch.tensor([5, 3], device="cpu")) if packed else x)
            nn.Conv1d(B, 1, 1)(x)
        assert calls.seen.pop(function) == (False, True, True)
        assert "conv1d" in calls.seen
        assert set(calls.seen.values()) == {(enabled, True, True)}
        assert (cudnn.enabled, cudnn.benchmark, cudnn.deterministic) == (enabled, True, True)


class TestContext:
    def test_an_error_leaves_the_flags_as_they_were(self) -> None:
        before = flags()
        x, weights = torch.randn(B, 1, K, D), [torch.randn(1)] * 4
        with pytest.raises(RuntimeError), double_backward_kernels():
            F.scaled_dot_product_attention(x, x[..., :3], x)
        assert flags() == before
        with pytest.raises(RuntimeError), double_backward_kernels():
            torch.gru(x[0], x[0, 0], weights, True, 1, 0.0, False, False, False)
        assert flags() == before

    @pytest.mark.cpu
    def test_one_instance_is_entered_again_and_nested(self, proposals: Tensor) -> None:
        context, x = double_backward_kernels(), proposals[:, None]
        for _ in range(2):
            with context:
                with context:
                    F.scaled_dot_product_attention(x, x, x)
                check_graph(F.scaled_dot_product_attention(x, x, x), proposals)
        with pytest.raises(RuntimeError):
            check_graph(F.scaled_dot_product_attention(x, x, x), proposals)

    @pytest.mark.cpu
    def test_another_thread_keeps_its_kernels(self, proposals: Tensor) -> None:
        x, results = proposals[:, None], []
        thread = threading.Thread(target=lambda: results.append(F.scaled_dot_product_attention(x, x, x)))
        with double_backward_kernels():
            thread.start()
            thread.join()
        assert results[0].grad_fn.name() == "ScaledDotProductFlashAttentionForCpuBackward0"

    @pytest.mark.cpu
    def test_checkpoints_need_it_when_they_compute_again(self, proposals: Tensor) -> None:
        model = nn.TransformerEncoderLayer(D, 2, 16, batch_first=True, dtype=torch.float64).eval()
        context = double_backward_kernels()

        def gradients(**options: Any) -> list[Tensor]:
            with context:
                score = checkpoint(model, proposals, use_reentrant=False, **options) if options else model(proposals)
            return second_order(score.tanh(), proposals, model)

        for gradient, other in zip(gradients(context_fn=lambda: (context, context)), gradients(), strict=True):
            torch.testing.assert_close(gradient, other, rtol=1e-12, atol=1e-14)
        with pytest.raises(RuntimeError, match="A checkpointed part was computed again with other kernels"):
            gradients(preserve_rng_state=True)

    def test_threads_leave_the_flags_as_they_were(self) -> None:
        """They are the process's: one thread would restore what another had set."""
        lstm, q = nn.LSTM(D, D), torch.randn(2, 2, K, D)
        sdp = torch.backends.cuda

        def work() -> None:
            with double_backward_kernels():
                for _ in range(60):
                    lstm(torch.randn(K, B, D))
                    F.scaled_dot_product_attention(q, q, q)

        def flags() -> list[bool]:
            return [cudnn.enabled, sdp.flash_sdp_enabled(), sdp.mem_efficient_sdp_enabled(), sdp.math_sdp_enabled()]

        before = flags()
        with ThreadPoolExecutor(4) as pool:
            for done in [pool.submit(work) for _ in range(4)]:
                done.result()
        assert flags() == before

    @pytest.mark.filterwarnings("ignore")  # of the compiler, about itself
    @pytest.mark.parametrize("inside", [True, False])
    def test_it_compiles_without_a_break(self, proposals: Tensor, inside: bool) -> None:
        """Attention and GRU in one graph, with the context inside of what is compiled or around it."""
        gru = nn.GRU(D, D, batch_first=True).double()

        def score(x: Tensor) -> Tensor:
            return fused(gru(x)[0]).tanh().sum()

        def score_inside(x: Tensor) -> Tensor:
            with double_backward_kernels():
                return score(x)

        def loss(x: Tensor) -> Tensor:
            return torch.func.grad(score_inside if inside else score)(x).sum(-1).square().sum()

        around = nullcontext() if inside else double_backward_kernels()
        with torch._dynamo.config.patch(allow_rnn=True), around:
            value = torch.compile(loss, fullgraph=True, backend="eager")(proposals.detach())
        expected = second_order(score_inside(proposals), proposals, gru)
        gradients = torch.autograd.grad(value, list(gru.parameters()))
        for gradient, other in zip(gradients, expected, strict=True):
            torch.testing.assert_close(gradient, other, rtol=1e-10, atol=1e-12)

    @pytest.mark.filterwarnings("ignore")  # of the compiler, about itself
    def test_a_compiled_graph_turns_cudnn_off_when_it_runs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A flag that was off only while the graph was traced would be on again by then."""
        gru, seen = nn.GRU(D, D), []

        def inside(x: Tensor) -> Tensor:
            with double_backward_kernels():
                return gru(x)[0]

        def spy(*args: Any) -> Any:
            seen.append(cudnn.enabled)
            return original(*args)

        with torch._dynamo.config.patch(allow_rnn=True):
            compiled = torch.compile(inside, fullgraph=True, backend="eager")
            x = torch.randn(K, B, D)
            expected = compiled(x)
            original = torch.gru
            monkeypatch.setattr(torch, "gru", spy)
            with torch.compiler.set_stance("fail_on_recompile"):
                torch.testing.assert_close(compiled(x), expected)
        assert seen == [False]
        assert cudnn.enabled


class Once(torch.autograd.Function):
    """Silent: where the incoming gradient is a constant, PyTorch drops the second derivative without a word."""

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


@pytest.mark.filterwarnings("ignore")  # of the compiler, about itself
class TestCheckGraph:
    @pytest.mark.parametrize("name", [pytest.param(x, marks=pytest.mark.cpu if "Cpu" in x else ()) for x in OPERATIONS])
    def test_an_operation_is_named_with_its_remedy(
        self, name: str, proposals: Tensor, raises: Callable[..., Any]
    ) -> None:
        operation, remedy = OPERATIONS[name]
        with raises(RuntimeError, LACKS.format(name, remedy)):
            check_graph(operation(proposals * 2).square().sum(), proposals)

    @pytest.mark.parametrize("name", [pytest.param(x, marks=pytest.mark.cpu if "Cpu" in x else ()) for x in OPERATIONS])
    def test_it_has_no_second_derivative_indeed(self, name: str, proposals: Tensor) -> None:
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
    def test_operations_of_other_devices_are_known_by_name(
        self, name: str, remedy: str, proposals: Tensor, raises: Callable[..., Any]
    ) -> None:
        """No such device is here: an operation of our own, of the same name, stands in."""
        operation: Any = type(name, (Twice,), {})
        with raises(RuntimeError, LACKS.format(name, remedy)):
            check_graph(operation.apply(proposals).sum(), proposals)

    def test_a_function_that_is_differentiable_once_is_named(
        self, proposals: Tensor, raises: Callable[..., Any]
    ) -> None:
        apply: Any = Once.apply
        (gradient,) = torch.autograd.grad(apply(proposals).sum(), proposals, create_graph=True)
        assert not gradient.requires_grad  # nothing would have been said
        with raises(RuntimeError, LACKS.format("Once", REPLACE)):
            check_graph(apply(proposals).sum(), proposals)

    @pytest.mark.cpu
    def test_other_operations_pass(self, proposals: Tensor) -> None:
        apply: Any = Twice.apply
        layers = nn.Sequential(nn.Linear(D, D), nn.LayerNorm(D), nn.GELU()).double()
        hidden, _ = nn.LSTM(D, D).double()(layers(proposals))
        hidden = checkpoint(layers, hidden, use_reentrant=False)
        check_graph(apply(hidden).sum(), proposals)

    def test_what_lies_beside_the_way_does_not_matter(self, proposals: Tensor) -> None:
        """A question encoder, the backbone behind the proposals, and another output of the same operation."""
        question = torch.randn(B, K, D, dtype=torch.float64, requires_grad=True)
        features, others = torch.cat([fused(proposals)] * 2, -1).chunk(2, -1)
        score = (features.tanh() * fused(question) * F.hardsigmoid(others)).sum((1, 2))
        check_graph(score, features)
        proposal_importance(score, features).square().sum().backward()
        with pytest.raises(RuntimeError, match=r"\AHardsigmoid lies"):
            check_graph(score, others)

    def test_the_proposals_themselves_as_score(self, proposals: Tensor) -> None:
        check_graph(proposals, proposals)

    def test_each_node_is_seen_at_most_twice_in_deep_and_wide_graphs(
        self, proposals: Tensor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen, walk = [], kernels._walk

        def counted(*args: Any) -> Iterator[Any]:
            for item in walk(*args):
                seen.append(item[0])
                yield item

        monkeypatch.setattr(kernels, "_walk", counted)
        beside = torch.randn(3, dtype=torch.float64, requires_grad=True)
        for _ in range(2000):  # 2,000 candidates, and 2 ** 2000 paths
            beside = F.hardsigmoid(beside + beside)
        check_graph(proposals.sum() + beside.sum(), proposals)
        assert 4000 < len(seen) < 2 * 4010


@pytest.mark.cpu
@pytest.mark.filterwarnings("ignore")  # of FSDP2, about views
@pytest.mark.parametrize("track", [False, True])
def test_weights_that_fsdp_frees(track: bool) -> None:
    """Inner layers that are sharded lose their weights after the importance, unless they are told to keep them."""

    def loss(model: nn.Module) -> Tensor:
        features = torch.ones(2, 3, D)
        x = track_proposals(features) if track else features.requires_grad_()
        return proposal_importance(model(x).square().sum((1, 2)), x).square().sum()

    dist.init_process_group("gloo", store=torch._C._distributed_c10d.HashStore(), rank=0, world_size=1)
    try:
        model = nn.Sequential(nn.Linear(D, D), nn.Tanh(), nn.Linear(D, 2))
        expected = torch.autograd.grad(loss(model), list(model.parameters())[:3])
        for layer in (model[0], model[2], model):
            fully_shard(layer, mesh=init_device_mesh("cpu", (1,)))
        with pytest.raises(
            RuntimeError, match=r"FSDP2 frees .* or call the root's `set_reshard_after_backward\(False\)`"
        ):
            loss(model)
        sharded: Any = list(model.parameters())  # the optimiser's; afterwards, the model has whole ones
        root: Any = model
        root.set_reshard_after_backward(False)
        loss(root).backward()
        for parameter, gradient in zip(sharded, expected, strict=False):
            torch.testing.assert_close(parameter.grad.full_tensor(), gradient)
    finally:
        dist.destroy_process_group()
