"""The objects of an image: COCO's instances, whose masks ``pycocotools`` decodes."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float32
from torch import Tensor

from updn_captioning.data.segmentation import Segmentation, compact, nearby, read_segmentation, union
from updn_common.errors import InputError, first_few
from updn_common.files.json_fields import field
from updn_common.files.reading import read_json


@dataclass(frozen=True, slots=True)
class Instance:
    """One object, or a crowd of them.

    Attributes:
        category: Index into `Instances.categories`.
        box: Left, top, width and height in pixels.
        segmentation: The mask.
    """

    category: int
    box: tuple[float, float, float, float]
    segmentation: Segmentation


class Instances:
    """The objects of many images. Made by :meth:`Instances.read`.

    Attributes:
        categories: Names of the categories, in the order of COCO's category ids.
    """

    def __init__(
        self, categories: Sequence[str], sizes: Mapping[int, tuple[int, int]], objects: Mapping[int, Sequence[Instance]]
    ) -> None:
        self.categories = tuple(categories)
        self._sizes = sizes
        self._objects = objects

    @classmethod
    def read(cls, files: Sequence[Path]) -> Instances:
        """Read one or more instance files, such as those of COCO's training and validation images.

        Raises:
            InputError: A file is malformed; a polygon, mask or box is malformed or far outside of its image; an object
                has an unknown image or category; two categories have the same name or id; or the files have different
                categories.
        """
        names: dict[int, str] = {}
        sizes: dict[int, tuple[int, int]] = {}
        objects: defaultdict[int, list[Instance]] = defaultdict(list)
        for path in files:
            document = read_json(path, expected="a COCO instances file", compact=compact)
            found = _categories(document, path)
            if names and names != found:
                raise InputError(f"{path} and {files[0]} list different categories. Take both from the same release.")
            names = found
            sizes |= _sizes(document, path)
            index = {category_id: i for i, category_id in enumerate(sorted(names))}
            for i, record in enumerate(field(document, "annotations", list, str(path))):
                where = f"{path}, annotation {i}"
                image_id = field(record, "image_id", int, where)
                if image_id not in sizes:
                    raise _unlisted(f"{where} is about image {image_id}", "images")
                objects[image_id].append(_instance(record, index, sizes[image_id], where))
        return cls([names[category_id] for category_id in sorted(names)], sizes, dict(objects))

    def __len__(self) -> int:
        return sum(map(len, self._objects.values()))

    def __contains__(self, image_id: int) -> bool:
        """Whether the files list an image, with or without objects."""
        return image_id in self._sizes

    def check_listed(self, images: Collection[int], what: str, source: str, remedy: str) -> None:
        """Raise an InputError unless the files list all of the given images.

        ``what`` names the images in the message, and ``source`` the instance files; ``remedy`` is advice.
        """
        if unlisted := sorted(image_id for image_id in images if image_id not in self):
            raise InputError(
                f"{len(unlisted)} of the {len(images)} {what} are not listed in {source}: {first_few(unlisted)}. "
                f"{remedy}"
            )

    def present(self, image_id: int) -> list[int]:
        """The categories that an image has objects of, ascending."""
        return sorted({instance.category for instance in self._objects.get(image_id, ())})

    def of(self, image_id: int, category: int) -> list[Instance]:
        """The objects of a category in an image."""
        return [instance for instance in self._objects.get(image_id, ()) if instance.category == category]

    def size(self, image_id: int) -> tuple[int, int]:
        """Height and width of an image in pixels."""
        return self._sizes[image_id]

    def boxes(self, image_id: int, category: int) -> Float32[Tensor, "M 4"]:
        """Boxes of a category's objects, including crowds: x1, y1, x2, y2 in pixels."""
        boxes = torch.tensor([instance.box for instance in self.of(image_id, category)]).reshape(-1, 4)
        return torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)

    def mask(self, image_id: int, category: int) -> Bool[Tensor, "H W"]:
        """Union of the masks of a category's objects, including crowds."""
        return union((instance.segmentation for instance in self.of(image_id, category)), self.size(image_id))


def _categories(document: Any, path: Path) -> dict[int, str]:
    names: dict[int, str] = {}
    known: dict[str, int] = {}
    for i, record in enumerate(field(document, "categories", list, str(path))):
        where = f"{path}, category {i}"
        category_id, name = field(record, "id", int, where), field(record, "name", str, where)
        if not name or name != " ".join(name.split()):
            raise InputError(f"{where}: 'name' should be words, found {name!r}.")
        if category_id in names:
            raise InputError(f"{path}: two categories have the id {category_id}. Take a file where ids differ.")
        if (other := known.setdefault(name.lower(), category_id)) != category_id:
            raise InputError(
                f"{path}: the categories {other} and {category_id} have the same name, {name!r}. Take a file where "
                "names differ."
            )
        names[category_id] = name
    if not names:
        raise InputError(f"{path} lists no categories. Fetch the file again.")
    return names


def _sizes(document: Any, path: Path) -> dict[int, tuple[int, int]]:
    sizes = {}
    for i, record in enumerate(field(document, "images", list, str(path))):
        where = f"{path}, image {i}"
        size = field(record, "height", int, where), field(record, "width", int, where)
        if min(size) < 1:
            raise InputError(f"{where} has {size[1]} x {size[0]} pixels; expected positive sizes.")
        sizes[field(record, "id", int, where)] = size
    return sizes


def _instance(record: Any, index: Mapping[int, int], size: tuple[int, int], where: str) -> Instance:
    category_id = field(record, "category_id", int, where)
    if category_id not in index:
        raise _unlisted(f"{where} is of category {category_id}", "categories")
    box = field(record, "bbox", list, where)
    numbers = [x for x in box if type(x) in (int, float) and abs(x) <= sys.float_info.max]
    if len(box) != 4 or len(numbers) != 4 or min(box[2:]) < 0:
        raise InputError(f"{where}: 'bbox' should be [left, top, width, height] in pixels, found {box!r}.")
    left, top, width, height = map(float, box)
    if not nearby(left, left + width, size[1]) or not nearby(top, top + height, size[0]):
        raise InputError(
            f"{where}: 'bbox' {box!r} is far outside of its image of {size[1]} x {size[0]} pixels. Fetch the file "
            "again."
        )
    if "segmentation" not in record:
        raise InputError(f"{where} has no 'segmentation'. Take instances with their masks.")
    return Instance(index[category_id], (*box,), read_segmentation(record["segmentation"], size, where))


def _unlisted(what: str, among: str) -> InputError:
    return InputError(f"{what}, which is not among the file's {among}. Fetch the file again.")
