"""Cost of the UpDn captioner's training step with HINT, on all visual words or a random one, over a step without."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from _measure import interleaved_times, peak_memory, peak_memory_cuda, rows_over_plain, run
from steps import ImportanceProgram, flat_gradient, leaf, relative_error, update
from torch import Tensor

from hint_loss import hint_ranking_loss, track_proposals
from updn_captioning.data.prepared import CaptionBatch
from updn_captioning.data.vocabulary import BEGIN, END
from updn_captioning.networks.updn import CaptionOutput, NetworkSizes, UpDnCaptioner
from updn_captioning.training.objective import one_word, word_importance, word_log_probs, word_scores

B, K, D, T, VOCABULARY, WORDS = 64, 36, 2048, 20, 10_000, 4


@dataclass(frozen=True, kw_only=True)
class Program(ImportanceProgram):
    """One way to compute a training step."""

    all_words: bool = False
    """Train all visual words of each caption, not a random one."""
    whole_score: bool = False
    """Take the score from the log-probabilities of all steps, which is the obvious way, but slower."""


PROGRAMS = {
    "plain": Program(),
    "one word, naive": Program(track=leaf),
    "one word, naive, norm": Program(track=leaf, reduction="norm"),
    "one word, tracked": Program(track=track_proposals),
    "one word, tracked, norm, 16 directions": Program(
        track=partial(track_proposals, reduction="norm"), reduction="norm"
    ),
    "one word, tracked, score of all steps": Program(track=track_proposals, whole_score=True),
    "all words, naive": Program(track=leaf, all_words=True),
    "all words, tracked": Program(track=track_proposals, all_words=True),
}


def build(device: str, sizes: NetworkSizes | None = None) -> UpDnCaptioner:
    torch.manual_seed(0)
    return UpDnCaptioner(sizes or NetworkSizes(), vocabulary_size=VOCABULARY, feature_size=D).to(device)


def random_batch(size: int, device: str) -> CaptionBatch:
    """Captions without padding, each with the same number of visual words, at random steps."""
    torch.manual_seed(0)
    tokens = torch.randint(END + 2, VOCABULARY, (size, T + 1))
    tokens[:, 0], tokens[:, T] = BEGIN, END
    steps = torch.rand(size, T - 1).argsort(1)[:, :WORDS]
    batch = CaptionBatch(
        image_ids=torch.arange(size),
        caption_ids=torch.arange(size),
        features=torch.rand(size, K, D),
        boxes=torch.zeros(size, K, 4),
        mask=torch.ones(size, K, dtype=torch.bool),
        sizes=torch.ones(size, 2, dtype=torch.int32),
        tokens=tokens,
        word_spans=torch.stack([steps, steps + 1], -1),
        word_categories=torch.zeros(size, WORDS, dtype=torch.int64),
        human=torch.rand(size, WORDS, K),
        relevant=torch.ones(size, WORDS, K, dtype=torch.bool),
    )
    return batch.to(device)


def importance(
    model: UpDnCaptioner, output: CaptionOutput, features: Tensor, batch: CaptionBatch, program: Program
) -> Tensor:
    """Importance ``(B, W, K)`` for each visual word of the batch."""
    if program.whole_score:
        scores = word_log_probs(output, batch.tokens).gather(1, batch.word_spans[..., 0])
    else:
        scores = word_scores(model, output, batch)
    return word_importance(scores, features, program.reduction)


def step(model: UpDnCaptioner, batch: CaptionBatch, program: Program) -> Callable[[], None]:
    """Forward, backward and update by SGD, the cheapest optimiser, which hides least of the cost of importance."""
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-3)
    words = batch if program.all_words else one_word(batch.to("cpu"), torch.rand(len(batch.tokens)))
    words = words.to(batch.features.device)

    def closure() -> None:
        features = program.track(batch.features) if program.track else batch.features
        output = model(batch.tokens[:, :-1], features, batch.mask)
        loss = -word_log_probs(output, batch.tokens).mean()
        if program.track:
            alpha = importance(model, output, features, words, program)
            loss = loss + hint_ranking_loss(alpha, words.human, mask=torch.ones_like(alpha, dtype=torch.bool))
        update(loss, optimiser)

    return closure


def small_then(program: Program) -> Callable[[], None]:
    """Prepare a step after taking a tiny one, so that the one-time costs of a process are not measured."""
    model = build("cpu")
    step(model, random_batch(2, "cpu"), program)()
    return step(model, random_batch(B, "cpu"), program)


def hint_gradient(model: UpDnCaptioner, batch: CaptionBatch, program: Program) -> Tensor:
    """Gradient of a fixed random combination of the importances for all words of some captions."""
    assert program.track is not None
    features = program.track(batch.features)
    output = model(batch.tokens[:, :-1], features, batch.mask)
    return flat_gradient((importance(model, output, features, batch, program) * (batch.human - 0.5)).sum(), model)


def errors(device: str) -> dict[str, float]:
    """Relative error of each program in that gradient, against double backward in float64."""
    model, batch = build(device), random_batch(4, device)
    wide = CaptionBatch(*(x.double() if x.is_floating_point() else x for x in batch))
    references = {
        program.reduction: hint_gradient(build(device).double(), wide, replace(program, track=leaf, all_words=True))
        for program in (Program(), Program(reduction="norm"))
    }
    return {
        title: relative_error(hint_gradient(model, batch, program), references[program.reduction])
        for title, program in PROGRAMS.items()
        if program.track and program.exact
    }


def benchmark(device: str, seconds: float) -> list[dict[str, Any]]:
    error = errors(device)
    model, batch = build(device), random_batch(B, device)
    closures = {title: step(model, batch, program) for title, program in PROGRAMS.items()}
    times = interleaved_times(closures, seconds=seconds)
    if device == "cuda":
        peaks = {title: peak_memory_cuda(closure) for title, closure in closures.items()}
    else:
        peaks = {title: peak_memory(small_then, program) for title, program in PROGRAMS.items()}
    return rows_over_plain(times, peaks=peaks, errors=error)


if __name__ == "__main__":
    run(
        "captioning_step",
        f"UpDn captioner's training step with the HINT loss over the step without, {B} captions of {T} steps, {WORDS} "
        f"visual words each, {K} proposals of {D} features, {VOCABULARY:,} words, float32",
        benchmark,
        device={"choices": ["cpu", "cuda"], "default": "cpu"},
        seconds={"type": float, "default": 300.0, "help": "in all, default: %(default)s"},
    )
