"""Figures: the images behind proposals, words above them, and plots of reports."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import matplotlib
import matplotlib.pyplot as plt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.offsetbox import AnnotationBbox, HPacker, TextArea, VPacker
from PIL import Image, ImageOps

from updn_common.errors import InputError
from updn_common.files.images import read_image
from updn_common.files.writing import atomic_file

_IMAGE_NAME = re.compile(r"(?:COCO_[a-z]+\d{4}_)?(\d+)\.(?:jpe?g|png)", re.IGNORECASE)  # not VQA-HAT's 150_1.png


@contextmanager
def plain_text() -> Iterator[None]:
    """In this context figures show text as it is; otherwise matplotlib reads text between dollar signs as a formula."""
    with matplotlib.rc_context({"text.parse_math": False}):
        yield


class ImageFolder(NamedTuple):
    """The images in a folder and in all folders below it. Made by `find_images`."""

    folder: Path
    files: dict[int, Path]
    """The file of each image, by its COCO id."""

    def file(self, image_id: int, coco_split: str) -> Path:
        """The file of an image.

        Raises:
            InputError: There is no such file.
        """
        if image_id not in self.files:
            name = f"COCO_{coco_split or 'val2014'}_{image_id:012d}.jpg"
            raise InputError(
                f"{self.folder} and the folders below it have no image {image_id}, such as {name}: give the folder "
                "that holds the images."
            )
        return self.files[image_id]


def find_images(folder: Path) -> ImageFolder:
    """Find images by their names: ``COCO_val2014_000000000042.jpg``, ``000000000042.png``, ``42.jpg``.

    Raises:
        InputError: There is no such folder.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: give the one that holds the images.")
    found = ((_IMAGE_NAME.fullmatch(path.name), path) for path in sorted(folder.rglob("*")))
    return ImageFolder(folder, {int(match[1]): path for match, path in found if match})


def open_image(images: ImageFolder, image_id: int, coco_split: str, size: tuple[int, int]) -> Image.Image:
    """Open an image; the caller closes it.

    A camera may store a photo lying on its side, with a note (EXIF) of how to turn it. Some feature extractors follow
    that note, and some do not: the photo is turned if that gives it the size of its proposals.

    Args:
        images: The folder of the image.
        image_id: The COCO id.
        coco_split: Such as ``"val2014"``, for the error message.
        size: The width and height that the proposals of the image were prepared for.

    Raises:
        InputError: The image does not exist, is damaged, or has another size.
    """
    path = images.file(image_id, coco_split)
    image = read_image(path)
    if image.size == size:
        return image
    with image:
        turned = ImageOps.exif_transpose(image)
        if turned.size == size:
            return turned
        raise InputError(
            f"{path} has {image.width} x {image.height} pixels, but its proposals were prepared for "
            f"{size[0]} x {size[1]}. Give the images that the features were made from."
        )


@plain_text()
def draw_words(axes: Axes, lines: Sequence[Sequence[tuple[str, str]]], size: float = 11) -> None:
    """Write a title above axes: each line holds words and their colours; coloured words are in bold."""
    boxes: list[Artist] = [
        HPacker(
            children=[
                TextArea(
                    word, textprops={"color": colour or "black", "weight": "bold" if colour else "normal", "size": size}
                )
                for word, colour in line
            ],
            pad=0,
            sep=0.35 * size,
        )
        for line in lines
    ]
    title = VPacker(children=boxes, align="center", pad=0, sep=0.3 * size)
    place = AnnotationBbox(
        title,
        (0.5, 1),
        xybox=(0, 4),
        xycoords="axes fraction",
        boxcoords="offset points",
        box_alignment=(0.5, 0),
        frameon=False,
        pad=0,
    )
    axes.add_artist(place)


@plain_text()
def draw(path: Path, into: Callable[[Axes], None]) -> None:
    """Draw a figure of a report into a PNG file; ``into`` plots into its axes."""
    figure, axes = plt.subplots(figsize=(6.4, 4), layout="constrained")
    into(axes)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=150, format="png")
    plt.close(figure)
