"""The trainable parts of GVQA."""

from itertools import pairwise
from typing import NamedTuple

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from updn_vqa.networks.layers import NetworkSizes
from updn_vqa.networks.question import encode_question
from updn_vqa.networks.san import Glimpse


class Reader(nn.Module):
    """From words to one vector, the last state of an LSTM. Each part has its own, as parts share no weights."""

    def __init__(self, sizes: NetworkSizes, words: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, sizes.embedding, padding_idx=0)
        self.lstm = nn.LSTM(sizes.embedding, sizes.hidden, batch_first=True)

    def forward(self, tokens: Int[Tensor, "B T"]) -> Float[Tensor, "B H"]:
        return encode_question(self.lstm, self.embedding, tokens, skip_padding=True)


class TextClassifier(nn.Module):
    """From words to logits: the question classifier and the answer cluster predictor."""

    def __init__(self, sizes: NetworkSizes, words: int, classes: int) -> None:
        super().__init__()
        self.reader = Reader(sizes, words)
        self.classify = nn.Sequential(nn.Dropout(sizes.classifier_dropout), nn.Linear(sizes.hidden, classes))

    def forward(self, tokens: Int[Tensor, "B T"]) -> Float[Tensor, "B C"]:
        logits: Tensor = self.classify(self.reader(tokens))
        return logits


class Seen(NamedTuple):
    """Output of the visual concept classifier."""

    concepts: Float[Tensor, "B N"]
    """One logit for each concept."""
    attention: Float[Tensor, "B K"]
    """Attention of its second glimpse."""
    question: Float[Tensor, "B H"]
    """Encoding of the main words."""


class VisualConceptClassifier(nn.Module):
    """Stacked attention with the main words as query; concepts are classified from the second glimpse alone."""

    def __init__(self, sizes: NetworkSizes, words: int, feature_size: int, concepts: int) -> None:
        super().__init__()
        self.reader = Reader(sizes, words)
        self.project = nn.Linear(feature_size, sizes.hidden)
        self.glimpses = nn.ModuleList(Glimpse(sizes) for _ in range(2))
        self.classify = dense(sizes, sizes.hidden, sizes.hidden, concepts)

    def forward(self, main: Int[Tensor, "B T"], features: Float[Tensor, "B K D"], mask: Bool[Tensor, "B K"]) -> Seen:
        question = query = self.reader(main)
        proposals = self.project(features).tanh()
        for glimpse in self.glimpses:
            attention = glimpse(proposals, query, mask)
            patch = (attention[:, None] @ proposals).squeeze(1)
            query = patch + query
        return Seen(self.classify(patch), attention, question)


class AnswerPredictor(nn.Module):
    """Answers from concepts that are present *and* in a plausible cluster."""

    def __init__(self, sizes: NetworkSizes, concepts: int, answers: int) -> None:
        super().__init__()
        self.classify = dense(sizes, concepts, sizes.hidden, sizes.hidden, answers)

    def forward(self, seen: Float[Tensor, "B N"], plausible: Float[Tensor, "B N"]) -> Float[Tensor, "B A"]:
        """Compute logits from probabilities of concepts being present, and of their clusters being plausible."""
        logits: Tensor = self.classify((seen * plausible).tanh())
        return logits


class VisualVerifier(nn.Module):
    """Yes or no: whether the concept to verify is present."""

    def __init__(self, sizes: NetworkSizes, words: int, concepts: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, sizes.embedding, padding_idx=0)
        self.embed = nn.Sequential(dense(sizes, sizes.embedding, sizes.hidden, concepts), nn.Tanh())
        self.classify = dense(sizes, concepts, sizes.hidden, 2)

    def forward(self, seen: Float[Tensor, "B N"], word: Int[Tensor, " B"]) -> Float[Tensor, "B 2"]:
        """Compute logits from probabilities of concepts, and the word to verify."""
        logits: Tensor = self.classify((seen * self.embed(self.embedding(word))).tanh())
        return logits


def dense(sizes: NetworkSizes, *units: int) -> nn.Sequential:
    """Fully connected layers with tanh between them, and dropout before each."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(units):
        layers += [nn.Tanh()] * bool(layers) + [nn.Dropout(sizes.classifier_dropout), nn.Linear(inputs, outputs)]
    return nn.Sequential(*layers)
