"""Batches made ahead: all of them, in order, and never more than two for each worker."""

import multiprocessing
import time
from typing import Any

import pytest
import torch
from torch.utils.data import Dataset

from updn_common.data.loading import BATCHES_AHEAD, load_ahead


class Counted(Dataset[torch.Tensor]):
    """Batches that count how many of them have been made."""

    def __init__(self) -> None:
        self.made: Any = multiprocessing.Value("i", 0)

    def __getitem__(self, step: int) -> torch.Tensor:
        with self.made.get_lock():
            self.made.value += 1
        return torch.full((3,), step)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_batches_are_made_ahead_but_not_many(workers: int) -> None:
    """Even if the consumer is so slow that workers had time for more."""
    steps, batches = range(5, 25), Counted()
    assert BATCHES_AHEAD == 2
    for taken, batch in enumerate(load_ahead(batches, steps, workers=workers, pin_memory=False), start=1):
        assert batch.tolist() == [steps[taken - 1]] * 3
        expected = min(taken + 2 * workers, len(steps))
        end = time.monotonic() + 20
        while batches.made.value < expected and time.monotonic() < end:
            time.sleep(0.001)
        if taken < 5:
            time.sleep(0.05)  # for one too many
        assert batches.made.value == expected
    assert taken == len(steps)
