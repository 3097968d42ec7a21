"""Batches made ahead of time by other processes, and never many of them."""

from collections.abc import Sequence
from typing import TypeVar

from torch.utils.data import DataLoader, Dataset

Batch = TypeVar("Batch", covariant=True)

BATCHES_AHEAD = 2
"""Of each worker: one is being made while one waits. A batch of 512 questions about 36 proposals holds 150 MB."""


def load_ahead(batches: Dataset[Batch], order: Sequence[int], *, workers: int, pin_memory: bool) -> DataLoader[Batch]:
    """Batches in a given order.

    Args:
        batches: Makes a batch from its number.
        order: The numbers.
        workers: Processes that make them; with none, each is made when asked for.
        pin_memory: Put them where a GPU can fetch them from.
    """
    return DataLoader(
        batches,
        batch_size=None,
        sampler=order,
        num_workers=workers,
        prefetch_factor=BATCHES_AHEAD if workers else None,
        pin_memory=pin_memory,
    )
