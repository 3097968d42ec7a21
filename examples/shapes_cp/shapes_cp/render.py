"""Render pictures: Pillow draws every polygon at eight times the resolution, and NumPy blends it into the image."""

import io
import math
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw

from shapes_cp.scene import IMAGE_SIZE, Clutter, Item, Picture
from shapes_cp.shapes import RGB, Polygon, place

SUPERSAMPLING = 8
NOISE = 0.03
_SWATCH_SIZE = 64  # pixels: more than the diagonal of the largest item
_BLOB = np.stack([np.cos(np.linspace(0, 2 * np.pi, 33)[:-1]), 0.45 * np.sin(np.linspace(0, 2 * np.pi, 33)[:-1])], 1)
_RECTANGLE = np.array([(-1.0, -1.0), (1, -1), (1, 1), (-1, 1)])


def render(picture: Picture, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Render a picture (clutter first, then the objects and the sign) with pixel noise: (IMAGE_SIZE, IMAGE_SIZE, 3)."""
    along = (np.arange(IMAGE_SIZE) / IMAGE_SIZE)[:, None]
    corner, right, down = picture.background
    canvas = (corner + (along * right)[None, :] + (along * down)[:, None]).astype(np.float32)
    for clutter in picture.clutter:
        _draw_clutter(canvas, clutter)
    for item in picture.items:
        _draw_item(canvas, item)
    noise = rng.standard_normal(canvas.shape, dtype=np.float32)
    lit: NDArray[np.float32] = canvas * np.float32(picture.illumination) + np.float32(NOISE) * noise
    return (lit.clip(0, 1) * 255 + 0.5).astype(np.uint8)


def encode_jpeg(image: NDArray[np.uint8]) -> bytes:
    """Encode an image as JPEG, without chroma subsampling, which would blur the colours of textures."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=90, subsampling=0)
    return buffer.getvalue()


def decode_image(data: bytes) -> NDArray[np.uint8]:
    """Decode an image file: (height, width, 3)."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def coverage(polygon: Polygon) -> NDArray[np.float32]:
    """The share of each pixel that the drawn polygon covers, (IMAGE_SIZE, IMAGE_SIZE)."""
    image = np.zeros((IMAGE_SIZE, IMAGE_SIZE), dtype=np.float32)
    mask, (rows, columns) = _fill(polygon)
    image[rows, columns] = _shrink(mask)
    return image


def _draw_item(canvas: NDArray[np.float32], item: Item) -> None:
    mask, window = _fill(item.polygon)
    ink = mask
    if item.texture != "plain":
        ink = ImageChops.multiply(mask, _texture(item.texture, item, mask.size, window))
    _blend(canvas, window, item.tint, alpha=_shrink(mask), ink=_shrink(ink))


def _draw_clutter(canvas: NDArray[np.float32], clutter: Clutter) -> None:
    x, y, size, angle = clutter.x, clutter.y, clutter.size, clutter.angle
    match clutter.kind:
        case "stroke":
            mask, window = _fill(place(_RECTANGLE * (1, 1.5 / size), x, y, 2 * size, angle))
            alpha = ink = _shrink(mask)
            ink = 0.8 * ink
        case "blob":
            mask, window = _fill(place(_BLOB, x, y, size, angle))
            alpha = ink = 0.5 * _shrink(mask)
        case "speckle":
            mask, window = _fill(place(_RECTANGLE, x, y, 1.2 * size, angle))
            alpha = _shrink(ImageChops.multiply(mask, _texture("speckle", clutter, mask.size, window)))
            ink = 0.8 * alpha
    _blend(canvas, window, clutter.tint, alpha, ink)


Window = tuple[slice, slice]  # rows, columns of the image


def _fill(polygon: Polygon) -> tuple[Image.Image, Window]:
    """Draw a supersampled polygon into the smallest window of the image that contains it."""
    low = np.floor(polygon.min(0)).clip(0, IMAGE_SIZE - 1).astype(int)
    high = np.ceil(polygon.max(0)).clip(low + 1, IMAGE_SIZE).astype(int)
    mask = Image.new("L", tuple((high - low) * SUPERSAMPLING))
    # Pillow truncates coordinates to whole pixels, whose centres are at whole numbers.
    points = np.rint((polygon - low) * SUPERSAMPLING - 0.5)
    ImageDraw.Draw(mask).polygon(points.ravel().tolist(), fill=255)
    return mask, (slice(low[1], high[1]), slice(low[0], high[0]))


def _texture(name: str, item: Item | Clutter, size: tuple[int, int], window: Window) -> Image.Image:
    """The swatch of a texture, rotated with the item around its centre and cut to the window."""
    cos, sin = math.cos(item.angle), math.sin(item.angle)
    x = (window[1].start - item.x) * SUPERSAMPLING
    y = (window[0].start - item.y) * SUPERSAMPLING
    middle = SUPERSAMPLING * _SWATCH_SIZE / 2
    inverse = (cos, sin, cos * x + sin * y + middle, -sin, cos, cos * y - sin * x + middle)
    return _swatch(name).transform(size, Image.Transform.AFFINE, inverse)


@cache
def _swatch(name: str) -> Image.Image:
    """Brightness of a texture in a supersampled square, whose centre is the origin."""
    x = (np.arange(_SWATCH_SIZE * SUPERSAMPLING) + 0.5) / SUPERSAMPLING - _SWATCH_SIZE / 2
    y = x[:, None]
    match name:
        case "striped":
            shade = np.where(np.floor((x + y) / 3) % 2 == 0, 1.0, 0.45)
        case "dotted":
            shade = np.where((x % 5 - 2.5) ** 2 + (y % 5 - 2.5) ** 2 < 2.6, 0.35, 1.0)
        case "checked":
            shade = np.where((np.floor(x / 3.5) + np.floor(y / 3.5)) % 2 == 0, 1.0, 0.45)
        case "speckle":
            shade = np.where(np.sin(0.9 * x) * np.sin(0.9 * y) > 0.6, 1.0, 0.0)
        case _:
            raise ValueError(f"unknown texture {name!r}")
    return Image.fromarray((255 * shade).astype(np.uint8))


def _shrink(mask: Image.Image) -> NDArray[np.float32]:
    """Average supersampled pixels to shares in [0, 1]."""
    return np.asarray(mask.reduce(SUPERSAMPLING), dtype=np.float32) / np.float32(255)


def _blend(
    canvas: NDArray[np.float32], window: Window, tint: RGB, alpha: NDArray[np.float32], ink: NDArray[np.float32]
) -> None:
    """Multiply the canvas by ``1 - alpha`` and add ``ink`` times the colour."""
    canvas[window] *= 1 - alpha[..., None]
    canvas[window] += ink[..., None] * np.asarray(tint, dtype=np.float32)
