"""The input of models for one split: the arrays of ``<split>/arrays.safetensors``.

=================== =============== ==================================================================================
name                shape           content
=================== =============== ==================================================================================
``image_ids``       (I,)            COCO ids, each once
``image_rows``      (I,)            rows of the images in the proposal store
``caption_ids``     (N,)            COCO ids
``caption_images``  (N,)            the image of each caption, as a position from 0 to I - 1
``tokens``          (N, T + 1)      BEGIN, words, END, PAD
``word_spans``      (N, W, 2)       begin and end (exclusive) of each visual word in ``tokens[:, 1:]``, padded with -1
``word_categories`` (N, W)          the category that each visual word names, padded with -1
``word_pairs``      (N, W)          row in ``pairs`` of each visual word, -1 where the image has no such object
``objects``         (M, 2)          every pair of an image (0 to I - 1) and a category that the image has objects of
``pairs``           (P, 2)          those of these pairs that have a hint
``hints``           (P, K)          human importance of the image's proposals for the category, padded with NaN
``relevant``        (P, K)          whether a proposal overlaps such an object with an IoU above one half
=================== =============== ==================================================================================

In the train split, only categories that a caption of the image names have hints. In other splits, all categories have
them, since generated captions may name any.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float32
from torch import Tensor

from hint_loss import human_importance
from updn_captioning.data.coco import Caption
from updn_captioning.data.instances import Instances
from updn_captioning.data.visual_words import VisualWord, VisualWords
from updn_captioning.data.vocabulary import BEGIN, END, PAD, UNKNOWN, CaptionVocabulary
from updn_common.errors import InputError, refused_as_input
from updn_common.progress import track
from updn_common.proposals.boxes import relevant_proposals
from updn_common.proposals.store import Geometry

Arrays = dict[str, npt.NDArray[Any]]


def caption_arrays(
    captions: Sequence[Sequence[Caption]], vocabulary: CaptionVocabulary, words: VisualWords, length: int
) -> Arrays:
    """The words of captions, and the categories that they name.

    Args:
        captions: The captions of each image.
        vocabulary: The words that a model knows. Phrases with other words are not visual words: no model can learn
            them.
        words: The phrases that name categories.
        length: Largest number of words that are kept of a caption.
    """
    texts = [(image, caption) for image, of_image in enumerate(captions) for caption in of_image]
    named = [_named(caption.tokens, vocabulary, words, length) for _, caption in texts]
    shape = len(texts), max(map(len, named), default=0)
    spans, categories = np.full((*shape, 2), -1, dtype=np.int32), np.full(shape, -1, dtype=np.int32)
    for row, found in enumerate(named):
        for column, word in enumerate(found):
            spans[row, column], categories[row, column] = (word.begin, word.end), word.category
    longest = min(length, max(len(caption.tokens) for _, caption in texts))
    return {
        "caption_ids": np.array([caption.caption_id for _, caption in texts], dtype=np.int64),
        "caption_images": np.array([image for image, _ in texts], dtype=np.int64),
        "tokens": np.stack([vocabulary.encode(caption.tokens, longest) for _, caption in texts]),
        "word_spans": spans,
        "word_categories": categories,
    }


def _named(tokens: Sequence[str], vocabulary: CaptionVocabulary, words: VisualWords, length: int) -> list[VisualWord]:
    return [
        word
        for word in words.find(tokens)
        if word.end <= length and all(token in vocabulary.index for token in tokens[word.begin : word.end])
    ]


def pair_arrays(
    arrays: Arrays, geometry: Callable[[int], Geometry], instances: Instances, K: int, *, named_only: bool
) -> Arrays:
    """Human importance for pairs of an image and a category, and the pair of each visual word.

    Args:
        arrays: ``image_ids`` of a split, and its `caption_arrays`.
        geometry: Returns the proposals of an image.
        instances: The objects of images.
        K: Largest number of proposals of an image.
        named_only: Leave out categories that no caption of the image names.

    Raises:
        InputError: The sizes of an image differ between the proposals and the instances.
    """
    categories = arrays["word_categories"]
    image_of_word = np.repeat(arrays["caption_images"], categories.shape[1])
    words = list(zip(image_of_word.tolist(), categories.ravel().tolist(), strict=True))
    named = set(words)
    objects = [(i, c) for i, image_id in enumerate(arrays["image_ids"].tolist()) for c in instances.present(image_id)]
    rows: dict[tuple[int, int], int] = {}
    hints, relevant = [torch.empty(0, K)], [torch.empty(0, K, dtype=torch.bool)]
    for image, image_id in enumerate(track(arrays["image_ids"].tolist(), "hints")):
        chosen = [c for c in instances.present(image_id) if not named_only or (image, c) in named]
        if chosen:
            rows |= {(image, category): len(rows) + i for i, category in enumerate(chosen)}
            importance, overlaps = _importance(image_id, chosen, geometry(image_id), instances)
            hints.append(F.pad(importance, (0, K - importance.shape[1]), value=torch.nan))
            relevant.append(F.pad(overlaps, (0, K - overlaps.shape[1]), value=False))
    return {
        "word_pairs": np.array([rows.get(word, -1) for word in words], dtype=np.int32).reshape(categories.shape),
        "objects": np.array(objects, dtype=np.int32).reshape(-1, 2),
        "pairs": np.array(list(rows), dtype=np.int32).reshape(-1, 2),
        "hints": torch.cat(hints).numpy(),
        "relevant": torch.cat(relevant).numpy(),
    }


def _importance(
    image_id: int, categories: Sequence[int], image: Geometry, instances: Instances
) -> tuple[Float32[Tensor, "C K"], Bool[Tensor, "C K"]]:
    """Human importance of an image's proposals for each category, and whether they overlap its objects."""
    if instances.size(image_id) != image.size:
        height, width = instances.size(image_id)
        raise InputError(
            f"The instances of image {image_id} are on {width} x {height} pixels, but its proposals on {image.width} x "
            f"{image.height}. Take features that were extracted from COCO's own images."
        )
    masks = torch.stack([instances.mask(image_id, category) for category in categories])
    seen = masks.flatten(1).any(1)  # an object may be too small to cover the centre of any pixel
    importance = torch.full((len(categories), len(image.boxes)), torch.nan)
    if seen.any():
        with refused_as_input(f"The instances of image {image_id}"):
            importance[seen] = human_importance(masks[seen], image.boxes.expand(int(seen.sum()), -1, -1))
    boxes = [instances.boxes(image_id, category) for category in categories]
    for category, mask, found in zip(categories, masks, boxes, strict=True):
        _check_boxes(found, mask, f"image {image_id}, category {category}")
    overlaps = [relevant_proposals(image.boxes, found) for found in boxes]
    return importance, torch.stack(overlaps)


