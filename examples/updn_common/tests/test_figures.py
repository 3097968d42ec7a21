import re
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from matplotlib.text import Text
from PIL import Image

from updn_common.errors import InputError
from updn_common.reports.figures import (
    draw,
    draw_words,
    find_images,
    open_image,
    plain_text,
)


def test_images_are_found_by_their_ids(tmp_path: Path) -> None:
    (tmp_path / "val2014").mkdir()
    names = ["COCO_train2014_000000000042.jpg", "val2014/COCO_val2014_000000000007.JPEG", "000000000009.png", "5.jpg"]
    for name in [*names, "42.tsv", "42.jpg.part", "cat.jpg", "150_9.png"]:
        (tmp_path / name).touch()
    images = find_images(tmp_path)
    assert images.files == dict(zip([42, 7, 9, 5], (tmp_path / name for name in names), strict=True))
    assert images.file(7, "val2014") == tmp_path / "val2014/COCO_val2014_000000000007.JPEG"
    message = f"{tmp_path / 'absent'} is not a folder: give the one that holds the images."
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        find_images(tmp_path / "absent")


@pytest.mark.parametrize(("coco_split", "example"), [("train2014", "train2014"), ("", "val2014")])
def test_a_missing_image_is_refused(tmp_path: Path, coco_split: str, example: str) -> None:
    message = (
        f"{tmp_path} and the folders below it have no image 42, such as COCO_{example}_000000000042.jpg: give the "
        "folder that holds the images."
    )
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        find_images(tmp_path).file(42, coco_split)


def test_words_stand_above_the_picture() -> None:
    """Coloured words are bold, and lines stand one above the other."""
    figure, axes = plt.subplots()
    axes.set_axis_off()
    draw_words(axes, [[("a", ""), ("dog", "#1a7f37")], [("on grass", "")]])
    figure.canvas.draw()
    texts = {text.get_text(): text for text in axes.findobj(Text) if text.get_text()}
    assert list(texts) == ["a", "dog", "on grass"]
    assert [text.get_fontweight() for text in texts.values()] == ["normal", "bold", "normal"]
    assert texts["dog"].get_color() == "#1a7f37"
    boxes = {word: text.get_window_extent() for word, text in texts.items()}
    assert boxes["a"].x1 < boxes["dog"].x0
    assert boxes["a"].y0 > boxes["on grass"].y1 - 1
    assert boxes["on grass"].y0 > axes.get_window_extent().y1
    plt.close(figure)


def test_dollar_signs_are_shown(tmp_path: Path) -> None:
    """Matplotlib would take them for formulas, and fail at one of these."""
    draw(tmp_path / "a.png", lambda axes: axes.set(ylabel="$x_{$") and None)
    with plain_text():
        figure, axes = plt.subplots()
    draw_words(axes, [[("$x_{$", "#1a7f37"), ("$5", ""), ("or", ""), ("$10", "")]])
    axes.set_title("$x_{$")
    axes.set_ylabel("$5 or $10")
    figure.canvas.draw()
    assert plt.rcParams["text.parse_math"] is True
    plt.close(figure)


@pytest.mark.parametrize(("note", "corner"), [(1, None), (5, (0, 0)), (6, (5, 0)), (7, (5, 7)), (8, (0, 7))])
def test_a_photo_is_turned_if_its_proposals_are_for_the_turned_photo(
    tmp_path: Path, note: int, corner: tuple[int, int] | None
) -> None:
    """Its EXIF note says how to turn it."""
    image = Image.new("RGB", (8, 6))
    image.putpixel((0, 0), (255, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = note
    image.save(tmp_path / "7.png", exif=exif)
    images = find_images(tmp_path)
    with open_image(images, 7, "", (8, 6)) as stored:
        assert stored.getpixel((0, 0)) == (255, 0, 0)
    if corner is None:
        with pytest.raises(InputError, match="8 x 6 pixels"):
            open_image(images, 7, "", (6, 8))
    else:
        with open_image(images, 7, "", (6, 8)) as turned:
            assert turned.size == (6, 8)
            assert turned.getpixel(corner) == (255, 0, 0)


def test_an_image_of_another_size_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "7.png"
    Image.new("RGB", (8, 6)).save(path)
    images = find_images(tmp_path)
    with open_image(images, 7, "", (8, 6)) as image:
        assert image.size == (8, 6)
    with pytest.raises(InputError) as error:
        open_image(images, 7, "", (6, 8))
    assert str(error.value) == (
        f"{path} has 8 x 6 pixels, but its proposals were prepared for 6 x 8. Give the images that the features were "
        "made from."
    )
