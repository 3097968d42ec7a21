"""Small models of the kinds that people train, with random weights, for `test_gallery.py`.

Each function builds one; its docstring names the proposals and the score. Everything has the default dtype.
"""

from collections.abc import Callable, Set
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hint_loss import double_backward_kernels

from .networks import ANSWERS, WORDS, Gated, H, Question, Rectified, UpDn

B, K, D, T = 2, 5, 12, 4  # samples, proposals, features, words of a question

Track = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Example:
    """A model with a batch.

    Attributes:
        model: the module whose parameters are trained.
        forward: takes a function that turns features into proposals, such as `track_proposals`; returns the logits of
            all answers, one of which is the score, and the proposals.
        feature_dim: dimension of the features in the proposals.
        lazy: operations that must be tracked lazily.
        plain: operations that may be computed in full. Convolutions may be too, with gradient times input.
        vanishes: reduction with which the importance is zero for this model, whatever its parameters.
    """

    model: nn.Module
    forward: Callable[[Track], tuple[Tensor, Tensor]]
    feature_dim: int = -1
    lazy: Set[str] = frozenset()
    plain: Set[str] = frozenset()
    vanishes: str = ""


def regions(model: nn.Module, features: Tensor, **attributes: Any) -> Example:
    """The example of a model that takes region features and the words of a question."""
    words = torch.randint(WORDS, (len(features), T))

    def forward(track: Track) -> tuple[Tensor, Tensor]:
        proposals = track(features)
        with double_backward_kernels():  # on a GPU, a recurrent layer in evaluation mode has no gradient at all
            return model(proposals, words), proposals

    return Example(model, forward, **attributes)


# Attention over proposals, from before transformers


def updn() -> Example:
    """UpDn with ReLU: region features; the logit of an answer."""
    return regions(UpDn(D, Rectified).eval(), torch.rand(B, K, D), lazy={"linear", "mul", "sum"})


def updn_gated() -> Example:
    """UpDn with gated tanh layers: region features; the logit of an answer."""
    return regions(UpDn(D, Gated).eval(), torch.rand(B, K, D), lazy={"linear", "mul", "sum"})


class DropoutUpDn(UpDn):
    def forward(self, proposals: Tensor, words: Tensor) -> Any:
        return super().forward(F.dropout(proposals, 0.3), words)


def updn_dropout() -> Example:
    """UpDn in training mode, with dropout: region features; the logit of an answer."""
    model = DropoutUpDn(D, partial(Rectified, dropout=0.3)).train()
    return regions(model, torch.rand(B, K, D), lazy={"dropout", "linear", "mul", "sum"})


class ConcatAttention(nn.Module):
    """One linear layer reads features and question side by side; the weighted sum is a matrix product."""

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
    """Attention on concatenated features of the 64 x 64 cells of a fine grid."""
    return regions(ConcatAttention(8), torch.rand(B, 4096, 8), lazy=CONCAT)


def concat_normalised() -> Example:
    """Attention on normalised features. Scaling a proposal changes nothing: use the sum, not gradient times input."""
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
    """One attention map over all pairs of proposal and word, then their weighted sum, in a low rank."""

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
    """Words attend to proposals through `nn.MultiheadAttention`."""

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
    """Region features are keys and values; the logit of an answer. Tracking does not see into PyTorch's function."""
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
    """`nn.TransformerEncoder` of one layer over the 24 x 24 patches of a common vision encoder."""
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
    """Grad-CAM: the cells of the feature map that a trained backbone computes; the logit of a class."""
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
