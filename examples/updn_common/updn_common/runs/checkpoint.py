"""Training checkpoints: model, optimiser and progress in one safetensors file; nothing is unpickled.

Tensors are named `model.<parameter>`, `optimizer.<parameter index>.<state>` and `auxiliary.<parameter>`. All other
values (learning rates, step counts) are JSON in the file's metadata. The file is replaced atomically, so that its parts
always belong to the same step.
"""

import errno
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from updn_common.errors import InputError
from updn_common.files.writing import atomic_file

_METADATA_KEY = "checkpoint"  # a single key, as the order of several is not deterministic


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A loaded checkpoint.

    Attributes:
        path: The file that was read.
        model: The model's state.
        optimizer: The optimiser's state as `Optimizer.load_state_dict` takes it; None if none was saved.
        progress: The trainer's values, such as step and best score.
        auxiliary: The state of a network that is trained beside the model, such as an adversary; usually empty.
    """

    path: Path
    model: dict[str, Tensor]
    optimizer: dict[str, Any] | None
    progress: dict[str, Any]
    auxiliary: dict[str, Tensor]

    def restore_model(self, model: nn.Module) -> None:
        """Copy the weights into a model.

        Raises:
            InputError: The model's tensors have other names, shapes or dtypes; the model is then unchanged.
        """
        self._restore(self.model, model)

    def restore_auxiliary(self, module: nn.Module) -> None:
        """Copy the weights of a network that is trained beside the model; raises as `restore_model` does."""
        self._restore(self.auxiliary, module)

    def _restore(self, theirs: dict[str, Tensor], module: nn.Module) -> None:
        ours = module.state_dict()
        faults = [
            *(f"missing {name}" for name in ours.keys() - theirs.keys()),
            *(f"unexpected {name}" for name in theirs.keys() - ours.keys()),
            *(
                f"{name} is {_kind(theirs[name])}, not {_kind(ours[name])}"
                for name in ours.keys() & theirs.keys()
                if _kind(theirs[name]) != _kind(ours[name])
            ),
        ]
        if faults:
            raise InputError(
                f"{self.path} belongs to another model: {_first(faults)}. "
                "Take the data and the network's sizes that it was trained with."
            )
        module.load_state_dict(theirs)

    def restore_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        """Copy moments, step counts and learning rates into an optimiser over the same parameters.

        Raises:
            InputError: The checkpoint has no optimiser, or one of another class or over other parameters.
        """
        if self.optimizer is None:
            raise InputError(f"{self.path} was saved without an optimiser: it cannot be resumed from.")
        saved, groups = self.optimizer["param_groups"], optimizer.param_groups
        parameters = [parameter for group in groups for parameter in group["params"]]
        counts, found = ([len(group["params"]) for group in side] for side in (saved, groups))
        faults = [] if counts == found else [f"parameter groups of {counts} tensors, not {found}"]
        if options := {key for pair in zip(saved, groups, strict=False) for key in pair[0].keys() ^ pair[1].keys()}:
            faults.append(f"options on one side only ({', '.join(sorted(options))})")
        faults += [
            f"{name} of parameter {index} is {_kind(value)}, the parameter {_kind(parameters[index])}"
            for index, state in self.optimizer["state"].items()
            for name, value in state.items()
            if isinstance(value, Tensor) and value.dim() and index < len(parameters)
            if value.shape != parameters[index].shape
        ]
        if faults:
            raise InputError(f"{self.path} belongs to another optimiser: {_first(faults)}.")
        optimizer.load_state_dict(self.optimizer)


def save_checkpoint(
    path: Path,
    model: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer | None = None,
    progress: Mapping[str, Any] | None = None,
    auxiliary: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a checkpoint atomically. Tensors are restored bitwise, with dtype and shape.

    Tensors that share memory (tied weights, flattened recurrent weights) are stored as separate copies.

    Args:
        path: The file, `.safetensors`.
        model: The model's `state_dict()`.
        optimizer: The optimiser whose state to save.
        progress: JSON values.
        auxiliary: The `state_dict()` of a network that is trained beside the model.

    Raises:
        InputError: The disk is full; a former checkpoint of this name is kept.
        TypeError: A value of the progress or an option of the optimiser is not JSON.
    """
    tensors = {f"model.{name}": tensor for name, tensor in model.items()}
    tensors |= {f"auxiliary.{name}": tensor for name, tensor in (auxiliary or {}).items()}
    metadata: dict[str, Any] = {"progress": dict(progress or {}), "param_groups": None, "scalars": []}
    if optimizer is not None:
        state_dict = optimizer.state_dict()
        metadata["param_groups"] = state_dict["param_groups"]
        for index, state in state_dict["state"].items():
            for name, value in state.items():
                if isinstance(value, Tensor):
                    tensors[f"optimizer.{index}.{name}"] = value
                else:
                    metadata["scalars"].append([index, name, value])
    # Copies: safetensors refuses tensors that share memory or are not contiguous.
    copies = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
    }
    with atomic_file(path) as temporary:
        try:
            save_file(copies, temporary, metadata={_METADATA_KEY: json.dumps(metadata)})
        except SafetensorError as error:
            if f"os error {errno.ENOSPC}" in str(error):
                raise OSError(errno.ENOSPC, str(error)) from None
            raise


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint onto the CPU.

    Raises:
        InputError: The file is missing, damaged, or not a checkpoint of a training run.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist; expected a checkpoint.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = json.loads((file.metadata() or {})[_METADATA_KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except KeyError:
        raise InputError(f"{path} is a safetensors file, but not a checkpoint of a training run.") from None
    except SafetensorError as error:
        raise InputError(f"{path} is not a readable checkpoint ({error}).") from None
    optimizer = None
    if metadata["param_groups"] is not None:
        state: dict[int, dict[str, Any]] = {}
        for name, tensor in _under("optimizer.", tensors).items():
            index, _, key = name.partition(".")
            state.setdefault(int(index), {})[key] = tensor
        for index, key, value in metadata["scalars"]:
            state.setdefault(index, {})[key] = value
        optimizer = {
            "state": state,
            "param_groups": [_with_tuples(group) for group in metadata["param_groups"]],
        }
    model, auxiliary = _under("model.", tensors), _under("auxiliary.", tensors)
    return Checkpoint(path, model, optimizer, metadata["progress"], auxiliary)


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _with_tuples(group: dict[str, Any]) -> dict[str, Any]:
    """Turn lists back into tuples, which JSON does not have; in torch only parameters are lists."""
    return {
        key: tuple(value) if isinstance(value, list) and key not in ("params", "param_names") else value
        for key, value in group.items()
    }


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def _first(faults: Iterable[str], count: int = 5) -> str:
    faults = sorted(faults)
    return "; ".join(faults[:count]) + (f"; and {len(faults) - count} more" if len(faults) > count else "")
