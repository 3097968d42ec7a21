"""Read the official caption files as typed records: COCO's captions, Karpathy's data set, and splits of images.

JSON may be gzipped under its official name. Errors name the file and the record.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from updn_common.errors import InputError
from updn_common.files.json_fields import field, is_text, kind_of
from updn_common.files.reading import read_json, read_text

Splits = Mapping[str, Sequence[int]]
"""The images of each split."""

SPLITS = ("train", "val", "dev", "test")
"""Possible splits. ``dev`` is distributed like ``test``, to choose options on."""

_LIST_ENTRY = re.compile(r"(?:\S+\s+)?(\d+)")
_ROBUST_SUFFIX = "_id"


@dataclass(frozen=True, slots=True)
class Caption:
    """One person's caption of one image.

    Attributes:
        caption_id: COCO id of the caption, Karpathy's ``sentid``.
        image_id: The COCO image.
        text: The caption as it was written.
        tokens: Karpathy's tokens, in lower case and without punctuation; empty if the file has none.
    """

    caption_id: int
    image_id: int
    text: str
    tokens: tuple[str, ...] = ()


class KarpathyData(NamedTuple):
    """Content of ``dataset_coco.json``; ``restval``, the rest of COCO's validation images, is part of ``train``."""

    captions: list[Caption]
    splits: Splits


def read_captions(path: Path) -> list[Caption]:
    """Read COCO's captions, ``{"images": [...], "annotations": [{"image_id", "id", "caption"}]}`` or a bare list.

    Raises:
        InputError: The file has another format; or a caption has no words, occurs twice, or is about an image that the
            file does not list.
    """
    document = read_json(path, expected="a COCO captions file")
    records, images = document, None
    if isinstance(document, dict):
        records = document.get("annotations")
        if "images" in document:
            listed = field(document, "images", list, str(path))
            images = {field(image, "id", int, f"{path}, image {i}") for i, image in enumerate(listed)}
    if not isinstance(records, list):
        raise InputError(
            f"{path} is not a COCO captions file: it should hold a list of captions, or an object with such a list "
            f"under 'annotations'. Found {kind_of(document)}."
        )
    captions = [_caption(record, f"{path}, annotation {i}") for i, record in enumerate(records)]
    for i, caption in enumerate(captions):
        if images is not None and caption.image_id not in images:
            raise InputError(
                f"{path}, annotation {i}: caption {caption.caption_id} is about image {caption.image_id}, which is not "
                "among the file's images. Fetch the file again."
            )
    return _distinct(captions, str(path))


def read_karpathy(path: Path) -> KarpathyData:
    """Read Karpathy's ``dataset_coco.json``: captions with their tokens, and the split of each image.

    Raises:
        InputError: The file has another format; a caption has no words or occurs twice; or an image occurs twice or is
            in an unknown split.
    """
    document = read_json(path, expected="Karpathy's dataset_coco.json")
    captions: list[Caption] = []
    splits: dict[str, list[int]] = {}
    for i, record in enumerate(field(document, "images", list, str(path))):
        where = f"{path}, image {i}"
        image_id, name = field(record, "cocoid", int, where), field(record, "split", str, where)
        if name not in (*SPLITS, "restval"):
            raise InputError(f"{where}: 'split' should be train, restval, val, dev or test, found {name!r}.")
        splits.setdefault("train" if name == "restval" else name, []).append(image_id)
        for j, sentence in enumerate(field(record, "sentences", list, where)):
            captions.append(_sentence(sentence, image_id, f"{where}, sentence {j}"))
    check_disjoint(splits, str(path))
    return KarpathyData(_distinct(captions, str(path)), splits)


