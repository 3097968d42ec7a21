"""Forward and backward of hint_ranking_loss against the dense pairwise form of public implementations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from _measure import interleaved_times, peak_memory, run
from torch import Tensor

from hint_loss import hint_ranking_loss

SIZES = [(64, 36), (128, 36), (256, 36), (512, 36), (64, 100), (64, 576), (8, 4096), (1, 16384)]  # (B, K)
FORMS: dict[str, dict[str, float]] = {
    "paper": {},
    "margin": {"margin": 0.2},
    "min_gap": {"margin": 0.2, "min_gap": 0.5},
}


def dense_loss(alpha: Tensor, s: Tensor, *, margin: float = 0.0, min_gap: float = 0.0) -> Tensor:
    """The formula over a (B, K, K) tensor of pairs, with the fewest operations that autograd allows."""
    difference = alpha[:, None, :] - alpha[:, :, None]
    gap = s[:, :, None] - s[:, None, :]
    if margin:
        difference = difference + margin * gap
    return torch.where(gap > min_gap, difference.relu(), 0.0).sum((1, 2)).mean()


def step(
    loss: Callable[..., Tensor], batch: int, k: int, options: dict[str, float], device: str = "cpu"
) -> Callable[[], None]:
    """Forward and backward of a loss on random importances."""
    alpha, s = torch.randn(batch, k, device=device, requires_grad=True), torch.rand(batch, k, device=device)

    def closure() -> None:
        alpha.grad = None
        torch.autograd.backward(loss(alpha, s, **options))

    return closure


def small_then(loss: Callable[..., Tensor], batch: int, k: int, options: dict[str, float]) -> Callable[[], None]:
    """Prepare a step after taking a tiny one, so that the one-time costs of a process are not measured."""
    step(loss, 2, 3, options)()
    return step(loss, batch, k, options)


def benchmark() -> list[dict[str, Any]]:
    from rich.console import Console  # on_gpu.py imports the losses without it
    from rich.progress import track

    rows = []
    for batch, k in track(SIZES, "ranking_loss", console=Console(stderr=True)):
        for form, options in FORMS.items():
            losses = {"closed": hint_ranking_loss, "dense": dense_loss}
            if batch * k**2 >= 2**28:
                del losses["dense"]  # it holds several tensors of pairs, of 1 GiB or more each
            times = interleaved_times(
                {name: step(loss, batch, k, options) for name, loss in losses.items()}, seconds=1.0
            )
            memory = {name: peak_memory(small_then, loss, batch, k, options) for name, loss in losses.items()}
            rows.append({"form": form, "B": batch, "K": k, **_summary(times, memory)})
    return rows


def _summary(times: dict[str, dict[str, float]], memory: dict[str, float]) -> dict[str, float]:
    row: dict[str, float] = {}
    for name, quartiles in times.items():
        row |= {f"{name}_{key}": value for key, value in quartiles.items() if key != "rounds"}
        row[f"{name}_peak_mib"] = memory[name]
    if "dense" in times:
        row["speed_up"] = times["dense"]["median_ms"] / times["closed"]["median_ms"]
    return row | {"rounds": times["closed"]["rounds"]}


if __name__ == "__main__":
    run("ranking_loss", "hint_ranking_loss and dense pairs, float32, forward and backward", benchmark)
