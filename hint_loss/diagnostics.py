"""Checks of your own model: is the second derivative right, and which operations are tracked lazily?"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from math import isnan, nan
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten
from torch.utils.checkpoint import CheckpointError

from hint_loss.importance import ImportanceReduction, proposal_importance
from hint_loss.second_order.kernels import check_graph
from hint_loss.second_order.tracking import TrackedProposals


@dataclass(frozen=True)
class DoubleBackwardReport:
    """The result of :func:`check_double_backward`, to be printed.

    Attributes:
        problems: what is wrong, and in which module; empty if nothing is.
        double_backward: derivative of the importance along a random direction, by double backward.
        finite_differences: the same derivative by finite differences. Both are NaN if double backward is not possible.
    """

    problems: tuple[str, ...] = ()
    double_backward: float = nan
    finite_differences: float = nan

    def __str__(self) -> str:
        numbers = f"{self.double_backward:.7g}, by finite differences {self.finite_differences:.7g}"
        title = f"Double backward: {'not possible' if isnan(self.double_backward) else numbers}."
        return "\n- ".join([title, *(self.problems or ["No problem was found."])])


def check_double_backward(
    score: Callable[..., Tensor],
    model: nn.Module,
    proposals: Tensor,
    *batch: Any,
    feature_dim: int = -1,
    reduction: ImportanceReduction = "sum",
) -> DoubleBackwardReport:
    """Check on your own model and batch that a loss on the importance has the right gradient.

    Some operations have no second derivative, and some have a wrong one without raising an error. The gradient of the
    score with respect to the proposals is differentiated along a random direction of proposals and trained parameters:
    by double backward in the model's own precision, and in float64 by double backward and by finite differences. If
    they disagree, each module that reads proposals is tested alone during the forward pass, with its own inputs and
    modes, and the innermost modules that fail are named.

    The check runs on a copy of the model, and restores the states of PyTorch's random number generators.

    Args:
        score: ``score(model, proposals, *batch)`` calls the given model and returns the score of each sample, ``(B,)``.
            Contexts of the forward pass, such as autocast, belong inside of it.
        model: the model. It has to run in float64.
        proposals: the model's proposals. A batch of two samples suffices.
        *batch: other arguments of ``score``. Floating-point tensors, also in containers, are converted to float64.
        feature_dim: as in :func:`~hint_loss.proposal_importance`.
        reduction: as in :func:`~hint_loss.proposal_importance`. A reduction that makes all importances vanish is a
            problem.

    Returns:
        The report; in a test, ``assert not report.problems, report``.

    Raises:
        ValueError: The score does not depend on the proposals.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Hardsigmoid())
        >>> print(check_double_backward(lambda model, x: model(x).square().sum((1, 2)), model, torch.randn(2, 5, 8)))
        Double backward: not possible.
        - `model.1`: Hardsigmoid lies between `proposals` and score and has no second derivative: ...
    """
    stored = [x for module in model.modules() for x in vars(module).values() if isinstance(x, Tensor) and x.grad_fn]
    model = copy.deepcopy(model, {id(x): x.detach() for x in stored})  # such as the weight that `weight_norm` stores
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with torch.enable_grad(), _forked(), ExitStack() as stack:
        for exact in (False, True):
            if exact:
                stack.enter_context(_Float64())
                model, (proposals, *batch) = model.double(), tree_map(_double, [proposals, *batch])
            leaf = proposals.detach().clone().requires_grad_()
            run = partial(score, model, leaf, *batch)
            report = _test(run, [leaf], trained, model, exact)
            if report.problems:
                outside = tuple(f"`score`: {problem}" for problem in report.problems)
                return replace(report, problems=_culprits(run, model, trained, exact) or outside)
        alpha, size = (
            proposal_importance(run(), leaf, feature_dim=feature_dim, reduction=how, differentiable=False)
            for how in (reduction, lambda g, p: (g * p if reduction == "input" else g).abs().sum(-1))
        )
    if isinstance(reduction, str) and (alpha.abs() <= 1e-4 * size).all():
        return replace(report, problems=(_VANISHES.format(reduction),))
    return report


@dataclass(frozen=True)
class TrackingReport:
    """Which operations followed the proposals lazily, and which at the cost that they have without tracking.

    Attributes:
        lazy: number of calls of each operation that had a rule.
        plain: number of calls of each operation without a rule.
    """

    lazy: Mapping[str, int]
    plain: Mapping[str, int]

    def __str__(self) -> str:
        return "\n".join(
            f"{kind}: " + (", ".join(f"{name} x {count}" for name, count in sorted(counts.items())) or "none")
            for kind, counts in (("lazy", self.lazy), ("plain", self.plain))
        )


def tracking_report(proposals: Tensor) -> TrackingReport:
    """Count the operations on tracked proposals so far, except those in compiled code.

    Args:
        proposals: the result of :func:`track_proposals`.

    Returns:
        The report, to be printed.

    Raises:
        TypeError: ``proposals`` are not tracked.

    Example:
        >>> from hint_loss import track_proposals
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


