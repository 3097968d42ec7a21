"""Write a world of questions in the official formats."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from shapes_cp import official
from shapes_cp.attention import attention_map
from shapes_cp.captions import describe
from shapes_cp.scene import Scene, sample_scene
from shapes_cp.world import COCO_HALVES, SPLITS, Size, SplitName, World
from shapes_cp.write_coco import (
    Drawn,
    draw_splits,
    image_id,
    in_half,
    save_picture,
    write_caption_splits,
    write_instances_and_captions,
)
from updn_common.errors import check_range
from updn_common.files.writing import new_directory, write_json

_CAPTIONING_SPLITS: tuple[SplitName, ...] = ("train", "val", "test")


def write_world(out: Path, world: World, size: Size, workers: int) -> dict[SplitName, list[Drawn[Scene]]]:
    """Draw every split and write all files, or none; the files do not depend on the number of workers.

    Raises:
        InputError: ``out`` holds files already, or ``workers`` is less than 1.
    """
    check_range(1, workers=workers)
    with new_directory(out) as directory:
        for folder in ("vqahat_train", "vqahat_val"):
            (directory / folder).mkdir()
        splits = draw_splits(directory, world, _draw, size, workers)
        for name, drawn in splits.items():
            _write_vqa_cp(directory, name, drawn)
        for coco in COCO_HALVES:
            scenes = [(one.image_id, one.picture) for one in in_half(splits, coco)]
            write_json(directory / f"OpenEnded_mscoco_{coco}_questions.json", official.vqa_v1_questions(coco, scenes))
        write_instances_and_captions(directory, splits)
        captioned = {name: splits[name] for name in _CAPTIONING_SPLITS}
        write_caption_splits(directory, captioned, {one.image_id: name for name in captioned for one in splits[name]})
    return splits


def _draw(directory: Path, world: World, name: SplitName, index: int) -> Drawn[Scene]:
    """Draw one image, and write it with its attention map."""
    split, number = SPLITS[name], image_id(name, index)
    for_scene, for_pixels, for_boxes, for_map, for_captions = world.generator(name, index).spawn(5)
    priors, cue = world.priors(shifted=split.shifted), world.cue(shifted=split.shifted)
    scene = sample_scene(for_scene, priors, cue, world.carrier)
    row = save_picture(directory, scene, name, number, for_pixels, for_boxes)
    hat = directory / f"vqahat_{split.coco.removesuffix('2014')}"
    attention = Image.fromarray(attention_map(scene.asked, for_map))
    attention.save(hat / f"{official.v1_question_id(number)}_1.png")
    return Drawn(number, scene, describe(scene, for_captions), row)


def _write_vqa_cp(directory: Path, name: SplitName, drawn: Sequence[Drawn[Scene]]) -> None:
    """Write the questions, the annotations and the boxes of the asked objects."""
    coco = SPLITS[name].coco
    asked = [(one.image_id, coco, one.picture.question) for one in drawn]
    write_json(directory / f"vqacp_v2_{name}_questions.json", [official.vqa_cp_question(*one) for one in asked])
    write_json(directory / f"vqacp_v2_{name}_annotations.json", [official.vqa_cp_annotation(*one) for one in asked])
    boxes = {str(official.v2_question_id(one.image_id)): [one.picture.asked.box] for one in drawn}
    write_json(directory / f"vqacp_v2_{name}_boxes.json", boxes)
