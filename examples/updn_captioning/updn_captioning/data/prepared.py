"""Batches of captions from a directory that ``updn-captioning prepare`` wrote."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float32, Int32, Int64, Shaped
from torch import Tensor

from updn_captioning.data.splits import SELECTION_SPLIT
from updn_captioning.data.visual_words import VisualWords
from updn_captioning.data.vocabulary import PAD, CaptionVocabulary
from updn_common.data.prepared import Limits, PreparedDirectory, PreparedSplit
from updn_common.errors import InputError
from updn_common.files.json_fields import by_id
from updn_common.files.reading import read_json
from updn_common.proposals.store import ProposalBatch, ProposalStore

_SAME_LENGTH = (
    ("image_ids", "image_rows"),
    ("caption_ids", "caption_images", "tokens", "word_spans", "word_categories", "word_pairs"),
    ("objects",),
    ("pairs", "hints", "relevant"),
)


class CaptionBatch(NamedTuple):
    """B captions with the proposals of their images, padded to K, and up to W visual words each.

    Attributes:
        image_ids: COCO ids of the images.
        caption_ids: COCO ids of the captions.
        features: Feature vectors of the proposals.
        boxes: Corners x1, y1, x2, y2 in pixels.
        mask: True for real proposals, False for padding.
        sizes: Image width and height in pixels.
        tokens: BEGIN, words, END, PAD: a network reads ``tokens[:, :-1]`` and predicts ``tokens[:, 1:]``.
        word_spans: Begin and end (exclusive) of each visual word in ``tokens[:, 1:]``, padded with -1.
        word_categories: Index of the category that each visual word names, padded with -1.
        human: Human importance of the proposals for each visual word; NaN for padding and for words without a hint.
        relevant: True for proposals that overlap an object of the category with an IoU above one half.
    """

    image_ids: Int64[Tensor, " B"]
    caption_ids: Int64[Tensor, " B"]
    features: Float32[Tensor, "B K D"]
    boxes: Float32[Tensor, "B K 4"]
    mask: Bool[Tensor, "B K"]
    sizes: Int32[Tensor, "B 2"]
    tokens: Int64[Tensor, "B T+1"]
    word_spans: Int64[Tensor, "B W 2"]
    word_categories: Int64[Tensor, "B W"]
    human: Float32[Tensor, "B W K"]
    relevant: Bool[Tensor, "B W K"]

    @property
    def hinted(self) -> Bool[Tensor, "B W"]:
        """True for visual words with a hint."""
        return (~self.human.isnan()).any(-1)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> CaptionBatch:
        """Copy to a device."""
        return CaptionBatch(*(tensor.to(device, non_blocking=non_blocking) for tensor in self))


class CaptionSplit(PreparedSplit):
    """The captions of one split. Made by :meth:`PreparedData.split`.

    Attributes:
        directory: Directory of the split.
        categories: Names of the categories that visual words name.
        image_ids: COCO ids of the I images, each once.
        pairs: Position of an image in ``image_ids``, and index of a category that the image has objects of.
        hints: Human importance of the image's proposals for the category, padded with NaN.
        relevant: True for proposals that overlap an object of the category with an IoU above one half.
    """

    def __init__(self, directory: Path, store: ProposalStore, categories: Sequence[str], num_words: int) -> None:
        limits: Limits = {
            "image_rows": (0, len(store)),
            "caption_images": (0, "image_ids"),
            "tokens": (0, num_words),
            "word_categories": (-1, len(categories)),
            "word_pairs": (-1, "pairs"),
            "objects": (0, max(len(store), len(categories))),
            "pairs": (0, max(len(store), len(categories))),
        }
        super().__init__(directory, store, _SAME_LENGTH, limits)
        self.categories = list(categories)
        self.image_ids: list[int] = self._arrays["image_ids"].tolist()
        self.pairs: Int32[Tensor, "P 2"] = self._arrays["pairs"]
        self.hints: Float32[Tensor, "P K"] = self._arrays["hints"]
        self.relevant: Bool[Tensor, "P K"] = self._arrays["relevant"]

    def __len__(self) -> int:
        return len(self._arrays["caption_ids"])

    @cached_property
    def references(self) -> dict[int, list[str]]:
        """The captions of each image by COCO id, tokenised for scores, as words separated by spaces."""
        path = self.directory / "references.json"
        return by_id(read_json(path), path, "captions")

    @cached_property
    def pair_rows(self) -> dict[tuple[int, int], int]:
        """Row in ``hints`` and ``relevant`` of each pair of an image, by COCO id, and a category."""
        return {(self.image_ids[image], category): row for row, (image, category) in enumerate(self.pairs.tolist())}

    @cached_property
    def annotated(self) -> set[tuple[int, int]]:
        """Pairs of an image, by COCO id, and a category that the image has annotated objects of."""
        return {(self.image_ids[image], category) for image, category in self._arrays["objects"].tolist()}

    @cached_property
    def hinted_indices(self) -> Int64[Tensor, " M"]:
        """The M captions with a visual word that has a hint, ascending."""
        return self._indices((~self.hints.isnan()).any(1))

    @cached_property
    def comparable_indices(self) -> Int64[Tensor, " M"]:
        """The M captions with a visual word that has a hint or a relevant proposal, ascending."""
        return self._indices((~self.hints.isnan()).any(1) | self.relevant.any(1))

    def _indices(self, wanted: Bool[Tensor, " P"]) -> Int64[Tensor, " M"]:
        """The captions that have a visual word about one of the wanted pairs."""
        return _rows_or_empty(wanted[:, None], self._arrays["word_pairs"], False).any(2).any(1).nonzero()[:, 0]

    def positions(self, image_ids: Sequence[int]) -> Int64[Tensor, " B"]:
        """Positions of images in ``image_ids``.

        Raises:
            InputError: The split lacks one of them.
        """
        position = {image_id: i for i, image_id in enumerate(self.image_ids)}
        missing = [image_id for image_id in image_ids if image_id not in position]
        if missing:
            raise InputError(f"{self.directory} has no image {missing[0]}; give ids of this split's captions.json.")
        return torch.tensor([position[image_id] for image_id in image_ids])

    def images(self, positions: Tensor | Sequence[int]) -> ProposalBatch:
        """The proposals of the images at these positions of ``image_ids``."""
        at = torch.as_tensor(positions, dtype=torch.int64)
        return self._store.batch(self._arrays["image_rows"][at].numpy())

    def batch(self, indices: Tensor | Sequence[int], *, hints: Float32[Tensor, "P K"] | None = None) -> CaptionBatch:
        """The captions at these positions of the split; ``hints`` replace the human importance, for controls."""
        at = torch.as_tensor(indices, dtype=torch.int64)
        image = self._arrays["caption_images"][at]
        proposals = self.images(image)
        K = proposals.mask.shape[1]
        tokens, categories = self._arrays["tokens"][at].long(), self._arrays["word_categories"][at].long()
        T = int((tokens != PAD).sum(1).max())
        W = int((categories >= 0).sum(1).max())
        pairs = self._arrays["word_pairs"][at, :W]
        return CaptionBatch(
            image_ids=self._arrays["image_ids"][image],
            caption_ids=self._arrays["caption_ids"][at],
            features=proposals.features,
            boxes=proposals.boxes,
            mask=proposals.mask,
            sizes=proposals.sizes,
            tokens=tokens[:, :T],
            word_spans=self._arrays["word_spans"][at, :W].long(),
            word_categories=categories[:, :W],
            human=_rows_or_empty(self.hints if hints is None else hints, pairs, torch.nan)[..., :K],
            relevant=_rows_or_empty(self.relevant, pairs, False)[..., :K],
        )


class PreparedData(PreparedDirectory[CaptionSplit]):
    """A directory that ``updn-captioning prepare`` wrote. Made by :meth:`PreparedData.open`.

    Attributes:
        directory: The directory.
        record: Content of ``prepared.json``.
        store: The proposals of all images.
        vocabulary: The words.
        visual_words: The categories and the phrases that name them.
    """

    COMMAND = "updn-captioning prepare"
    FORMAT_VERSION = 2
    SELECTION_SPLIT = SELECTION_SPLIT

    def __init__(self, directory: Path, record: dict[str, Any]) -> None:
        self.vocabulary = CaptionVocabulary.read(directory / "vocabulary.json")
        self.visual_words = VisualWords.read(directory / "visual_words.json")
        super().__init__(directory, record)

    @property
    def categories(self) -> list[str]:
        """Names of the categories, in the order of their indices."""
        return list(self.visual_words.categories)

    def _read_split(self, directory: Path) -> CaptionSplit:
        return CaptionSplit(directory, self.store, self.categories, len(self.vocabulary))


def _rows_or_empty(values: Shaped[Tensor, "P K"], rows: Int32[Tensor, "N W"], empty: float) -> Shaped[Tensor, "N W K"]:
    """The given rows of ``values``, filled with ``empty`` for row -1."""
    if len(values) == 0:
        return values.new_full((*rows.shape, values.shape[1]), empty)
    return values[rows.long()].masked_fill((rows < 0)[..., None], empty)