def _check_boxes(boxes: Float32[Tensor, "M 4"], mask: Bool[Tensor, "H W"], where: str) -> None:
    """Refuse boxes that do not surround the objects' mask, such as corners given as x, y, width and height."""
    if not mask.any():
        return
    y, x = (side.nonzero()[:, 0] for side in (mask.any(1), mask.any(0)))
    around = torch.stack([x[0], y[0], x[-1] + 1, y[-1] + 1])
    found = torch.cat([boxes[:, :2].amin(0), boxes[:, 2:].amax(0)])
    sides = (around[2:] - around[:2]).repeat(2)
    if ((found - around).abs() > 3 + 0.1 * sides).any():
        raise InputError(
            f"COCO's instances, {where}: boxes reach {found.tolist()} (x1 y1 x2 y2), masks {around.tolist()}. "
            'A "bbox" is x, y, width and height.'
        )


def split_counts(arrays: Arrays) -> dict[str, int]:
    """Number of samples, images, hints and words in a split, for ``prepared.json`` and the summary."""
    tokens, categories = arrays["tokens"], arrays["word_categories"]
    hinted = _hinted(arrays)
    return {
        "images": len(arrays["image_ids"]),
        "captions": len(tokens),
        "words": int((~np.isin(tokens, (PAD, BEGIN, END))).sum()),
        "unknown_words": int((tokens == UNKNOWN).sum()),
        "visual_words": int((categories >= 0).sum()),
        "hinted_words": int(hinted.sum()),
        "visual_words_without_an_object": int(((categories >= 0) & ~hinted).sum()),
        "hinted_captions": int(hinted.any(1).sum()),
    }


def _hinted(arrays: Arrays) -> Bool[np.ndarray, "N W"]:
    known = np.append((~np.isnan(arrays["hints"])).any(1), False)  # the last one, -1, is for words without a pair
    return known[arrays["word_pairs"]]
