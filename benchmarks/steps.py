"""Training steps with the HINT loss and without, of the networks in ``models.py``, on random data."""

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

FUSED = {"transformer"}  # attention between proposals and score that needs other kernels; LXMERT has its own
KERNELS, ONCE = "double_backward_kernels", "tracked, 1/8 hinted, question once"


def leaf(features: Tensor) -> Tensor:
    return features.detach().requires_grad_()


@dataclass(frozen=True, kw_only=True)
class Looking:
    """How a training step takes the importance."""

    track: Callable[[Tensor], Tensor] | None = None
    """What prepares the proposals for their importance. None: no HINT loss."""
    reduction: Literal["sum", "norm"] = "sum"
    """Signed or unsigned importance."""

    @property
    def exact(self) -> bool:
        """Whether the importance is no estimate."""
        return self.reduction == "sum" or self.track is leaf


@dataclass(frozen=True, kw_only=True)
class Program(Looking):
    """One way to take a training step."""

    share: int = 1
    """One in so many samples has a hint, and ``forward_hinted`` sets these apart."""
    once: bool = False
    """The question is encoded for all samples at once, and the rest of the model called for each part."""
    kernels: bool = False
    """Kernels with a second derivative, needed or not."""


def along(probes: int) -> Program:
    """Unsigned importance of all samples along so many random directions."""
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
    """Random data of the shapes and kinds that a VQA model sees."""

    proposals: Tensor
    words: Tensor
    targets: Tensor
    answers: Tensor
    s: Tensor

    @classmethod
    def random(cls, batch: int, device: str) -> Batch:
        """One answer for each question, with a soft score."""
        answers = torch.randint(ANSWERS, (batch, 1))
        targets = torch.zeros(batch, ANSWERS).scatter_(1, answers, torch.rand(batch, 1))
        words = torch.randint(1, WORDS, (batch, T))
        data = cls(torch.rand(batch, K, D), words, targets, answers, torch.rand(batch, K))
        return cls(*(x.to(device) for x in data))


def build(name: str, device: str, **sizes: int) -> nn.Module:
    torch.manual_seed(0)
    return MODELS[name](**sizes).to(device)


def forward(name: str, model: nn.Module, data: Batch, program: Program) -> tuple[Tensor, Tensor | None]:
    """Logits of the batch, and the importance of its hinted samples, which come first."""
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
    """Forward, backward, update. SGD, as the cheapest optimiser hides least of what the importance costs."""
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-3)

    def closure() -> None:
        logits, alpha = forward(name, model, data, program)
        loss = F.binary_cross_entropy_with_logits(logits, data.targets)
        if alpha is not None:
            loss = loss + hint_ranking_loss(alpha, data.s[: len(alpha)])
        update(loss, optimiser)

    return closure


def update(loss: Tensor, optimiser: torch.optim.Optimizer) -> None:
    torch.autograd.backward(loss)
    optimiser.step()
    optimiser.zero_grad()
    if loss.is_cuda:
        torch.cuda.synchronize()
