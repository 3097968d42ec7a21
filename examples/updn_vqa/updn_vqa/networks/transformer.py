"""A Transformer encoder over the question and the proposals. Its residual stream can bypass attention.

The layers are those of :class:`torch.nn.TransformerEncoderLayer` with ``norm_first=True`` (Vaswani et al., 2017; Xiong
et al., 2020). They are written out because the attention of the last layer is returned.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from updn_vqa.networks.layers import NetworkSizes, VqaNetwork, VqaOutput
from updn_vqa.networks.question import encode_question

LAYERS, HEADS = 2, 4


class Transformer(VqaNetwork):
    """From question and proposals to one logit for each answer.

    The question, encoded by a GRU, is one token beside those of the proposals, and answers are computed from it. The
    attention that is returned is that of the question to the proposals in the last layer, averaged over heads.
    """

    def __init__(self, sizes: NetworkSizes, *, words: int, answers: int, feature_size: int) -> None:
        super().__init__(sizes, words=words, answers=answers, feature_size=feature_size)
        self.embedding = nn.Embedding(words, sizes.embedding, padding_idx=0)
        self.gru = nn.GRU(sizes.embedding, sizes.hidden, batch_first=True)
        self.project = nn.Linear(feature_size, sizes.hidden)
        self.kind = nn.Parameter(torch.zeros(sizes.hidden))  # distinguishes the question from the proposals
        self.layers = nn.ModuleList(Layer(sizes) for _ in range(LAYERS))
        self.classifier = nn.Sequential(
            nn.LayerNorm(sizes.hidden), nn.Dropout(sizes.classifier_dropout), nn.Linear(sizes.hidden, answers)
        )

    def forward(
        self, tokens: Int[Tensor, "B T"], features: Float[Tensor, "B K D"], mask: Bool[Tensor, "B K"]
    ) -> VqaOutput:
        question = encode_question(self.gru, self.embedding, tokens)
        stream = torch.cat([(question + self.kind)[:, None], self.project(features)], 1)  # (B, 1 + K, H)
        there = torch.cat([mask.new_ones(len(mask), 1), mask], 1)
        for layer in self.layers:
            stream, weights = layer(stream, there)
        to_proposals = weights[:, 1:]
        attention = to_proposals / to_proposals.sum(1, keepdim=True)
        return VqaOutput(self.classifier(stream[:, 0]), attention, question)


class Layer(nn.Module):
    """Attention among all tokens, then layers that process each token alone."""

    def __init__(self, sizes: NetworkSizes) -> None:
        super().__init__()
        self.norm_attention, self.norm_each = nn.LayerNorm(sizes.hidden), nn.LayerNorm(sizes.hidden)
        self.query_key_value = nn.Linear(sizes.hidden, 3 * sizes.hidden)
        self.output = nn.Linear(sizes.hidden, sizes.hidden)
        self.dropout = nn.Dropout(sizes.attention_dropout)
        self.each = nn.Sequential(
            nn.Linear(sizes.hidden, 4 * sizes.hidden), nn.ReLU(), nn.Linear(4 * sizes.hidden, sizes.hidden)
        )

    def forward(
        self, stream: Float[Tensor, "B N H"], there: Bool[Tensor, "B N"]
    ) -> tuple[Float[Tensor, "B N H"], Float[Tensor, "B N"]]:
        """The stream after the layer, and the attention of the first token, averaged over heads."""
        split = self.query_key_value(self.norm_attention(stream)).unflatten(-1, (3, HEADS, -1))
        query, key, value = split.transpose(1, 3).unbind(2)  # (B, heads, N, H / heads) each
        scores = (query @ key.mT / query.shape[-1] ** 0.5).masked_fill(~there[:, None, None], -torch.inf)
        weights = scores.softmax(-1)
        seen = (self.dropout(weights) @ value).transpose(1, 2).flatten(2)
        stream = stream + self.output(seen)
        return stream + self.each(self.norm_each(stream)), weights[:, :, 0].mean(1)
