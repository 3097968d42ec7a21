"""How a run takes the importance of proposals: signed as in the paper, or unsigned, exactly or nearly."""

from pathlib import Path
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from hint_loss import track_proposals
from updn_common.runs.directory import read_config

Importance = Literal["sum", "norm"]
"""The gradient's sum over features, or its norm, in which nothing cancels."""


def follow(features: Float[Tensor, "B K D"], importance: Importance, probes: int) -> Float[Tensor, "B K D"]:
    """Proposals for a training step.

    The norm is estimated along ``probes`` random directions, which PyTorch's global generator draws: trainers seed it
    in each step, so that directions are a function of (seed, step, rank). With 0 it is exact, by plain double backward.
    """
    if importance == "norm" and probes == 0:
        return features.detach().requires_grad_()
    return track_proposals(features, reduction=importance, probes=max(probes, 1))


def trained_importance(run: Path) -> Importance:
    """The importance that a run was trained with, by which it is measured; the paper's where it knew no other."""
    importance: Importance = read_config(run)["method"].get("importance", "sum")
    return importance
