"""`double_backward_kernels` selects kernels with a second derivative, and changes nothing else."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.backends import cudnn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils.rnn import pack_padded_sequence
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint

from hint_loss import proposal_importance
from hint_loss.second_order.kernels import check_graph, double_backward_kernels

B, K, D = 2, 5, 8


@pytest.fixture
def proposals() -> Tensor:
    return torch.randn(B, K, D, dtype=torch.float64, requires_grad=True)


def fused(x: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(x[:, None], x[:, None], x[:, None])[:, 0]


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
    """Records the flags of cuDNN during every call of PyTorch, by the name of the function."""

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
        torch.testing.assert_close(gradients, second_order(expected, proposals, model), rtol=1e-12, atol=1e-14)

    @pytest.mark.cpu
    def test_the_second_derivative_is_missing_without_the_context(self, model: nn.Module, proposals: Tensor) -> None:
        with pytest.raises(RuntimeError, match=r"no second derivative|not implemented"):
            second_order(model(proposals).tanh(), proposals, model)

    @pytest.mark.cpu
    def test_it_overrides_and_restores_the_callers_choice(self, proposals: Tensor) -> None:
        x = proposals[:, None]
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            with double_backward_kernels():
                inside = F.scaled_dot_product_attention(x, x, x)
            outside = F.scaled_dot_product_attention(x, x, x)
        check_graph(inside, proposals)
        with pytest.raises(RuntimeError):
            check_graph(outside, proposals)


class TestRecurrent:
    """cuDNN is off only while the layer is called. (On a GPU, `benchmarks/on_gpu.sh` trains through such layers.)"""

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
    def test_cudnn_is_off_during_the_call_only(
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
    def test_an_error_restores_the_flags(self) -> None:
        before = flags()
        x, weights = torch.randn(B, 1, K, D), [torch.randn(1)] * 4
        with pytest.raises(RuntimeError), double_backward_kernels():
            F.scaled_dot_product_attention(x, x[..., :3], x)
        assert flags() == before
        with pytest.raises(RuntimeError), double_backward_kernels():
            torch.gru(x[0], x[0, 0], weights, True, 1, 0.0, False, False, False)
        assert flags() == before

    @pytest.mark.cpu
    def test_one_instance_can_be_entered_again_and_nested(self, proposals: Tensor) -> None:
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
    def test_checkpoints_need_it_when_they_repeat_the_forward_pass(self, proposals: Tensor) -> None:
        model = nn.TransformerEncoderLayer(D, 2, 16, batch_first=True, dtype=torch.float64).eval()
        context = double_backward_kernels()

        def gradients(**options: Any) -> list[Tensor]:
            with context:
                score = checkpoint(model, proposals, use_reentrant=False, **options) if options else model(proposals)
            return second_order(score.tanh(), proposals, model)

        repeated = gradients(context_fn=lambda: (context, context))
        torch.testing.assert_close(repeated, gradients(), rtol=1e-12, atol=1e-14)
        with pytest.raises(RuntimeError, match="A checkpointed part was computed again with other kernels"):
            gradients(preserve_rng_state=True)

    def test_threads_restore_the_flags(self) -> None:
        """The flags belong to the process: a thread must not restore what another one has set."""
        lstm, q = nn.LSTM(D, D), torch.randn(2, 2, K, D)

        def work() -> None:
            with double_backward_kernels():
                for _ in range(60):
                    lstm(torch.randn(K, B, D))
                    F.scaled_dot_product_attention(q, q, q)

        before = flags()
        with ThreadPoolExecutor(4) as pool:
            for done in [pool.submit(work) for _ in range(4)]:
                done.result()
        assert flags() == before

    @pytest.mark.filterwarnings("ignore")  # warnings of the compiler
    @pytest.mark.parametrize("inside", [True, False])
    def test_it_compiles_without_a_graph_break(self, proposals: Tensor, inside: bool) -> None:
        """Attention and a GRU are in one graph, and the context is inside of the compiled function or around it."""
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
        gradients = list(torch.autograd.grad(value, list(gru.parameters())))
        torch.testing.assert_close(gradients, expected, rtol=1e-10, atol=1e-12)

    @pytest.mark.filterwarnings("ignore")  # warnings of the compiler
    def test_a_compiled_graph_turns_cudnn_off_when_it_runs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A flag that was off only while the graph was traced would be on again when it runs."""
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
