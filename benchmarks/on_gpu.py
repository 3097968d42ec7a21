"""Measurements that need a GPU, in one command of at most eight minutes: see ``on_gpu.sh``.

These are step times over plain ones, kernels with and without a second derivative, and the library's tests on the GPU.
Each case is written as soon as it has finished. A case that fails is recorded with its error, and the rest continues.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from _measure import RESULTS, cuda_clock, interleaved_times, machine, peak_memory_cuda
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from hint_loss import (
    HintRankingLoss,
    double_backward_kernels,
    hint_ranking_loss,
    importance_and_output,
    proposal_importance,
    track_proposals,
)

BACKENDS = (
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.MATH,
)
ROOT = Path(__file__).parents[1]
Case = tuple[dict[str, Any], Callable[[], dict[str, Any] | list[dict[str, Any]]]]
"""Description of a measurement, and the function that does it."""


class Bench:
    """Device, sizes and timing of all cases."""

    def __init__(self, device: str, *, small: bool, seconds: float) -> None:
        self.device, self.small, self.seconds = device, small, seconds
        self.clock = cuda_clock if device == "cuda" else None

    def times(self, closures: dict[str, Callable[[], object]]) -> dict[str, dict[str, float]]:
        """Quartiles in milliseconds and, on a GPU, peak memory in MiB; with few rounds if small."""
        rounds = 5 if self.small else 30
        found = interleaved_times(closures, seconds=self.seconds, max_rounds=rounds, clock=self.clock)
        if self.device == "cuda":
            found = {name: {**row, "peak_mib": peak_memory_cuda(closures[name])} for name, row in found.items()}
        return found

    def over_plain(self, closures: dict[str, Callable[[], object]]) -> list[dict[str, Any]]:
        """Rows with ratios to the program ``plain``."""
        found = self.times(closures)
        plain = found["plain"]["median_ms"]
        return [{"program": name, "over_plain": row["median_ms"] / plain, **row} for name, row in found.items()]


def steps(bench: Bench) -> Iterator[Case]:
    """Training steps of the four networks, in float32 and under bfloat16 autocast."""
    for precision in ("float32", "bfloat16"):
        yield {"model": "captioner", "precision": precision}, partial(_captioner, bench, precision)
        for name, batch in (("updn", 256), ("updn", 2048), ("transformer", 64), ("lxmert", 64)):
            case = {"model": name, "B": batch, "precision": precision}
            yield case, partial(_network, bench, name, precision, 4 if bench.small else batch)


def _network(bench: Bench, name: str, precision: str, batch: int) -> list[dict[str, Any]]:
    import steps as building  # imports the networks too

    model = building.build(name, bench.device, **({"hidden": 48} if bench.small else {}))
    data = building.Batch.random(batch, bench.device)
    programs = {title: program for title, program in building.PROGRAMS.items() if program.share == 1}
    closures: dict[str, Callable[[], object]] = {
        title: _cast(precision, bench.device, building.step(name, model, data, program))
        for title, program in programs.items()
    }
    return bench.over_plain(closures)


def _captioner(bench: Bench, precision: str) -> list[dict[str, Any]]:
    import captioning_step as building  # needs the packages of the examples

    from updn_captioning.networks.updn import NetworkSizes

    sizes = NetworkSizes(embedding=8, hidden=16, attention=8) if bench.small else None
    model = building.build(bench.device, sizes)
    batch = building.random_batch(2 if bench.small else building.B, bench.device)
    programs = {title: p for title, p in building.PROGRAMS.items() if not (p.all_words or p.whole_score)}
    closures: dict[str, Callable[[], object]] = {
        title: _cast(precision, bench.device, building.step(model, batch, program))
        for title, program in programs.items()
    }
    return bench.over_plain(closures)


def _cast(precision: str, device: str, closure: Callable[[], None]) -> Callable[[], None]:
    def cast() -> None:
        with torch.autocast(device, torch.bfloat16) if precision == "bfloat16" else nullcontext():
            closure()

    return cast


def losses(bench: Bench) -> Iterator[Case]:
    """The ranking loss: the paper's form, with a gap, the recommended form, and dense pairs with a gap."""
    for batch, k in ((2, 30), (2, 200)) if bench.small else ((64, 36), (64, 576), (8, 4096)):
        yield {"B": batch, "K": k}, partial(_losses, bench, batch, k)


def _losses(bench: Bench, batch: int, k: int) -> list[dict[str, Any]]:
    from ranking_loss import dense_loss, step

    forms: dict[str, Callable[..., Tensor]] = {
        "paper": hint_ranking_loss,
        "gap": partial(hint_ranking_loss, margin=0.2, min_gap=0.5),
        "recommended": HintRankingLoss.recommended(),
        "dense, gap": partial(dense_loss, margin=0.2, min_gap=0.5),
    }
    found = bench.times({name: step(form, batch, k, {}, bench.device) for name, form in forms.items()})
    return [{"form": name, **row} for name, row in found.items()]


def kernels(bench: Bench) -> Iterator[Case]:
    """Recurrent layers and every backend of attention, with and without ``double_backward_kernels``."""
    parts: dict[str, Callable[[Tensor], Tensor]] = {
        "GRU": partial(_recurrent, bench, nn.GRU),
        "LSTM": partial(_recurrent, bench, nn.LSTM),
        **{backend.name: partial(_attention, backend) for backend in BACKENDS},
    }
    for selected, (kernel, part) in itertools.product((False, True), parts.items()):
        yield {"kernel": kernel, "double_backward_kernels": selected}, partial(_second_order, bench, part, selected)


def _recurrent(bench: Bench, layer: type[nn.Module], x: Tensor) -> Tensor:
    torch.manual_seed(0)
    made = layer(x.shape[-1], 64, batch_first=True).to(bench.device, x.dtype)
    output: Tensor = made(x)[0]
    return output


