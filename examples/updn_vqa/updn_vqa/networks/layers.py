"""What all networks share: their sizes, inputs and outputs, and fully connected layers."""

from dataclasses import dataclass
from typing import Literal, NamedTuple, Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from updn_common.errors import check_range
from updn_common.runs.networks import ExplainedNetwork
from updn_vqa.data.prepared import PreparedData

Activation = Literal["relu", "gated"]
Network = Literal["updn", "updn-bypass", "updn-mean", "updn-concat", "san", "transformer", "gvqa"]


@dataclass(frozen=True)
class NetworkSizes:
    """Which network, and the sizes that do not follow from the data."""

    network: Network = "updn"
    """Bottom-Up Top-Down attention; the same with a bypass for the question alone, with the mean of all proposals
    beside attention, or with its authors' attention; stacked attention; a Transformer; or GVQA."""
    embedding: int = 300
    """Size of a word's vector."""
    hidden: int = 1024
    """Number of units in the recurrent layer and the layers after it."""
    activation: Activation = "relu"
    """Activation of UpDn: ReLU as in the reference, or gated tanh as in the paper."""
    attention_dropout: float = 0.2
    """Dropout before the layer that computes attention weights."""
    classifier_dropout: float = 0.5
    """Dropout before the layers that compute answers."""

    def check(self) -> None:
        """Check the ranges of the sizes.

        Raises:
            InputError: A size is out of range.
        """
        check_range(1, **{"model.embedding": self.embedding, "model.hidden": self.hidden})
        dropout = {"attention": self.attention_dropout, "classifier": self.classifier_dropout}
        check_range(0, 1, **{f"model.{name}_dropout": share for name, share in dropout.items()})


class VqaOutput(NamedTuple):
    """Answers, attention and encoded questions of a batch."""

    logits: Float[Tensor, "B A"]
    attention: Float[Tensor, "B K"]
    """Weights of the proposals, which sum to 1 over existing ones."""
    question: Float[Tensor, "B Q"]
    """Encoding of the question, which does not depend on the proposals."""


class VqaNetwork(ExplainedNetwork):
    """Answers questions about proposals."""

    def __init__(self, sizes: NetworkSizes, *, words: int, answers: int, feature_size: int) -> None:
        """Build the network for ``words`` token ids (0 pads), ``answers`` answers and proposals of ``feature_size``."""
        super().__init__()

    @classmethod
    def for_data(cls, sizes: NetworkSizes, data: PreparedData) -> Self:
        """Build the network for prepared data."""
        return cls(sizes, **cls.counts(data))

    @staticmethod
    def counts(data: PreparedData) -> dict[str, int]:
        """Sizes of the network that follow from the data."""
        return {"words": len(data.words), "answers": len(data.answers), "feature_size": data.store.feature_size}

    def forward(
        self, tokens: Int[Tensor, "B T"], features: Float[Tensor, "B K D"], mask: Bool[Tensor, "B K"]
    ) -> VqaOutput:
        """Answer the questions; ``tokens`` are padded on the left, ``mask`` is true for existing proposals."""
        raise NotImplementedError

    def training_output(
        self,
        tokens: Int[Tensor, "B T"],
        features: Float[Tensor, "B K D"],
        mask: Bool[Tensor, "B K"],
        ground_truth: Int[Tensor, " B"],
    ) -> tuple[VqaOutput, Float[Tensor, " B"]]:
        """The output whose answers are trained, and further losses of the network, one for each question.

        By default this is the output of ``forward``, and further losses are 0. A network whose parts are trained
        separately adds their losses, and may detach these parts from the answers' loss. ``ground_truth`` is -1 for an
        answer outside of the vocabulary.
        """
        output: VqaOutput = self(tokens, features, mask)
        return output, output.logits.new_zeros(len(tokens))


class GatedTanh(nn.Module):
    """``tanh(W x) * sigmoid(V x)``."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.value = linear(inputs, outputs)
        self.gate = linear(inputs, outputs)

    def forward(self, x: Float[Tensor, "*B I"]) -> Float[Tensor, "*B O"]:
        return torch.tanh(self.value(x)) * torch.sigmoid(self.gate(x))


class WeightNorm(nn.Module):
    """A matrix as one norm times a direction, like torch's ``weight_norm(dim=None)``, but exact in float32."""

    def forward(self, norm: Float[Tensor, ""], direction: Float[Tensor, "O I"]) -> Float[Tensor, "O I"]:
        return direction * (norm / _norm(direction))

    def right_inverse(self, weight: Float[Tensor, "O I"]) -> tuple[Float[Tensor, ""], Float[Tensor, "O I"]]:
        return _norm(weight), weight


def _norm(matrix: Float[Tensor, "O I"]) -> Float[Tensor, ""]:
    # Over millions of squares at once, torch's float32 norm on CPU is wrong by up to 1e-4.
    norm: Tensor = torch.linalg.vector_norm(torch.linalg.vector_norm(matrix, dim=1))
    return norm


def linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer whose weight has one norm for the whole matrix and a direction, as in the reference."""
    layer = nn.Linear(inputs, outputs)
    register_parametrization(layer, "weight", WeightNorm())
    return layer


def nonlinear(inputs: int, outputs: int, activation: Activation) -> nn.Module:
    """One fully connected layer with its activation."""
    if activation == "gated":
        return GatedTanh(inputs, outputs)
    return nn.Sequential(linear(inputs, outputs), nn.ReLU())
