"""Decoding captions from proposals by beam search, for a batch of images."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from updn_captioning.data.vocabulary import BEGIN, END, PAD, UNKNOWN
from updn_captioning.networks.updn import Memory, State, UpDnCaptioner

MAX_LENGTH = 20
"""Largest number of words, as in the reference implementations."""


class Decoded(NamedTuple):
    """A decoded caption of n words."""

    tokens: list[int]
    """Indices of the words, without BEGIN and END."""
    log_probability: float
    """Log-probability of the words, and of END unless the caption was cut."""
    attention: Float[Tensor, "n K"]
    """Attention to the proposals at each word."""


class Beams(NamedTuple):
    """The N best captions so far of each of B images."""

    tokens: Int[Tensor, "B N T"]
    """Words, END and PAD."""
    attention: Float[Tensor, "B N T K"]
    log_probability: Float[Tensor, "B N"]
    length: Int[Tensor, "B N"]
    """Number of words, END included."""
    ended: Bool[Tensor, "B N"]


@torch.no_grad()
def beam_search(
    model: UpDnCaptioner,
    features: Float[Tensor, "B K D"],
    mask: Bool[Tensor, "B K"],
    *,
    beam_size: int = 5,
    max_length: int = MAX_LENGTH,
    length_penalty: float = 0.0,
    repeats: bool = True,
) -> list[Decoded]:
    """Find the best caption of each image by beam search; the unknown word is never predicted.

    A caption that has ended stays in the beam as long as it is among the best.

    Args:
        model: The network, in evaluation mode unless dropout is wanted.
        features: Features of the images' proposals.
        mask: True for existing proposals.
        beam_size: Number of captions that are kept at each step; 1 is greedy search.
        max_length: Number of words after which a caption is cut.
        length_penalty: Captions are compared by log-probability / length ** penalty, where length includes END. With 0
            this is the log-probability, as in the paper; with 1 its mean per word, which favours longer captions.
        repeats: Whether the same word may occur twice in a row.
    """
    B, N = len(mask), beam_size
    memory, state = model.start(features, mask)
    rows = torch.arange(B, device=mask.device).repeat_interleave(N)  # N beams of an image are adjacent
    memory, state = Memory(*(x[rows] for x in memory)), State(*(x[rows] for x in state))
    beams = Beams(
        tokens=rows.new_empty(B, N, 0),
        attention=state.hidden.new_empty(B, N, 0, mask.shape[1]),
        log_probability=state.hidden.new_full((B, N), -torch.inf),
        length=rows.new_zeros(B, N),
        ended=torch.zeros_like(rows.view(B, N), dtype=torch.bool),
    )
    beams.log_probability[:, 0] = 0  # only the first beam starts, since all would be the same caption
    last = torch.full_like(rows, BEGIN)
    for _ in range(max_length):
        step = model.step(last, memory, state)
        allowed = step.log_probs.clone()
        allowed[:, UNKNOWN] = -torch.inf
        if not repeats:
            allowed.scatter_(1, last[:, None], -torch.inf)
        log_probs, attention = (x.view(B, N, x.shape[1]) for x in (allowed, step.attention))
        chosen, beams = _extend(beams, log_probs, attention, length_penalty)
        last = beams.tokens[:, :, -1].flatten()
        source = (rows.view(B, N)[:, :1] * N + chosen).flatten()
        state = State(*(x[source] for x in step.state))
        if beams.ended.all():
            break
    best = zip(beams.tokens[:, 0].tolist(), beams.log_probability[:, 0].tolist(), beams.attention[:, 0], strict=True)
    found = []
    for tokens, log_probability, attended in best:
        words = tokens[: tokens.index(END)] if END in tokens else tokens
        found.append(Decoded(words, log_probability, attended[: len(words)]))
    return found


def _extend(
    beams: Beams, log_probs: Float[Tensor, "B N V"], attention: Float[Tensor, "B N K"], length_penalty: float
) -> tuple[Int[Tensor, "B N"], Beams]:
    """Extend the beams by one word.

    Returns:
        For each new beam, the index of the beam that it extends; and the new beams, best first.
    """
    B, N, V = log_probs.shape
    stay = log_probs.new_full((V,), -torch.inf)
    stay[PAD] = 0
    candidates = beams.log_probability[..., None] + torch.where(beams.ended[..., None], stay, log_probs)
    length = beams.length + ~beams.ended
    ranked = candidates / length[..., None].to(candidates.dtype) ** length_penalty
    best = ranked.flatten(1).topk(N).indices
    chosen, token = best // V, best % V

    def take(x: Tensor) -> Tensor:
        return x[torch.arange(B, device=x.device)[:, None], chosen]

    return chosen, Beams(
        tokens=torch.cat([take(beams.tokens), token[..., None]], -1),
        attention=torch.cat([take(beams.attention), take(attention)[:, :, None]], 2),
        log_probability=candidates.flatten(1).gather(1, best),
        length=take(length),
        ended=take(beams.ended) | (token == END),
    )
