"""Read image files."""

from contextlib import ExitStack
from pathlib import Path

from PIL import Image, ImageFile, UnidentifiedImageError

from updn_common.errors import InputError


def read_image(path: Path, *, expected: str = "an image") -> ImageFile.ImageFile:
    """Open an image and read its pixels. The caller closes it. ``expected`` describes the image for error messages.

    Raises:
        InputError: The file is missing, damaged or not an image, or so large that Pillow takes it for an attack.
    """
    try:
        with ExitStack() as stack:
            image = stack.enter_context(Image.open(path))
            image.load()
            stack.pop_all()  # the caller closes it
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; expected {expected}.") from None
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path} is not a readable image ({error}).") from None
    return image
