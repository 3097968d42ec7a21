"""Instance files: the objects of images, by category."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from updn_captioning.data.instances import Instances
from updn_common.errors import InputError

DOCUMENT = {
    "images": [{"id": 7, "height": 4, "width": 6}, {"id": 8, "height": 3, "width": 3}],
    "categories": [{"id": 9, "name": "dog"}, {"id": 2, "name": "cat"}],
    "annotations": [
        {"image_id": 7, "category_id": 9, "bbox": [1, 1, 2, 2], "segmentation": [[1, 1, 3, 1, 3, 3, 1, 3]]},
        {
            "image_id": 7,
            "category_id": 9,
            "bbox": [5, 2.5, 1, 1.5],
            "iscrowd": 1,
            "segmentation": {"size": [4, 6], "counts": [22, 2]},
        },
        {"image_id": 7, "category_id": 2, "bbox": [0, 0, 1, 1], "segmentation": [[0, 0, 1, 0, 1, 1, 0, 1]]},
    ],
}


def test_objects_by_category(dump: Callable[..., Path]) -> None:
    instances = Instances.read([dump(DOCUMENT)])
    assert instances.categories == ("cat", "dog")
    assert len(instances) == 3
    assert (instances.present(7), instances.present(8), instances.present(9)) == ([0, 1], [], [])
    assert instances.size(7) == (4, 6)
    assert instances.boxes(7, 1).tolist() == [[1, 1, 3, 3], [5, 2.5, 6, 4]]
    assert instances.mask(7, 1).nonzero().tolist() == [[1, 1], [1, 2], [2, 1], [2, 2], [2, 5], [3, 5]]
    assert instances.mask(7, 0).nonzero().tolist() == [[0, 0]]
    assert instances.boxes(8, 1).shape == (0, 4)
    assert not instances.mask(8, 1).any()


def test_several_files(dump: Callable[..., Path]) -> None:
    other = {"images": [{"id": 1, "height": 2, "width": 2}], "categories": DOCUMENT["categories"][::-1]}
    box = {"bbox": [0, 0, 2, 2], "segmentation": [[0, 0, 2, 0, 2, 2, 0, 2]]}
    files = [dump(DOCUMENT), dump(other | {"annotations": [{"image_id": 1, "category_id": 2} | box]}, "other.json")]
    instances = Instances.read(files)
    assert (len(instances), instances.present(1), instances.present(7)) == (4, [0], [0, 1])
    files[1].write_text(json.dumps(other | {"annotations": [], "categories": [{"id": 2, "name": "cow"}]}))
    with pytest.raises(InputError) as error:
        Instances.read(files)
    assert str(error.value) == (
        f"{files[1]} and {files[0]} list different categories. Take both from the same release."
    )


def test_no_files() -> None:
    assert (Instances.read([]).categories, Instances.read([]).present(3)) == ((), [])


def test_real_instances(shared_data: Path) -> None:
    """Each of the 839 objects is found by image and category; boxes enclose masks up to one pixel."""
    instances = Instances.read([shared_data / "coco/instances_val2014_100.json"])
    assert (len(instances), len(instances.categories)) == (839, 80)
    document = json.loads((shared_data / "coco/instances_val2014_100.json").read_text())
    images = [image["id"] for image in document["images"]]
    found = 0
    for image_id in images:
        for category in instances.present(image_id):
            mask, boxes = instances.mask(image_id, category), instances.boxes(image_id, category)
            found += len(boxes)
            rows, columns = mask.nonzero().unbind(1)
            assert mask.shape == instances.size(image_id)
            assert columns.min() >= boxes[:, 0].min() - 1
            assert rows.max() <= boxes[:, 3].max() + 1
    assert found == 839


def change(*path: Any) -> Callable[..., Any]:
    def to(value: Any) -> Any:
        document = copy.deepcopy(DOCUMENT)
        where: Any = document
        for key in path[:-1]:
            where = where[key]
        where[path[-1]] = value
        return document

    return to


BOX = "{}, annotation 1: 'bbox' should be [left, top, width, height] in pixels, found "

FAR_BOX = "{{}}, annotation 1: 'bbox' {} is far outside of its image of 6 x 4 pixels. Fetch the file again."


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "{} should be an object with the key 'categories', found list."),
        (change("categories")([]), "{} lists no categories. Fetch the file again."),
        (change("categories", 1, "name")(3), "{}, category 1: 'name' should be str, found 3 (int)."),
        (change("categories", 1, "name")(""), "{}, category 1: 'name' should be words, found ''."),
        (change("categories", 1, "name")(" \t"), "{}, category 1: 'name' should be words, found ' \\t'."),
        (change("categories", 1, "name")("hot  dog"), "{}, category 1: 'name' should be words, found 'hot  dog'."),
        (
            change("categories", 1, "name")("Dog"),
            "{}: the categories 9 and 2 have the same name, 'Dog'. Take a file where names differ.",
        ),
        (change("categories", 1, "id")(9), "{}: two categories have the id 9. Take a file where ids differ."),
        (change("images", 1, "width")(0), "{}, image 1 has 0 x 3 pixels; expected positive sizes."),
        (change("images", 0)({"id": 7}), "{}, image 0 has no 'height'; it has 'id'."),
        (
            change("annotations", 2, "image_id")(6),
            "{}, annotation 2 is about image 6, which is not among the file's images. Fetch the file again.",
        ),
        (
            change("annotations", 2, "category_id")(1),
            "{}, annotation 2 is of category 1, which is not among the file's categories. Fetch the file again.",
        ),
        (change("annotations", 1, "bbox")([1, 2, 3]), BOX + "[1, 2, 3]."),
        (change("annotations", 1, "bbox")([1, 2, -3, 4]), BOX + "[1, 2, -3, 4]."),
        (change("annotations", 1, "bbox")([1, 2, 3, "4"]), BOX + "[1, 2, 3, '4']."),
        (change("annotations", 1, "bbox")([1, 2, 3, float("inf")]), BOX + "[1, 2, 3, inf]."),
        (change("annotations", 1, "bbox")([1, 2, 3, 10**400]), BOX + f"[1, 2, 3, {10**400}]."),
        (change("annotations", 1, "bbox")([1, 2, 3, True]), BOX + "[1, 2, 3, True]."),
        (change("annotations", 1, "bbox")([1e300, 2, 3, 4]), FAR_BOX.format([1e300, 2, 3, 4])),
        (change("annotations", 1, "bbox")([1, 2, 11.5, 4]), FAR_BOX.format([1, 2, 11.5, 4])),
        (change("annotations", 1, "bbox")([-6.5, 2, 3, 4]), FAR_BOX.format([-6.5, 2, 3, 4])),
        (change("annotations", 1, "bbox")([1, 2, 3, 6.5]), FAR_BOX.format([1, 2, 3, 6.5])),
        (change("annotations", 1, "bbox")([1, -4.5, 3, 4]), FAR_BOX.format([1, -4.5, 3, 4])),
        (
            change("annotations", 0)({"image_id": 7, "category_id": 9, "bbox": [1, 1, 2, 2]}),
            "{}, annotation 0 has no 'segmentation'. Take instances with their masks.",
        ),
        (
            change("annotations", 1, "segmentation", "counts")([22, 1]),
            "{}, annotation 1: its run lengths add up to 23, but its image has 24 pixels. Fetch the file again.",
        ),
        (
            change("annotations", 0, "segmentation")([[1, 1, 3, 1]]),
            "{}, annotation 0: a polygon has 4 numbers; expected x and y of at least 3 points.",
        ),
    ],
)
def test_wrong_files(dump: Callable[..., Path], document: Any, message: str) -> None:
    path = dump(document)
    with pytest.raises(InputError) as error:
        Instances.read([path])
    assert str(error.value) == message.format(path)
