"""Tracked proposals equal plain double backward in the gallery's models, and are lazy where promised."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hint_loss import TrackingReport, proposal_importance, track_proposals, tracking_report

from . import gallery, gallery_transformers
from .gallery import Example


class Step(NamedTuple):
    """Results of a training step."""

    score: Tensor
    alpha: Tensor
    gradients: dict[str, Tensor]
    report: TrackingReport | None


def build(builder: Callable[[], Example]) -> Example:
    """Moves every parameter from its initial value: zeros and ones, as in biases and norms, would hide errors."""
    example = builder()
    for parameter in example.model.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return example


def untracked(features: Tensor) -> Tensor:
    return features if features.requires_grad else features.clone().requires_grad_()


def step(
    example: Example, *, track: bool, reduction: Any = "sum", scale: float = 1.0, task: float = 1.0, cast: bool = False
) -> Step:
    """A step with a task loss and a loss on the importance, which has fixed coefficients."""
    torch.manual_seed(0)
    options = {"feature_dim": example.feature_dim, "reduction": reduction}

    def tracked(features: Tensor) -> Tensor:  # one direction for each feature makes the norm exact
        return track_proposals(features, probes=torch.eye(features.shape[example.feature_dim]), **options)

    with torch.autocast(torch.zeros(()).device.type, torch.bfloat16) if cast else nullcontext():
        logits, proposals = example.forward(tracked if track else untracked)
        answers = torch.arange(len(logits)) + 2
        score = logits.gather(1, answers[:, None]).squeeze(1)
    alpha = proposal_importance(score, proposals, **options)
    coefficients = torch.rand(alpha.shape, generator=torch.Generator().manual_seed(0)) - 0.3
    loss = (alpha * coefficients).sum() / scale + task * F.cross_entropy(logits, answers)
    trained = {name: p for name, p in example.model.named_parameters() if p.requires_grad}
    gradients = torch.autograd.grad(loss, list(trained.values()), materialize_grads=True)
    report = tracking_report(proposals) if track else None
    return Step(score.detach(), alpha.detach(), dict(zip(trained, gradients, strict=True)), report)


@pytest.fixture
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("reduction", ["sum", "input", "norm"])
@pytest.mark.parametrize(
    "builder", [*gallery.GALLERY, *gallery_transformers.GALLERY], ids=lambda builder: builder.__name__
)
def test_tracking_is_exact_and_lazy(builder: Callable[[], Example], reduction: str) -> None:
    def size(gradient: Tensor, features: Tensor) -> Tensor:
        return (gradient * features if reduction == "input" else gradient).abs().sum(-1)

    example = build(builder)
    sizes = step(example, track=False, reduction=size).alpha.flatten(1).amax(1)
    scale = sizes.max().item()
    plain, tracked = (step(example, track=track, reduction=reduction, scale=scale) for track in (False, True))

    def close(name: str, found: Tensor, expected: Tensor, floor: float = 0.0) -> None:
        """To 1e-10 of the largest entry."""
        atol = 1e-10 * max(expected.abs().max().item(), floor)
        torch.testing.assert_close(found, expected, rtol=0, atol=atol, msg=lambda text: f"{name}: {text}")

    close("score", tracked.score, plain.score)
    if reduction == example.vanishes:
        close("alpha", tracked.alpha, torch.zeros_like(plain.alpha), scale)
        close("plain alpha", plain.alpha, torch.zeros_like(plain.alpha), scale)
    else:
        alive = sizes > 0  # dropout may leave a sample nothing
        assert alive.any()
        assert (plain.alpha.abs().flatten(1).amax(1) > 0.01 * sizes)[alive].all()
        close("alpha", tracked.alpha, plain.alpha)
    # Some gradients, such as the one of the keys' bias, are zero but for rounding: the others give their scale.
    floor = 1e-4 * max(gradient.abs().max().item() for gradient in plain.gradients.values())
    for name, expected in plain.gradients.items():
        close(name, tracked.gradients[name], expected, floor)

    assert tracked.report is not None
    # Convolutions are lazy only along a direction that is the same everywhere.
    convolution = {"conv2d"} if reduction == "input" else set()
    assert set(tracked.report.lazy) >= example.lazy - convolution, tracked.report
    assert set(tracked.report.plain) <= example.plain | convolution, tracked.report


@pytest.mark.parametrize(
    "builder", [gallery.updn, gallery.transformer, gallery_transformers.lxmert], ids=lambda builder: builder.__name__
)
def test_autocast_to_bfloat16_adds_rounding_errors_only(builder: Callable[[], Example]) -> None:
    example = build(builder)
    exact, cast = (step(example, track=True, task=0.0, cast=cast) for cast in (False, True))
    assert cast.alpha.dtype == torch.float32
    deviation = (cast.alpha - exact.alpha).norm() / exact.alpha.norm()
    exact_gradient, gradient = (torch.cat([g.flatten() for g in x.gradients.values()]) for x in (exact, cast))
    cosine = F.cosine_similarity(exact_gradient, gradient, dim=0)
    assert 0 < deviation < 0.1  # at most 0.03 was measured
    assert cosine > 0.99  # at least 0.9998 was measured
