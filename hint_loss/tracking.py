r"""Importance without the gradient tensor: a second-order step at nearly the price of a first-order one.

The importance of proposal r is the derivative of the score along one number :math:`t_r` that is added to all of its
features (for gradient times input: by which they are stretched):

.. math:: \sum_d \frac{\partial o}{\partial P_{r,d}} = \frac{\partial}{\partial t_r} o(P + t\,\mathbf 1^T)\Big|_{t=0}.

Most models begin with something linear, and :math:`W (P + t\,\mathbf 1^T) = W P + t\,(W \mathbf 1)`. Behind it, t has a
way of its own to the score. Differentiating along that way never meets the ``(B, K, D)`` gradient of the proposals, nor
its second derivative, nor the large matrix products of both.

A :class:`TrackedProposals` is a tensor that stands for

.. math:: X + \sum_i c_i \odot u_i:

its ``value`` X and its *terms*, each a coefficient c, linear in t, times a direction u. Both have the dimensions of X
and broadcast to it, and as a rule they vary along different ones: at first c is t, ``(B, K, 1)``, and u is ones,
``(1, 1, D)``. An operation that is linear in X and mixes some dimensions (a linear layer mixes features, attention
pooling mixes proposals) need only be applied to X and to the factor that varies along these. As t is zero, terms never
change a value, only derivatives, and what is quadratic in t is dropped.

The rules below do that for the operations that models begin with. Any other operation gets a plain tensor, X with edges
in the graph to X and to each c, through which autograd finds the same derivatives at the usual price. So the result is
exact whatever the model does, and rules are about speed alone.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from types import EllipsisType
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from hint_loss._checks import check_features

__all__ = ["TrackedProposals", "TrackingReport", "track_proposals", "tracking_report"]

Term = tuple[Tensor, Tensor]
_MOST_TERMS = 8  # residual connections double their number


@dataclass(frozen=True)
class TrackingReport:
    """Which operations followed the proposals lazily, and which took the plain way: exact, and no cheaper.

    Attributes:
        lazy: how often operations ran that have a rule.
        plain: the same of those that have none.
    """

    lazy: Mapping[str, int]
    plain: Mapping[str, int]

    def __str__(self) -> str:
        return "\n".join(
            f"{kind}: " + (", ".join(f"{name} x {count}" for name, count in sorted(counts.items())) or "none")
            for kind, counts in (("lazy", self.lazy), ("plain", self.plain))
        )


class Source(NamedTuple):
    """What all tensors share that come from the same proposals."""

    t: Tensor
    features: Tensor
    feature_dim: int
    reduction: str
    lazy: dict[str, int]
    plain: dict[str, int]


def track_proposals(
    features: Tensor, *, feature_dim: int = -1, reduction: Literal["sum", "input"] = "sum"
) -> TrackedProposals:
    """Follow proposals through a model, so that :func:`~hint_loss.proposal_importance` is cheap, and still exact.

    Give the result to the model instead of the features, anew for each forward pass, and ask for the importance of it.
    Neither the model nor any value changes, but for rounding. Linear layers, convolutions (for ``"sum"``), matrix
    products and einsum, sums and means, weights, normalisation, concatenation, arithmetic, dropout, indexing, layout
    and casts are lazy. Whatever else meets the proposals is as expensive as without tracking: :func:`tracking_report`
    tells. Where all is lazy, no gradient of the proposals exists, and hooks on them see none.

    Args:
        features: the proposals: ``(B, K, D)``, a feature map ``(B, C, H, W)`` with ``feature_dim=1``, or any other
            layout. They need not require a gradient. If they do, as behind a trainable backbone, they get theirs.
        feature_dim: the dimension to reduce.
        reduction: ``"sum"`` of the gradient over features (the paper), or ``"input"``: of gradient times input.

    Returns:
        A tensor of the same values. Writing into it raises a RuntimeError.

    Raises:
        ValueError: a reduction that is not linear in the gradient; a ``feature_dim`` that features do not have; a call
            in inference mode.
        TypeError: features that are no floating point tensor, or are tracked already.

    Example:
        >>> from hint_loss import proposal_importance
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
    if _is_tracked(features):
        raise TypeError("Parameter `features` should be a tensor that is not tracked yet. Found TrackedProposals.")
    if torch.is_inference_mode_enabled():
        raise ValueError("The importance is a gradient: call `track_proposals` outside of `torch.inference_mode`.")
    with torch.enable_grad():  # the edges are there, whatever the mode is now
        return attach_scalars(features, zeros_for(features, feature_dim).requires_grad_(), feature_dim, reduction)


