"""Training step of updn-vqa's UpDn against the reference formulation of the network, with the gain of each change."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from _measure import interleaved_times, run
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn
from torch.nn.utils.parametrize import remove_parametrizations

from updn_vqa.networks import NetworkSizes, VqaOutput
from updn_vqa.networks.question import encode_question
from updn_vqa.networks.updn import UpDn
from updn_vqa.training.objective import answer_loss

B, K, D, T, WORDS, ANSWERS = 256, 36, 2048, 14, 15_000, 3129
QUESTIONS = {  # numbers of questions with 1, 2, 3, ... words
    "as in VQA v2": [
        0,
        2,
        1472,
        5486,
        12364,
        9257,
        9476,
        4824,
        2449,
        1298,
        662,
        359,
        176,
        236,
    ],  # 48,061 train questions
    "of 14 words": [0] * 13 + [1],
}


@dataclass(frozen=True)
class Formulation:
    """The reference formulation, or one with changes."""

    padding_once: bool = False
    """Read the padding before words once for all questions."""
    weighed_question: bool = False
    """Multiply the weights of attention with the question, which need not be repeated for each proposal then."""
    matrix_pooling: bool = False
    """Pool proposals by a matrix product, not by a broadcast product and a sum."""
    parametrised: bool = False
    """Normalise weights by a parametrisation with norms by row, not by a hook with one norm of all entries."""


PROGRAMS = {
    "reference": Formulation(),
    "padding once": Formulation(padding_once=True),
    "weighed question": Formulation(weighed_question=True),
    "matrix pooling": Formulation(matrix_pooling=True),
    "parametrised norm": Formulation(parametrised=True),
    "ours": None,
}


class Reference(UpDn):
    """The network with the operations of the widely used code, except for the changes."""

    def __init__(self, sizes: NetworkSizes, formulation: Formulation) -> None:
        super().__init__(sizes, words=WORDS, answers=ANSWERS, feature_size=D)
        self.formulation = formulation
        weighed = self.attend_logit if formulation.weighed_question else None  # hooks run only when a layer is called
        for layer in self.modules():
            if isinstance(layer, nn.Linear) and layer is not weighed and not formulation.parametrised:
                remove_parametrizations(layer, "weight")
                with warnings.catch_warnings(action="ignore"):  # the hook is deprecated
                    nn.utils.weight_norm(layer, dim=None)  # type: ignore[arg-type]

    def forward(self, tokens: Tensor, features: Tensor, mask: Tensor) -> VqaOutput:  # noqa: D102
        change = self.formulation
        if change.padding_once:
            question = encode_question(self.gru, self.embedding, tokens)
        else:
            question = self.gru(self.embedding(tokens))[0][:, -1]
        proposals, asked = self.attend_proposal(features), self.attend_question(question)
        if change.weighed_question:
            scores = self.attend_dropout(proposals) @ (asked * self.attend_logit.weight)[..., None]
        else:
            repeated = asked.unsqueeze(1).repeat(1, features.shape[1], 1)
            scores = self.attend_logit(self.attend_dropout(proposals * repeated))
        weights = scores.softmax(1)  # (B, K, 1); the reference has no mask of proposals
        image = (weights.mT @ features).squeeze(1) if change.matrix_pooling else (weights * features).sum(1)
        logits = self.classifier(self.question_net(question) * self.image_net(image))
        return VqaOutput(logits, weights.squeeze(-1), question)


def build(program: Formulation | None, device: str) -> UpDn:
    torch.manual_seed(0)
    sizes = NetworkSizes()
    if program is None:
        return UpDn(sizes, words=WORDS, answers=ANSWERS, feature_size=D).to(device)
    return Reference(sizes, program).to(device)


def batch(lengths: list[int], device: str) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
    """Inputs of a network, and soft scores of the answers."""
    torch.manual_seed(0)
    words = 1 + torch.multinomial(torch.tensor(lengths, dtype=torch.float), B, replacement=True)
    tokens = torch.randint(1, WORDS, (B, T)).masked_fill(torch.arange(T) < T - words[:, None], 0)
    targets = torch.zeros(B, ANSWERS).scatter_(1, torch.randint(ANSWERS, (B, 1)), 1.0)
    inputs = tokens.to(device), torch.rand(B, K, D, device=device), torch.ones(B, K, dtype=torch.bool, device=device)
    return inputs, targets.to(device)


def step(model: UpDn, inputs: tuple[Tensor, Tensor, Tensor], targets: Tensor) -> Callable[[], None]:
    """Forward, backward, clipping and Adamax, the same for all programs."""
    optimiser = torch.optim.Adamax(model.parameters())

    def closure() -> None:
        torch.autograd.backward(answer_loss(model(*inputs).logits, targets).mean())
        nn.utils.clip_grad_norm_(model.parameters(), 0.25)
        optimiser.step()
        optimiser.zero_grad()
        if targets.is_cuda:
            torch.cuda.synchronize()

    return closure


def logits(model: UpDn, inputs: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    with torch.no_grad():
        result: Tensor = model.eval()(*inputs).logits
    model.train()
    return result


def benchmark(device: str, seconds: float) -> list[dict[str, Any]]:
    rows = []
    for questions, lengths in track(QUESTIONS.items(), "updn_step", console=Console(stderr=True)):
        inputs, targets = batch(lengths, device)
        models = {title: build(program, device) for title, program in PROGRAMS.items()}
        first = logits(models["reference"], inputs)
        errors = {title: (logits(model, inputs) - first).abs().max().item() for title, model in models.items()}
        closures = {title: step(model, inputs, targets) for title, model in models.items()}
        times = interleaved_times(closures, seconds=seconds)
        rows += [
            {"questions": questions, "program": title, **quartiles}
            | {"speed_up": times["reference"]["median_ms"] / quartiles["median_ms"], "difference": errors[title]}
            for title, quartiles in times.items()
        ]
    return rows


if __name__ == "__main__":
    run(
        "updn_step",
        f"UpDn's training step, {B} questions, {K} proposals of {D} features, {ANSWERS} answers, float32",
        benchmark,
        device={"choices": ["cpu", "cuda"], "default": "cpu"},
        seconds={"type": float, "default": 150.0, "help": "for each kind of questions, default: %(default)s"},
    )
