"""The device of a command, and several processes that share the work."""

import os
from collections.abc import Callable, Iterable
from typing import Literal, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from jaxtyping import Int64
from torch import Tensor

from updn_common.errors import InputError
from updn_common.progress import track

T = TypeVar("T")


def make_accelerator(*, cpu: bool, precision: Literal["no", "bf16"] = "no") -> Accelerator:
    """Create the object that places tensors and knows the other processes of ``torchrun``.

    On a machine without an accelerator, several processes get ``cpu=True`` even if the user did not ask for it:
    otherwise accelerate would run each of them as the only one, and they would overwrite each other's files.

    Args:
        cpu: Compute on the CPU even where there is an accelerator.
        precision: Precision of the forward pass.

    Raises:
        InputError: ``accelerate launch`` was configured for something that these trainers do not support.
    """
    _check_launcher(precision)
    among_several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    no_choice = among_several and not torch.accelerator.is_available()
    return Accelerator(cpu=cpu or no_choice, mixed_precision=precision)


_PLUGINS = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism config",
}
_LAUNCH = "Start with `torchrun`, or `accelerate launch` with a config of plain data parallelism (MULTI_GPU, MULTI_CPU)"


def _check_launcher(precision: str) -> None:
    """Refuse configurations of ``accelerate launch``, passed in the environment, that a run would silently ignore."""
    for variable, plugin in _PLUGINS.items():
        if os.environ.get(variable, "").lower() in ("1", "true", "yes", "on"):
            raise InputError(f"`accelerate launch` was configured for {plugin}, which is not supported. {_LAUNCH}.")
    mixed = os.environ.get("ACCELERATE_MIXED_PRECISION", "no").lower()
    if mixed not in ("no", precision):
        remedy = "Give --precision bf16" if mixed == "bf16" else "These trainers know no and bf16"
        raise InputError(
            f"`accelerate launch` was configured for mixed precision {mixed}, and --precision is {precision}. "
            f"{remedy}, or set it to no there."
        )
    steps = os.environ.get("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1")
    if steps not in ("1", "auto"):
        raise InputError(
            f"`accelerate launch` was configured for {steps} steps of gradient accumulation. Set it to 1 there, and "
            "give --micro-batches."
        )


def over_processes(
    of_batch: Callable[[Int64[Tensor, " B"]], Iterable[T]],
    total: int,
    accelerator: Accelerator,
    batch_size: int,
    description: str = "",
) -> list[T]:
    """Compute a result for each item, shared among processes; every process returns all results in order.

    Args:
        of_batch: Computes the results of items at given positions. Results may be sent to other processes.
        total: Number of items.
        accelerator: Knows the processes.
        batch_size: Number of positions in each call.
        description: Label of a progress bar over batches; no bar by default.
    """
    mine = torch.arange(total)[accelerator.process_index :: accelerator.num_processes]
    batches: Iterable[Tensor] = [mine[start : start + batch_size] for start in range(0, len(mine), batch_size)]
    if description and accelerator.is_main_process:
        batches = track(batches, description)
    found = [(i, result) for at in batches for i, result in zip(at.tolist(), of_batch(at), strict=True)]
    if accelerator.num_processes > 1:
        found = sorted(gather_object(found), key=lambda pair: pair[0])
    return [result for _, result in found]
