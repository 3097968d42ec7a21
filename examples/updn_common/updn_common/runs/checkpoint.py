"""Training checkpoints: model, optimiser and progress in one safetensors file; nothing is unpickled.

Tensors are named `model.<parameter>`, `optimizer.<parameter index>.<state>` and `auxiliary.<parameter>`; what is not a
tensor (learning rates, step counts) is JSON in the file's metadata. One file, replaced atomically: the parts can never
be of different steps.
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

_METADATA_KEY = "checkpoint"  # a single key: the order of several is not deterministic


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A loaded checkpoint.

    Attributes:
        path: The file it came from.
        model: The model's state.
        optimizer: The optimiser's state as `Optimizer.load_state_dict` takes it; None if none was saved.
        progress: What the trainer noted (step, best score, ...).
        auxiliary: The state of what is trained beside the model, such as an adversary; often nothing.
    """

    path: Path
    model: dict[str, Tensor]
    optimizer: dict[str, Any] | None
    progress: dict[str, Any]
    auxiliary: dict[str, Tensor]

    def restore_model(self, model: nn.Module) -> None:
        """Copies the weights into a model.

        Raises:
            InputError: If the model has other tensors, by name, shape or dtype; the model is then unchanged.
        """
        self._restore(self.model, model)

    def restore_auxiliary(self, module: nn.Module) -> None:
        """Copies the weights of what is trained beside the model; refuses as `restore_model` does."""
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
        """Copies moments, step counts and learning rates into an optimiser over the same parameters.

        Raises:
            InputError: If the checkpoint has no optimiser, or one of another kind or over other parameters.
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
    """Writes a checkpoint atomically. Every tensor comes back bitwise, with its dtype and shape.

    Tensors that share memory (tied weights, flattened recurrent weights) are stored once each.

    Args:
        path: The file, `.safetensors`.
        model: The model's `state_dict()`.
        optimizer: The optimiser whose state to keep.
        progress: JSON values.
        auxiliary: The `state_dict()` of what is trained beside the model.

    Raises:
        InputError: If the disk is full; a former checkpoint of this name is then still there.
        TypeError: If the progress, or an optimiser's option, is neither JSON nor a tensor state.
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
    """Reads a checkpoint onto the CPU.

    Raises:
        InputError: If the file is missing, damaged, or no checkpoint of ours.
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
    """Undoes what JSON does to options such as `betas`; only the parameters are lists in torch."""
    return {
        key: tuple(value) if isinstance(value, list) and key not in ("params", "param_names") else value
        for key, value in group.items()
    }


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def _first(faults: Iterable[str], count: int = 5) -> str:
    faults = sorted(faults)
    return "; ".join(faults[:count]) + (f"; and {len(faults) - count} more" if len(faults) > count else "")