def _test(
    run: Callable[[], Any], inputs: Sequence[Tensor], trained: Sequence[Tensor], module: nn.Module, exact: bool
) -> DoubleBackwardReport:
    """Differentiate a random combination of the gradients of a random combination of the outputs of ``run``."""
    variables, buffers = [*inputs, *trained], [*module.buffers()]
    starts, states = [x.detach().clone() for x in variables], [buffer.clone() for buffer in buffers]

    def terms(step: float = 0.0, noise: Sequence[Tensor] = starts, *, twice: bool = False) -> Tensor:
        for x, start, n in zip(variables, starts, noise, strict=True):
            x.data.copy_(start + step * n * start)  # zeros may lie on a kink, so they stay
        for buffer, state in zip(buffers, states, strict=True):
            buffer.data.copy_(state)
        with _forked():
            outputs = [x for x in tree_leaves(run()) if isinstance(x, Tensor) and x.requires_grad]
        total = 0 * inputs[0].sum()  # for modules whose outputs are not found
        for n, x in zip(_noise(outputs, 0), outputs, strict=True):
            total = total + (n * x).sum()
        for x in inputs if twice else ():
            check_graph(total, x)
        gradients = torch.autograd.grad(total, inputs, create_graph=twice, materialize_grads=True)
        return torch.cat([(n * g).flatten() for n, g in zip(_noise(inputs, 1), gradients, strict=True)])

    try:
        first = terms(twice=True)
        second = (
            torch.autograd.grad(first.sum(), variables, materialize_grads=True)
            if first.requires_grad
            else [torch.zeros_like(x) for x in variables]
        )
    except CheckpointError as error:  # recomputation runs without our mode
        return DoubleBackwardReport((_CHECKPOINT.format(error) if exact else str(error),))
    except RuntimeError as error:
        return DoubleBackwardReport((str(error),))
    if not all(x.isfinite().all() for x in (first, *second)):
        return DoubleBackwardReport((_NOT_FINITE,))
    report, floor = DoubleBackwardReport(), 1e-6 * first.abs().sum().item() or 1.0  # smaller derivatives are rounding
    for seed in (2, 3, 4) if exact else ():
        noise = _noise(starts, seed)
        double = sum((g * n * start).sum().item() for g, n, start in zip(second, noise, starts, strict=True))
        steps = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8)
        estimates = [(terms(h, noise) - terms(-h, noise)).sum().item() / (2 * h) for h in steps]
        spread, estimate = min((_difference(a, b, floor), b) for a, b in pairwise(estimates))
        if _difference(double, estimate, floor) <= 1e-4:
            return DoubleBackwardReport((), double, estimate)
        if spread <= 1e-5:
            return DoubleBackwardReport((_WRONG.format(double, estimate),), double, estimate)
        report = DoubleBackwardReport((_UNSETTLED,), double, estimate)
    return report


def _culprits(run: Callable[[], Any], model: nn.Module, trained: Sequence[Tensor], exact: bool) -> tuple[str, ...]:
    """The problems of the innermost modules that fail, each tested when ``run`` calls it."""
    names = {module: f"model.{name}".rstrip(".") for name, module in model.named_modules()}
    problems: dict[str, tuple[str, ...]] = {}
    testing = False

    def test(module: nn.Module, args: Any, kwargs: Any) -> None:
        nonlocal testing
        leaves, spec = tree_flatten((args, kwargs))
        inputs = {i: x.detach().clone() for i, x in enumerate(leaves) if isinstance(x, Tensor) and x.requires_grad}
        if testing or not inputs or problems.get(names[module]):
            return

        def alone() -> Any:  # on copies, as the module may change its inputs in place
            args, kwargs = tree_unflatten([inputs[i].clone() if i in inputs else x for i, x in enumerate(leaves)], spec)
            return module(*args, **kwargs)

        testing, own = True, {id(parameter) for parameter in module.parameters()}
        variables = [x.requires_grad_() for x in inputs.values()], [x.requires_grad_() for x in trained if id(x) in own]
        problems[names[module]] = _test(alone, *variables, module, exact).problems
        module.requires_grad_(False)
        testing = False

    model.requires_grad_(False)  # from here on, only what depends on proposals requires a gradient
    for module in names:
        module.register_forward_pre_hook(test, with_kwargs=True, prepend=True)
    run()
    failed = [name for name in problems if problems[name]]
    inner = [name for name in failed if not any(other.startswith(f"{name}.") for other in failed)]
    return tuple(f"`{name}`: {problem}" for name in inner for problem in problems[name])


class _Float64(TorchFunctionMode):  # for models that cast to float32 explicitly
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args, kwargs = tree_map(lambda x: torch.float64 if x is torch.float32 else x, (args, kwargs or {}))
        return (Tensor.double if func is Tensor.float else func)(*args, **kwargs)


def _noise(tensors: Sequence[Tensor], seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)  # the same numbers for all devices
    return [torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device) for x in tensors]


def _difference(a: float, b: float, floor: float) -> float:
    return abs(a - b) / (max(abs(a), abs(b)) + floor)


def _double(x: Any) -> Any:
    return x.double() if isinstance(x, Tensor) and x.is_floating_point() else x


def _forked() -> AbstractContextManager[None]:
    return torch.random.fork_rng(range(torch.cuda.device_count()))


_WRONG = "double backward gives {:.6g}, finite differences {:.6g}: a derivative is wrong, or a part detached."
_UNSETTLED = "finite differences do not settle: not smooth, not in float64 throughout, or not repeatable."
_NOT_FINITE = (
    "the gradient, or its derivative, is not finite. Are proposals padded with zeros, then normalised or put under a "
    "square root? Mask them before it, or add an epsilon inside of it."
)
_CHECKPOINT = "a part that computes in float32 on purpose is checkpointed: check the model without checkpoints. ({})"
_VANISHES = (
    "the importance of every proposal is zero with `reduction={!r}`. Does a LayerNorm, or for `'input'` another "
    "normalisation, come first? Take the importance of its output, or `reduction='norm'`."
)
