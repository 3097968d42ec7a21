"""A captioning world on disk, in the official formats, with its two splits."""

from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

from shapes_cp import official
from shapes_cp.drawing import draw_splits, image_id, save_picture
from shapes_cp.pair_captions import describe_pair
from shapes_cp.pairs import PairPicture, PairWorld
from shapes_cp.world import COCO_HALVES, SIZES, SPLITS, Size, SplitName
from updn_common.errors import check_range
from updn_common.files.writing import new_directory, write_json


@dataclass(frozen=True)
class DrawnPair:
    """What is left to write once an image is on disk."""

    image_id: int
    picture: PairPicture
    captions: list[str]
    tsv_row: str


def write_pair_world(out: Path, world: PairWorld, size: Size, workers: int) -> dict[SplitName, list[DrawnPair]]:
    """Draws every split and writes all files, or none; see `shapes_cp.write.write_world`."""
    check_range(1, workers=workers)
    with new_directory(out) as directory:
        for folder in COCO_HALVES:
            (directory / folder).mkdir()
        splits = draw_splits(directory, partial(_draw, directory, world), SIZES[size], workers)
        for coco in COCO_HALVES:
            drawn = [one for name, batch in splits.items() if SPLITS[name].coco == coco for one in batch]
            pictures = [(one.image_id, one.picture) for one in drawn]
            captions = [(one.image_id, one.captions) for one in drawn]
            write_json(directory / f"instances_{coco}.json", official.coco_instances(coco, pictures))
            write_json(directory / f"captions_{coco}.json", official.coco_captions(coco, captions))
        _write_splits(directory, world, splits)
        write_json(
            directory / "world.json",
            {"world": asdict(world), "size": size, "images": SIZES[size], "shapes_cp": version("shapes-cp")},
            indent=2,
        )
    return splits


def _draw(directory: Path, world: PairWorld, name: SplitName, index: int) -> DrawnPair:
    """Draws one image and writes it."""
    number = image_id(name, index)
    for_picture, for_pixels, for_boxes, for_captions = world.generator(name, index).spawn(4)
    picture = world.sample_picture(for_picture, shifted=SPLITS[name].shifted)
    row = save_picture(directory, picture, name, number, for_pixels, for_boxes)
    return DrawnPair(number, picture, describe_pair(picture, for_captions), row)


def _write_splits(directory: Path, world: PairWorld, splits: dict[SplitName, list[DrawnPair]]) -> None:
    """The robust split is how the world was drawn; the standard one deals all images anew."""
    robust = {name: [one.image_id for one in drawn] for name, drawn in splits.items()}
    write_json(directory / "split_robust_coco.json", official.robust_split(robust))
    standard = {number: name for name, numbers in world.deal(robust).items() for number in numbers}
    drawn = [(SPLITS[name].coco, one) for name, batch in splits.items() for one in batch]
    images = [
        official.karpathy_image(one.image_id, coco, standard[one.image_id], i, one.captions)
        for i, (coco, one) in enumerate(drawn)
    ]
    write_json(directory / "dataset_coco.json", {"images": images, "dataset": "coco"})