def read_robust_split(path: Path) -> Splits:
    """Read Neural Baby Talk's ``split_robust_coco.json``: ``{"train_id": [{"img_id": 1}, ...], "val_id": ..., ...}``.

    Raises:
        InputError: The file has another format, a split is not one of `SPLITS`, or an image occurs twice.
    """
    document = read_json(path, expected="the robust split, split_robust_coco.json")
    if not isinstance(document, dict) or not document or not all(name.endswith(_ROBUST_SUFFIX) for name in document):
        raise InputError(
            f"{path} is not a split: it should hold an object with the keys 'train_id', 'val_id' and 'test_id', found "
            f"{kind_of(document)}."
        )
    for key in document:
        if key.removesuffix(_ROBUST_SUFFIX) not in SPLITS:  # the name becomes that of a folder
            keys = [f"{name}{_ROBUST_SUFFIX}" for name in SPLITS]
            raise InputError(f"{path}: a key should be {', '.join(keys[:-1])} or {keys[-1]}, found {key!r}.")
    splits = {
        key.removesuffix(_ROBUST_SUFFIX): [
            field(entry, "img_id", int, f"{path}, {key}, entry {i}")
            for i, entry in enumerate(field(document, key, list, str(path)))
        ]
        for key in document
    }
    check_disjoint(splits, str(path))
    return splits


def read_image_list(path: Path) -> list[int]:
    """Read a list with one image per line: ``val2014/COCO_val2014_000000011169.jpg 11169``, or the number alone.

    Raises:
        InputError: A line has another format, an image occurs twice, or there is none.
    """
    images = []
    for number, line in enumerate(read_text(path, expected="a list of images").splitlines(), start=1):
        if line.strip():
            match = _LIST_ENTRY.fullmatch(line.strip())
            if not match:
                raise InputError(f"{path}, line {number}: {line!r} should end with the number of an image.")
            images.append(int(match[1]))
    if not images:
        raise InputError(f"{path} lists no images.")
    check_disjoint({path.stem: images}, str(path))
    return images


def check_disjoint(splits: Splits, source: str) -> None:
    """Raise an InputError, about the files ``source``, if an image is in two splits or twice in one."""
    home: dict[int, str] = {}
    for name, images in splits.items():
        for image_id in images:
            other = home.setdefault(image_id, name)
            if other != name:
                raise InputError(
                    f"{source}: image {image_id} is in the splits {other!r} and {name!r}. Every image belongs to one."
                )
        if twice := [image_id for image_id, count in Counter(images).items() if count > 1]:
            raise InputError(f"{source}: image {twice[0]} occurs twice in the split {name!r}. Remove one of the two.")


def _caption(record: Any, where: str) -> Caption:
    caption = Caption(
        caption_id=field(record, "id", int, where),
        image_id=field(record, "image_id", int, where),
        text=field(record, "caption", str, where),
    )
    if not _has_words(caption.text):
        raise _no_words(caption, where)
    return caption


def _sentence(record: Any, image_id: int, where: str) -> Caption:
    tokens = field(record, "tokens", list, where)
    if not all(is_text(token) and token.split() == [token] for token in tokens):
        raise InputError(f"{where}: 'tokens' should be a list of words, found {tokens!r}.")
    # Few of the millions of words are distinct; interning keeps each once.
    caption = Caption(
        caption_id=field(record, "sentid", int, where),
        image_id=image_id,
        text=field(record, "raw", str, where),
        tokens=tuple(map(sys.intern, tokens)),
    )
    if not tokens or not _has_words(caption.text):
        raise _no_words(caption, where)
    return caption


def _has_words(text: str) -> bool:
    """Whether a text has a letter or digit: without any, it would be a reference without tokens."""
    return any(map(str.isalnum, text))


def _no_words(caption: Caption, where: str) -> InputError:
    return InputError(
        f"{where}: caption {caption.caption_id} of image {caption.image_id}, {caption.text!r}, has no words. Remove "
        "it, or write one."
    )


def _distinct(captions: Sequence[Caption], source: str) -> list[Caption]:
    if not captions:
        raise InputError(f"{source} holds no captions. Give a file with at least one.")
    check_distinct_ids((caption.caption_id for caption in captions), source)
    return list(captions)


def check_distinct_ids(caption_ids: Iterable[int], source: str) -> None:
    """Raise an InputError if two captions have the same id."""
    seen: set[int] = set()
    for caption_id in caption_ids:
        if caption_id in seen:
            raise InputError(f"{source}: caption {caption_id} occurs twice. Caption ids must be unique.")
        seen.add(caption_id)
