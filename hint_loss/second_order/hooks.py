"""Use the output of a submodule as proposals, without editing the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any

from torch import Tensor, nn

from hint_loss.second_order.tracking import track_proposals


@contextmanager
def submodule_proposals(
    module: nn.Module, *, track: Callable[[Tensor], Tensor] = track_proposals, output: int | str = 0
) -> Iterator[list[Tensor]]:
    """A context in which the output of a submodule serves as the proposals.

    Args:
        module: the submodule, such as ``model.backbone.layer4``. Its output is replaced by the tracked proposals.
        track: makes proposals of the output, as in :func:`~hint_loss.forward_hinted`:
            ``partial(track_proposals, feature_dim=1)`` for a feature map. They stay in the model's graph, so the layers
            before them are trained too.
        output: position or key of the proposals, if the submodule returns a tuple, a list or a dictionary.

    Yields:
        A list to which each forward pass of the submodule appends its proposals.

    Raises:
        TypeError: In the forward pass, the output or its entry is not a tensor.
        RuntimeError: At the end of the context, if the submodule never ran, or the model wrote into its output.

    Example:
        >>> import torch
        >>> from hint_loss import proposal_importance
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 5))
        >>> with submodule_proposals(model[0]) as proposals:
        ...     score = model(torch.rand(2, 3, 4))[..., 0].sum(1)
        >>> proposal_importance(score, proposals[0]).shape
        torch.Size([2, 3])
    """
    found: list[Tensor] = []
    versions: list[int] = []

    def hook(module: nn.Module, args: Any, result: Any) -> Any:
        try:
            key = [*result][output] if isinstance(result, dict) and isinstance(output, int) else output
            entry = result if isinstance(result, Tensor) else result[key]
        except (LookupError, TypeError):
            entry = None
        if not isinstance(entry, Tensor):
            raise TypeError(
                f"Parameter `output` should name a tensor among what {type(module).__name__} returns. "
                f"Found `output = {output!r}` and a {type(result).__name__} without such a tensor."
            )
        found.append(track(entry))
        versions.append(found[-1]._version)
        if entry is result:
            return found[-1]
        if isinstance(result, tuple):
            entries = [*result]
            entries[int(output)] = found[-1]
            return type(result)._make(entries) if hasattr(result, "_make") else type(result)(entries)
        result = copy(result)  # the submodule may keep the original
        result[key] = found[-1]
        return result

    handle = module.register_forward_hook(hook)
    try:
        yield found
    finally:
        handle.remove()
    if not found:
        raise RuntimeError(
            f"Parameter `module` should run within the context. Found a {type(module).__name__} that did not: call the "
            "model inside of the `with` block, and choose a part whose own `forward` it calls."
        )
    if versions != [proposals._version for proposals in found]:
        raise RuntimeError(
            f"What {type(module).__name__} returned was written over afterwards, so that the importance would be that "
            "of what stands there now: choose the part that wrote as `module`, such as an activation with "
            "`inplace=True`, or set that to False."
        )
