import base64
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from updn_common.proposals.image_proposals import ImageProposals

MakeImage = Callable[..., ImageProposals]


@pytest.fixture(scope="session")
def make_image() -> MakeImage:
    """A valid image of 100 x 80 pixels, different for each id."""

    def make(image_id: int = 1, n: int = 3, feature_size: int = 4) -> ImageProposals:
        rng = np.random.default_rng(image_id)
        low, high = rng.uniform(0, 40, (n, 2)), rng.uniform(40, 80, (n, 2))
        boxes = np.concatenate([low, high], axis=1).astype(np.float32)
        return ImageProposals(image_id, 100, 80, boxes, rng.random((n, feature_size), dtype=np.float32))

    return make


@pytest.fixture(scope="session")
def tsv_cells() -> Callable[..., list[str]]:
    """The six cells of an image in the original column order; keywords replace cells."""

    def cells(image: ImageProposals, **replaced: str) -> list[str]:
        row = {
            "image_id": str(image.image_id),
            "image_w": str(image.width),
            "image_h": str(image.height),
            "num_boxes": str(len(image.boxes)),
            "boxes": base64.b64encode(image.boxes.tobytes()).decode(),
            "features": base64.b64encode(image.features.tobytes()).decode(),
        }
        return list((row | replaced).values())

    return cells


@pytest.fixture(scope="session")
def assert_same_image() -> Callable[[ImageProposals, ImageProposals], None]:
    def check(found: ImageProposals, expected: ImageProposals) -> None:
        assert (found.image_id, found.width, found.height) == (expected.image_id, expected.width, expected.height)
        assert found.boxes.dtype == found.features.dtype == np.float32
        np.testing.assert_array_equal(found.boxes, expected.boxes)
        np.testing.assert_array_equal(found.features, expected.features)

    return check


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(path)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk cannot be mounted here (needs root on Linux)")
    yield path
    subprocess.run(["umount", str(path)], check=True)


@pytest.fixture(scope="session")
def write_hdf5() -> Callable[..., Path]:
    """Writes images in the layout of the UpDn reference code; with `adaptive`, numbers of proposals may differ."""

    def write(path: Path, images: list[ImageProposals], *, adaptive: bool) -> Path:
        scale = [np.array([image.width, image.height] * 2, dtype=np.float32) for image in images]
        boxes = [image.boxes for image in images]
        spatial = [
            np.concatenate([b, b[:, 2:] - b[:, :2]], axis=1) / s[[0, 1, 2, 3, 0, 1]]
            for b, s in zip(boxes, scale, strict=True)
        ]
        join = np.concatenate if adaptive else np.stack
        with h5py.File(path, "w") as file:
            file["image_features"] = join([image.features for image in images])
            file["image_bb"] = join(boxes)
            file["spatial_features"] = join(spatial)
            if adaptive:
                ends = np.cumsum([len(b) for b in boxes])
                file["pos_boxes"] = np.stack([np.concatenate([[0], ends[:-1]]), ends], axis=1)
        return path

    return write
