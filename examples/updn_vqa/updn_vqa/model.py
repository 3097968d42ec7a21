"""Bottom-Up Top-Down attention for VQA (Anderson et al., CVPR 2018).

The layers are those of the widely used "UpDn" reference (Teney et al., CVPR 2018, tips and tricks): weight-normalised
fully connected layers, one GRU for the question, attention from a product of question and proposal, fusion by a
product, and one sigmoid for each answer.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

Activation = Literal["relu", "gated"]


@dataclass(frozen=True)
class UpDnSizes:
    """Sizes of the network that do not follow from the data."""

    embedding: int = 300
    """Size of a word's vector."""
    hidden: int = 1024
    """Units of the GRU and of the layers after it."""
    activation: Activation = "relu"
    """ReLU as in the reference, or gated tanh as in the paper."""
    attention_dropout: float = 0.2
    classifier_dropout: float = 0.5


class UpDnOutput(NamedTuple):
    """What the network says, and how it looked at the proposals."""

    logits: Float[Tensor, "B A"]
    attention: Float[Tensor, "B K"]
    """Top-down attention weights; they sum to 1 over existing proposals."""


class GatedTanh(nn.Module):
    """``tanh(W x) * sigmoid(V x)``."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.value = _linear(inputs, outputs)
        self.gate = _linear(inputs, outputs)

    def forward(self, x: Float[Tensor, "*B I"]) -> Float[Tensor, "*B O"]:
        return torch.tanh(self.value(x)) * torch.sigmoid(self.gate(x))


def _linear(inputs: int, outputs: int) -> nn.Module:
    """A linear layer whose weight is a direction times one norm for the whole matrix, as in the reference."""
    linear = nn.Linear(inputs, outputs)
    weight_norm(linear, dim=None)  # type: ignore[arg-type]  # torch documents dim=None
    return linear


def nonlinear(inputs: int, outputs: int, activation: Activation) -> nn.Module:
    """One fully connected layer with its activation."""
    if activation == "gated":
        return GatedTanh(inputs, outputs)
    return nn.Sequential(_linear(inputs, outputs), nn.ReLU())


class UpDn(nn.Module):
    """Question and proposals to one logit for each answer.

    ::

        tokens ----> embedding -> GRU ----> q --+--> question net --+
                                                |                   * --> classifier --> logits
        proposals -+--> attention(proposals, q) --> sum -> image net-+
                   +--------------------------------^
    """

    def __init__(self, sizes: UpDnSizes, *, words: int, answers: int, feature_size: int) -> None:
        """Build the network for ``words`` token ids (0 pads), ``answers`` answers and proposals of ``feature_size``."""
        super().__init__()
        hidden, activation = sizes.hidden, sizes.activation
        self.embedding = nn.Embedding(words, sizes.embedding, padding_idx=0)
        self.gru = nn.GRU(sizes.embedding, hidden, batch_first=True)
        self.attend_proposal = nonlinear(feature_size, hidden, activation)
        self.attend_question = nonlinear(hidden, hidden, activation)
        self.attend_dropout = nn.Dropout(sizes.attention_dropout)
        self.attend_logit = _linear(hidden, 1)
        self.question_net = nonlinear(hidden, hidden, activation)
        self.image_net = nonlinear(feature_size, hidden, activation)
        self.classifier = nn.Sequential(
            nonlinear(hidden, 2 * hidden, activation),
            nn.Dropout(sizes.classifier_dropout),
            _linear(2 * hidden, answers),
        )

    def forward(
        self, tokens: Int[Tensor, "B T"], features: Float[Tensor, "B K D"], mask: Bool[Tensor, "B K"]
    ) -> UpDnOutput:
        """Answer the questions; ``tokens`` are padded on the left, ``mask`` is true for existing proposals."""
        question = self.gru(self.embedding(tokens))[0][:, -1]
        joint = self.attend_proposal(features) * self.attend_question(question)[:, None]  # (B, K, H)
        scores = self.attend_logit(self.attend_dropout(joint)).squeeze(-1)
        attention = scores.masked_fill(~mask, -torch.inf).softmax(-1)
        image = (attention[:, None] @ features).squeeze(1)  # (B, D)
        logits = self.classifier(self.question_net(question) * self.image_net(image))
        return UpDnOutput(logits, attention)
