"""Hints for control runs: the same amount as human hints, but random, permuted or inverted."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from updn_common.data.stream import generator
from updn_common.errors import InputError

Hints = Literal["human", "random", "random-per-epoch", "permuted", "irrelevant"]


def control_hints(hints: Float[Tensor, "M K"], kind: Hints, *, seed: int, epoch: int) -> Float[Tensor, "M K"]:
    """The hints that samples get in an epoch: human hints, or those of a control.

    Args:
        hints: Human importance of the proposals of each hinted sample, padded with NaN.
        kind: ``human`` hints are unchanged. ``irrelevant`` hints are inverted, ``1 - s``, which keeps their
            information. ``permuted`` gives each sample the hints of another one, which may be about the same image or
            category. ``random`` hints are uniform; ``random-per-epoch`` draws new ones in every epoch.
        seed: Seed of the run.
        epoch: Number of the epoch, on which only ``random-per-epoch`` depends.

    Raises:
        InputError: Only one sample has hints, so they cannot be permuted.
    """
    if kind == "human":
        return hints
    if kind == "irrelevant":
        return 1 - hints
    if kind == "permuted":  # a cycle through a random order: no sample keeps its own
        if len(hints) < 2:
            raise InputError(f"Permuted hints need two samples with hints, found {len(hints)}: use more of them.")
        order = torch.randperm(len(hints), generator=generator(seed, 0))
        permuted = torch.empty_like(hints)
        permuted[order] = hints[order.roll(1)]
        return permuted
    draw = generator(seed, epoch + 1 if kind == "random-per-epoch" else 0)
    return torch.rand(hints.shape, generator=draw).where(~hints.isnan(), torch.nan)
