"""Proposals from inside of a model that one cannot edit: what one of its parts returns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from hint_loss.tracking import track_proposals

__all__ = ["submodule_proposals"]


@contextmanager
def submodule_proposals(
    module: nn.Module, *, track: Callable[[Tensor], Tensor] = track_proposals, output: int | str = 0
) -> Iterator[list[Tensor]]:
    """Take what a part of a model returns as proposals, while the context lasts.

    Args:
        module: the part, such as ``model.backbone.layer4``. What reads its output gets the proposals instead.
        track: prepares them, as in :func:`~hint_loss.forward_hinted`: ``partial(track_proposals, feature_dim=1)`` for a
            feature map. They stay in the model's graph, so what made them is trained too.
        output: which entry of the output they are, if that is a tuple, a list or a dictionary.

    Yields:
        A list, to which each forward pass of the part adds its proposals: ``proposals[0]`` are those of the first.

    Raises:
        TypeError: during the forward pass, if the output, or that entry of it, is no tensor.

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

    def hook(module: nn.Module, args: Any, result: Any) -> Any:
        entry = result if isinstance(result, Tensor) else result[output]
        if not isinstance(entry, Tensor):
            raise TypeError(
                f"The output of `module`, or its entry `output = {output!r}`, should be a tensor. "
                f"Found a {type(entry).__name__}."
            )
        found.append(track(entry))
        if entry is result:
            return found[-1]
        if isinstance(result, tuple):
            entries = [*result]
            entries[int(output)] = found[-1]
            return type(result)._make(entries) if hasattr(result, "_make") else type(result)(entries)
        result[output] = found[-1]
        return result

    handle = module.register_forward_hook(hook)
    try:
        yield found
    finally:
        handle.remove()
