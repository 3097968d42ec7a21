"""A prepared directory as batches of tensors."""

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
from updn_common.errors import InputError
from updn_common.files.arrays import load_arrays
from updn_common.files.reading import read_json, read_record
from updn_common.files.records import by_id
from updn_common.proposals.store import ProposalBatch, ProposalStore

FORMAT_VERSION = 2

TOGETHER = (
    ("image_ids", "image_rows"),
    ("caption_ids", "caption_images", "tokens", "word_spans", "word_categories", "word_pairs"),
    ("objects",),
    ("pairs", "hints", "relevant"),
)
"""Arrays of the same length."""


class CaptionBatch(NamedTuple):
    """B captions with the proposals of their images, padded to K, and up to W visual words each.

    Attributes:
        image_ids: COCO ids of the images.
        caption_ids: COCO ids of the captions.
        features: Feature vectors of the proposals.
        boxes: Corners x1, y1, x2, y2 in pixels.
        mask: True for real proposals, False for padding.
        sizes: Image width and height in pixels.
        tokens: BEGIN, words, END, PAD: a network reads ``tokens[:, :-1]`` and should say ``tokens[:, 1:]``.
        word_spans: Begin and end (exclusive) of a visual word in ``tokens[:, 1:]``, -1 where there is none.
        word_categories: Index of the category that it names, -1 where there is none.
        human: Human importance of the proposals for it, NaN where nobody knows: padding, and words without a hint.
        relevant: Proposals that overlap an object of the category by more than half.
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


class CaptionSplit:
    """The captions of one split. Made by :meth:`PreparedData.split`.

    Attributes:
        directory: Where the split is.
        categories: Names of the categories that visual words name.
        image_ids: COCO ids of the I images, each once.
        pairs: One of the images, by position, and a category that it has objects of, for which there is a hint.
        hints: Human importance of the image's proposals for the category, NaN beyond the last proposal.
        relevant: Which of them overlap an object of the category by more than half.
    """

    def __init__(self, directory: Path, store: ProposalStore, categories: Sequence[str], num_words: int) -> None:
        self.directory = directory
        self.categories = list(categories)
        self._store = store
        limits: dict[str, tuple[int, str | int]] = {
            "image_rows": (0, len(store.image_ids)),
            "caption_images": (0, "image_ids"),
            "tokens": (0, num_words),
            "word_categories": (-1, len(categories)),
            "word_pairs": (-1, "pairs"),
            "objects": (0, max(len(store.image_ids), len(categories))),
            "pairs": (0, max(len(store.image_ids), len(categories))),
        }
        arrays = load_arrays(directory / "arrays.safetensors", TOGETHER, limits)
        self._arrays = arrays
        self.image_ids: list[int] = arrays["image_ids"].tolist()
        self.pairs: Int32[Tensor, "P 2"] = arrays["pairs"]
        self.hints: Float32[Tensor, "P K"] = arrays["hints"]
        self.relevant: Bool[Tensor, "P K"] = arrays["relevant"]

    def __len__(self) -> int:
        return len(self._arrays["caption_ids"])

    @property
    def name(self) -> str:
        """Such as ``"train"``."""
        return self.directory.name

    @cached_property
    def references(self) -> dict[int, list[str]]:
        """The captions of each image by its COCO id, tokenised for scores, words separated by spaces."""
        path = self.directory / "references.json"
        return by_id(read_json(path), path, "captions")

    @cached_property
    def pair_rows(self) -> dict[tuple[int, int], int]:
        """The row in ``hints`` and ``relevant`` of each image, by its COCO id, and category."""
        return {(self.image_ids[image], category): row for row, (image, category) in enumerate(self.pairs.tolist())}

    @cached_property
    def annotated(self) -> set[tuple[int, int]]:
        """Each image, by its COCO id, and category that it has annotated objects of."""
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
        """The captions with a visual word whose pair is wanted."""
        return _rows(wanted[:, None], self._arrays["word_pairs"], False).any(2).any(1).nonzero()[:, 0]

    def positions(self, image_ids: Sequence[int]) -> Int64[Tensor, " B"]:
        """Where images stand in ``image_ids``.

        Raises:
            InputError: If one is not there.
        """
        position = {image_id: i for i, image_id in enumerate(self.image_ids)}
        missing = [image_id for image_id in image_ids if image_id not in position]
        if missing:
            raise InputError(f"{self.directory} has no image {missing[0]}; give ids of this split's captions.json.")
        return torch.tensor([position[image_id] for image_id in image_ids])

    def images(self, positions: Tensor | Sequence[int]) -> ProposalBatch:
        """Gather the proposals of images by their positions in ``image_ids``."""
        at = torch.as_tensor(positions, dtype=torch.int64)
        return self._store.batch(self._arrays["image_rows"][at].numpy())

    def batch(self, indices: Tensor | Sequence[int], *, hints: Float32[Tensor, "P K"] | None = None) -> CaptionBatch:
        """Gather captions by their positions in the split.

        Args:
            indices: B positions.
            hints: What to take for human importance, such as a control's; default: ``hints`` of the split.
        """
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
            human=_rows(self.hints if hints is None else hints, pairs, torch.nan)[..., :K],
            relevant=_rows(self.relevant, pairs, False)[..., :K],
        )


class PreparedData:
    """What ``updn-captioning prepare`` wrote. Made by :meth:`PreparedData.open`; splits are read when asked for.

    Attributes:
        directory: Where it is.
        record: The content of ``prepared.json``.
        vocabulary: The words.
        visual_words: The categories and the phrases that name them.
        store: The proposals of all images.
    """

    def __init__(self, directory: Path, record: dict[str, Any]) -> None:
        self.directory = directory
        self.record = record
        self.vocabulary = CaptionVocabulary.read(directory / "vocabulary.json")
        self.visual_words = VisualWords.read(directory / "visual_words.json")
        self.store = ProposalStore.open(directory / "proposals")

    @classmethod
    def open(cls, directory: Path) -> PreparedData:
        """Open a prepared directory.

        Raises:
            InputError: If it is none, is incomplete, or is of another format version.
        """
        expected = "a directory that `updn-captioning prepare` wrote"
        return cls(directory, read_record(directory / "prepared.json", FORMAT_VERSION, expected=expected))

    @property
    def categories(self) -> list[str]:
        """Names of the categories, in the order of their indices."""
        return list(self.visual_words.categories)

    @property
    def split_names(self) -> list[str]:
        """The splits there are."""
        return list(self.record["splits"])

    def check_split(self, name: str) -> None:
        """Raise an InputError if there is no such split."""
        if name not in self.split_names:
            remedy = "Give --split one of these."
            if name == SELECTION_SPLIT:
                remedy = "Prepare it again with --development-share above 0: that holds one out of train."
            raise InputError(f"{self.directory} has no split {name!r}; it has {', '.join(self.split_names)}. {remedy}")

    def split(self, name: str) -> CaptionSplit:
        """Read one split.

        Raises:
            InputError: If there is no such split.
        """
        self.check_split(name)
        return CaptionSplit(self.directory / name, self.store, self.categories, len(self.vocabulary))


def _rows(values: Shaped[Tensor, "P K"], rows: Int32[Tensor, "N W"], empty: float) -> Shaped[Tensor, "N W K"]:
    """The given rows of ``values``; ``empty`` for the row -1."""
    if len(values) == 0:
        return values.new_full((*rows.shape, values.shape[1]), empty)
    return values[rows.long()].masked_fill((rows < 0)[..., None], empty)
