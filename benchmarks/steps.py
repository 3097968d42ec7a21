"""Training steps with and without the HINT loss, of the networks in ``models.py``, on random data."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from models import ANSWERS, MODELS, WORDS, D, K, T, UpDn
from torch import Tensor, nn

from hint_loss import double_backward_kernels, forward_hinted, hint_ranking_loss, proposal_importance, track_proposals

FUSED = {"transformer"}  # its fused attention has no second derivative without other kernels; LXMERT's is not fused
KERNELS, ONCE = "double_backward_kernels", "tracked, 1/8 hinted, question once"


def leaf(features: Tensor) -> Tensor:
    return features.detach().requires_grad_()


@dataclass(frozen=True, kw_only=True)
class ImportanceProgram:
    """How a training step computes the importance."""

    track: Callable[[Tensor], Tensor] | None = None
    """Prepares the proposals for their importance; None for a step without the HINT loss."""
    reduction: Literal["sum", "norm"] = "sum"
    """Signed or unsigned importance."""

    @property
    def exact(self) -> bool:
        """Whether the importance is exact, not estimated."""
        return self.reduction == "sum" or self.track is leaf


@dataclass(frozen=True, kw_only=True)
class Program(ImportanceProgram):
    """One way to compute a training step."""

    share: int = 1
    """One in this many samples has a hint; ``forward_hinted`` processes these separately."""
    once: bool = False
    """Encode the questions of all samples at once, and call the rest of the model separately."""
    kernels: bool = False
    """Select kernels with a second derivative even if they are not needed."""


def along(probes: int) -> Program:
    """Unsigned importance of all samples, estimated along this many random directions."""
    return Program(track=partial(track_proposals, reduction="norm", probes=probes), reduction="norm")


PROGRAMS = {
    "plain": Program(),
    "naive": Program(track=leaf),
    "naive, norm": Program(track=leaf, reduction="norm"),
    "tracked": Program(track=track_proposals),
    **{f"tracked, norm, {probes} directions": along(probes) for probes in (4, 16, 64)},
    "naive, 1/8 hinted": Program(track=leaf, share=8),
    "tracked, 1/8 hinted": Program(track=track_proposals, share=8),
}


class Batch(NamedTuple):
    """Random data with the shapes and types of VQA."""

    proposals: Tensor
    words: Tensor
    targets: Tensor
    answers: Tensor
    s: Tensor

    @classmethod
    def random(cls, batch: int, device: str) -> Batch:
        """Draw a batch in which each question has one answer with a soft score."""
        answers = torch.randint(ANSWERS, (batch, 1))
        targets = torch.zeros(batch, ANSWERS).scatter_(1, answers, torch.rand(batch, 1))
        words = torch.randint(1, WORDS, (batch, T))
        data = cls(torch.rand(batch, K, D), words, targets, answers, torch.rand(batch, K))
        return cls(*(x.to(device) for x in data))


def build(name: str, device: str, **sizes: int) -> nn.Module:
    torch.manual_seed(0)
    return MODELS[name](**sizes).to(device)


def forward(name: str, model: nn.Module, data: Batch, program: Program) -> tuple[Tensor, Tensor | None]:
    """Compute the logits of the batch, and the importance of its hinted samples, which are the first ones."""
    batch = len(data.words)
    hinted = torch.arange(batch, device=data.words.device) < batch // program.share
    needed = program.kernels or (name in FUSED and program.track is not None)
    with double_backward_kernels() if needed else nullcontext():
        if program.track is None:
            return model(data.proposals, data.words), None
        if program.share > 1:
            call: Callable[..., Tensor] = model
            question = data.words
            if program.once and isinstance(model, UpDn):
                call, question = model.answer, model.encode(data.words)
            logits, proposals = forward_hinted(call, data.proposals, question, hinted=hinted, track=program.track)
        else:
            proposals = program.track(data.proposals)
            logits = model(proposals, data.words)
    score = logits.gather(1, data.answers).squeeze(1)
    return logits, proposal_importance(score[hinted], proposals, reduction=program.reduction)


def step(name: str, model: nn.Module, data: Batch, program: Program) -> Callable[[], None]:
    """Forward, backward and update by SGD, the cheapest optimiser, which hides least of the cost of importance."""
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-3)

    def closure() -> None:
        logits, alpha = forward(name, model, data, program)
        loss = F.binary_cross_entropy_with_logits(logits, data.targets)
        if alpha is not None:
            loss = loss + hint_ranking_loss(alpha, data.s[: len(alpha)])
        update(loss, optimiser)

    return closure


def flat_gradient(loss: Tensor, model: nn.Module) -> Tensor:
    """All parameters' gradient as one vector in float64."""
    gradients = torch.autograd.grad(loss, list(model.parameters()), materialize_grads=True)
    return torch.cat([gradient.flatten() for gradient in gradients]).double()


def relative_error(found: Tensor, reference: Tensor) -> float:
    """The largest error, relative to the largest entry."""
    return ((found - reference).abs().max() / reference.abs().max()).item()


def update(loss: Tensor, optimiser: torch.optim.Optimizer) -> None:
    torch.autograd.backward(loss)
    optimiser.step()
    optimiser.zero_grad()
    if loss.is_cuda:
        torch.cuda.synchronize()
