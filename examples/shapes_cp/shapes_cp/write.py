"""A whole world of questions on disk, in the official formats."""

from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

from PIL import Image

from shapes_cp import official
from shapes_cp.attention import attention_map
from shapes_cp.captions import describe
from shapes_cp.drawing import draw_splits, image_id, save_picture
from shapes_cp.scene import Scene, sample_scene
from shapes_cp.world import COCO_HALVES, SIZES, SPLITS, Size, SplitName, World
from updn_common.errors import check_range
from updn_common.files.writing import new_directory, write_json

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
        for folder in (*COCO_HALVES, "vqahat_train", "vqahat_val"):
            (directory / folder).mkdir()
        splits = draw_splits(directory, partial(_draw, directory, world), SIZES[size], workers)
        for name, drawn in splits.items():
            _write_vqa_cp(directory, name, drawn)
        _write_coco(directory, splits)
        write_json(
            directory / "world.json",
            {"world": asdict(world), "size": size, "images": SIZES[size], "shapes_cp": version("shapes-cp")},
            indent=2,
        )
    return splits


def _draw(directory: Path, world: World, name: SplitName, index: int) -> Drawn:
    """Draws one image and writes it with its attention map."""
    split, number = SPLITS[name], image_id(name, index)
    for_scene, for_pixels, for_boxes, for_map, for_captions = world.generator(name, index).spawn(5)
    priors, cue = world.priors(shifted=split.shifted), world.cue(shifted=split.shifted)
    scene = sample_scene(for_scene, priors, cue, world.carrier)
    row = save_picture(directory, scene, name, number, for_pixels, for_boxes)
    hat = directory / f"vqahat_{split.coco.removesuffix('2014')}"
    attention = Image.fromarray(attention_map(scene.asked, for_map))
    attention.save(hat / f"{official.v1_question_id(number)}_1.png")
    return Drawn(number, scene, describe(scene, for_captions), row)


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
    for coco in COCO_HALVES:
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
    robust = {name: [one.image_id for one in splits[name]] for name in _CAPTIONING_SPLITS}
    write_json(directory / "split_robust_coco.json", official.robust_split(robust))
