"""What is done to every item of a data set, shared among processes."""

from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from jaxtyping import Int64
from torch import Tensor

from updn_common.progress import track

T = TypeVar("T")


def over_processes(
    of_batch: Callable[[Int64[Tensor, " B"]], Iterable[T]],
    total: int,
    accelerator: Accelerator,
    batch_size: int,
    description: str = "",
) -> list[T]:
    """What a function says of each item, in the order of the items, in every process.

    Args:
        of_batch: Takes positions of items, and gives a result for each. Results may be sent to other processes.
        total: Number of items.
        accelerator: Tells the process and how many there are; each takes its share.
        batch_size: Positions in a call.
        description: For a bar that counts batches; none by default.
    """
    mine = torch.arange(total)[accelerator.process_index :: accelerator.num_processes]
    batches: Iterable[Tensor] = [mine[start : start + batch_size] for start in range(0, len(mine), batch_size)]
    if description and accelerator.is_main_process:
        batches = track(batches, description)
    found = [(i, result) for at in batches for i, result in zip(at.tolist(), of_batch(at), strict=True)]
    if accelerator.num_processes > 1:
        found = sorted(gather_object(found), key=lambda pair: pair[0])
    return [result for _, result in found]
