"""Cost of a training step with the HINT loss, by tracked proposals or plain double backward, over a step without it."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from _measure import interleaved_times, peak_memory, peak_memory_cuda, rows_over_plain, run
from models import MODELS, D, K, UpDn
from rich.console import Console
from rich.progress import track
from steps import (
    FUSED,
    KERNELS,
    ONCE,
    PROGRAMS,
    Batch,
    Program,
    build,
    flat_gradient,
    forward,
    leaf,
    relative_error,
    step,
    update,
)
from torch import Tensor, nn

from hint_loss import double_backward_kernels, hint_ranking_loss, importance_and_output, track_proposals

BATCHES = {"updn": (64, 256), "concat": (64, 256), "transformer": (64,), "lxmert": (64,)}


def functional_step(name: str, model: nn.Module, data: Batch, hint: bool, compiled: bool) -> Callable[[], None]:
    """A step of the functional form: forward pass, importance and losses as one function, for the compiler."""

    def loss(data: Batch) -> Tensor:
        def score(proposals: Tensor) -> tuple[Tensor, Tensor]:
            logits = model(proposals, data.words)
            return logits.gather(1, data.answers).squeeze(1), logits

        if not hint:
            return F.binary_cross_entropy_with_logits(score(data.proposals)[1], data.targets)
        with double_backward_kernels() if name in FUSED else nullcontext():
            alpha, logits = importance_and_output(score, data.proposals)
        return F.binary_cross_entropy_with_logits(logits, data.targets) + hint_ranking_loss(alpha, data.s)

    optimiser = torch.optim.SGD(model.parameters(), lr=1e-3)
    function = torch.compile(loss, fullgraph=True) if compiled else loss
    return lambda: update(function(data), optimiser)


def small_then(name: str, batch: int, program: Program) -> Callable[[], None]:
    """Prepare a step after taking a tiny one, so that the one-time costs of a process are not measured."""
    model = build(name, "cpu")
    step(name, model, Batch.random(8, "cpu"), program)()
    return step(name, model, Batch.random(batch, "cpu"), program)


def hint_gradient(name: str, model: nn.Module, data: Batch, program: Program, share: int) -> Tensor:
    """Gradient of a fixed random combination of the importances of one in ``share`` samples."""
    alpha = forward(name, model, data, program)[1]
    assert alpha is not None
    some = len(data.s) // share
    return flat_gradient((alpha[:some] * (data.s[:some] - 0.5)).sum(), model)


def errors(name: str, model: nn.Module, data: Batch, programs: dict[str, Program]) -> dict[str, float]:
    """Relative error of each program in that gradient, against double backward in float64."""
    exact = build(name, data.words.device.type).double()
    exact.load_state_dict(model.state_dict())
    wide = Batch(*(x.double() if x.is_floating_point() else x for x in data))
    kinds = {(program.share, program.reduction) for program in programs.values()}
    references = {
        (share, reduction): hint_gradient(name, exact, wide, Program(track=leaf, reduction=reduction), share)
        for share, reduction in kinds
    }
    return {
        title: relative_error(
            hint_gradient(name, model, data, program, program.share), references[program.share, program.reduction]
        )
        for title, program in programs.items()
        if program.track and program.exact
    }


def rows_of(name: str, batch: int, device: str, seconds: float) -> list[dict[str, Any]]:
    model, data = build(name, device), Batch.random(batch, device)
    programs = dict(PROGRAMS)
    if isinstance(model, UpDn):
        programs[ONCE] = Program(track=track_proposals, share=8, once=True)
    if name in FUSED or device == "cuda":  # the cost of these kernels alone, without HINT
        programs[f"plain, {KERNELS}"] = Program(kernels=True)
    if name not in FUSED and device == "cuda":
        programs[f"tracked, {KERNELS}"] = Program(track=track_proposals, kernels=True)
    error = errors(name, model, data, programs)
    closures = {title: step(name, model, data, program) for title, program in programs.items()}
    times = interleaved_times(closures, seconds=seconds)
    if device == "cuda":
        peaks = {title: peak_memory_cuda(closure) for title, closure in closures.items()}
    else:
        peaks = {title: peak_memory(small_then, name, batch, program) for title, program in programs.items()}
    return [{"model": name, "B": batch, **row} for row in rows_over_plain(times, peaks=peaks, errors=error)]


def compiled_rows(name: str, batch: int, device: str, seconds: float) -> list[dict[str, Any]]:
    torch._dynamo.config.allow_rnn = True  # the GRU
    model, data = build(name, device), Batch.random(batch, device)
    closures = {
        f"{loss}, {mode}": functional_step(name, model, data, loss == "functional", mode == "compiled")
        for loss in ("plain", "functional")
        for mode in ("eager", "compiled")
    }
    closures["tracked, eager"] = step(name, model, data, PROGRAMS["tracked"])
    times = interleaved_times(closures, seconds=seconds)
    return [{"model": name, "B": batch, **row} for row in rows_over_plain(times, plain="plain, eager")]


def benchmark(
    models: Sequence[str], batch: Sequence[int], device: str, seconds: float, compiled: bool
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    sizes = [(name, size) for name in models for size in batch or BATCHES[name][: 1 if compiled else None]]
    for name, size in track(sizes, "training_step", console=Console(stderr=True)):
        if name == "lxmert" and not importlib.util.find_spec("transformers"):
            rows.append({"model": name, "program": "left out: transformers is not installed"})
        else:
            rows += (compiled_rows if compiled else rows_of)(name, size, device, seconds)
    return rows


if __name__ == "__main__":
    run(
        "training_step_compiled" if "--compiled" in sys.argv else "training_step",
        f"training step with the HINT loss over the step without, {K} proposals of {D} features, float32",
        benchmark,
        models={"nargs": "+", "choices": list(MODELS), "default": list(MODELS)},
        batch={"nargs": "+", "type": int, "default": (), "help": "default: 64, and 256 for UpDn and Concat"},
        device={"choices": ["cpu", "cuda"], "default": "cpu"},
        seconds={"type": float, "default": 120.0, "help": "for each model and batch size, default: %(default)s"},
        compiled={"action": "store_true", "help": "the functional form instead, eager and under torch.compile"},
    )
