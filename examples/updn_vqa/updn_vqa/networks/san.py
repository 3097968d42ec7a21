"""Stacked attention networks (Yang et al., CVPR 2016): a query attends to proposals twice, and is updated each time.

Grid features are proposals too: a ``(C, H, W)`` map is H * W proposals with C features, and the grid's cells are their
boxes. ``updn-vqa prepare`` reads one npz for each image, with ``x = map.reshape(C, H * W)``, and the cells as ``bbox``
in the same order, row by row.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from updn_vqa.networks.layers import NetworkSizes, VqaNetwork, VqaOutput
from updn_vqa.networks.question import encode_question


class San(VqaNetwork):
    """From question and proposals to one logit for each answer.

    A query u, at first the question's encoding, attends to the projected proposals v twice, and adds their mean::

        v = tanh(W f)
        p = softmax(w . tanh(W_v v + W_u u))      the second p is returned as attention
        u = sum_i p_i v_i + u

    As in its authors' code, the LSTM begins at the first word: padding is not read. The paper answers with a softmax.
    Here, as in all networks, each answer has a sigmoid; ``sizes.hidden`` is the size of all layers.
    """

    def __init__(self, sizes: NetworkSizes, *, words: int, answers: int, feature_size: int) -> None:
        super().__init__(sizes, words=words, answers=answers, feature_size=feature_size)
        self.embedding = nn.Embedding(words, sizes.embedding, padding_idx=0)
        self.lstm = nn.LSTM(sizes.embedding, sizes.hidden, batch_first=True)
        self.project = nn.Linear(feature_size, sizes.hidden)
        self.glimpses = nn.ModuleList(Glimpse(sizes) for _ in range(2))
        self.classifier = nn.Sequential(nn.Dropout(sizes.classifier_dropout), nn.Linear(sizes.hidden, answers))

    def forward(
        self, tokens: Int[Tensor, "B T"], features: Float[Tensor, "B K D"], mask: Bool[Tensor, "B K"]
    ) -> VqaOutput:
        question = query = encode_question(self.lstm, self.embedding, tokens, skip_padding=True)
        proposals = self.project(features).tanh()
        for glimpse in self.glimpses:
            attention = glimpse(proposals, query, mask)
            query = (attention[:, None] @ proposals).squeeze(1) + query
        return VqaOutput(self.classifier(query), attention, question)


class Glimpse(nn.Module):
    """Attention of a query to the proposals."""

    def __init__(self, sizes: NetworkSizes) -> None:
        super().__init__()
        self.proposal = nn.Linear(sizes.hidden, sizes.hidden, bias=False)
        self.query = nn.Linear(sizes.hidden, sizes.hidden)
        self.dropout = nn.Dropout(sizes.attention_dropout)
        self.logit = nn.Linear(sizes.hidden, 1)

    def forward(
        self, proposals: Float[Tensor, "B K H"], query: Float[Tensor, "B H"], mask: Bool[Tensor, "B K"]
    ) -> Float[Tensor, "B K"]:
        joint = (self.proposal(proposals) + self.query(query)[:, None]).tanh()
        scores: Tensor = self.logit(self.dropout(joint)).squeeze(-1)
        return scores.masked_fill(~mask, -torch.inf).softmax(-1)
