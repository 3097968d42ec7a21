"""Bottom-Up Top-Down attention for captioning (Anderson et al., CVPR 2018)."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from updn_captioning.data.vocabulary import BEGIN, PAD
from updn_common.errors import check_range
from updn_common.runs.networks import ExplainedNetwork


@dataclass(frozen=True)
class NetworkSizes:
    """The sizes that do not follow from the data; the defaults are the paper's."""

    embedding: int = 1000
    """Size of a word's vector."""
    hidden: int = 1000
    """Number of units in each LSTM."""
    attention: int = 512
    """Number of units in the layer that computes attention weights."""
    dropout: float = 0.0
    """Dropout before the layer that predicts words; the paper mentions none."""

    def check(self) -> None:
        """Check the ranges of the sizes.

        Raises:
            InputError: A size is out of range.
        """
        sizes = {"embedding": self.embedding, "hidden": self.hidden, "attention": self.attention}
        check_range(1, **{f"model.{name}": size for name, size in sizes.items()})
        check_range(0, 1, **{"model.dropout": self.dropout})


class CaptionOutput(NamedTuple):
    """Predicted words and attention at each step."""

    log_probs: Float[Tensor, "B T V"]
    attention: Float[Tensor, "B T K"]
    """Weights of the proposals, which sum to 1 over existing ones."""
    hidden: Float[Tensor, "B T H"]
    """Hidden states that predict words: :meth:`UpDnCaptioner.log_probs` computes ``log_probs`` of chosen steps."""


class Weights(NamedTuple):
    """The transposed weights of the layers that every step applies, each transposed once.

    A layer that is called in every step transposes its weight in every step. Where the importance is differentiated,
    each of these transposes would hold a gradient as large as the weight until the forward pass is differentiated.
    """

    attend: Float[Tensor, "2H 4H"]
    query: Float[Tensor, "H A"]
    pooled: Float[Tensor, "D 4H"]
    language: Float[Tensor, "2H 4H"]


class Memory(NamedTuple):
    """What is the same in all steps of a caption."""

    features: Float[Tensor, "B K D"]
    keys: Float[Tensor, "B K A"]
    """Projected proposals, which attention compares with its query."""
    image: Float[Tensor, "B 4H"]
    """Contribution of the mean proposal to the gates of the attention LSTM."""
    mask: Bool[Tensor, "B K"]


class State(NamedTuple):
    """The states of both LSTMs after a step."""

    attend_hidden: Float[Tensor, "B H"]
    attend_cell: Float[Tensor, "B H"]
    hidden: Float[Tensor, "B H"]
    """State of the language LSTM."""
    cell: Float[Tensor, "B H"]


class Step(NamedTuple):
    """Predicted next words, and the state after a step."""

    log_probs: Float[Tensor, "B V"]
    attention: Float[Tensor, "B K"]
    state: State


class UpDnCaptioner(ExplainedNetwork):
    r"""From proposals and the words so far to the next word.

    ::

        mean of proposals --+                            +---------------- proposals
        word ---------------+--> attention LSTM --> h1 --+--> attention --> pooled --+--> language LSTM --> h2 --> word
        h2 (step before) ---+                       |                                |
                                                    +--------------------------------+

    With proposals v, and separate weights W and w for each letter,

    .. math::
        h^1_t &= \mathrm{LSTM}([h^2_{t-1}, \bar v, W_e w_t],\; h^1_{t-1}) \\
        a_{i,t} &= w^\top \tanh(W_v v_i + W_h h^1_t), \qquad \hat v_t = \sum_i \mathrm{softmax}(a_t)_i\, v_i \\
        h^2_t &= \mathrm{LSTM}([\hat v_t, h^1_t],\; h^2_{t-1}) \\
        p(w_{t+1}) &= \mathrm{softmax}(W_p h^2_t + b_p)

    What does not depend on the step is computed once: :math:`W_v v_i`, and the contributions of the mean proposal and,
    in training, of the words to the gates. A fused cell, which takes concatenated inputs, would compute these in every
    step. The LSTMs are written in elementary operations instead, whose second derivatives are exact on every device.
    The tokens PAD and BEGIN are never predicted.
    """

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
        """Predict the next word after each word of given captions.

        Args:
            tokens: Captions, which begin with BEGIN; PAD may follow their end.
            features: Features of the proposals, tracked or not.
            mask: True for existing proposals.
        """
        memory, state = self.start(features, mask)
        weights = self._weights()
        hidden, attention = [], []
        for word in self.attend_word(self.embedding(tokens)).unbind(1):
            state, attended = self._advance(word, memory, state, weights)
            hidden.append(state.hidden)
            attention.append(attended)
        states = self.dropout(torch.stack(hidden, 1))
        return CaptionOutput(self.log_probs(states), torch.stack(attention, 1), states)

    def start(self, features: Float[Tensor, "B K D"], mask: Bool[Tensor, "B K"]) -> tuple[Memory, State]:
        """Compute what all steps share, and the state before the first word."""
        real = mask.to(self.silent.dtype)
        mean = pool(features, real / real.sum(-1, keepdim=True))
        zero = self.silent.new_zeros(len(mask), self.query.in_features)
        memory = Memory(features, self.key(features), self.attend_image(mean), mask)
        return memory, State(zero, zero, zero, zero)

    def step(self, tokens: Int[Tensor, " B"], memory: Memory, state: State) -> Step:
        """Read one more word of each caption, and predict the next one."""
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
        # Tracking ends here. `pooled` is a single vector an image, so that plain double backward is as cheap, while a
        # tracked product would apply the whole weight to the proposals' direction in every step.
        gates = torch.addmm(self.language_image.bias, pooled, weights.pooled) + looked @ weights.language
        hidden, cell = lstm(gates, state.cell)
        return State(attend_hidden, attend_cell, hidden, cell), attention


def pool(features: Float[Tensor, "B K D"], weights: Float[Tensor, "B K"]) -> Float[Tensor, "B D"]:
    """The weighted sum of proposals."""
    return (weights[:, None].to(features.dtype) @ features).squeeze(1)


def lstm(gates: Float[Tensor, "B 4H"], cell: Float[Tensor, "B H"]) -> tuple[Float[Tensor, "B H"], Float[Tensor, "B H"]]:
    """The new hidden state and cell of an LSTM, from the inputs of its four gates, in PyTorch's order."""
    input_gate, forget_gate, candidate, output_gate = gates.chunk(4, -1)
    cell = forget_gate.sigmoid() * cell + input_gate.sigmoid() * candidate.tanh()
    return output_gate.sigmoid() * cell.tanh(), cell
