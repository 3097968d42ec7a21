"""Reliance on irrelevant evidence: do predictions change when irrelevant proposals are swapped?"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hint_loss._checks import check_feature_dim, check_tensors


@torch.no_grad()
def answer_flips(
    predict: Callable[[Tensor], Tensor],
    proposals: Tensor,
    swapped: Tensor,
    *,
    others: Tensor | None = None,
    feature_dim: int = -1,
) -> Tensor:
    """Whether each prediction changes when some proposals are swapped for those of another sample.

    The mean over samples is the *flip rate*. If ``swapped`` are the irrelevant proposals, such as those with
    ``s < 0.4``, it measures how many answers rely on wrong evidence; if they are the relevant ones, it should be high.
    An importance map cannot show this: its maximum may move while the answer still depends on the other proposals.

    Args:
        predict: function from proposals to predictions ``(B,)``, or to logits ``(B, A)``, whose largest is the
            prediction: ``lambda proposals: model(proposals, questions)``. Put the model in evaluation mode.
        proposals: ``(B, K, D)``, or another layout with ``feature_dim``.
        swapped: boolean, in the shape of ``proposals`` without ``feature_dim``. Must be false for proposals that are
            padding in either sample.
        others: the replacements: proposals of other samples, in the shape of ``proposals``. Default: those of the next
            sample. If a batch has several samples of the same image, pass ``others``.
        feature_dim: the dimension of features.

    Returns:
        ``(B,)``: 1 where the prediction changes, 0 where it does not, NaN where the swap changes no proposal. Average
        with :func:`torch.nanmean`.

    Raises:
        ValueError: ``swapped`` is not boolean, shapes do not match, the batch has a single sample and ``others`` is not
            given, or ``predict`` returns a single logit.
        TypeError: An argument is not a tensor.

    Example:
        >>> proposals = torch.tensor([[[0.0, 9.0], [5.0, 1.0]], [[7.0, 0.0], [0.0, 1.0]]])
        >>> def predict(x):  # looks at the first proposal alone
        ...     return x[:, 0]
        >>> first = torch.tensor([[True, False], [True, False]])
        >>> answer_flips(predict, proposals, first), answer_flips(predict, proposals, ~first)
        (tensor([1., 1.]), tensor([0., 0.]))

    References:
        Xiao et al., "Noise or Signal", ICLR 2021, which swaps the backgrounds of images.
    """
    check_tensors(proposals=proposals, swapped=swapped)
    check_feature_dim("proposals", proposals, feature_dim)
    shape = proposals.select(feature_dim, 0).shape
    if swapped.dtype != torch.bool or swapped.shape != shape:
        raise ValueError(
            f"Parameter `swapped` should be boolean, of shape {tuple(shape)}. "
            f"Found `swapped.dtype = {swapped.dtype}` and `swapped.shape = {tuple(swapped.shape)}`."
        )
    if others is None and len(proposals) == 1:
        raise ValueError("Parameter `others` should be given for a single sample, which has no next one.")
    others = proposals.roll(-1, 0) if others is None else others
    check_tensors(others=others)
    if others.shape != proposals.shape:
        raise ValueError(
            f"Parameter `others` should have the shape of `proposals`, {tuple(proposals.shape)}. "
            f"Found `others.shape = {tuple(others.shape)}`."
        )
    mixed = torch.where(swapped.unsqueeze(feature_dim), others, proposals)
    before, after = predict(proposals), predict(mixed)
    logits = before.dim() == 2 and before.shape[1] > 1
    if before.shape[:1] != shape[:1] or not (logits or (before.dim() == 1 and not before.is_floating_point())):
        raise ValueError(
            f"Parameter `predict` should return classes ({shape[0]},) or logits ({shape[0]}, A) of at least two. Found "
            f"{before.dtype} of shape {tuple(before.shape)}: where a single logit decides, pass "
            "`lambda proposals: model(proposals).flatten() > 0`."
        )
    before, after = (x.argmax(1) if logits else x for x in (before, after))
    return torch.where((mixed != proposals).flatten(1).any(1), (before != after).float(), torch.nan)