def zeros_for(features: Tensor, feature_dim: int) -> Tensor:
    """One t for each proposal, in float32 at least: sums in half precision tie."""
    dtype = torch.promote_types(features.dtype, torch.float32)
    return torch.zeros_like(features.detach().select(feature_dim, 0), dtype=dtype)


def attach_scalars(features: Tensor, t: Tensor, feature_dim: int, reduction: str) -> TrackedProposals:
    """Track ``features`` along zeros t that are the caller's, in the shape of ``features`` without ``feature_dim``."""
    direction = features
    if reduction == "sum":
        direction = t.new_ones(features.shape[feature_dim]).reshape(
            [-1 if dim == feature_dim % features.dim() else 1 for dim in range(features.dim())]
        )
    source = Source(t, features, feature_dim, reduction, {}, {})
    tracked: TrackedProposals = _tracked(features, [(t.unsqueeze(feature_dim), direction)], source)
    return tracked


def tracking_report(proposals: Tensor) -> TrackingReport:
    """Which operations on tracked proposals were lazy up to now, and which were not (but for those in compiled code).

    Args:
        proposals: what :func:`track_proposals` returned.

    Returns:
        The report, to be printed.

    Raises:
        TypeError: ``proposals`` are not tracked.

    Example:
        >>> proposals = track_proposals(torch.rand(2, 3, 4))
        >>> hidden = (2 * proposals).softmax(-1)
        >>> print(tracking_report(proposals))
        lazy: mul x 1
        plain: softmax x 1
    """
    if not isinstance(proposals, TrackedProposals):
        raise TypeError(
            "Parameter `proposals` should be what `track_proposals(features)` returned. "
            f"Found an untracked {type(proposals).__name__}."
        )
    return TrackingReport(dict(proposals.source.lazy), dict(proposals.source.plain))


class TrackedProposals(Tensor):
    """Proposals, or what a model made of them linearly: ``value`` plus terms that are zero (see the module)."""

    plain: Tensor
    """The same without a subclass: an alias of ``value`` with all edges, for what knows no rules."""
    value: Tensor
    terms: list[Term]
    source: Source
    weighted: tuple[Tensor, Tensor] | None
    """Weights and what they weigh, if the value is their product: a sum over proposals need not read that."""
    parts: Sequence[tuple[Tensor, int]]
    """What was concatenated to the value along the last dimension, with versions, as the model may write into it."""

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        with torch._C.DisableTorchFunctionSubclass():
            written = args[:1] if _IN_PLACE.get(func) or kwargs.get("inplace") is True else (kwargs.get("out"),)
            if any(map(_is_tracked, written)):
                raise RuntimeError(
                    f"`{func.__name__}` writes into tracked proposals, whose derivatives are of the values that they "
                    "had. Use the out-of-place form in the model, or do without `track_proposals`."
                )
            rule = _RULES.get(func) if torch.is_grad_enabled() else None
            result = rule(func, *args, **kwargs) if rule else NotImplemented
            lazy = result is not NotImplemented
            if not lazy:
                plain_args, plain_kwargs = tree_map_only(cls, _plain, (args, kwargs))
                result = func(*plain_args, **plain_kwargs)
            if not torch.compiler.is_compiling() and any(map(_has_graph, tree_leaves(result))):
                source = next(filter(_is_tracked, tree_leaves((args, kwargs)))).source
                counts, key = source.lazy if lazy else source.plain, getattr(func, "__name__", "call").strip("_")
                counts[key] = counts.get(key, 0) + 1
            return result


