"""Images that are damaged, or pretend to be enormous."""

import io
import re
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from updn_common.data.attention_maps import read_attention_map
from updn_common.errors import InputError
from updn_common.files.images import read_image
from updn_common.reports.figures import find_images, open_image


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(header: bytes) -> bytes:
    pixels = chunk(b"IDAT", zlib.compress(b"\1" * 100))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


def jpeg() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(file, "jpeg")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (png(struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0)), "Image size (400000000 pixels) exceeds limit"),
        (png(struct.pack(">II", 5, 4)), "Truncated IHDR chunk"),
        (png(struct.pack(">IIBBBBB", 50, 40, 8, 0, 0, 0, 0)), ""),
        (b"no image", "cannot identify image file"),
        (jpeg()[:-200], ""),
    ],
)
def test_damaged_images(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "7.png"
    path.write_bytes(content)
    message = f"^{re.escape(f'{path} is not a readable image ({why}')}"
    with pytest.raises(InputError, match=message):
        read_image(path)
    with pytest.raises(InputError, match=message):
        read_attention_map(path)
    with pytest.raises(InputError, match=message):
        open_image(find_images(tmp_path), 7, "", (64, 64))


def test_missing_image(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        read_image(tmp_path / "a.png", expected="a map")
    assert str(error.value) == f"{tmp_path / 'a.png'} does not exist; expected a map."
