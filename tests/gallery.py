"""Small models of the kinds that people train, with random weights: what `test_gallery.py` runs on.

Each function builds one. Its docstring says what the proposals and the score are. Everything is in the default dtype.
"""

from collections.abc import Callable, Set
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hint_loss import double_backward_kernels

B, K, D, H, T, WORDS, ANSWERS = 2, 5, 12, 8, 4, 20, 7  # samples, proposals, features, width, words of a question

Track = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Example:
    """A model with a batch.

    Attributes:
        model: its parameters are trained.
        forward: takes what makes proposals of features, such as `track_proposals`; returns the logits of all answers,
            of which the score is one, and the proposals.
        feature_dim: of the proposals.
        lazy: operations that have to follow the proposals lazily.
        plain: the only ones that may not, but for convolutions of gradient times input.
        vanishes: a reduction with which the importance is zero for this model, whatever its parameters.
    """

    model: nn.Module
    forward: Callable[[Track], tuple[Tensor, Tensor]]
    feature_dim: int = -1
    lazy: Set[str] = frozenset()
    plain: Set[str] = frozenset()
    vanishes: str = ""


def regions(model: nn.Module, features: Tensor, **names: Any) -> Example:
    """A model that is called with region features and the words of a question."""
    words = torch.randint(WORDS, (len(features), T))

    def forward(track: Track) -> tuple[Tensor, Tensor]:
        proposals = track(features)
        with double_backward_kernels():  # on a GPU, a recurrent layer in evaluation mode has no gradient at all
            return model(proposals, words), proposals

    return Example(model, forward, **names)


# Attention over proposals, of the years before transformers


class Question(nn.Module):
    """Words to the last state of a GRU, or to all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.gru = nn.Embedding(WORDS, H), nn.GRU(H, H, batch_first=True)

    def forward(self, words: Tensor) -> Any:
        return self.gru(self.embedding(words))[0]


class Gated(nn.Module):
    """The gated tanh layer of the winner of the VQA challenge of 2017."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.hidden, self.gate = nn.Linear(size, H), nn.Linear(size, H)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.hidden(x)) * torch.sigmoid(self.gate(x))


class Rectified(nn.Sequential):
    def __init__(self, size: int, dropout: float = 0.0) -> None:
        super().__init__(nn.Linear(size, H), nn.ReLU(), nn.Dropout(dropout))


