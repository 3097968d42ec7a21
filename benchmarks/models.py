"""Networks whose training steps are timed, with attention over K proposals of D features, and questions of T words."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

K, D, T, WORDS, ANSWERS = 36, 2048, 14, 1000, 3129


class UpDn(nn.Module):
    """Bottom-up top-down attention from a gated product of proposal and question."""

    def __init__(self, hidden: int = 1024, embedding: int = 300) -> None:
        super().__init__()
        self.words, self.question = nn.Embedding(WORDS, embedding), nn.GRU(embedding, hidden, batch_first=True)
        self.value, self.asked, self.attention = nn.Linear(D, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, 1)
        self.image, self.gate = nn.Linear(D, hidden), nn.Linear(hidden, hidden)
        self.classifier = nn.Sequential(nn.Linear(hidden, 2 * hidden), nn.ReLU(), nn.Linear(2 * hidden, ANSWERS))

    def attended(self, proposals: Tensor, question: Tensor) -> Tensor:
        """The attended features ``(B, D)``, given the question."""
        joint = F.relu(self.value(proposals)) * F.relu(self.asked(question))[:, None]
        return (self.attention(joint).softmax(1) * proposals).sum(1)

    def forward(self, proposals: Tensor, words: Tensor) -> Tensor:
        """Logits ``(B, ANSWERS)`` of proposals ``(B, K, D)`` and words ``(B, T)``."""
        return self.answer(proposals, self.encode(words))

    def encode(self, words: Tensor) -> Tensor:
        """The question, ``(B, hidden)``, which does not depend on proposals."""
        question: Tensor = self.question(self.words(words))[0][:, -1]
        return question

    def answer(self, proposals: Tensor, question: Tensor) -> Tensor:
        """The logits of proposals and questions."""
        seen = F.relu(self.image(self.attended(proposals, question)))
        logits: Tensor = self.classifier(seen * F.relu(self.gate(question)))
        return logits


class Concat(UpDn):
    """UpDn with attention from concatenated proposal and question, as in the first such models, and ``bmm``."""

    def __init__(self, hidden: int = 1024) -> None:
        super().__init__(hidden)
        self.value, self.asked = nn.Linear(D + hidden, hidden), nn.Identity()

    def attended(self, proposals: Tensor, question: Tensor) -> Tensor:
        """See :class:`UpDn`."""
        both = torch.cat([proposals, question[:, None].expand(-1, proposals.shape[1], -1)], -1)
        weights = self.attention(F.relu(self.value(both))).softmax(1)
        return torch.bmm(weights.mT, proposals).squeeze(1)


class Transformer(nn.Module):
    """An encoder over words and projected proposals, without dropout, so that all programs compute the same."""

    def __init__(self, hidden: int = 512, layers: int = 2) -> None:
        super().__init__()
        self.words, self.value = nn.Embedding(WORDS, hidden), nn.Linear(D, hidden)
        layer = nn.TransformerEncoderLayer(hidden, 8, 4 * hidden, 0.0, "gelu", batch_first=True)
        self.encoder, self.answer = nn.TransformerEncoder(layer, layers), nn.Linear(hidden, ANSWERS)

    def forward(self, proposals: Tensor, words: Tensor) -> Tensor:
        """Logits ``(B, ANSWERS)`` of proposals ``(B, K, D)`` and words ``(B, T)``."""
        sequence = torch.cat([self.words(words), self.value(proposals)], 1)
        logits: Tensor = self.answer(self.encoder(sequence).mean(1))
        return logits


class Lxmert(nn.Module):
    """A small LXMERT from Hugging Face, with cross-modal attention and without dropout."""

    def __init__(self, hidden: int = 384) -> None:
        super().__init__()
        from transformers import LxmertConfig, LxmertModel

        config = LxmertConfig(
            vocab_size=WORDS,
            hidden_size=hidden,
            num_attention_heads=6,
            intermediate_size=4 * hidden,
            l_layers=2,
            x_layers=1,
            r_layers=2,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
        self.encoder, self.answer = LxmertModel(config), nn.Linear(hidden, ANSWERS)

    def forward(self, proposals: Tensor, words: Tensor) -> Tensor:
        """Logits ``(B, ANSWERS)`` of proposals ``(B, K, D)`` and words ``(B, T)``."""
        boxes = proposals.new_zeros(*proposals.shape[:2], 4)
        logits: Tensor = self.answer(self.encoder(words, proposals, boxes).pooled_output)
        return logits


MODELS: dict[str, Callable[..., nn.Module]] = {
    "updn": UpDn,
    "concat": Concat,
    "transformer": Transformer,
    "lxmert": Lxmert,
}
