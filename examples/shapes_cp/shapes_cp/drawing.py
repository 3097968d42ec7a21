"""The pictures of a world, drawn by several processes, and their features."""

import base64
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from shapes_cp import official
from shapes_cp.encoder import load_encoder
from shapes_cp.proposals import propose
from shapes_cp.render import decode_image, encode_jpeg, render
from shapes_cp.scene import IMAGE_SIZE, Picture
from shapes_cp.world import SPLITS, SplitName
from updn_common.progress import track

_CHUNK = 20  # images that a worker draws at a time


class Drawn(Protocol):
    """What is left to write of an image that is on disk."""

    @property
    def tsv_row(self) -> str: ...


D = TypeVar("D", bound=Drawn)


def image_id(name: SplitName, index: int) -> int:
    """Ids tell the splits apart at a glance, and stay the same in every size of the world."""
    return 100_000 * SPLITS[name].stream + index


def draw_splits(
    directory: Path, draw: Callable[[SplitName, int], D], counts: Mapping[SplitName, int], workers: int
) -> dict[SplitName, list[D]]:
    """Draws all images; features go to ``bottom_up_36.tsv`` as they come, in the order of image ids.

    Args:
        directory: Where the TSV will be.
        draw: Draws an image of a split by its number and writes it; is sent to the workers.
        counts: How many images each split has.
        workers: Processes that draw.
    """
    chunks = [
        (name, range(start, min(start + _CHUNK, count)))
        for name, count in counts.items()
        for start in range(0, count, _CHUNK)
    ]
    splits: dict[SplitName, list[D]] = {name: [] for name in counts}
    drawn = _draw_chunks(draw, chunks, workers)
    with (directory / "bottom_up_36.tsv").open("w", encoding="ascii", newline="\n") as tsv:
        for (name, _), batch in zip(chunks, track(drawn, "drawing", total=len(chunks)), strict=True):
            tsv.writelines(one.tsv_row for one in batch)
            splits[name] += batch
    return splits


def _draw_chunks(
    draw: Callable[[SplitName, int], D], chunks: list[tuple[SplitName, range]], workers: int
) -> Iterator[list[D]]:
    names, ranges = zip(*chunks, strict=True)
    count = len(chunks)
    # One torch thread: the order of its sums, and so the last bits of the features, depends on the number.
    # Spawned, because a forked process must not use torch after its parent has.
    with ProcessPoolExecutor(
        min(workers, count), get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        try:
            yield from pool.map(_draw_chunk, [draw] * count, names, ranges)
        finally:
            pool.shutdown(cancel_futures=True)


def _draw_chunk(draw: Callable[[SplitName, int], D], name: SplitName, indices: range) -> list[D]:
    return [draw(name, index) for index in indices]


def save_picture(
    directory: Path,
    picture: Picture,
    name: SplitName,
    number: int,
    for_pixels: np.random.Generator,
    for_boxes: np.random.Generator,
) -> str:
    """Writes a picture of a split as JPEG; returns its row of ``bottom_up_36.tsv``."""
    coco = SPLITS[name].coco
    jpeg = encode_jpeg(render(picture, for_pixels))
    (directory / coco / official.file_name(number, coco)).write_bytes(jpeg)
    boxes = propose(picture, for_boxes)
    features = load_encoder().encode(decode_image(jpeg), boxes)
    return _tsv_row(number, boxes, features)


def _tsv_row(image_id: int, boxes: NDArray[np.float32], features: NDArray[np.float32]) -> str:
    """A row in the original column order of the bottom-up features."""
    arrays = [base64.b64encode(array.astype("<f4").tobytes()).decode("ascii") for array in (boxes, features)]
    return "\t".join([str(image_id), str(IMAGE_SIZE), str(IMAGE_SIZE), str(len(boxes)), *arrays]) + "\n"
