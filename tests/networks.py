"""Small networks with random weights that several test files use."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

H, WORDS, ANSWERS = 8, 20, 7  # hidden units, words of the vocabulary, answers


class Question(nn.Module):
    """The states of a GRU after each word of a question, ``(B, L)`` to ``(B, L, hidden)``."""

    def __init__(self, hidden: int = H, words: int = WORDS) -> None:
        super().__init__()
        self.embedding, self.gru = nn.Embedding(words, hidden), nn.GRU(hidden, hidden, batch_first=True)

    def forward(self, words: Tensor) -> Any:
        return self.gru(self.embedding(words))[0]


class Gated(nn.Module):
    """The gated tanh layer of the winner of the VQA challenge of 2017."""

    def __init__(self, size: int, hidden: int = H) -> None:
        super().__init__()
        self.hidden, self.gate = nn.Linear(size, hidden), nn.Linear(size, hidden)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.hidden(x)) * torch.sigmoid(self.gate(x))


class Rectified(nn.Sequential):
    """A linear layer with ReLU and dropout."""

    def __init__(self, size: int, hidden: int = H, dropout: float = 0.0) -> None:
        super().__init__(nn.Linear(size, hidden), nn.ReLU(), nn.Dropout(dropout))


class UpDn(nn.Module):
    """Top-down attention, as in the paper's base network: proposals ``(B, K, D)``, words ``(B, L)``.

    The question weighs the proposals; their weighted sum and the question give the logits ``(B, answers)``.
    """

    def __init__(
        self,
        features: int,
        layer: Callable[[int, int], nn.Module] = Gated,
        *,
        hidden: int = H,
        words: int = WORDS,
        answers: int = ANSWERS,
    ) -> None:
        super().__init__()
        self.question, self.seen, self.asked = Question(hidden, words), layer(features, hidden), layer(hidden, hidden)
        self.attention = nn.Linear(hidden, 1, bias=False)
        self.image, self.query = layer(features, hidden), layer(hidden, hidden)
        self.answer = nn.Sequential(layer(hidden, hidden), nn.Linear(hidden, answers))

    def attend(self, proposals: Tensor, question: Tensor) -> tuple[Tensor, Tensor]:
        """Weights ``(B, K, 1)``, and the weighted sum of the proposals ``(B, D)``."""
        weights = self.attention(self.seen(proposals) * self.asked(question)[:, None]).softmax(1)
        return weights, (weights * proposals).sum(1)

    def reply(self, attended: Tensor, question: Tensor) -> Tensor:
        logits: Tensor = self.answer(self.image(attended) * self.query(question))
        return logits

    def forward(self, proposals: Tensor, words: Tensor) -> Any:
        question = self.question(words)[:, -1]
        return self.reply(self.attend(proposals, question)[1], question)


class OneQuestion(UpDn):
    """UpDn that asks the same question about every sample, and takes proposals only."""

    def forward(self, proposals: Tensor) -> Any:  # type: ignore[override]
        return super().forward(proposals, torch.ones(len(proposals), 2, dtype=torch.long))


def convolutional_net(channels: int, cells: int, answers: int = ANSWERS) -> nn.Sequential:
    """Takes feature maps ``(B, channels, ...)`` of so many ``cells``."""
    convolution = nn.Conv2d(channels, H, 3, padding=1)
    return nn.Sequential(convolution, nn.Tanh(), nn.Flatten(), nn.Linear(H * cells, answers))