def _is_tracked(x: Any) -> bool:
    return isinstance(x, TrackedProposals)


def _plain(x: TrackedProposals) -> Tensor:
    return x.plain


def _value(x: Any) -> Any:
    return x.value if isinstance(x, TrackedProposals) else x


def _has_graph(x: Any) -> bool:
    return isinstance(x, Tensor) and x.requires_grad


def _tracked(
    value: Tensor,
    terms: Iterable[Term],
    source: Source,
    *,
    weighted: tuple[Tensor, Tensor] | None = None,
    parts: Sequence[tuple[Tensor, int]] = (),
) -> Any:
    """Value and terms as one tensor: a plain one where terms are many, none of integers or complex numbers."""
    if not value.is_floating_point():
        return NotImplemented
    merged: list[Term] = []
    for term in terms:
        c, u = (z if z.dim() == value.dim() else z.reshape((1,) * (value.dim() - z.dim()) + z.shape) for z in term)
        same = next((i for i, (_, other) in enumerate(merged) if other is u), None)
        if same is None:
            merged.append((c, u))
        else:
            merged[same] = merged[same][0] + c, u
    plain = _attach(value, merged)
    if len(merged) > _MOST_TERMS:
        return plain
    tracked: TrackedProposals = plain.as_subclass(TrackedProposals)
    tracked.plain, tracked.value, tracked.terms, tracked.source = plain, value, merged, source
    tracked.weighted, tracked.parts = weighted, parts
    return tracked


def _attach(value: Tensor, terms: Iterable[Term], *, fresh: bool = False) -> Tensor:
    """``value``, which is ``fresh`` if nothing else has it, with an edge to each c."""
    for c, u in terms:
        # The compiler fuses a sum, but inside of torch.func.grad it would lose a Function's edges.
        compiles = torch.compiler.is_compiling()
        value = value + (c * u).to(value.dtype) if compiles else _Attach.apply(value, c, u, fresh)  # type: ignore[no-untyped-call]
    return value


class _Attach(torch.autograd.Function):
    """``value + c * u`` for a c that is zero."""

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
        return gradient, _inner(gradient.to(ctx.c_dtype), u.to(ctx.c_dtype), ctx.c_shape), None, None


def _inner(x: Tensor, u: Tensor, shape: Sequence[int]) -> Tensor:
    """``(x * u).sum_to_size(shape)``; for a vector u as a matrix product."""
    along = [dim for dim, size in enumerate(u.shape) if size > 1]
    with torch.autocast(x.device.type, enabled=False):
        if len(along) == 1 and u.dim() == x.dim() and shape[along[0]] == 1:
            product = (x.movedim(along[0], -1) @ u.flatten()).unsqueeze(along[0])
        else:
            product = x * u
    return product.sum_to_size(shape)


# What rules are made of

_RULES: dict[Any, Callable[..., Any]] = {}


