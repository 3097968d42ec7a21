"""Random programs on tracked proposals of any shape give what plain double backward gives.

``pytest tests/test_tracking_programs.py --hypothesis-profile=fuzz`` runs 4,500 programs.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from math import prod
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from hint_loss import proposal_importance, track_proposals

from .tracking import along

PARAMETERS = torch.linspace(-1.5, 1.5, 8, dtype=torch.float64).requires_grad_()
LARGEST, MOST_DIMENSIONS = 3000, 5


class Draw(random.Random):
    """Draws the parts of a program. The same seed draws the same program, on tracked and on plain proposals."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.generator = torch.Generator().manual_seed(seed)

    def rand(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self.generator, dtype=torch.float64) + 0.3

    def factor(self, *shape: int) -> Tensor:
        """A random tensor that depends on a parameter."""
        return self.rand(*shape) * (1 + 0.2 * self.choice(PARAMETERS.unbind()))

    def broadcast(self, shape: list[int], *, shorter: bool = True) -> list[int]:
        """A shape that broadcasts to this one."""
        sizes = [size if self.random() < 0.5 else 1 for size in shape]
        return sizes[self.randrange(len(sizes) + 1) :] if shorter and self.random() < 0.3 else sizes

    def dim(self, x: Tensor) -> int:
        return self.randrange(-x.dim(), x.dim())

    def dims(self, x: Tensor) -> tuple[int, ...]:
        """Some dimensions, but not all."""
        chosen = self.sample(range(x.dim()), self.randrange(1, x.dim()))
        return tuple(dim - x.dim() * self.randrange(2) for dim in chosen)

    def rows(self, size: int, number: int) -> Tensor:
        return torch.tensor([self.randrange(size) for _ in range(number)])


def reshape(x: Tensor, d: Draw) -> Tensor:
    rest, shape = x.numel(), list[int]()
    while rest > 1 and len(shape) < 3:
        shape.append(d.choice([size for size in range(1, rest + 1) if rest % size == 0]))
        rest //= shape[-1]
    return x.reshape([*shape, rest])


def einsum(x: Tensor, d: Draw) -> Tensor:
    mine = "abcde"[: x.dim()]
    others = [letter for letter in mine if d.random() < 0.6] + ["x"] * d.randrange(2) or [mine[0]]
    d.shuffle(others)
    letters = list(dict.fromkeys([*mine, *others]))
    output = d.sample(letters, d.randrange(1, len(letters) + 1))
    sizes = dict(zip(mine, x.shape, strict=True), x=2)
    other = d.factor(*(sizes[letter] if d.random() < 0.9 else 1 for letter in others))
    if d.random() < 0.5:
        return torch.einsum(f"{mine},{''.join(others)}->{''.join(output)}", x, other)
    return torch.einsum(f"{''.join(others)},{mine}->{''.join(output)}", other, x)


def index(x: Tensor, d: Draw) -> Tensor:
    """Indexes by tensors in two dimensions and a number in a third, and inserts a dimension."""
    entries: list[int | slice | Tensor | None] = [slice(None)] * x.dim()
    number, first, *_ = d.choice([1, 2, 3]), *d.sample(range(x.dim()), min(2, x.dim()))
    for dim in {first, d.randrange(x.dim())}:
        entries[dim] = d.rows(x.shape[dim], number)
    if isinstance(entries[dim := d.randrange(x.dim())], slice) and d.random() < 0.5:
        entries[dim] = d.randrange(x.shape[dim])
    if d.random() < 0.3:
        entries.insert(d.randrange(len(entries) + 1), None)
    if isinstance(rows := entries[first], Tensor) and d.random() < 0.3:
        entries[first] = rows[:, None]
    return x[tuple(entries)]


def mask(x: Tensor, d: Draw) -> Tensor:
    chosen = d.rand(*x.shape[: d.randrange(1, x.dim() + 1)]) > 0.8
    return x[chosen] if chosen.any() else x