class UpDn(nn.Module):
    def __init__(self, layer: Callable[[int], nn.Module], dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.question, self.seen, self.asked = Question(), layer(D), layer(H)
        self.attention, self.image, self.query = nn.Linear(H, 1), layer(D), layer(H)
        self.answer = nn.Sequential(layer(H), nn.Linear(H, ANSWERS))

    def forward(self, proposals: Tensor, words: Tensor) -> Any:
        proposals, question = self.dropout(proposals), self.question(words)[:, -1]
        weights = self.attention(self.seen(proposals) * self.asked(question)[:, None]).softmax(1)
        attended = (weights * proposals).sum(1)
        return self.answer(self.image(attended) * self.query(question))


def updn() -> Example:
    """UpDn with ReLU: region features; the logit of an answer."""
    return regions(UpDn(Rectified).eval(), torch.rand(B, K, D), lazy={"linear", "mul", "sum"})


def updn_gated() -> Example:
    """UpDn with gated tanh layers: region features; the logit of an answer."""
    return regions(UpDn(Gated).eval(), torch.rand(B, K, D), lazy={"linear", "mul", "sum"})


def updn_dropout() -> Example:
    """UpDn in training mode, with dropout: region features; the logit of an answer."""
    model = UpDn(partial(Rectified, dropout=0.3), dropout=0.3).train()
    return regions(model, torch.rand(B, K, D), lazy={"dropout", "linear", "mul", "sum"})


class ConcatAttention(nn.Module):
    """Features beside the question in one linear layer; the weighted sum as a matrix product."""

    def __init__(self, size: int = D, normalise: bool = False) -> None:
        super().__init__()
        self.normalise = normalise
        self.question, self.joint, self.attention = Question(), nn.Linear(size + H, H), nn.Linear(H, 1)
        self.image, self.answer = nn.Linear(size, H), nn.Linear(H, ANSWERS)

    def forward(self, proposals: Tensor, words: Tensor) -> Any:
        if self.normalise:
            proposals = F.normalize(proposals, dim=-1)
        question = self.question(words)[:, -1]
        joint = torch.cat([proposals, question[:, None].expand(-1, proposals.shape[1], -1)], -1)
        weights = self.attention(torch.relu(self.joint(joint))).softmax(1)
        attended = torch.bmm(weights.transpose(1, 2), proposals).squeeze(1)
        return self.answer(torch.relu(self.image(attended) * question))


CONCAT = {"cat", "linear", "bmm", "squeeze"}


def concat_attention() -> Example:
    """Attention on concatenated features: region features; the logit of an answer."""
    return regions(ConcatAttention(), torch.rand(B, K, D), lazy=CONCAT)


def concat_attention_4096() -> Example:
    """The same over the 64 x 64 cells of a fine grid."""
    return regions(ConcatAttention(8), torch.rand(B, 4096, 8), lazy=CONCAT)


def concat_normalised() -> Example:
    """The same on normalised features. To stretch one changes nothing: use the sum, not gradient times input."""
    model = ConcatAttention(normalise=True)
    return regions(model, torch.rand(B, K, D), plain={"normalize"}, vanishes="input")


class StackedAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.question, self.image = Question(), nn.Linear(D, H)
        self.seen = nn.ModuleList(nn.Linear(H, H, bias=False) for _ in range(2))
        self.asked = nn.ModuleList(nn.Linear(H, H) for _ in range(2))
        self.attention = nn.ModuleList(nn.Linear(H, 1) for _ in range(2))
        self.answer = nn.Linear(H, ANSWERS)

    def forward(self, grid: Tensor, words: Tensor) -> Any:
        image = torch.tanh(self.image(grid.flatten(2).transpose(1, 2)))  # (B, C, H, W) to (B, HW, H)
        query = self.question(words)[:, -1]
        for seen, asked, attention in zip(self.seen, self.asked, self.attention, strict=True):
            weights = attention(torch.tanh(seen(image) + asked(query)[:, None])).softmax(1)
            query = query + (weights * image).sum(1)
        return self.answer(query)


def stacked_attention() -> Example:
    """SAN: the cells of a feature map; the logit of an answer."""
    lazy = {"flatten", "transpose", "linear"}
    return regions(StackedAttention(), torch.rand(B, D, 3, 4), feature_dim=1, lazy=lazy)


class BilinearAttention(nn.Module):
    """One map over pairs of proposal and word, and the sum over all pairs of both, in a low rank."""

    def __init__(self) -> None:
        super().__init__()
        self.question = Question()
        self.seen, self.asked, self.attention = nn.Linear(D, H), nn.Linear(H, H), nn.Parameter(torch.randn(H))
        self.image, self.word, self.answer = nn.Linear(D, H), nn.Linear(H, H), nn.Linear(H, ANSWERS)

    def forward(self, proposals: Tensor, words: Tensor) -> Any:
        question = self.question(words)
        seen, asked = torch.relu(self.seen(proposals)) * self.attention, torch.relu(self.asked(question))
        weights = torch.einsum("bkh,bth->bkt", seen, asked).flatten(1).softmax(1).view(len(seen), -1, T)
        joint = torch.einsum("bkh,bkt,bth->bh", self.image(proposals), weights, self.word(question))
        return self.answer(joint)


def bilinear_attention() -> Example:
    """BAN: region features; the logit of an answer."""
    return regions(BilinearAttention(), torch.rand(B, K, D), lazy={"linear"})


# Transformers of PyTorch


class CrossAttention(nn.Module):
    """Words look at proposals through `nn.MultiheadAttention`."""

    def __init__(self) -> None:
        super().__init__()
        self.question = Question()
        self.attention = nn.MultiheadAttention(H, 2, kdim=D, vdim=D, batch_first=True)
        self.answer = nn.Linear(H, ANSWERS)

    def forward(self, proposals: Tensor, words: Tensor) -> Any:
        question = self.question(words)
        with double_backward_kernels():
            attended, _ = self.attention(question, proposals, proposals, need_weights=False)
        return self.answer(torch.tanh(question + attended).sum(1))


def multihead_attention() -> Example:
    """Region features are keys and values; the logit of an answer. PyTorch's function is opaque to tracking."""
    return regions(CrossAttention(), torch.rand(B, K, D), plain={"multi_head_attention_forward"})


class Transformer(nn.Module):
    def __init__(self, size: int, layers: int) -> None:
        super().__init__()
        self.image, self.embedding = nn.Linear(size, H), nn.Embedding(WORDS, H)
        layer = nn.TransformerEncoderLayer(H, 2, 2 * H, dropout=0.0, activation="gelu", batch_first=True)
        self.encoder, self.answer = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False), nn.Linear(H, 7)

    def forward(self, proposals: Tensor, words: Tensor) -> Any:
        with double_backward_kernels():
            encoded = self.encoder(torch.cat([self.embedding(words), self.image(proposals)], 1))
        return self.answer(encoded[:, 0])


def transformer() -> Example:
    """`nn.TransformerEncoder` over words and projected regions: region features; the logit of an answer."""
    return regions(Transformer(D, 2), torch.rand(B, K, D), lazy={"linear"})


def transformer_576() -> Example:
    """The same, of one layer, over the 24 x 24 patches of a usual vision tower."""
    return regions(Transformer(D, 1), torch.rand(1, 576, D), lazy={"linear"})


# Backbones


class ConvolutionalNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, H, 3, padding=1), nn.BatchNorm2d(H), nn.ReLU(inplace=True), nn.Conv2d(H, D, 3, stride=2)
        )
        self.block = nn.Sequential(nn.Conv2d(D, H, 3, padding=1), nn.BatchNorm2d(H), nn.ReLU(inplace=True))
        self.attention, self.answer = nn.Conv2d(H, 1, 1), nn.Linear(H, ANSWERS)

    def head(self, feature_map: Tensor) -> Any:
        hidden = self.block(feature_map)
        weights = self.attention(hidden).flatten(2).softmax(-1)
        return self.answer((hidden.flatten(2) * weights).sum(-1))


def feature_map() -> Example:
    """Grad-CAM: the cells of a feature map that a trained backbone makes; the logit of a class."""
    model, images = ConvolutionalNet().eval(), torch.rand(B, 3, 9, 9)

    def forward(track: Track) -> tuple[Tensor, Tensor]:
        proposals = track(model.stem(images))
        return model.head(proposals), proposals

    return Example(model, forward, feature_dim=1, lazy={"conv2d"})


GALLERY = [
    updn,
    updn_gated,
    updn_dropout,
    concat_attention,
    concat_attention_4096,
    concat_normalised,
    stacked_attention,
    bilinear_attention,
    multihead_attention,
    transformer,
    transformer_576,
    feature_map,
]