def _rule(names: str, *namespaces: Any, several: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Use the decorated function for these of torch's. Calls with options that it lacks are left to the plain way.

    A rule gets the function and its arguments. It is for a tracked first one and no other, unless it takes ``several``.
    """

    def register(rule: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(rule)

        def checked(func: Any, *args: Any, **kwargs: Any) -> Any:
            kwargs = {name: option for name, option in kwargs.items() if option is not None}
            try:
                signature.bind(func, *args, **kwargs)
            except TypeError:
                return NotImplemented
            first, *others = map(_is_tracked, tree_leaves((args, kwargs)))
            return rule(func, *args, **kwargs) if several or (first and not any(others)) else NotImplemented

        for name in names.split():
            for namespace in namespaces or (torch, Tensor):
                attribute = getattr(namespace, name, None)
                function = attribute if callable(attribute) else getattr(attribute, "__get__", None)
                if function is not None:
                    _RULES[function] = checked
        return rule

    return register


def _is_in_place(name: str) -> bool:
    """`add_`, `__setitem__`, or `__iadd__`, which is the `__add__` in place."""
    method = not name.startswith("_") and name.endswith("_") and name != "requires_grad_"
    return method or name == "__setitem__" or (name.startswith("__i") and hasattr(Tensor, "__" + name[3:]))


_IN_PLACE = {getattr(space, name): True for space in (Tensor, torch, F) for name in dir(space) if _is_in_place(name)}


def _varies(factor: Tensor, dims: Iterable[int]) -> bool:
    return any(factor.shape[dim] != 1 for dim in dims)


def _map_terms(
    x: TrackedProposals,
    dims: Sequence[int],
    linear: Callable[[Tensor], Tensor],
    *,
    place: Callable[[Tensor], Tensor] = lambda factor: factor,
    product: Callable[[Tensor, Tensor], Tensor] | None = None,
    value: Tensor | None = None,
) -> list[Term]:
    """The terms of ``linear(x)``, where that mixes ``dims`` and keeps the others.

    ``place`` brings a factor that is constant along ``dims`` to the output's layout. ``product(c, u)`` is a cheaper
    ``linear(c * u)`` for where both vary, and ``value`` is ``linear(x.value)``, if known.
    """

    def spread(factor: Tensor) -> Tensor:
        sizes = list(factor.shape)
        for dim in dims:
            sizes[dim] = x.value.shape[dim]
        return factor.expand(sizes)

    terms: list[Term] = []
    with torch.autocast(x.value.device.type, enabled=False):  # t and the terms are in float32 at least
        for c, u in x.terms:
            if not _varies(c, dims):
                terms.append((place(c), value if value is not None and u is x.value else linear(spread(u.to(c.dtype)))))
            elif not _varies(u, dims):
                terms.append((linear(spread(c)), place(u)))
            else:
                u = spread(u.to(c.dtype))
                both = linear(c * u) if product is None else product(c, u)
                terms.append((both, both.new_ones(1)))
    return terms


def _scale(terms: Iterable[Term], factor: Any) -> list[Term]:
    """The terms times what broadcasts to them: u takes it only if it varies where u does."""

    def clash(u: Tensor) -> bool:
        sizes = zip(reversed(factor.shape), reversed(u.shape), strict=False)
        return any(m > 1 and n > 1 for m, n in sizes)

    return [(c, u * factor) if isinstance(factor, Tensor) and clash(u) else (c * factor, u) for c, u in terms]


def _combine(value: Tensor, *scaled: tuple[Any, Any], weighted: tuple[Tensor, Tensor] | None = None) -> Any:
    """The value, with the terms of each x times a factor."""
    terms = [term for x, factor in scaled if _is_tracked(x) for term in _scale(x.terms, factor)]
    return _tracked(value, terms, next(x for x, _ in scaled if _is_tracked(x)).source, weighted=weighted)


def _regroup(factor: Tensor, old: Sequence[int], new: Sequence[int]) -> Tensor:
    """A factor of a tensor of shape ``old``, for that tensor in shape ``new``: still 1 where it does not vary."""
    sizes, i, j = list(factor.shape), 0, 0
    shape: list[int] = []
    while i < len(old) or j < len(new):  # the next dimensions of both that have the same number of elements
        start, new_start = i, j
        i, j = min(i + 1, len(old)), min(j + 1, len(new))
        while (a := prod(old[start:i])) != (b := prod(new[new_start:j])):
            i, j = (i + 1, j) if a < b else (i, j + 1)
        if _varies(factor, range(start, i)):
            sizes[start:i] = old[start:i]
            shape += new[new_start:j]
        else:
            shape += [1] * (j - new_start)
    return factor.expand(sizes).reshape(shape)


# Linear operations that mix features or proposals. What mixes features is as a rule followed by something nonlinear:
# its output is a plain tensor, into which the model may write.


@_rule("linear", F)
def _linear(func: Any, x: Any, weight: Any, bias: Any = None) -> Any:
    if weight.dim() != 2:
        return NotImplemented
    parts = [part for part, version in x.parts if part._version == version]
    if parts and len(parts) == len(x.parts) and any(u.numel() > u.shape[-1] for _, u in x.terms):
        weights = weight.split([part.shape[-1] for part in parts], -1)
        outputs = [(_linear if _is_tracked(p) else _call)(func, p, w) for p, w in zip(parts, weights, strict=True)]
        return sum(outputs) if bias is None else sum(outputs) + bias.to(outputs[0].dtype)
    known = any(u is x.value for _, u in x.terms)
    value = func(x.value, weight, None if known else bias)
    terms = _map_terms(x, (-1,), lambda z: func(z, weight.to(z.dtype)), value=value)
    if known:
        value = value.clone() if bias is None else value + bias.to(value.dtype)
    return _attach(value, terms, fresh=True)


def _call(func: Any, *args: Any) -> Any:
    return func(*args)


@_rule("matmul bmm __matmul__ __rmatmul__", several=True)
def _matmul(func: Any, a: Any, b: Any) -> Any:
    value = func(_value(a), _value(b))
    if func is Tensor.__rmatmul__:
        a, b = b, a
    if a.dim() < 2 or (b.dim() < 2 and _is_tracked(b)):
        return NotImplemented
    left, right = _value(a), _value(b)
    terms: list[Term] = []
    if _is_tracked(a):
        place = (lambda z: z) if b.dim() > 1 else (lambda z: z.squeeze(-1))
        terms += _map_terms(a, (-1,), lambda z: z @ right.to(z.dtype), place=place)
        if not _is_tracked(b):
            return _attach(value, terms, fresh=True)
    terms += _map_terms(
        b,
        (-2,),
        lambda z: left.to(z.dtype) @ z,
        product=lambda c, u: (left * c.mT) @ u if c.shape[-1] == 1 else left.to(u.dtype) @ (c * u),
    )
    return _tracked(value, terms, b.source)


@_rule("einsum", several=True)
def _einsum(func: Any, equation: str, *operands: Any) -> Any:
    operands = tuple(operands[0]) if isinstance(operands[0], list | tuple) else operands
    inputs, arrow, output = equation.replace(" ", "").partition("->")
    if not arrow or "." in equation or len(operands) != 2 or all(map(_is_tracked, operands)):
        return NotImplemented
    (other, others), (x, mine) = sorted(zip(operands, inputs.split(","), strict=True), key=lambda o: _is_tracked(o[0]))
    if len(set(mine)) != len(mine):
        return NotImplemented

    def linear(z: Tensor) -> Tensor:
        return torch.einsum(f"{mine},{others}->{output}", z, other.to(z.dtype))

    def place(factor: Tensor) -> Tensor:  # the letters that others alone have are new dimensions
        new = "".join(letter for letter in output if letter not in mine)
        return torch.einsum(f"{mine}{new}->{output}", factor[(..., *[None] * len(new))])

    def product(c: Tensor, u: Tensor) -> Tensor:
        return torch.einsum(f"{mine},{others},{mine}->{output}", c, other.to(c.dtype), u)

    contracted = [dim for dim, letter in enumerate(mine) if letter not in output]
    value = func(equation, *map(_value, operands))
    return _tracked(value, _map_terms(x, contracted, linear, place=place, product=product), x.source)


@_rule("conv1d conv2d conv3d")
def _convolution(func: Any, x: Any, weight: Any, bias: Any = None, *options: Any, **more: Any) -> Any:
    if x.dim() != weight.dim() or x.shape[1] != weight.shape[1]:
        return NotImplemented
    if any(c.shape[1] > 1 or u.numel() > u.shape[1] for c, u in x.terms):
        return NotImplemented
    terms = []
    for c, u in x.terms:  # c is the same in all channels: a convolution of one channel
        kernel, image = (weight.to(u.dtype) * u).sum(1, keepdim=True), c.expand(-1, -1, *x.shape[2:])
        with torch.autocast(x.value.device.type, enabled=False):
            term = func(image, kernel, None, *options, **more)
        terms.append((term, term.new_ones((1,) * term.dim())))
    return _attach(func(x.value, weight, bias, *options, **more), terms, fresh=True)


@_rule("sum mean")
def _reduce(func: Any, x: Any, dim: Any = None, keepdim: bool = False) -> Any:
    n = x.dim()
    dims = tuple(d % n for d in ([dim] if isinstance(dim, int) else dim or range(n)))
    pools = func.__name__ == "sum" and dims == (n - 2,)

    def pooled(weights: Tensor, u: Tensor) -> Tensor:  # without their product
        with torch.autocast(x.value.device.type, enabled=False):
            result = weights.mT @ u
        return result if keepdim else result.squeeze(-2)

    def reduced(z: Tensor) -> Tensor:
        result: Tensor = func(z, dims, keepdim)
        return result

    terms = _map_terms(
        x,
        dims,
        reduced,
        place=lambda z: z if keepdim else z.squeeze(dims),
        product=lambda c, u: pooled(c, u) if pools and c.shape[-1] == 1 else reduced(c * u),
    )
    return _tracked(pooled(*x.weighted) if pools and x.weighted else reduced(x.value), terms, x.source)


# Arithmetic


def _signed(names: str, sign_a: int, sign_b: int) -> None:
    _rule(names, several=True)(lambda func, a, b: _combine(func(_value(a), _value(b)), (a, sign_a), (b, sign_b)))


_signed("add __add__ __radd__", 1, 1)
_signed("sub __sub__", 1, -1)
_signed("rsub __rsub__", -1, 1)
_rule("neg __neg__")(lambda func, x: _combine(func(x.value), (x, -1)))


@_rule("mul multiply __mul__ __rmul__", several=True)
def _mul(func: Any, a: Any, b: Any) -> Any:
    x, weights = (a, b) if _is_tracked(a) else (b, a)
    weighted = None
    fits = type(weights) is Tensor and weights.dim() == x.dim() > 1 and weights.shape[-1] == 1
    if fits and weights.dtype == x.dtype and weights.shape[-2] in (1, x.shape[-2]):
        weighted = weights.expand(*weights.shape[:-2], x.shape[-2], 1), x.value
    return _combine(func(_value(a), _value(b)), (a, _value(b)), (b, _value(a)), weighted=weighted)


@_rule("div true_divide __truediv__", several=True)
def _div(func: Any, a: Any, b: Any) -> Any:
    value = func(_value(a), _value(b))
    terms = _scale(a.terms, value.new_ones(()) / _value(b)) if _is_tracked(a) else []
    if _is_tracked(b) and b.shape[-1:] == (1,):  # such as a norm: the direction is the value, which later rules know
        terms += [(-c * u / b.value, value) for c, u in b.terms]
    elif _is_tracked(b):
        terms += _scale(b.terms, -value / b.value)
    return _tracked(value, terms, (a if _is_tracked(a) else b).source)


@_rule("norm vector_norm", torch, Tensor, torch.linalg)
def _norm(func: Any, x: Any, ord: Any = 2, dim: Any = None, keepdim: bool = False, p: Any = None) -> Any:
    ord = ord if p is None else p
    if ord not in (2, "fro") or not keepdim or dim not in (-1, x.dim() - 1, (-1,), [-1]):
        return NotImplemented
    value = func(x.value, ord, dim, keepdim)
    unit = (x.value / value).masked_fill(value == 0, 0.0)
    return _tracked(value, _map_terms(x, (-1,), lambda z: _inner(unit.to(z.dtype), z, value.shape)), x.source)


@_rule("normalize", F)
def _normalize(func: Any, x: Any, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Any:
    norm = _norm(torch.linalg.vector_norm, x, p, dim, keepdim=True)
    if norm is NotImplemented:
        return NotImplemented
    return _div(torch.div, x, _combine(norm.value.clamp_min(eps), (norm, norm.value >= eps)))


@_rule("dropout", F, torch)
def _dropout(func: Any, x: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    if not training or p == 0:
        return x
    return _mul(torch.mul, x, func(torch.ones_like(x.value), p, training))  # draws the same numbers


@_rule("masked_fill")
def _masked_fill(func: Any, x: Any, mask: Any, value: Any) -> Any:
    return _combine(func(x.value, mask, value), (x, ~mask))


# Layout


@_rule("reshape view flatten unflatten squeeze unsqueeze reshape_as view_as")
def _reshape(func: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
    if x.numel() == 0 or any(isinstance(option, torch.dtype) for option in args):
        return NotImplemented
    value = func(x.value, *args, **kwargs)
    terms = [(_regroup(c, x.shape, value.shape), _regroup(u, x.shape, value.shape)) for c, u in x.terms]
    return _tracked(value, terms, x.source)


@_rule("transpose permute movedim swapaxes t T mT")
def _transpose(func: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
    terms = [(func(c, *args, **kwargs), func(u, *args, **kwargs)) for c, u in x.terms]
    return _tracked(func(x.value, *args, **kwargs), terms, x.source)


@_rule("expand expand_as broadcast_to contiguous clone to float double half bfloat16 type_as cpu cuda")
def _keep_terms(func: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
    value = func(x.value, *args, **kwargs)
    terms = [(c.to(value.device), u.to(value.device)) for c, u in x.terms]
    return x if value is x.value else _tracked(value, terms, x.source)


@_rule("__getitem__", Tensor)
def _getitem(func: Any, x: Any, index: Any) -> Any:
    entries: list[Any] = []
    for entry in index if isinstance(index, tuple) else (index,):
        if not isinstance(entry, int | slice | Tensor | EllipsisType | None) or isinstance(entry, bool):
            return NotImplemented
        if isinstance(entry, Tensor) and (entry.dim() == 0 or entry.dtype == torch.uint8):
            return NotImplemented
        if isinstance(entry, Tensor) and entry.dtype == torch.bool:
            entries += entry.nonzero(as_tuple=True)
        else:
            entries.append(entry)
    for i in [i for i, entry in enumerate(entries) if entry is Ellipsis]:
        entries[i : i + 1] = [slice(None)] * (x.dim() + 1 - sum(entry is not None for entry in entries))

    def first(entry: Any) -> Any:  # reads a dimension where a factor is 1
        if isinstance(entry, Tensor):
            return entry.new_zeros((1,) * entry.dim())
        return slice(None) if isinstance(entry, slice) else 0

    def select(factor: Tensor) -> Tensor:
        sizes = iter(factor.shape)
        return factor[tuple(e if e is None or next(sizes) > 1 else first(e) for e in entries)]

    return _tracked(func(x.value, tuple(entries)), [(select(c), select(u)) for c, u in x.terms], x.source)


@_rule("cat concat concatenate", several=True)
def _cat(func: Any, tensors: Any, dim: int = 0) -> Any:
    first = next(x for x in tensors if _is_tracked(x))
    if any(z.dim() != first.dim() for z in tensors):
        return NotImplemented
    dim %= first.dim()

    def padded(factor: Tensor, place: int) -> Tensor:
        """Zeros where the other tensors are."""
        sizes = [[*factor.shape[:dim], z.shape[dim], *factor.shape[dim + 1 :]] for z in tensors]
        return torch.cat([factor.expand(s) if i == place else factor.new_zeros(s) for i, s in enumerate(sizes)], dim)

    terms = []
    for i, x in enumerate(tensors):
        for c, u in x.terms if _is_tracked(x) else ():
            along_c, along_u = c.shape[dim] > 1, u.shape[dim] > 1
            terms.append((padded(c, i) if along_c or not along_u else c, padded(u, i) if along_u else u))
    last = dim == first.dim() - 1 and not torch.compiler.is_compiling()
    versions = [(z, z._version) for z in tensors] if last else []
    return _tracked(func([_value(x) for x in tensors], dim), terms, first.source, parts=versions if last else ())
