"""Does the answer hang on what people call irrelevant? Predictions with proposals of another image in their place."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hint_loss._checks import check_feature_dim, check_tensors

__all__ = ["answer_flips"]


@torch.no_grad()
def answer_flips(
    predict: Callable[[Tensor], Tensor],
    proposals: Tensor,
    swapped: Tensor,
    *,
    donors: Tensor | None = None,
    feature_dim: int = -1,
) -> Tensor:
    """Whether each prediction changes when some proposals are swapped for those of another sample.

    The mean over samples is the *flip rate*. Where ``swapped`` are the proposals that people call irrelevant, such as
    ``s < 0.4``, it says how many answers rely on wrong evidence; where they are the relevant ones, it should be high.
    That the importance points right does not say so: its maximum can move while the answer still hangs on the rest.

    Args:
        predict: from proposals to predictions ``(B,)``, or to logits ``(B, A)``, whose largest is the prediction:
            ``lambda proposals: model(proposals, questions)``. Put the model in evaluation mode.
        proposals: ``(B, K, D)``, or another layout with ``feature_dim``.
        swapped: boolean, in the shape of ``proposals`` without ``feature_dim``.
        donors: ``(B,)``, the sample whose proposals each one gets, at the same positions. Default: the next one.
            Samples of one image should not give to each other.
        feature_dim: the dimension of features.

    Returns:
        ``(B,)``: 1 where the prediction changes, 0 where it stays, NaN where nothing is swapped. Average with
        :func:`torch.nanmean`.

    Raises:
        ValueError: ``swapped`` is not boolean or of another shape; donors out of range, or a sample that is its own.
        TypeError: arrays or lists in place of tensors.

    Example:
        >>> proposals = torch.tensor([[[0.0, 9.0], [5.0, 1.0]], [[7.0, 0.0], [0.0, 1.0]]])
        >>> def predict(x):  # looks at the first proposal alone
        ...     return x[:, 0]
        >>> first = torch.tensor([[True, False], [True, False]])
        >>> answer_flips(predict, proposals, first), answer_flips(predict, proposals, ~first)
        (tensor([1., 1.]), tensor([0., 0.]))
    """
    check_tensors(proposals=proposals, swapped=swapped)
    check_feature_dim("proposals", proposals, feature_dim)
    samples, shape = torch.arange(len(proposals), device=proposals.device), proposals.select(feature_dim, 0).shape
    if swapped.dtype != torch.bool or swapped.shape != shape:
        raise ValueError(
            f"Parameter `swapped` should be boolean, of shape {tuple(shape)}. "
            f"Found `swapped.dtype = {swapped.dtype}` and `swapped.shape = {tuple(swapped.shape)}`."
        )
    donors = samples.roll(-1) if donors is None else donors
    wrong = donors.shape != samples.shape or ((donors < 0) | (donors >= len(samples)) | (donors == samples)).any()
    if wrong:
        raise ValueError(
            f"Parameter `donors` should name another sample for each of {len(samples)}. "
            f"Found `donors = {donors.tolist()}`."
        )
    mixed = torch.where(swapped.unsqueeze(feature_dim), proposals[donors], proposals)
    before, after = (x.argmax(1) if x.dim() > 1 else x for x in map(predict, (proposals, mixed)))
    return torch.where(swapped.flatten(1).any(1), (before != after).float(), torch.nan)
