"""Load batches ahead of time in other processes."""

from collections.abc import Sequence
from typing import TypeVar

from torch.utils.data import DataLoader, Dataset

Batch = TypeVar("Batch", covariant=True)

BATCHES_AHEAD = 2
"""Batches per worker: one is being made while one waits. 512 questions with 36 proposals each take 150 MB."""


def load_ahead(batches: Dataset[Batch], order: Sequence[int], *, workers: int, pin_memory: bool) -> DataLoader[Batch]:
    """Load batches in a given order.

    Args:
        batches: Makes a batch from its number.
        order: Numbers of the batches.
        workers: Number of processes; with 0, this process makes each batch when it is needed.
        pin_memory: Put batches into memory from which a GPU copies faster.
    """
    return DataLoader(
        batches,
        batch_size=None,
        sampler=order,
        num_workers=workers,
        prefetch_factor=BATCHES_AHEAD if workers else None,
        pin_memory=pin_memory,
    )