def expand(x: Tensor, d: Draw) -> Tensor:
    ones = [dim for dim, size in enumerate(x.shape) if size == 1]
    if not ones:
        return x.expand(2, *x.shape)
    sizes = list(x.shape)
    sizes[d.choice(ones)] = 3
    return x.expand(sizes)


def unflatten(x: Tensor, d: Draw) -> Tensor:
    even = [dim for dim, size in enumerate(x.shape) if size % 2 == 0]
    return x.unflatten(d.choice(even), d.choice([(2, -1), (-1, 2)])) if even else x


def concatenate(x: Tensor, d: Draw) -> Tensor:
    dim, sizes = d.dim(x), list(x.shape)
    sizes[dim] = d.choice([1, 2])
    other = d.factor(*sizes)
    return torch.cat(d.choice([[x, other], [other, x, other]]), dim)


def pairs(x: Tensor, d: Draw) -> Tensor:
    """Combines each with each along one dimension, as relation networks do."""
    dim = d.randrange(x.dim())
    one, other = x.unsqueeze(dim), x.unsqueeze(dim + 1)
    return one + other if d.random() < 0.5 else one * other * 0.5


def pool(x: Tensor, d: Draw) -> Tensor:
    weights = d.factor(*(size if d.random() < 0.8 else 1 for size in x.shape[:-1]), 1)
    return (x * weights if d.random() < 0.5 else weights * x).sum(-2, keepdim=d.random() < 0.3)


def multiply(x: Tensor, d: Draw) -> Tensor:
    """Multiplies from either side by a floating point, a boolean or an integer factor."""
    factor = d.factor(*d.broadcast(list(x.shape)))
    factor = d.choice([factor, factor, factor > 0.7, factor.long()])
    return x * factor if d.random() < 0.5 else factor * x


def convolve(x: Tensor, d: Draw) -> Tensor:
    if x.dim() == 3:
        return F.conv1d(x, d.factor(2, x.shape[1], 3), padding=1, stride=d.choice([1, 2]))
    return F.conv2d(x, d.factor(2, x.shape[1], 1, 3), padding=1) if x.dim() == 4 else x


STEPS: dict[str, Callable[[Tensor, Draw], Tensor]] = {
    "add": lambda x, d: x + d.factor(*d.broadcast(list(x.shape))),
    "subtract": lambda x, d: d.factor(*d.broadcast(list(x.shape))) - x,
    "multiply": multiply,
    "new dimension": lambda x, d: x * d.factor(2, *[1] * x.dim()),
    "divide": lambda x, d: x / d.factor(*d.broadcast(list(x.shape))),
    "divide by integers": lambda x, d: x / torch.tensor(3),
    "divide by its sum": lambda x, d: x / (5 + x.sum(d.dim(x), keepdim=True)),
    "negate": lambda x, d: -x,
    "permute": lambda x, d: x.permute(d.sample(range(x.dim()), x.dim())),
    "transpose": lambda x, d: x.transpose(d.dim(x), d.dim(x)),
    "reshape": reshape,
    "flatten": lambda x, d: x.flatten(dim := d.randrange(x.dim()), min(dim + 1, x.dim() - 1)),
    "unflatten": unflatten,
    "unsqueeze": lambda x, d: x.unsqueeze(d.randrange(x.dim() + 1)),
    "squeeze": lambda x, d: x.squeeze(),
    "expand": expand,
    "sum": lambda x, d: x.sum(d.dims(x), keepdim=d.random() < 0.5) if x.dim() > 1 else x,
    "mean": lambda x, d: x.mean(d.dims(x), keepdim=d.random() < 0.5) if x.dim() > 1 else x,
    "add its mean": lambda x, d: x + x.mean(d.dim(x), keepdim=True),
    "linear": lambda x, d: F.linear(x, d.factor(3, x.shape[-1]), d.choice([None, d.rand(3)])),
    "matmul": lambda x, d: x @ d.factor(*d.broadcast(list(x.shape[:-2]), shorter=False), x.shape[-1], 3),
    "matmul from the left": lambda x, d: d.factor(2, x.shape[-2]) @ x if x.dim() > 1 else x,
    "matmul a vector": lambda x, d: x @ d.factor(x.shape[-1]),
    "gram matrix": lambda x, d: x @ x.mT * 0.2 if x.dim() > 1 else x * x.sum(),
    "einsum": einsum,
    "pool": pool,
    "concatenate": concatenate,
    "concatenate itself": lambda x, d: torch.cat([x * d.factor(1), x], d.dim(x)),
    "pairs": pairs,
    "convolve": convolve,
    "select": lambda x, d: x.index_select(dim := d.randrange(x.dim()), d.rows(x.shape[dim], 2)),
    "slice": lambda x, d: x[(slice(None),) * d.randrange(x.dim()) + (slice(0, None, 2),)],
    "index": index,
    "mask": mask,
    "norm": lambda x, d: x / (1 + x.norm(dim=-1, keepdim=True)),
    "normalise": lambda x, d: F.normalize(x, dim=-1),
    "dropout": lambda x, d: F.dropout(x, 0.3),
    "fill": lambda x, d: x.masked_fill(d.rand(*d.broadcast(list(x.shape))) > 1.1, 0.5),
    "detach a part": lambda x, d: x + x.detach() * d.factor(1),
    "no gradient": lambda x, d: x + torch.no_grad()(lambda: x.clone() * 0.5)(),
    "rectify": lambda x, d: torch.relu(x - 0.2) + 0.1 * x,
    "cast": lambda x, d: x.to(torch.float64).contiguous().clone(),
}


