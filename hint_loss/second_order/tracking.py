r"""Importance without the gradient of the proposals, at almost first-order cost if the later layers are small.

The gradient :math:`g_r` of proposal r along m directions, the columns of V, is the derivative of the score along m
numbers :math:`t_r` that move the proposal:

.. math:: g_r V = \frac{\partial}{\partial t_r} o(P + t V^\top)\Big|_{t=0}.

A single direction of ones gives the paper's importance, the *sum* of the gradient. Directions of random signs
:math:`\pm 1/\sqrt m` estimate its *norm*: :math:`\|g_r V\|^2` has the mean :math:`\|g_r\|^2`.

Most models begin with linear layers, and :math:`(P + t V^\top) W^\top = P W^\top + t (W V)^\top`. So the score
depends on t through a small term. Differentiating through that term never computes the ``(B, K, D)`` gradient of the
proposals, its second derivative, or the large matrix products of both.

A :class:`TrackedProposals` is a tensor that carries such a term of low rank. Because t is zero, the term changes
derivatives but no value, and terms quadratic in t are dropped. ``low_rank.py`` has rules for the operations that
models begin with. Every other operation gets a plain tensor, whose graph leads both to the value and to t, so that
autograd finds the same derivatives at the usual cost. The result is exact for any model; rules only save time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from hint_loss._checks import check_features
from hint_loss.second_order.low_rank import RULES, LowRank, dense, sum_product


class Source(NamedTuple):
    """What all tensors computed from the same tracked proposals share."""

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

    For each forward pass, give the result to the model instead of the features, and ask for the importance of the
    result. The model's outputs do not change, except for rounding. Linear layers, convolutions, matrix products and
    einsum, sums and means, weights, concatenation, arithmetic, dropout, indexing, reshaping and casts are followed
    lazily. Other operations, and operations on two tracked tensors such as ``x + f(x)``, give the same result at the
    cost that they have without tracking; :func:`tracking_report` lists them.
    If all operations are lazy, the gradient of the proposals is never computed, and hooks on the proposals do not run.

    The importance is exact for ``"sum"`` and ``"input"``. For ``"norm"`` it is estimated as :math:`\|g_r V\|` from
    ``probes`` random directions V. Its square has the mean :math:`\|g_r\|^2` and a relative standard deviation of at
    most :math:`\sqrt{2 / m}`. Each call draws new directions, so that errors average out over training.

    Args:
        features: the proposals: ``(B, K, D)``, a feature map ``(B, C, H, W)`` with ``feature_dim=1``, or any other
            layout. They need not require a gradient; if they do, as the output of a trainable backbone, they get one.
        feature_dim: the dimension to reduce.
        reduction: ``"sum"`` of the gradient over features (the paper), ``"input"`` for the sum of gradient times input,
            or ``"norm"`` of the gradient, in which nothing cancels.
        probes: for ``"norm"``, the number m of directions, or V itself, ``(D, m)``. An orthogonal V such as
            ``torch.eye(D)`` makes the norm exact, at the cost of D directions.
        generator: draws the directions, on its own device. Seed it with (seed, step, rank) if runs should be
            resumable. Default: PyTorch's global generator.

    Returns:
        A tensor with the same values. Writing into it raises a RuntimeError.

    Raises:
        ValueError: The reduction is unknown, ``features`` have no ``feature_dim``, ``probes`` is less than 1 or has the
            wrong shape, or inference mode is on.
        TypeError: ``features`` is not a floating point tensor, or is tracked already.

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
    with torch.enable_grad():  # tracking needs a graph, also under `torch.no_grad`
        return move_along(features, t.requires_grad_(), u, feature_dim, reduction)


def coordinates(
    features: Tensor, feature_dim: int, reduction: str, probes: int | Tensor, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """Zeros t ``(m, ...)`` and the directions u ``(m, ...)`` along which they move ``features``."""
    shape, dtype = list(features.shape), torch.promote_types(features.dtype, torch.float32)  # half precision has ties
    size = shape.pop(feature_dim)
    _check_probes(probes, size)
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


def _check_probes(probes: int | Tensor, features: int) -> None:
    """Check the number of random directions, or the directions."""
    if isinstance(probes, Tensor):
        fits = probes.dim() == 2 and len(probes) == features and probes.shape[1] > 0
    else:
        fits = hasattr(probes, "__index__") and probes is not True and probes > 0
    if not fits:
        found = f"`probes.shape = {tuple(probes.shape)}`" if isinstance(probes, Tensor) else f"`probes = {probes!r}`"
        raise ValueError(
            "Parameter `probes` should be the number of random directions, at least 1, or a tensor of them, of shape "
            f"({features}, m). Found {found}."
        )


def move_along(features: Tensor, t: Tensor, u: Tensor, feature_dim: int, reduction: str) -> TrackedProposals:
    """Track ``features + sum(t * u)``, for a t that is zero and may be the caller's."""
    source = Source(t, features, feature_dim, reduction, Counter(), Counter())
    c = t.unsqueeze(feature_dim % features.dim() + 1)
    tracked: TrackedProposals = _attached(LowRank(features, c, u, scales=reduction == "input"), source)
    return tracked


def importance_along(gradient: Tensor, reduction: str) -> Tensor:
    """The importance from the gradient of t; its first dimension is the directions."""
    return torch.linalg.vector_norm(gradient, dim=0) if reduction == "norm" else gradient[0]


class TrackedProposals(Tensor):
    """Proposals, or a linear function of them: a value plus a term that is zero (see the module)."""

    plain: Tensor
    """The same as a plain tensor, with the whole graph, for operations without a rule."""
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
    if name.startswith("_"):  # `__iadd__` is the in-place form of `__add__`
        return name == "__setitem__" or (name.startswith("__i") and hasattr(Tensor, f"__{name[3:]}"))
    return name.endswith("_") and name != "requires_grad_"


_IN_PLACE = {  # a dictionary, because `torch.compile` cannot look a function up in a set
    getattr(space, name): True for space in (Tensor, torch, F) for name in dir(space) if _is_in_place(name)
}


def _attached(x: LowRank, source: Source) -> Any:
    """The value as a tracked tensor; or, where tracking ends, as a plain tensor that the model may write into."""
    x = x.aligned()
    if torch.compiler.is_compiling():  # a Function would lose its graph inside of `torch.func.grad`; the sum is fused
        plain = x.value + dense(x.c, x.u)[0][0].to(x.value.dtype)
    else:
        plain = _Attach.apply(x.value, x.c, x.u, x.ends)  # type: ignore[no-untyped-call]
    if x.ends:
        return plain
    tracked: TrackedProposals = plain.as_subclass(TrackedProposals)
    tracked.plain, tracked.low_rank, tracked.source = plain, x, source
    return tracked


class _Attach(torch.autograd.Function):
    """The value plus its term, whose c is zero."""

    generate_vmap_rule = True

    @staticmethod
    def forward(value: Tensor, c: Tensor, u: Tensor, fresh: bool) -> Tensor:
        # To autograd a detached tensor is a new one, which the model may write into; it may not write into a view.
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
