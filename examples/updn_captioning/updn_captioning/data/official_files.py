"""Names of the official files, and how to find them in a data directory or its folder ``annotations/``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from updn_common.errors import InputError
from updn_common.files.finding import existing

SplitKind = Literal["karpathy", "robust"]

KARPATHY = "dataset_coco.json"
ROBUST = "split_robust_coco.json"
LISTS = {"val": "karpathy_val_images.txt", "test": "karpathy_test_images.txt"}
RELEASES = (2014, 2017)
"""Releases of COCO: the same images, captions and objects, split differently into train and val."""


def find(data: Path, *names: str) -> list[Path]:
    """The files with these names that exist."""
    return [path for name in names for path in existing(data, name, f"annotations/{name}")[:1]]


def find_pair(data: Path, kind: str) -> list[Path]:
    """COCO's train and val file of a kind, from the first release that has both or, failing that, one of them."""
    releases = [find(data, *(f"{kind}_{part}{year}.json" for part in ("train", "val"))) for year in RELEASES]
    return max(releases, key=len)


def find_captions(data: Path) -> list[Path]:
    """The caption files: Karpathy's, which also has their words, or else COCO's.

    Raises:
        InputError: There is neither.
    """
    if not data.is_dir():
        raise InputError(f"{data} is not a directory. Give the one that holds the caption files with --data.")
    found = find(data, KARPATHY)[:1] or find_pair(data, "captions")
    if not found:
        raise InputError(f"{data} holds no captions: neither {KARPATHY} nor captions_train2014.json. Check --data.")
    return found


def find_split(data: Path, kind: SplitKind) -> list[Path]:
    """The files that assign images to splits.

    Raises:
        InputError: They are missing.
    """
    wanted: Sequence[Sequence[str]] = ((ROBUST,),) if kind == "robust" else ((KARPATHY,), tuple(LISTS.values()))
    for names in wanted:
        found = find(data, *names)
        if len(found) >= len(names):
            return found[: len(names)]
    what = " nor ".join(" and ".join(names) for names in wanted)
    raise InputError(f"{data} has no {what}, which assigns images to splits for --split {kind}. Add it.")


def find_instances(data: Path) -> list[Path]:
    """COCO's instance files.

    Raises:
        InputError: There are none.
    """
    found = find_pair(data, "instances")
    if not found:
        raise InputError(
            f"{data} has no instances_train2014.json, which has the objects for --hints instances. Add it, or use "
            "--hints none."
        )
    return found
