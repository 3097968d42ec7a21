"""Read the splits of images, check them against the captions, and hold a development split out of train."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from updn_captioning.data.coco import (
    Caption,
    Splits,
    check_disjoint,
    check_distinct_ids,
    read_captions,
    read_image_list,
    read_karpathy,
    read_robust_split,
)
from updn_captioning.data.official_files import KARPATHY, LISTS, SplitKind, find_captions, find_split
from updn_common.data.splits import hold_out
from updn_common.errors import InputError, first_few

SELECTION_SPLIT = "val"
"""The split that checkpoints and options are chosen on."""


class CaptionData(NamedTuple):
    """Captions and the images of each split.

    Attributes:
        captions: The captions of each image, in the order of the files; also of images in no split.
        splits: The images of each split, ``train`` among them.
        files: The files that were read.
    """

    captions: Mapping[int, Sequence[Caption]]
    splits: Splits
    files: Sequence[Path]


def read_data(data: Path, kind: SplitKind) -> CaptionData:
    """Read the captions in a data directory, and one of the two splits.

    Raises:
        InputError: Files are missing or malformed, or an image is in two splits or has no captions.
    """
    caption_files, split_files = find_captions(data), find_split(data, kind)
    splits: Splits | None = None
    if caption_files[0].name == KARPATHY:
        captions, splits = read_karpathy(caption_files[0])
    else:
        captions = [caption for path in caption_files for caption in read_captions(path)]
        check_distinct_ids((caption.caption_id for caption in captions), " and ".join(map(str, caption_files)))
    by_image: dict[int, list[Caption]] = {}
    for caption in captions:
        by_image.setdefault(caption.image_id, []).append(caption)
    if kind == "robust":
        splits = read_robust_split(split_files[0])
    elif splits is None:
        lists = {name: read_image_list(path) for name, path in zip(LISTS, split_files, strict=True)}
        listed = {image_id for images in lists.values() for image_id in images}
        splits = {"train": [image_id for image_id in by_image if image_id not in listed], **lists}
    source = " and ".join(map(str, split_files))
    check_disjoint(splits, source)
    _check_captioned(splits, by_image, source, " and ".join(map(str, caption_files)))
    return CaptionData(by_image, splits, list(dict.fromkeys([*caption_files, *split_files])))


def _check_captioned(splits: Splits, captions: Collection[int], source: str, where: str) -> None:
    for name, images in splits.items():
        unknown = [image_id for image_id in images if image_id not in captions]
        if unknown:
            raise InputError(
                f"{source}: {len(unknown)} of the {len(images)} images of the split {name!r} have no captions in "
                f"{where}: {first_few(unknown)}. Take the split and the captions of the same data."
            )
    if not splits.get("train"):
        raise InputError(f"{source} has no images to train on. Give a split with a part 'train'.")


def keep_images(splits: Splits, images: Collection[int], source: str, *, drop: bool) -> tuple[Splits, int]:
    """Keep the images that have proposals; return them and the number of dropped ones.

    Args:
        splits: The images of each split.
        images: The images that have proposals.
        source: Files of the proposals, for error messages.
        drop: Whether to drop other images instead of raising an error.

    Raises:
        InputError: There are other images and ``drop`` is false, or a split keeps none.
    """
    missing = [image_id for split in splits.values() for image_id in split if image_id not in images]
    if missing and not drop:
        raise InputError(
            f"{len(missing)} images have no proposals in {source}: {first_few(sorted(missing))}. Add their features, "
            "or leave such images out with --drop-images-without-proposals."
        )
    kept = {name: [image_id for image_id in split if image_id in images] for name, split in splits.items()}
    for name, split in kept.items():
        if splits[name] and not split:
            raise InputError(
                f"No image of the split {name!r} has proposals in {source}. Check that --features belong to it."
            )
    return {name: split for name, split in kept.items() if split}, len(missing)


def hold_out_development(splits: Splits, share: float, seed: int) -> Splits:
    """Move a random share of the train images to `SELECTION_SPLIT`, unless that exists."""
    if SELECTION_SPLIT in splits or share == 0:
        return splits
    held_out = hold_out(splits["train"], share, seed)
    return {
        **splits,
        "train": [image_id for image_id in splits["train"] if image_id not in held_out],
        SELECTION_SPLIT: [image_id for image_id in splits["train"] if image_id in held_out],
    }
