"""A whole world on disk, in the official formats, drawn by several processes."""

import base64
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from shapes_cp import official
from shapes_cp.attention import attention_map
from shapes_cp.captions import describe
from shapes_cp.encoder import load_encoder
from shapes_cp.proposals import propose
from shapes_cp.render import decode_image, encode_jpeg, render
from shapes_cp.scene import IMAGE_SIZE, Scene, sample_scene
from shapes_cp.world import SIZES, SPLITS, Size, SplitName, World
from updn_common.errors import check_range
from updn_common.files import new_directory, write_json
from updn_common.progress import track

_CHUNK = 20  # images that a worker draws at a time
_CAPTIONING_SPLITS: tuple[SplitName, ...] = ("train", "val", "test")


@dataclass(frozen=True)
class Drawn:
    """What is left to write once an image and its attention map are on disk."""

    image_id: int
    scene: Scene
    captions: list[str]
    tsv_row: str


def write_world(out: Path, world: World, size: Size, workers: int) -> dict[SplitName, list[Drawn]]:
    """Draws every split and writes all files, or none.

    Args:
        out: The directory to make.
        world: Which world.
        size: How many images each split has.
        workers: Processes that draw. The files do not depend on their number.

    Returns:
        What was drawn, by split.

    Raises:
        InputError: If ``out`` holds files already, or ``workers`` is less than 1.
    """
    check_range(1, workers=workers)
    with new_directory(out) as directory:
        for folder in ("train2014", "val2014", "vqahat_train", "vqahat_val"):
            (directory / folder).mkdir()
        splits = _draw_splits(directory, world, size, workers)
        for name, drawn in splits.items():
            _write_vqa_cp(directory, name, drawn)
        _write_coco(directory, splits)
        write_json(
            directory / "world.json",
            {"world": asdict(world), "size": size, "images": SIZES[size], "shapes_cp": version("shapes-cp")},
            indent=2,
        )
    return splits


def image_id(name: SplitName, index: int) -> int:
    """Ids tell the splits apart at a glance, and stay the same in every size of the world."""
    return 100_000 * SPLITS[name].stream + index


def _draw_splits(directory: Path, world: World, size: Size, workers: int) -> dict[SplitName, list[Drawn]]:
    """Draws all images; features go to the TSV as they come, in the order of image ids."""
    chunks = [
        (name, range(start, min(start + _CHUNK, count)))
        for name, count in SIZES[size].items()
        for start in range(0, count, _CHUNK)
    ]
    splits: dict[SplitName, list[Drawn]] = {name: [] for name in SIZES[size]}
    drawn = _draw_chunks(directory, world, chunks, workers)
    with (directory / "bottom_up_36.tsv").open("w", encoding="ascii", newline="\n") as tsv:
        for (name, _), batch in zip(chunks, track(drawn, "drawing", total=len(chunks)), strict=True):
            tsv.writelines(one.tsv_row for one in batch)
            splits[name] += batch
    return splits


def _draw_chunks(
    directory: Path, world: World, chunks: list[tuple[SplitName, range]], workers: int
) -> Iterator[list[Drawn]]:
    names, ranges = zip(*chunks, strict=True)
    count = len(chunks)
    # One torch thread: the order of its sums, and so the last bits of the features, depends on the number.
    # Spawned, because a forked process must not use torch after its parent has.
    with ProcessPoolExecutor(
        min(workers, count), get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        try:
            yield from pool.map(_draw_chunk, [directory] * count, [world] * count, names, ranges)
        finally:
            pool.shutdown(cancel_futures=True)


def _draw_chunk(directory: Path, world: World, name: SplitName, indices: range) -> list[Drawn]:
    return [_draw(directory, world, name, index) for index in indices]


def _draw(directory: Path, world: World, name: SplitName, index: int) -> Drawn:
    """Draws one image and writes it with its attention map."""
    split, number = SPLITS[name], image_id(name, index)
    for_scene, for_pixels, for_boxes, for_map, for_captions = world.generator(name, index).spawn(5)
    scene = sample_scene(for_scene, world.priors(shifted=split.shifted), world.cue(shifted=split.shifted))
    jpeg = encode_jpeg(render(scene, for_pixels))
    (directory / split.coco / official.file_name(number, split.coco)).write_bytes(jpeg)
    hat = directory / f"vqahat_{split.coco.removesuffix('2014')}"
    attention = Image.fromarray(attention_map(scene.asked, for_map))
    attention.save(hat / f"{official.v1_question_id(number)}_1.png")
    boxes = propose(scene, for_boxes)
    features = load_encoder().encode(decode_image(jpeg), boxes)
    return Drawn(number, scene, describe(scene, for_captions), _tsv_row(number, boxes, features))


def _tsv_row(image_id: int, boxes: NDArray[np.float32], features: NDArray[np.float32]) -> str:
    """A row in the original column order of the bottom-up features."""
    arrays = [base64.b64encode(array.astype("<f4").tobytes()).decode("ascii") for array in (boxes, features)]
    return "\t".join([str(image_id), str(IMAGE_SIZE), str(IMAGE_SIZE), str(len(boxes)), *arrays]) + "\n"


def _write_vqa_cp(directory: Path, name: SplitName, drawn: list[Drawn]) -> None:
    """Questions, annotations and the boxes that the questions ask about."""
    coco = SPLITS[name].coco
    asked = [(one.image_id, coco, one.scene.question) for one in drawn]
    write_json(directory / f"vqacp_v2_{name}_questions.json", [official.vqa_cp_question(*one) for one in asked])
    write_json(directory / f"vqacp_v2_{name}_annotations.json", [official.vqa_cp_annotation(*one) for one in asked])
    boxes = {str(official.v2_question_id(one.image_id)): [one.scene.asked.box] for one in drawn}
    write_json(directory / f"vqacp_v2_{name}_boxes.json", boxes)


def _write_coco(directory: Path, splits: dict[SplitName, list[Drawn]]) -> None:
    """The files that go by COCO's own halves, and the two captioning splits."""
    for coco in ("train2014", "val2014"):
        drawn = [one for name, batch in splits.items() if SPLITS[name].coco == coco for one in batch]
        scenes = [(one.image_id, one.scene) for one in drawn]
        captions = [(one.image_id, one.captions) for one in drawn]
        write_json(directory / f"OpenEnded_mscoco_{coco}_questions.json", official.vqa_v1_questions(coco, scenes))
        write_json(directory / f"instances_{coco}.json", official.coco_instances(coco, scenes))
        write_json(directory / f"captions_{coco}.json", official.coco_captions(coco, captions))
    captioned = [(name, one) for name in _CAPTIONING_SPLITS for one in splits[name]]
    images = [
        official.karpathy_image(one.image_id, SPLITS[name].coco, name, i, one.captions)
        for i, (name, one) in enumerate(captioned)
    ]
    write_json(directory / "dataset_coco.json", {"images": images, "dataset": "coco"})
    robust = {f"{name}_id": [{"img_id": one.image_id} for one in splits[name]] for name in _CAPTIONING_SPLITS}
    write_json(directory / "split_robust_coco.json", robust)
