r"""How operations act on a tensor plus a term of low rank: the algebra of tracked proposals.

A :class:`LowRank` stands for

.. math:: X + \sum_{i=1}^m c_i \odot u_i

with a ``value`` X, coefficients c and directions u. Both have the dimensions of X after a first dimension m, and size 1
where they do not vary: for proposals ``(B, K, D)`` that move along the columns of V by t, c is t with the shape
``(m, B, K, 1)``, and u is V with the shape ``(m, 1, 1, D)``. An operation that is linear in X and mixes some dimensions
(a linear layer mixes features, attention pooling mixes proposals) is applied to X and to the factor that varies along
these dimensions; the other factor stays as it is.

``RULES`` has a rule for each such operation. A rule gets a function of torch and its arguments, one of which is a
:class:`LowRank`, and returns another :class:`LowRank`, or NotImplemented.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._pytree import tree_leaves

RULES: dict[Any, Callable[..., Any]] = {}


@dataclass(frozen=True, eq=False)
class LowRank:
    """A value and its term (see the module).

    Attributes:
        value: X.
        c: coefficients, at least in float32.
        u: directions.
        scales: whether u is X itself, as for the reduction "input".
        ends: whether the result is a plain tensor, because a nonlinear operation usually follows.
        weighted: if X is a product with weights: the weights, the other factor, and the version of both. A sum over X
            is then computed as a matrix product.
    """

    value: Tensor
    c: Tensor
    u: Tensor
    scales: bool = False
    ends: bool = False
    weighted: tuple[Tensor, Tensor, int] | None = None

    def aligned(self) -> LowRank:
        """The same, with all dimensions of the value in c and u, and the term made dense where that is smaller."""
        n = self.value.dim() + 1
        c, u = (z.reshape(len(z), *[1] * (n - z.dim()), *z.shape[1:]) for z in (self.c, self.u))
        if len(c) > 1 and max(c.numel(), u.numel()) > self.value.numel():  # directions vary along all dimensions
            c, u = dense(c, u)
        return LowRank(self.value, c, u, self.scales, self.ends, self.weighted)


def sum_product(a: Tensor, b: Tensor, shape: Sequence[int]) -> Tensor:
    """``(a * b).sum_to_size(shape)``, as a matrix product if possible."""
    live = [[dim for dim, size in enumerate(sizes) if size != 1] for sizes in (a.shape, b.shape, shape)]
    x, y = (z.reshape([z.shape[dim] for dim in dims]) for z, dims in zip((a, b), live, strict=False))
    first = sorted(live[2], key=lambda dim: dim not in live[0])  # gives the gradient of a the layout of a
    with torch.autocast(a.device.type, enabled=False):
        product = torch.einsum(x, live[0], y, live[1], first)
        return product.permute([first.index(dim) for dim in live[2]]).reshape(shape)


def dense(c: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """The same term with m = 1: all of it in the coefficients, and directions of 1."""
    sizes = (max(m, n) for m, n in zip(c.shape[1:], u.shape[1:], strict=True))
    return sum_product(c, u.to(c.dtype), (1, *sizes)), c.new_ones([1] * c.dim())


# Helpers of the rules


def _rule(names: str, *spaces: Any, first: bool = True) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register the decorated rule for the named functions and methods of torch.

    The rule is used if the first argument is a :class:`LowRank`, or with ``first=False`` any argument. It is not used
    for calls with options that it does not have.
    """

    def register(rule: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(rule)

        def checked(func: Any, *args: Any, **kwargs: Any) -> Any:
            kwargs = {name: option for name, option in kwargs.items() if option is not None}
            try:
                signature.bind(func, *args, **kwargs)
            except TypeError:
                return NotImplemented
            return rule(func, *args, **kwargs) if isinstance(args[0], LowRank) or not first else NotImplemented

        for name, space in itertools.product(names.split(), spaces or (torch, Tensor)):
            attribute = getattr(space, name, None)
            function = attribute if callable(attribute) else getattr(attribute, "__get__", None)
            if function is not None:
                RULES[function] = checked
        return rule

    return register


def _value(x: Any) -> Any:
    return x.value if isinstance(x, LowRank) else x


def _each(function: Callable[[Tensor], Tensor], factor: Tensor) -> Tensor:
    """Apply a function of tensors without the first dimension m to each of the m entries."""
    mapped: Tensor = function(factor[0])[None] if len(factor) == 1 else torch.vmap(function)(factor)
    return mapped


def _mapped(
    x: LowRank,
    dims: Sequence[int],
    linear: Callable[[Tensor], Tensor],
    place: Callable[[Tensor], Tensor] = lambda factor: factor,
) -> tuple[Tensor, Tensor]:
    """The factors c and u of ``linear(x)``, which mixes the (negative) ``dims`` and keeps the others.

    ``place`` gives the layout of the output to a factor that does not vary along ``dims``.
    """
    c, u = x.c, x.u.to(x.c.dtype)
    sizes = [size if at - x.value.dim() in dims else -1 for at, size in enumerate(x.value.shape)]

    def mixed(factor: Tensor) -> Tensor:
        return _each(lambda z: linear(z.expand(sizes)), factor)

    with torch.autocast(c.device.type, enabled=False):  # keeps the precision of the term
        if all(c.shape[dim] == 1 for dim in dims):
            return _each(place, c), mixed(u)
        if any(u.shape[dim] != 1 for dim in dims):
            c, u = dense(c, u)
        return mixed(c), _each(place, u)


# Linear operations that mix features or proposals


@_rule("linear", F)
def _linear(func: Any, x: LowRank, weight: Tensor, bias: Tensor | None = None) -> Any:
    if weight.dim() != 2:
        return NotImplemented
    if x.scales and x.c.shape[-1] == 1:
        value = func(x.value, weight)
        return LowRank(value.clone() if bias is None else value + bias.to(value.dtype), x.c, value[None], ends=True)
    term = _mapped(x, (-1,), lambda z: F.linear(z, weight.to(z.dtype)))
    return LowRank(func(x.value, weight, bias), *term, ends=True)


@_rule("matmul bmm __matmul__ __rmatmul__", first=False)
def _matmul(func: Any, a: Any, b: Any) -> Any:
    value = partial(func, _value(a), _value(b))
    if func is Tensor.__rmatmul__:
        a, b = b, a
    if min(_value(a).dim(), 2 if isinstance(a, LowRank) else _value(b).dim()) < 2:
        return NotImplemented
    if isinstance(b, LowRank):
        return LowRank(value(), *_mapped(b, (-2,), lambda z: a.to(z.dtype) @ z))
    term = _mapped(a, (-1,), lambda z: z @ b.to(z.dtype), lambda z: z if b.dim() > 1 else z.squeeze(-1))
    return LowRank(value(), *term, ends=True)


@_rule("einsum", first=False)
def _einsum(func: Any, equation: str, *operands: Any) -> Any:
    operands = tuple(operands[0]) if isinstance(operands[0], list | tuple) else operands
    inputs, arrow, output = equation.replace(" ", "").partition("->")
    if not arrow or "." in equation or len(operands) != 2:
        return NotImplemented
    at = int(isinstance(operands[1], LowRank))
    (x, mine), (other, others) = ((operands[i], inputs.split(",")[i]) for i in (at, 1 - at))
    new = "".join(letter for letter in output if letter not in mine)
    if len(set(mine)) != len(mine):
        return NotImplemented
    term = _mapped(
        x,
        [dim - len(mine) for dim, letter in enumerate(mine) if letter not in output],
        lambda z: torch.einsum(f"{mine},{others}->{output}", z, other.to(z.dtype)),
        lambda z: torch.einsum(f"{mine}{new}->{output}", z[(..., *[None] * len(new))]),
    )
    return LowRank(func(equation, *map(_value, operands)), *term)


@_rule("conv1d conv2d conv3d")
def _convolution(func: Any, x: LowRank, weight: Tensor, bias: Any = None, *options: Any, **more: Any) -> Any:
    if x.value.dim() != weight.dim() or x.value.shape[1] != weight.shape[1]:
        return NotImplemented
    if x.c.shape[2] > 1 or x.u[0].numel() > x.u.shape[2]:
        return NotImplemented
    batch, _, *sizes = x.value.shape
    with torch.autocast(
        x.c.device.type, enabled=False
    ):  # c is equal in all channels, so one channel for each of m suffices
        image = x.c.squeeze(2).expand(-1, batch, *sizes).movedim(0, 1)
        kernel = torch.einsum("oc...,mc->om...", weight.to(x.c.dtype), x.u.flatten(1).to(x.c.dtype))
        term = func(image, kernel, None, *options, **more)[None]
    return LowRank(func(x.value, weight, bias, *options, **more), term, term.new_ones([1] * term.dim()), ends=True)


@_rule("sum mean")
def _reduce(func: Any, x: LowRank, dim: Any = None, keepdim: bool = False) -> Any:
    n = x.value.dim()
    dims = tuple(d % n - n for d in ([dim] if isinstance(dim, int) else dim or range(n)))
    if x.weighted and func.__name__ == "sum" and dims == (-2,) and _version(*x.weighted[:2]) == x.weighted[2]:
        weights, weighed, _ = x.weighted
        value = weights.mT @ weighed if keepdim else (weights.mT @ weighed).squeeze(-2)
    else:
        value = func(x.value, dims, keepdim)
    term = _mapped(x, dims, lambda z: func(z, dims, keepdim), lambda z: z if keepdim else z.squeeze(dims))
    return LowRank(value, *term)


def _version(a: Tensor, b: Tensor) -> int:
    """Number of writes into two tensors; compiled code does not write into them."""
    return 0 if torch.compiler.is_compiling() else a._version + b._version


# Arithmetic


def _scaled(value: Tensor, x: LowRank, factor: Any, weighted: tuple[Tensor, Tensor, int] | None = None) -> LowRank:
    """The value, with the term of x times a factor, which multiplies the smaller of c and u."""
    c, u = x.c, x.u
    shape = getattr(factor, "shape", ())
    size_c, size_u = (prod(torch.broadcast_shapes(z.shape[1:], shape)) for z in (c, u))  # type: ignore[no-untyped-call]
    if len(c) > 1 and len(c) * min(size_c, size_u) > value.numel():
        c, u = dense(c, u)
        size_c = 0
    if size_c < size_u:
        return LowRank(value, _each(lambda z: z * factor, c), u, weighted=weighted)
    return LowRank(value, c, _each(lambda z: z * factor, u), weighted=weighted)


def _signed(names: str, sign_a: int, sign_b: int) -> None:
    @_rule(names, first=False)
    def rule(func: Any, a: Any, b: Any) -> Any:
        x, sign = (a, sign_a) if isinstance(a, LowRank) else (b, sign_b)
        return LowRank(func(_value(a), _value(b)), sign * x.c, x.u)


_signed("add __add__ __radd__", 1, 1)
_signed("sub __sub__", 1, -1)
_signed("rsub __rsub__", -1, 1)
_rule("neg __neg__")(lambda func, x: LowRank(func(x.value), -x.c, x.u))
_rule("div true_divide __truediv__")(lambda func, x, by: _scaled(func(x.value, by), x, x.value.new_ones(()) / by))
_rule("masked_fill")(lambda func, x, mask, by: _scaled(func(x.value, mask, by), x, ~mask))


@_rule("mul multiply __mul__ __rmul__", first=False)
def _mul(func: Any, a: Any, b: Any) -> Any:
    x, factor = (a, b) if isinstance(a, LowRank) else (b, a)
    value, weighted = x.value, None
    fits = type(factor) is Tensor and factor.dim() == value.dim() > 1 and factor.dtype == value.dtype
    fits = fits and not torch.is_autocast_enabled(value.device.type)  # autocast would sum in float32
    if fits and factor.shape[-1] == 1 and factor.shape[-2] in (1, value.shape[-2]):
        weights = factor.expand(*factor.shape[:-2], value.shape[-2], 1)
        weighted = weights, value, _version(weights, value)
    return _scaled(func(_value(a), _value(b)), x, factor, weighted)


@_rule("dropout", F, torch)
def _dropout(func: Any, x: LowRank, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    if not training or p == 0:
        return x
    return _mul(torch.mul, x, func(torch.ones_like(x.value), p, training))  # draws the same random numbers


# Layout


@_rule(
    "reshape view flatten unflatten squeeze unsqueeze expand broadcast_to transpose permute movedim swapaxes t T mT "
    "select narrow"
)
def _view(func: Any, x: LowRank, *args: Any, **kwargs: Any) -> Any:
    if any(isinstance(option, Tensor | torch.dtype) for option in tree_leaves((args, kwargs))):
        return NotImplemented
    value = func(x.value, *args, **kwargs)
    lay_out = Tensor.reshape if func is Tensor.view else func  # a factor may need a copy where the value does not

    def laid_out(factor: Tensor) -> Tensor:  # stride 0 marks dimensions that a factor does not vary along
        view: Tensor = lay_out(factor.expand(x.value.shape), *args, **kwargs)
        return view[tuple(slice(None, None if stride else 1) for stride in view.stride())]

    c, u = x.c, x.u
    if any(laid_out(z[0]).numel() > z[0].numel() for z in (c, u)):  # a merged dimension would need a copy of both
        c, u = dense(c, u)
    return LowRank(value, _each(laid_out, c), _each(laid_out, u))


@_rule("__getitem__", Tensor)
def _getitem(func: Any, x: LowRank, index: Any) -> Any:
    if not isinstance(index, Tensor) or index.dim() != 1 or index.dtype == torch.uint8:
        return _view(func, x, index)
    c, u = (_each(lambda z: z[index] if len(z) > 1 else z, factor) for factor in (x.c, x.u))
    return LowRank(x.value[index], c, u)


@_rule("contiguous clone to float double half bfloat16 type_as cpu cuda")
def _keep(func: Any, x: LowRank, *args: Any, **kwargs: Any) -> Any:
    value = func(x.value, *args, **kwargs)
    return LowRank(value, x.c.to(value.device), x.u.to(value.device))


@_rule("cat concat concatenate", first=False)
def _cat(func: Any, tensors: Any, dim: int = 0) -> Any:
    at, x = next((at, x) for at, x in enumerate(tensors) if isinstance(x, LowRank))
    n, values = x.value.dim(), [_value(z) for z in tensors]
    if any(value.dim() != n for value in values):
        return NotImplemented
    dim = dim % n - n
    before, after = (sum(value.shape[dim] for value in part) for part in (values[:at], values[at + 1 :]))

    def padded(factor: Tensor) -> Tensor:  # with zeros in place of the other tensors
        sizes = [-1] * factor.dim()
        sizes[dim] = x.value.shape[dim]
        return F.pad(factor.expand(sizes), [0, 0] * (-1 - dim) + [before, after])

    c = padded(x.c) if x.c.shape[dim] > 1 or x.u.shape[dim] == 1 else x.c
    return LowRank(func(values, dim), c, padded(x.u) if x.u.shape[dim] > 1 else x.u)
