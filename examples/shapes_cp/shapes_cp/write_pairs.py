"""Write a captioning world in the official formats, with its two splits."""

from pathlib import Path

from shapes_cp.pair_captions import describe_pair
from shapes_cp.pairs import PairPicture, PairWorld
from shapes_cp.world import SPLITS, Size, SplitName
from shapes_cp.write_coco import (
    Drawn,
    draw_splits,
    image_id,
    save_picture,
    write_caption_splits,
    write_instances_and_captions,
)
from updn_common.errors import check_range
from updn_common.files.writing import new_directory


def write_pair_world(
    out: Path, world: PairWorld, size: Size, workers: int
) -> dict[SplitName, list[Drawn[PairPicture]]]:
    """Draw every split and write all files, or none; see `shapes_cp.write.write_world`.

    The robust split is the one that the images were drawn for; the standard split distributes all images at random.
    """
    check_range(1, workers=workers)
    with new_directory(out) as directory:
        splits = draw_splits(directory, world, _draw, size, workers)
        write_instances_and_captions(directory, splits)
        standard = world.deal({name: [one.image_id for one in drawn] for name, drawn in splits.items()})
        write_caption_splits(directory, splits, {number: name for name in standard for number in standard[name]})
    return splits


def _draw(directory: Path, world: PairWorld, name: SplitName, index: int) -> Drawn[PairPicture]:
    """Draw one image and write it."""
    number = image_id(name, index)
    for_picture, for_pixels, for_boxes, for_captions = world.generator(name, index).spawn(4)
    picture = world.sample_picture(for_picture, shifted=SPLITS[name].shifted)
    row = save_picture(directory, picture, name, number, for_pixels, for_boxes)
    return Drawn(number, picture, describe_pair(picture, for_captions), row)
