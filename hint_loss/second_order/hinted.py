"""The second-order graph for the samples of a batch that have hints, and only for these."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map, tree_map_only

from hint_loss._checks import check_tensors
from hint_loss.second_order.tracking import track_proposals


def forward_hinted(
    model: Callable[..., Any],
    proposals: Tensor,
    *inputs: Any,
    hinted: Tensor,
    track: Callable[[Tensor], Tensor] = track_proposals,
    **options: Any,
) -> tuple[Any, Tensor]:
    """Run a model on hinted and other samples apart, so that only the hinted ones pay for the second-order graph.

    Values and gradients are the same as for the whole batch in one call, for every model that treats samples
    independently. (Dropout draws other random numbers. Batch normalisation in training mode raises an error.) If the
    hinted samples are the first or the last of the batch, no proposals are copied. Under data parallelism, call this
    function and compute the whole loss inside of the wrapped module's ``forward``; otherwise gradients may silently
    stay unsynchronised.

    Args:
        model: called twice, as ``model(proposals, *inputs, **options)``, with the samples without and with a hint.
        proposals: ``(B, ...)``.
        inputs: other arguments of the model. All tensors among them have the batch first.
        hinted: ``(B,)`` boolean, true for samples with a hint.
        track: prepares the proposals of the hinted samples, for another kind of importance:
            ``partial(track_proposals, feature_dim=1)``, or ``lambda x: x.detach().requires_grad_()``.
        options: keyword arguments of the model, treated as ``inputs``.

    Returns:
        The model's output for the whole batch, in the batch's order, and the proposals of the hinted samples, to be
        passed to :func:`~hint_loss.proposal_importance` with the scores of these samples. Outputs may be tensors with
        the batch first, options such as None or a string, and tuples, lists or dictionaries of them.

    Raises:
        ValueError: ``hinted`` is not boolean of shape (B,), a tensor has another batch size, an output has no batch
            dimension, such as the model's own loss, or batch normalisation is in training mode.
        TypeError: ``proposals`` or ``hinted`` is not a tensor, or an output is of another kind.

    Example:
        >>> from hint_loss import hint_ranking_loss, proposal_importance
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Flatten(), nn.Linear(24, 5))
        >>> features, hinted = torch.rand(16, 3, 4), torch.arange(16) < 2
        >>> logits, proposals = forward_hinted(model, features, hinted=hinted)
        >>> alpha = proposal_importance(logits[hinted, 0], proposals)  # (2, 3)
        >>> (hint_ranking_loss(alpha, torch.rand(2, 3)) + logits.logsumexp(1).mean()).backward()
    """
    check_tensors(proposals=proposals, hinted=hinted)
    batch = proposals.shape[0]
    if hinted.dtype != torch.bool or hinted.shape != (batch,):
        raise ValueError(
            f"Parameter `hinted` should be boolean, of shape ({batch},). "
            f"Found `hinted.dtype = {hinted.dtype}` and `hinted.shape = {tuple(hinted.shape)}`."
        )
    owner = getattr(model, "__self__", model)  # if `model` is a method
    for name, module in owner.named_modules() if isinstance(owner, nn.Module) else ():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and (module.training or module.running_mean is None):
            raise ValueError(_MIXES.format(f"`{name}` ({type(module).__name__})"))

    def part(rows: Tensor, prepare: Callable[[Tensor], Tensor]) -> tuple[Any, Tensor]:
        def take(x: Tensor) -> Tensor:
            if x.shape[:1] != (batch,):
                raise ValueError(f"A tensor argument should have {batch} samples. Found the shape {tuple(x.shape)}.")
            return _rows(x, rows)

        prepared = prepare(_rows(proposals, rows))
        others, named = tree_map_only(Tensor, take, (inputs, options))
        with _NoBatchStatistics():
            return model(prepared, *others, **named), prepared

    with_hint, without = hinted.nonzero()[:, 0], (~hinted).nonzero()[:, 0]
    if not len(with_hint):
        return part(without, lambda x: x)[0], track(_rows(proposals, with_hint))
    output, tracked = part(with_hint, track)
    if len(without):
        back = torch.cat([without, with_hint]).argsort()  # the place of each sample in the joined parts
        plain, _ = part(without, lambda x: x)
        output = tree_map(partial(_joined, back, len(without)), plain, output)
    return output, tracked


def _joined(back: Tensor, without: int, plain: Any, hinted: Any) -> Any:
    """Join the two parts of an output in the batch's order; options are the same in both."""
    if isinstance(hinted, Tensor):
        if plain.shape[:1] != (without,) or hinted.shape[:1] != (len(back) - without,):
            raise ValueError(
                "Outputs of `model` should have the batch first. Found the shapes "
                f"{tuple(plain.shape)} of {without} and {tuple(hinted.shape)} of {len(back) - without} samples: let it "
                "return logits, of which to take the loss afterwards."
            )
        return torch.cat([plain, hinted])[back]
    if not isinstance(hinted, bool | int | float | str | None):
        raise TypeError(
            "Outputs of `model` should be tensors, or tuples, lists and dictionaries of them. "
            f"Found a {type(hinted).__name__}: return what you need of it."
        )
    return hinted


class _NoBatchStatistics(TorchFunctionMode):  # catches models that are functions
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.batch_norm and (kwargs or {}).get("training"):
            raise ValueError(_MIXES.format("`torch.nn.functional.batch_norm`"))
        return func(*args, **kwargs or {})


_MIXES = (
    "Batch normalisation mixes the samples of a batch, so the batch cannot be split: put {} in `eval()` mode with "
    "running statistics, or run the whole batch with `track_proposals`."
)


def _rows(x: Tensor, rows: Tensor) -> Tensor:
    """The samples at ascending ``rows``, as a view if these are consecutive."""
    if not len(rows):
        return x[:0]
    first, last = int(rows[0]), int(rows[-1]) + 1
    return x[first:last] if last - first == len(rows) else x[rows]