def _attention(backend: SDPBackend, x: Tensor) -> Tensor:
    heads = x.view(*x.shape[:-1], 4, -1).transpose(1, 2)
    with sdpa_kernel(backend):
        return F.scaled_dot_product_attention(heads, heads, heads)


def _second_order(bench: Bench, part: Callable[[Tensor], Tensor], selected: bool) -> dict[str, Any]:
    """Whether importance through a kernel can be computed and trained, with its time or the error."""
    weight = torch.randn(64, 64, device=bench.device, dtype=torch.float16 if bench.device == "cuda" else torch.float32)
    weight = (weight / 8).requires_grad_()
    features = torch.rand(8, 36, 64, device=bench.device, dtype=weight.dtype)

    def closure() -> None:
        proposals = track_proposals(features)
        with double_backward_kernels() if selected else nullcontext():
            score = part(proposals @ weight).float().flatten(1).tanh().sum(1)
        alpha = proposal_importance(score, proposals)
        torch.autograd.backward(alpha.square().sum())

    try:
        closure()
    except RuntimeError as error:
        return {"works": False, "remedy": "double_backward_kernels" in str(error), "error": str(error)[:300]}
    return {"works": True, **bench.times({"step": closure})["step"]}


def compiled(bench: Bench) -> Iterator[Case]:
    """Recurrent layers in one compiled graph with importance and loss, without cuDNN."""
    for layer in (nn.GRU, nn.LSTM):
        yield {"layer": layer.__name__}, partial(_compiled, bench, layer)


def _compiled(bench: Bench, layer: type[nn.Module]) -> dict[str, Any]:
    """Time of a step, and relative error of its gradients against those without the compiler."""
    features = torch.rand(8, 36, 64, device=bench.device)
    made = layer(64, 64, batch_first=True).to(bench.device)

    def forward(x: Tensor) -> tuple[Tensor, tuple[()]]:
        with double_backward_kernels():
            return made(x)[0].flatten(1).tanh().sum(1), ()

    def loss(x: Tensor) -> Tensor:
        return importance_and_output(forward, x)[0].square().sum()

    def gradients(function: Callable[[Tensor], Tensor]) -> Tensor:
        found = torch.autograd.grad(function(features), list(made.parameters()))
        return torch.cat([gradient.flatten() for gradient in found])

    with torch._dynamo.config.patch(allow_rnn=True):
        function = torch.compile(loss, fullgraph=True, backend="eager" if bench.small else "inductor")
        found, expected = gradients(function), gradients(loss)
        error = ((found - expected).norm() / expected.norm()).item()
        return {"relative_error": error, **bench.times({"step": lambda: gradients(function)})["step"]}


def tests(bench: Bench) -> Iterator[Case]:
    """The library's tests, with the device as PyTorch's default."""
    yield {"tests": "tracking" if bench.small else "all"}, partial(_tests, bench)


def _tests(bench: Bench) -> dict[str, Any]:
    if not importlib.util.find_spec("pytest") or not importlib.util.find_spec("hypothesis"):
        return {"left out": "pytest or hypothesis is not installed"}
    chosen = ["tests/test_hooks.py"] if bench.small else ["tests"]
    # Tests that start processes, or compare with libraries that run on the CPU only, are left out.
    left_out = [f"--ignore=tests/{name}" for name in ("test_package.py", "test_on_gpu.py", "test_readme.py")]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *chosen, *left_out]
    environment = os.environ | {"HINT_LOSS_TEST_DEVICE": bench.device, "CI": "1"}
    limit = 1500 if bench.small else 150  # seconds; a small run may share its machine
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=limit, check=False
        )
    except subprocess.TimeoutExpired as error:
        return {"timed_out": True, "output": str(error.stdout)[-2000:]}
    lines = done.stdout.splitlines()
    return {"summary": lines[-1] if lines else "", "failed": [x for x in lines if re.match("(FAILED|ERROR) ", x)][:200]}


PARTS: dict[str, Callable[[Bench], Iterator[Case]]] = {
    "kernels": kernels,
    "compiled": compiled,
    "losses": losses,
    "steps": steps,
    "tests": tests,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "parts", nargs="*", choices=[*PARTS, []], help="only these parts; results of other parts in --out are kept"
    )
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--small", action="store_true", help="tiny sizes, to check that everything runs")
    parser.add_argument("--out", type=Path, default=RESULTS / "on_gpu.json", help="default: %(default)s")
    parser.add_argument("--minutes", type=float, default=8.0, help="start no case later; default: %(default)s")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    bench = Bench(arguments.device, small=arguments.small, seconds=0.2 if arguments.small else 6.0)
    end = time.perf_counter() + 60 * arguments.minutes - (0 if arguments.small else 160)  # reserved for the tests
    kept = json.loads(arguments.out.read_text()) if arguments.parts and arguments.out.exists() else {}
    results: dict[str, Any] = kept | {"machine": machine(arguments.device), "small": arguments.small}
    for part in arguments.parts or PARTS:
        rows, cases = [], PARTS[part]
        results[part] = rows
        for case, function in cases(bench):
            began = time.perf_counter()
            if began > end and part != "tests":
                found: Any = {"left out": "no time was left"}
            else:
                try:
                    found = function()
                except Exception as error:  # of any kind, so that the other cases run
                    found = {"error": f"{type(error).__name__}: {str(error)[:300]}"}
            rows += [case | row for row in (found if isinstance(found, list) else [found])]
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            arguments.out.write_text(json.dumps(results, indent=2) + "\n")
            print(f"{part} {case}: {time.perf_counter() - began:.1f} s", flush=True)


if __name__ == "__main__":
    main()
