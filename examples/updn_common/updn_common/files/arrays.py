"""The arrays of a prepared split."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from updn_common.errors import InputError

Arrays = dict[str, Tensor]


def load_arrays(path: Path, together: Sequence[Sequence[str]], limits: Mapping[str, tuple[int, str | int]]) -> Arrays:
    """Reads a safetensors file, and checks that what points somewhere points to something.

    Args:
        path: The file.
        together: Names of arrays that have the same length.
        limits: For arrays of whole numbers, the lowest that may be there, and what all are below: a number, or another
            array, whose length that is.

    Raises:
        InputError: If it is missing or damaged.
    """
    try:
        arrays: Arrays = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be read ({error}). Prepare it again.") from None
    if missing := {name for names in together for name in names} - arrays.keys():
        raise InputError(f"{path} has no {min(missing)!r}. Prepare it again.")
    for names in together:
        if len({len(arrays[name]) if arrays[name].dim() else -1 for name in names}) > 1:
            raise InputError(f"{path} has arrays of unlike lengths: {', '.join(names)}. Prepare it again.")
    for name, (low, high) in limits.items():
        array, end = arrays[name], len(arrays[high]) if isinstance(high, str) else high
        if array.is_floating_point() or array.is_complex() or array.dtype == torch.bool:
            raise InputError(f"{path}: {name!r} is of {array.dtype}, not of whole numbers. Prepare it again.")
        if array.numel() and not (low <= array.min() and array.max() < end):
            raise InputError(f"{path}: {name!r} holds numbers that are not from {low} to {end - 1}. Prepare it again.")
    return arrays
