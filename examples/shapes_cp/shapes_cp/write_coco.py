"""Draw the pictures of a world, and write what every world has: images, features, instances, captions and splits."""

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from shapes_cp import official
from shapes_cp.encoder import load_encoder
from shapes_cp.pairs import PairWorld
from shapes_cp.proposals import propose
from shapes_cp.render import decode_image, encode_jpeg, render
from shapes_cp.scene import IMAGE_SIZE, Picture
from shapes_cp.world import COCO_HALVES, SIZES, SPLITS, Size, SplitName, World
from updn_common.files.writing import write_json
from updn_common.progress import track

_CHUNK = 20  # images that a worker draws at a time

W = TypeVar("W", World, PairWorld)
P = TypeVar("P", bound=Picture)


@dataclass(frozen=True)
class Drawn(Generic[P]):
    """An image that is on disk, and the data about it that is written when all images are drawn."""

    image_id: int
    picture: P
    captions: list[str]
    tsv_row: str


Splits = Mapping[SplitName, Sequence[Drawn[P]]]
Draw = Callable[[Path, W, SplitName, int], Drawn[P]]
"""Draws an image of a split, given its number, and writes it into a directory."""


def image_id(name: SplitName, index: int) -> int:
    """Image id; its first digit identifies the split. Ids do not depend on the size of the world."""
    return 100_000 * SPLITS[name].stream + index


def draw_splits(
    directory: Path, world: W, draw: Draw[W, P], size: Size, workers: int
) -> dict[SplitName, list[Drawn[P]]]:
    """Draw all images, write their features to ``bottom_up_36.tsv`` in the order of image ids, and ``world.json``."""
    for coco in COCO_HALVES:
        (directory / coco).mkdir()
    chunks = [
        (name, range(start, min(start + _CHUNK, count)))
        for name, count in SIZES[size].items()
        for start in range(0, count, _CHUNK)
    ]
    splits: dict[SplitName, list[Drawn[P]]] = {name: [] for name in SIZES[size]}
    drawn = _draw_chunks(partial(draw, directory, world), chunks, workers)
    with (directory / "bottom_up_36.tsv").open("w", encoding="ascii", newline="\n") as tsv:
        for (name, _), chunk in zip(chunks, track(drawn, "drawing", total=len(chunks)), strict=True):
            tsv.writelines(one.tsv_row for one in chunk)
            splits[name] += chunk
    settings = {"world": asdict(world), "size": size, "images": SIZES[size], "shapes_cp": version("shapes-cp")}
    write_json(directory / "world.json", settings, indent=2)
    return splits


def _draw_chunks(
    draw: Callable[[SplitName, int], Drawn[P]], chunks: list[tuple[SplitName, range]], workers: int
) -> Iterator[list[Drawn[P]]]:
    names, ranges = zip(*chunks, strict=True)
    # One torch thread: the order of sums, and so the last bits of the features, depend on the number of threads.
    # Spawned processes: a forked process must not use torch if its parent has used it.
    with ProcessPoolExecutor(
        min(workers, len(chunks)), get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        try:
            yield from pool.map(_draw_chunk, [draw] * len(chunks), names, ranges)
        finally:
            pool.shutdown(cancel_futures=True)


def _draw_chunk(draw: Callable[[SplitName, int], Drawn[P]], name: SplitName, indices: range) -> list[Drawn[P]]:
    return [draw(name, index) for index in indices]


def save_picture(
    directory: Path,
    picture: Picture,
    name: SplitName,
    number: int,
    for_pixels: np.random.Generator,
    for_boxes: np.random.Generator,
) -> str:
    """Write a picture of a split as JPEG, and return its row of ``bottom_up_36.tsv``."""
    coco = SPLITS[name].coco
    jpeg = encode_jpeg(render(picture, for_pixels))
    (directory / coco / official.file_name(number, coco)).write_bytes(jpeg)
    boxes = propose(picture, for_boxes)
    features = load_encoder().encode(decode_image(jpeg), boxes)
    return _tsv_row(number, boxes, features)


def _tsv_row(image_id: int, boxes: NDArray[np.float32], features: NDArray[np.float32]) -> str:
    """A row of the TSV, in the original order of columns."""
    arrays = [base64.b64encode(array.astype("<f4").tobytes()).decode("ascii") for array in (boxes, features)]
    return "\t".join([str(image_id), str(IMAGE_SIZE), str(IMAGE_SIZE), str(len(boxes)), *arrays]) + "\n"


def in_half(splits: Splits[P], coco: str) -> list[Drawn[P]]:
    """The images that pretend to be in one of the two parts of COCO."""
    return [one for name, drawn in splits.items() if SPLITS[name].coco == coco for one in drawn]


def write_instances_and_captions(directory: Path, splits: Splits[P]) -> None:
    """Write COCO's instance and caption files."""
    for coco in COCO_HALVES:
        drawn = in_half(splits, coco)
        instances = official.coco_instances(coco, [(one.image_id, one.picture) for one in drawn])
        write_json(directory / f"instances_{coco}.json", instances)
        captions = official.coco_captions(coco, [(one.image_id, one.captions) for one in drawn])
        write_json(directory / f"captions_{coco}.json", captions)


def write_caption_splits(directory: Path, splits: Splits[P], standard: Mapping[int, SplitName]) -> None:
    """Write Karpathy's data set with the standard split of each image, and the robust splits."""
    robust = {name: [one.image_id for one in drawn] for name, drawn in splits.items()}
    write_json(directory / "split_robust_coco.json", official.robust_split(robust))
    all_drawn = [(SPLITS[name].coco, one) for name, drawn in splits.items() for one in drawn]
    images = [
        official.karpathy_image(one.image_id, coco, standard[one.image_id], i, one.captions)
        for i, (coco, one) in enumerate(all_drawn)
    ]
    write_json(directory / "dataset_coco.json", {"images": images, "dataset": "coco"})
