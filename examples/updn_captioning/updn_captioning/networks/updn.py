"""Bottom-Up Top-Down attention for captioning (Anderson et al., CVPR 2018)."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from updn_captioning.data.vocabulary import BEGIN, PAD
from updn_common.runs.importance import Importance


@dataclass(frozen=True)
class NetworkSizes:
    """The sizes that do not follow from the data; the defaults are the paper's."""

    embedding: int = 1000
    """Size of a word's vector."""
    hidden: int = 1000
    """Units of either LSTM."""
    attention: int = 512
    """Units of the layer that proposals are weighed by."""
    dropout: float = 0.0
    """Of what words are chosen from; the paper mentions none."""


class CaptionOutput(NamedTuple):
    """What the network would say at each step, and how it looked at the proposals."""

    log_probs: Float[Tensor, "B T V"]
    attention: Float[Tensor, "B T K"]
    """Weights of the proposals; they sum to 1 over existing ones."""
    hidden: Float[Tensor, "B T H"]
    """What words are chosen from: :meth:`UpDnCaptioner.log_probs` of some steps is that of these steps alone."""


class Weights(NamedTuple):
    """The transposed weights of the layers that all steps apply, each taken once.

    A layer that is called in every step transposes its weight in every step. Where the importance is differentiated,
    each of these would hold a gradient as large as the weight until that of the forward pass joins it.
    """

    attend: Float[Tensor, "2H 4H"]
    query: Float[Tensor, "H A"]
    pooled: Float[Tensor, "D 4H"]
    language: Float[Tensor, "2H 4H"]


class Memory(NamedTuple):
    """What all steps of a caption share."""

    features: Float[Tensor, "B K D"]
    keys: Float[Tensor, "B K A"]
    """The proposals as attention compares them with its query."""
    image: Float[Tensor, "B 4H"]
    """What the mean proposal adds to the gates of the attention LSTM."""
    mask: Bool[Tensor, "B K"]


class State(NamedTuple):
    """What a step leaves to the next one."""

    attend_hidden: Float[Tensor, "B H"]
    attend_cell: Float[Tensor, "B H"]
    hidden: Float[Tensor, "B H"]
    """Of the language LSTM."""
    cell: Float[Tensor, "B H"]


class Step(NamedTuple):
    """What the network would say next."""

    log_probs: Float[Tensor, "B V"]
    attention: Float[Tensor, "B K"]
    state: State


