r"""Importance without the gradient of the proposals, nearly at a first-order price where later layers are small.

The gradient :math:`g_r` of proposal r along m directions, the columns of V, is the derivative of the score along m
numbers :math:`t_r` that move the proposal:

.. math:: g_r V = \frac{\partial}{\partial t_r} o(P + t V^\top)\Big|_{t=0}.

A single direction of ones gives the paper's importance, the *sum* of the gradient. Random signs give its *norm*: with
entries :math:`\pm 1/\sqrt m`, :math:`\|g_r V\|^2` has the mean :math:`\|g_r\|^2`.

Most models begin with something linear, and :math:`(P + t V^\top) W^\top = P W^\top + t (W V)^\top`. So the score
depends on t through a small term. Differentiating through that term never computes the ``(B, K, D)`` gradient of the
proposals, its second derivative, or the large matrix products of both.

A :class:`TrackedProposals` is a tensor that carries such a term of low rank. As t is zero, the term never changes a
value, only derivatives, and what is quadratic in t is dropped. ``low_rank.py`` has the rules by which the operations
that models begin with act on it. Any other gets a plain tensor: the value with edges in the graph to itself
and to t, through which autograd finds the same derivatives at the usual price. So the result is exact whatever the
model does, and rules are about speed alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from hint_loss._checks import check_features, checked_probes
from hint_loss.second_order.low_rank import RULES, LowRank, dense, sum_product


class Source(NamedTuple):
    """What all tensors share that come from the same proposals."""

    t: Tensor
    features: Tensor
    feature_dim: int
    reduction: str
    lazy: Counter[str]
    plain: Counter[str]


def track_proposals(
    features: Tensor,
    *,
    feature_dim: int = -1,
    reduction: Literal["sum", "input", "norm"] = "sum",
    probes: int | Tensor = 16,
    generator: torch.Generator | None = None,
) -> TrackedProposals:
    r"""Follow proposals through a model, so that :func:`~hint_loss.proposal_importance` is cheap.

    Give the result to the model instead of the features, anew for each forward pass, and ask for the importance of it.
    Neither the model nor any value changes, but for rounding. Linear layers, convolutions, matrix products and einsum,
    sums and means, weights, concatenation, arithmetic, dropout, indexing, layout and casts are lazy. Any other
    operation, and one of two tracked tensors such as ``x + f(x)``, gives the same at the price that it has without
    tracking: :func:`tracking_report` tells.
    Where all is lazy, no gradient of the proposals exists, and hooks on them see none.

    The importance is exact for ``"sum"`` and ``"input"``. For ``"norm"`` it is estimated along ``probes`` random
    directions, :math:`\|g_r V\|`, whose square has the mean :math:`\|g_r\|^2` and a relative standard deviation of at
    most :math:`\sqrt{2 / m}`. Each call draws new ones, so that errors average out over training.

    Args:
        features: the proposals: ``(B, K, D)``, a feature map ``(B, C, H, W)`` with ``feature_dim=1``, or any other
            layout. They need not require a gradient. If they do, as behind a trainable backbone, they get theirs.
        feature_dim: the dimension to reduce.
        reduction: ``"sum"`` of the gradient over features (the paper), ``"input"``: of gradient times input, or
            ``"norm"`` of the gradient, in which nothing cancels.
        probes: for ``"norm"``, the number m of directions; or V itself, ``(D, m)``: an orthogonal one, such as
            ``torch.eye(D)``, makes the norm exact, at the price of D directions.
        generator: draws the directions, on its own device. Seed it with (seed, step, rank) for runs that can be
            resumed. Default: PyTorch's global one.

    Returns:
        A tensor of the same values. Writing into it raises a RuntimeError.

    Raises:
        ValueError: an unknown reduction; a ``feature_dim`` that features do not have; less than one probe, or a V of
            another shape; a call in inference mode.
        TypeError: features that are no floating point tensor, or are tracked already.

    Example:
        >>> from hint_loss import proposal_importance, tracking_report
        >>> weight = torch.tensor([[1.0, 2.0]], requires_grad=True)
        >>> proposals = track_proposals(torch.ones(1, 3, 2))
        >>> alpha = proposal_importance(torch.nn.functional.linear(proposals, weight).square().sum((1, 2)), proposals)
        >>> alpha.sum().backward()
        >>> alpha.tolist(), weight.grad.tolist()
        ([[18.0, 18.0, 18.0]], [[36.0, 36.0]])
        >>> print(tracking_report(proposals))
        lazy: linear x 1
        plain: none
    """
    check_features("features", features, feature_dim, reduction)
    if isinstance(features, TrackedProposals):
        raise TypeError("Parameter `features` should be a tensor that is not tracked yet. Found TrackedProposals.")
    if torch.is_inference_mode_enabled():
        raise ValueError("The importance is a gradient: call `track_proposals` outside of `torch.inference_mode`.")
    t, u = coordinates(features, feature_dim, reduction, probes, generator)
    with torch.enable_grad():  # the edges are there, whatever the mode is now
        return move_along(features, t.requires_grad_(), u, feature_dim, reduction)


def coordinates(
    features: Tensor, feature_dim: int, reduction: str, probes: int | Tensor, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """Zeros t ``(m, ...)`` and the directions u ``(m, ...)`` along which they move ``features``."""
    shape, dtype = list(features.shape), torch.promote_types(features.dtype, torch.float32)  # half precision ties
    size = shape.pop(feature_dim)
    probes = checked_probes(probes, size)
    if reduction == "input":  # each proposal is its own direction
        return features.new_zeros(1, *shape, dtype=dtype), features[None]
    v = probes if reduction == "norm" else features.new_ones(size, 1)
    if not isinstance(v, Tensor):
        device = features.device if generator is None else generator.device
        v = (2.0 * torch.randint(2, (size, v), generator=generator, device=device) - 1) / v**0.5
    u = (
        v.to(features.device, dtype)
        .mT.reshape(-1, *[1] * len(shape), size)
        .movedim(-1, feature_dim % features.dim() + 1)
    )
    return features.new_zeros(len(u), *shape, dtype=dtype), u


def move_along(features: Tensor, t: Tensor, u: Tensor, feature_dim: int, reduction: str) -> TrackedProposals:
    """Track ``features`` as they move along u by t, which may be the caller's."""
    source = Source(t, features, feature_dim, reduction, Counter(), Counter())
    c = t.unsqueeze(feature_dim % features.dim() + 1)
    tracked: TrackedProposals = _attached(LowRank(features, c, u, scales=reduction == "input"), source)
    return tracked


