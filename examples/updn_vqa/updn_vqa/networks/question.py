"""Encoding a question: the last state of a recurrent layer that reads it, with or without its padding."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn


def encode_question(
    recurrent: nn.GRU | nn.LSTM, embedding: nn.Embedding, tokens: Int[Tensor, "B T"], *, skip_padding: bool = False
) -> Float[Tensor, "B H"]:
    r"""``recurrent(embedding(tokens))[0][:, -1]`` at about half the cost, or its equivalent without reading padding.

    Most questions are much shorter than T, and reading the padding before them gives the same states for all. So one
    row of the batch reads the padding for all questions, and each question continues from its state at its first word::

        padding    0 -> 0 -> 0 -> 0
                    \    \    \
        1 word       \    \    why
        2 words       \    who -> knows
        3 words        what -> is -> it

    Args:
        recurrent: A recurrent layer with one direction.
        embedding: Embedding of words, in which row 0 is padding.
        tokens: Words, padded on the left with 0.
        skip_padding: Start each question at its first word, so that padding has no effect. If there are no words, one
            padding token is read.
    """
    fused = tokens.device.type != "cpu"  # on a GPU one call is faster than many small ones, which wait for lengths
    if fused and not skip_padding:
        last: Tensor = recurrent(embedding(tokens))[0][:, -1]
        return last
    begins = (tokens != 0).int().argmax(1)
    if skip_padding:
        begins = begins.where(tokens.any(1), tokens.shape[1] - 1)
    if fused:
        return _last_state(recurrent, embedding, tokens, begins)
    order = begins.argsort()
    begun = (begins <= torch.arange(tokens.shape[1])[:, None]).sum(1).tolist()  # number of questions in each step
    columns = [F.pad(column[:n], (0, n < len(order))) for column, n in zip(tokens[order].T, begun, strict=True)]
    steps = embedding(torch.cat(columns)).split([len(column) for column in columns])  # one gradient for the table

    hidden = cell = start = steps[0].new_zeros(1, recurrent.hidden_size)
    weights = recurrent.all_weights[0]
    for words, n in zip(steps, begun, strict=True):
        if isinstance(recurrent, nn.LSTM):
            state = _joined(hidden, len(words)), _joined(cell, len(words))
            hidden, cell = torch.lstm_cell(words, state, *weights)
        else:
            hidden = torch.gru_cell(words, _joined(hidden, len(words)), *weights)
        if skip_padding and n < len(order):  # the last row is padding's
            hidden, cell = (torch.cat([state[:-1], start]) for state in (hidden, cell))
    encoded: Tensor = hidden[order.argsort()]
    return encoded


def _last_state(
    recurrent: nn.GRU | nn.LSTM, embedding: nn.Embedding, tokens: Int[Tensor, "B T"], begins: Int[Tensor, " B"]
) -> Float[Tensor, "B H"]:
    """The state after the last token of each row, which is read from its beginning, in one call."""
    rows, T = torch.arange(len(tokens), device=tokens.device), tokens.shape[1]
    places = begins[:, None] + torch.arange(T, device=tokens.device)
    states: Tensor = recurrent(embedding(tokens.gather(1, places.clamp(max=T - 1))))[0]
    return states[rows, T - 1 - begins]  # later states, beyond the last token, are not used


def _joined(state: Float[Tensor, "M H"], rows: int) -> Float[Tensor, "N H"]:
    """Extend the states to more questions; these begin with the last state, which has read only padding."""
    return torch.cat([state[:-1], state[-1:].expand(rows - len(state) + 1, -1)])
