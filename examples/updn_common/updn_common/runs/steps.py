"""The samples and hints of each training step: shares of processes, and hints by epoch."""

from dataclasses import dataclass, field

import torch
from accelerate import Accelerator
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from updn_common.data.control_hints import Hints, control_hints
from updn_common.data.stream import generator
from updn_common.errors import InputError


@dataclass(frozen=True)
class Share:
    """The share of every step that one of several processes trains on, in micro-batches.

    Attributes:
        rank: Number of the process.
        ranks: Number of processes.
        micro_batches: Number of parts that each share is cut into.
    """

    rank: int
    ranks: int
    micro_batches: int

    @classmethod
    def of(cls, accelerator: Accelerator, micro_batches: int, **batch_sizes: int) -> "Share":
        """The share of this process.

        Args:
            accelerator: Knows the processes.
            micro_batches: Number of parts.
            batch_sizes: Sizes of the batches to cut, by the names of their flags with `_` for `-`.

        Raises:
            InputError: A batch cannot be cut evenly.
        """
        parts = accelerator.num_processes * micro_batches
        for name, size in batch_sizes.items():
            if size % parts:
                raise InputError(
                    f"--{name.replace('_', '-')} {size} cannot be cut evenly into {accelerator.num_processes} "
                    f"process(es) x {micro_batches} micro-batch(es): choose a multiple of {parts}."
                )
        return cls(accelerator.process_index, accelerator.num_processes, micro_batches)

    def cut(self, samples: Shaped[Tensor, " N *D"]) -> list[Shaped[Tensor, " B *D"]]:
        """Cut what belongs to a step's samples, such as their indices, into this process's micro-batches."""
        return list(samples[self.rank :: self.ranks].chunk(self.micro_batches))


@dataclass
class EpochHints:
    """The hints of each epoch, those of a control included.

    Attributes:
        human: Human importance in all hints, NaN beyond the last proposal.
        chosen: Rows of the hints to use.
        kind: Human hints or a control.
        seed: Seed of the run.
    """

    human: Float[Tensor, "M K"]
    chosen: Int[Tensor, " C"]
    kind: Hints
    seed: int
    _drawn: dict[int, Float[Tensor, "M K"]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.of(0)  # raises an InputError now, not in a step, if there are too few hints

    def of(self, epoch: int) -> Float[Tensor, "M K"]:
        """All hints of an epoch, NaN in rows that are not used."""
        key = epoch if self.kind == "random-per-epoch" else 0  # all other kinds are the same in every epoch
        if key not in self._drawn:
            drawn = torch.full_like(self.human, torch.nan)
            drawn[self.chosen] = control_hints(self.human[self.chosen], self.kind, seed=self.seed, epoch=key)
            self._drawn = {key: drawn}
        return self._drawn[key]


def draw_hinted(available: int, total: int, share: float, seed: int, *, samples: str, remedy: str) -> Int[Tensor, " C"]:
    """Choose the samples whose hints are used; a smaller share is a subset of a larger one.

    Args:
        available: Number of samples with hints.
        total: Number of all samples.
        share: Share of all samples.
        seed: Seed of the run.
        samples: Plural of what a sample is, for error messages.
        remedy: Option that prepares hints, for error messages.

    Returns:
        Positions among the samples with hints.

    Raises:
        InputError: There are no hints, or the share is less than one sample.
    """
    wanted = round(share * total)
    if available == 0:
        raise InputError(f"None of the {total} train {samples} has a hint: prepare the data with {remedy}.")
    if wanted == 0:
        raise InputError(f"--hint-share {share:g} of {total} train {samples} is none: choose a larger share.")
    return torch.randperm(available, generator=generator(seed, 3))[:wanted]