def importance_along(gradient: Tensor, reduction: str) -> Tensor:
    """The importance from the gradient of t, whose directions come first."""
    return torch.linalg.vector_norm(gradient, dim=0) if reduction == "norm" else gradient[0]


class TrackedProposals(Tensor):
    """Proposals, or what a model made of them linearly: a value plus a term that is zero (see the module)."""

    plain: Tensor
    """The same without a subclass: an alias of the value with all edges, for what knows no rules."""
    low_rank: LowRank
    source: Source

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        with torch._C.DisableTorchFunctionSubclass():
            written = args[:1] if _IN_PLACE.get(func) or kwargs.get("inplace") is True else (kwargs.get("out"),)
            for x in written:
                if isinstance(x, cls):
                    made = x.low_rank.value is not x.source.features
                    what = f"what the model made of tracked proposals, of shape {tuple(x.shape)}"
                    raise RuntimeError(
                        f"`{func.__name__}` writes into {what if made else 'tracked proposals'}, but the importance is "
                        "of the values that were there. Use the out-of-place form, or do without `track_proposals`."
                    )
            tracked = [x for x in tree_leaves((args, kwargs)) if isinstance(x, cls)]
            source, result = tracked[0].source, NotImplemented
            if func in RULES and len(tracked) == 1 and torch.is_grad_enabled():
                low_args, low_kwargs = tree_map_only(cls, lambda x: x.low_rank, (args, kwargs))
                result = RULES[func](func, *low_args, **low_kwargs)
            lazy = isinstance(result, LowRank) and result.value.is_floating_point()
            if lazy:
                result = _attached(result, source)
            else:
                plain_args, plain_kwargs = tree_map_only(cls, lambda x: x.plain, (args, kwargs))
                result = func(*plain_args, **plain_kwargs)
            outputs = [x for x in tree_leaves(result) if isinstance(x, Tensor) and x.requires_grad]
            if outputs and not torch.compiler.is_compiling():
                (source.lazy if lazy else source.plain)[getattr(func, "__name__", "call").strip("_")] += 1
            return result


def _is_in_place(name: str) -> bool:
    """`add_`, `__setitem__`, or `__iadd__`, which is the `__add__` in place."""
    method = not name.startswith("_") and name.endswith("_") and name != "requires_grad_"
    return method or name == "__setitem__" or (name.startswith("__i") and hasattr(Tensor, "__" + name[3:]))


_IN_PLACE = {getattr(space, name): True for space in (Tensor, torch, F) for name in dir(space) if _is_in_place(name)}


def _attached(x: LowRank, source: Source) -> Any:
    """The value with an edge to its term: tracked, or at the end a plain tensor, into which the model may write."""
    x = x.aligned()
    if torch.compiler.is_compiling():  # fuses a sum, but inside of torch.func.grad would lose a Function's edges
        plain = x.value + dense(x.c, x.u)[0][0].to(x.value.dtype)
    else:
        plain = _Attach.apply(x.value, x.c, x.u, x.ends)  # type: ignore[no-untyped-call]
    if x.ends:
        return plain
    tracked: TrackedProposals = plain.as_subclass(TrackedProposals)
    tracked.plain, tracked.low_rank, tracked.source = plain, x, source
    return tracked


class _Attach(torch.autograd.Function):
    """The value plus its term, for a c that is zero."""

    generate_vmap_rule = True

    @staticmethod
    def forward(value: Tensor, c: Tensor, u: Tensor, fresh: bool) -> Tensor:
        # Autograd takes what is detached for a new tensor, into which the model may write; into a view it may not.
        return value.detach() if fresh else value.view_as(value)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, bool], output: Tensor) -> None:
        _, c, u, _ = inputs
        ctx.save_for_backward(u)
        ctx.c_shape, ctx.c_dtype = c.shape, c.dtype

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        (u,) = ctx.saved_tensors
        if not ctx.needs_input_grad[1]:
            return gradient, None, None, None
        return gradient, sum_product(gradient[None].to(ctx.c_dtype), u.to(ctx.c_dtype), ctx.c_shape), None, None