def run(x: Tensor, seed: int, steps: list[str]) -> Tensor:
    """The score of a program. Steps that make the result too large are left out."""
    draw = Draw(seed)
    torch.manual_seed(seed)  # dropout
    for step in steps:
        try:
            y = STEPS[step](x, draw)
        except (RuntimeError, IndexError) as error:
            if type(x) is not Tensor:  # the plain program got past this step
                raise AssertionError(f"{step} on {tuple(x.shape)}") from error
            raise
        if 0 < y.numel() <= LARGEST and 0 < y.dim() <= MOST_DIMENSIONS:
            x = y
    coefficients = draw.factor(*x.shape)
    return torch.tanh(0.5 * x * coefficients).sum() + 0.01 * (x * coefficients).sum().square()


@pytest.mark.parametrize("reduction", ["sum", "input", "norm"])
@given(
    shape=st.lists(st.sampled_from([1, 2, 3]), min_size=1, max_size=3).map(lambda sizes: [*sizes, 4]),
    feature_dim=st.sampled_from([-1, 1]),
    steps=st.lists(st.sampled_from(sorted(STEPS)), max_size=6),
    seed=st.integers(0, 2**16),
)
def test_tracking_is_exact_in_random_programs(
    reduction: str, shape: list[int], feature_dim: int, steps: list[str], seed: int
) -> None:
    features = torch.rand(prod(shape), generator=torch.Generator().manual_seed(seed), dtype=torch.float64).view(shape)
    v = torch.linspace(-1, 1, 2 * features.shape[feature_dim], dtype=torch.float64).view(-1, 2)
    results = []
    for track in (False, True):
        x = features.clone().requires_grad_()
        if track:
            x = track_proposals(features, feature_dim=feature_dim, reduction=reduction, probes=v)  # type: ignore[arg-type]
        try:
            score = run(x, seed, steps)
        except (RuntimeError, IndexError):  # an operation does not fit the shape, in the plain program
            assume(False)
        how: Any = along(v) if reduction == "norm" and not track else reduction
        alpha = proposal_importance(score, x, feature_dim=feature_dim, reduction=how)
        coefficients = torch.linspace(0.1, 1, alpha.numel(), dtype=torch.float64).view(alpha.shape)
        loss = (alpha * coefficients).sum() + 0.1 * score.square()
        results.append([score, alpha, *torch.autograd.grad(loss, [PARAMETERS], materialize_grads=True)])
    assume(all(value.isfinite().all() for value in results[0]))  # a program may divide zeros by their norm
    for plain, found in zip(*results, strict=True):
        torch.testing.assert_close(found, plain, rtol=0, atol=1e-9 * max(plain.abs().max().item(), 0.1))
