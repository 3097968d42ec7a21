"""The samples of each training step, as a function of the seed and the step alone: a run can resume at any step.

There is no state to save. Dropout follows the same rule: the trainer seeds each step with :func:`fold`.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor


def fold(*numbers: int) -> int:
    """One seed from several numbers, such as a run's seed, a step and a rank."""
    # Their number is included because SeedSequence ignores trailing zeros.
    return int(np.random.SeedSequence((len(numbers), *numbers)).generate_state(1, np.uint64)[0] >> np.uint64(1))


def generator(*numbers: int) -> torch.Generator:
    """A generator whose seed is :func:`fold` of the numbers."""
    return torch.Generator().manual_seed(fold(*numbers))


@dataclass
class Stream:
    """An endless stream of shuffled epochs over ``pool``, cut into batches of equal size."""

    pool: Int[Tensor, " N"]
    batch_size: int
    seed: int
    _shuffled: dict[int, Int[Tensor, " N"]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if len(self.pool) == 0 or self.batch_size < 1:
            raise ValueError(f"A stream needs samples. Found {len(self.pool)} and `batch_size = {self.batch_size}`.")

    def batch(self, step: int) -> Int[Tensor, " B"]:
        """Indices of the samples of a step."""
        position = torch.arange(step * self.batch_size, (step + 1) * self.batch_size)
        epochs, offsets = position // len(self.pool), position % len(self.pool)
        parts = [self._epoch(e)[offsets[epochs == e]] for e in range(int(epochs[0]), int(epochs[-1]) + 1)]
        return torch.cat(parts)

    def epoch(self, step: int) -> int:
        """The epoch in which a step begins."""
        return step * self.batch_size // len(self.pool)

    def _epoch(self, epoch: int) -> Int[Tensor, " N"]:
        if epoch not in self._shuffled:
            order = torch.randperm(len(self.pool), generator=generator(self.seed, epoch))
            # Only the latest epochs are kept, since training moves forward.
            self._shuffled = {k: v for k, v in self._shuffled.items() if k >= epoch - 1} | {epoch: self.pool[order]}
        return self._shuffled[epoch]