class UpDnCaptioner(nn.Module):
    r"""Proposals and the words so far to the next word.

    ::

        mean of proposals --+                            +---------------- proposals
        word ---------------+--> attention LSTM --> h1 --+--> attention --> pooled --+--> language LSTM --> h2 --> word
        h2 (step before) ---+                       |                                |
                                                    +--------------------------------+

    With proposals v, and W's of their own for each letter,

    .. math::
        h^1_t &= \mathrm{LSTM}([h^2_{t-1}, \bar v, W_e w_t],\; h^1_{t-1}) \\
        a_{i,t} &= w^\top \tanh(W_v v_i + W_h h^1_t), \qquad \hat v_t = \sum_i \mathrm{softmax}(a_t)_i\, v_i \\
        h^2_t &= \mathrm{LSTM}([\hat v_t, h^1_t],\; h^2_{t-1}) \\
        p(w_{t+1}) &= \mathrm{softmax}(W_p h^2_t + b_p)

    What does not depend on the step is computed once: what the mean proposal and, in training, the words add to the
    gates, and :math:`W_v v_i`. So a fused cell, which takes its inputs joined, would compute more. The LSTMs are
    written in elementary operations instead, whose second derivatives are exact on every device by construction.
    Padding and the beginning of a caption are never said.
    """

    explained_by: Importance = "sum"
    """The importance that it was trained with, and is measured by."""
    silent: Float[Tensor, " V"]

    def __init__(self, sizes: NetworkSizes, *, vocabulary_size: int, feature_size: int) -> None:
        super().__init__()
        hidden, gates = sizes.hidden, 4 * sizes.hidden
        self.embedding = nn.Embedding(vocabulary_size, sizes.embedding, padding_idx=PAD)
        self.attend_word = nn.Linear(sizes.embedding, gates)
        self.attend_image = nn.Linear(feature_size, gates, bias=False)
        self.attend_state = nn.Linear(2 * hidden, gates, bias=False)
        self.key = nn.Linear(feature_size, sizes.attention, bias=False)
        self.query = nn.Linear(hidden, sizes.attention, bias=False)
        self.weigh = nn.Linear(sizes.attention, 1, bias=False)
        self.language_image = nn.Linear(feature_size, gates)
        self.language_state = nn.Linear(2 * hidden, gates, bias=False)
        self.dropout = nn.Dropout(sizes.dropout)
        self.word = nn.Linear(hidden, vocabulary_size)
        silent = torch.zeros(vocabulary_size)
        silent[[PAD, BEGIN]] = -torch.inf
        self.register_buffer("silent", silent, persistent=False)

    def forward(
        self, tokens: Int[Tensor, "B T"], features: Float[Tensor, "B K D"], mask: Bool[Tensor, "B K"]
    ) -> CaptionOutput:
        """Read captions, and say at each of their words what would come next.

        Args:
            tokens: beginning with BEGIN; PAD may follow the end.
            features: of the proposals, tracked or not.
            mask: true for existing proposals.
        """
        memory, state = self.start(features, mask)
        weights = self._weights()
        hidden, attention = [], []
        for word in self.attend_word(self.embedding(tokens)).unbind(1):
            state, looks = self._advance(word, memory, state, weights)
            hidden.append(state.hidden)
            attention.append(looks)
        chosen_from = self.dropout(torch.stack(hidden, 1))
        return CaptionOutput(self.log_probs(chosen_from), torch.stack(attention, 1), chosen_from)

    def start(self, features: Float[Tensor, "B K D"], mask: Bool[Tensor, "B K"]) -> tuple[Memory, State]:
        """Look at the images, before the first word."""
        real = mask.to(self.silent.dtype)
        mean = pool(features, real / real.sum(-1, keepdim=True))
        zero = self.silent.new_zeros(len(mask), self.query.in_features)
        memory = Memory(features, self.key(features), self.attend_image(mean), mask)
        return memory, State(zero, zero, zero, zero)

    def step(self, tokens: Int[Tensor, " B"], memory: Memory, state: State) -> Step:
        """Read one more word of each caption, and say what would come next."""
        word = self.attend_word(self.embedding(tokens))
        state, attention = self._advance(word, memory, state, self._weights())
        return Step(self.log_probs(self.dropout(state.hidden)), attention, state)

    def log_probs(self, hidden: Float[Tensor, "*N H"]) -> Float[Tensor, "*N V"]:
        """Log-probabilities of all words."""
        logits = F.linear(hidden, self.word.weight, self.word.bias + self.silent)
        return logits.log_softmax(-1, dtype=torch.promote_types(logits.dtype, torch.float32))

    def _weights(self) -> Weights:
        layers = self.attend_state, self.query, self.language_image, self.language_state
        return Weights(*(layer.weight.T for layer in layers))

    def _advance(
        self, word: Float[Tensor, "B 4H"], memory: Memory, state: State, weights: Weights
    ) -> tuple[State, Float[Tensor, "B K"]]:
        before = torch.cat([state.attend_hidden, state.hidden], -1)
        attend_hidden, attend_cell = lstm(word + memory.image + before @ weights.attend, state.attend_cell)
        joint = (memory.keys + (attend_hidden @ weights.query)[:, None]).tanh()
        scores = self.weigh(joint).squeeze(-1)
        attention = scores.masked_fill(~memory.mask, -torch.inf).softmax(-1)
        pooled = pool(memory.features, attention)
        looked = torch.cat([attend_hidden, state.hidden], -1)
        # With tracked proposals this is where `pooled` leaves them: for a vector an image the plain way costs nothing,
        # while a lazy product would apply the whole weight to the proposals' direction in every step.
        gates = torch.addmm(self.language_image.bias, pooled, weights.pooled) + looked @ weights.language
        hidden, cell = lstm(gates, state.cell)
        return State(attend_hidden, attend_cell, hidden, cell), attention


def pool(features: Float[Tensor, "B K D"], weights: Float[Tensor, "B K"]) -> Float[Tensor, "B D"]:
    """The weighted sum of proposals."""
    return (weights[:, None].to(features.dtype) @ features).squeeze(1)


def lstm(gates: Float[Tensor, "B 4H"], cell: Float[Tensor, "B H"]) -> tuple[Float[Tensor, "B H"], Float[Tensor, "B H"]]:
    """The new hidden state and cell of an LSTM, from what its four gates (in PyTorch's order) add up."""
    input_gate, forget_gate, candidate, output_gate = gates.chunk(4, -1)
    cell = forget_gate.sigmoid() * cell + input_gate.sigmoid() * candidate.tanh()
    return output_gate.sigmoid() * cell.tanh(), cell
