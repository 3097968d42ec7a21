"""Hints for the controls: as many numbers as people gave, without (or with inverted) information."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from updn_common.data.stream import generator
from updn_common.errors import InputError

Hints = Literal["human", "random", "random-per-epoch", "permuted", "irrelevant"]


def control_hints(hints: Float[Tensor, "M K"], kind: Hints, *, seed: int, epoch: int) -> Float[Tensor, "M K"]:
    """The hints that samples get in an epoch: the human ones, or those of a control.

    Args:
        hints: human importance of each hinted sample's proposals, NaN beyond the last.
        kind: ``human`` as they are; ``irrelevant`` turned round, ``1 - s`` (an invertible function of s: it is not
            free of information); ``permuted``, each sample gets another's, which is dealt blindly: it may be of the
            same image or category; ``random``, uniform; ``random-per-epoch``, drawn anew in every epoch.
        seed: seed of the run.
        epoch: how often the hints were gone through; only ``random-per-epoch`` depends on it.

    Raises:
        InputError: there is no other sample whose hints could be had.
    """
    if kind == "human":
        return hints
    if kind == "irrelevant":
        return 1 - hints
    if kind == "permuted":  # a cycle through a random order: nobody keeps their own
        if len(hints) < 2:
            raise InputError(f"Permuted hints need two samples with hints, found {len(hints)}: use more of them.")
        order = torch.randperm(len(hints), generator=generator(seed, 0))
        permuted = torch.empty_like(hints)
        permuted[order] = hints[order.roll(1)]
        return permuted
    draw = generator(seed, epoch + 1 if kind == "random-per-epoch" else 0)
    return torch.rand(hints.shape, generator=draw).where(~hints.isnan(), torch.nan)
