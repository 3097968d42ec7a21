"""Features in folders of npz files."""

import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from updn_common.errors import InputError
from updn_common.proposals.image_proposals import ImageProposals
from updn_common.proposals.readers import read_proposals

MakeImage = Callable[..., ImageProposals]
TsvCells = Callable[..., list[str]]
AssertSame = Callable[[ImageProposals, ImageProposals], None]


def whole(message: str) -> str:
    return f"^{re.escape(message)}$"


def npz_entries(image: ImageProposals) -> dict[str, object]:
    return {
        "x": image.features,
        "bbox": image.boxes,
        "num_bbox": len(image.boxes),
        "image_h": image.height,
        "image_w": image.width,
    }


@pytest.mark.parametrize("transposed", [False, True])
def test_npz(tmp_path: Path, make_image: MakeImage, assert_same_image: AssertSame, transposed: bool) -> None:
    images = [make_image(i, n=i) for i in (2, 3)]
    for image in images:
        entries = npz_entries(image) | {"info": np.array([{"a": 1}], dtype=object)}  # a pickle: never read
        if transposed:
            entries["x"] = image.features.T
        np.savez(tmp_path / f"COCO_train2014_{image.image_id:012d}.jpg.npz", **entries)  # type: ignore[arg-type]
    for found, expected in zip(read_proposals(tmp_path), images, strict=True):
        assert_same_image(found, expected)
        assert found.features.flags["C_CONTIGUOUS"]


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        ({"num_bbox": 5}, "x (3, 4) and bbox (3, 4) do not fit num_bbox 5; expected (n, D) or (D, n), and (n, 4)."),
        ({"x": np.ones((3, 3), np.float32)}, "x (3, 3) is square, so it may or may not be transposed."),
        (
            {"x": np.ones((3, 4), int)},
            "not a readable npz of plain arrays (expected floating-point values, found int64).",
        ),
        (
            {"x": np.array([{}] * 3, dtype=object)},
            "not a readable npz of plain arrays (Object arrays cannot be loaded when allow_pickle=False).",
        ),
        ({"image_h": 79.5}, "not a readable npz of plain arrays (image_h should be a whole number, found 79.5)."),
        ({"image_w": 20}, None),
    ],
)
def test_npz_malformed(tmp_path: Path, make_image: MakeImage, replaced: dict[str, object], message: str | None) -> None:
    path = tmp_path / "1.npz"
    np.savez(path, **npz_entries(make_image(1)) | replaced)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=whole(f"{path}: {message}") if message else "leaves the 20 x 80 image"):
        list(read_proposals(tmp_path))


def test_npz_that_unpacks_to_too_much(tmp_path: Path, make_image: MakeImage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the entries that are read count."""
    path, image = tmp_path / "1.npz", make_image(1, n=8, feature_size=512)
    np.savez_compressed(path, **npz_entries(image) | {"info": np.zeros(2**16)})  # type: ignore[arg-type]
    monkeypatch.setattr("updn_common.proposals.npz.unpacked_limit", lambda packed: max(2**14, 10 * packed))
    assert len(list(read_proposals(tmp_path))) == 1
    np.savez_compressed(path, **npz_entries(image) | {"x": np.zeros((8, 1024))})  # type: ignore[arg-type]
    fault = "it unpacks to more than 100 times its size, which features do not"
    message = f"{path}: not a readable npz of plain arrays ({fault})."
    with pytest.raises(InputError, match=whole(message)):
        list(read_proposals(tmp_path))


@pytest.mark.parametrize("height", [2.0**32 + 48, 2.0**62, 2.0**70, 1_000_001])
def test_npz_with_an_impossible_image_size(tmp_path: Path, make_image: MakeImage, height: float) -> None:
    np.savez(tmp_path / "1.npz", **npz_entries(make_image(1)) | {"image_h": np.array(height)})  # type: ignore[arg-type]
    with pytest.raises(InputError, match=rf"1.npz: the image has 100 x {int(height)} pixels; expected sizes from 1 to"):
        list(read_proposals(tmp_path))


def test_scaled_boxes(tmp_path: Path, make_image: MakeImage) -> None:
    image = make_image(1)
    scaled = image.boxes / np.array([image.width, image.height] * 2, dtype=np.float32)
    for size in ({}, {"image_h": np.array(1), "image_w": np.array(1)}):
        np.savez(tmp_path / "1.npz", **npz_entries(image) | {"bbox": scaled} | size)  # type: ignore[arg-type]
        with pytest.raises(InputError, match=r"1.npz: all boxes are in \[0, 1\], such as \[0\.\d+, .*expected pixels"):
            list(read_proposals(tmp_path))


def test_npz_errors(tmp_path: Path, make_image: MakeImage) -> None:
    with pytest.raises(InputError, match=whole(f"{tmp_path} holds no .npz file; expected one for each image.")):
        list(read_proposals(tmp_path))
    path = tmp_path / "1.npz"
    np.savez(path, x=np.ones((3, 4)))
    message = "has no bbox, num_bbox, image_h, image_w; expected x, bbox, num_bbox, image_h, image_w."
    with pytest.raises(InputError, match=whole(f"{path}: {message}")):
        list(read_proposals(tmp_path))
    whole_file = io.BytesIO()
    np.savez(whole_file, **npz_entries(make_image(1)))  # type: ignore[arg-type]
    path.write_bytes(whole_file.getvalue()[:-30])
    with pytest.raises(InputError, match=re.escape(f"{path}: not a readable npz of plain arrays (")):
        list(read_proposals(tmp_path))
