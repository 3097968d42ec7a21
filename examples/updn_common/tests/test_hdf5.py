"""Features in HDF5 files of the UpDn reference code and of updown-baseline."""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from updn_common.errors import InputError
from updn_common.proposals.hdf5 import read_image_ids
from updn_common.proposals.image_proposals import ImageProposals
from updn_common.proposals.readers import proposal_sources, read_proposals

MakeImage = Callable[..., ImageProposals]
WriteHdf5 = Callable[..., Path]
AssertSame = Callable[[ImageProposals, ImageProposals], None]


def read_hdf5(path: Path, ids: Iterable[int]) -> Iterator[ImageProposals]:
    path.with_suffix(".ids.json").write_text(json.dumps(list(ids)))
    return read_proposals(path)


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as error:
        list(read_proposals(path))
    return str(error.value)


def whole(message: str) -> str:
    return f"^{re.escape(message)}$"


@pytest.mark.parametrize("adaptive", [False, True])
def test_hdf5(
    tmp_path: Path, make_image: MakeImage, assert_same_image: AssertSame, adaptive: bool, write_hdf5: WriteHdf5
) -> None:
    images = [make_image(i, n=i if adaptive else 3) for i in (4, 2, 9)]
    path = write_hdf5(tmp_path / "train36.hdf5", images, adaptive=adaptive)
    (tmp_path / "train36.ids.json").write_text("[4, 2, 9]")
    for found, expected in zip(read_proposals(path), images, strict=True):
        assert_same_image(found, expected)


def test_hdf5_image_size_is_exact_on_real_boxes(shared_data: Path, tmp_path: Path, write_hdf5: WriteHdf5) -> None:
    images = list(read_proposals(shared_data / "bottom_up" / "train2014_obj36.tsv"))
    path = write_hdf5(tmp_path / "a.hdf5", images, adaptive=False)
    found = list(read_hdf5(path, [image.image_id for image in images]))
    assert [(i.width, i.height) for i in found] == [(i.width, i.height) for i in images]


def test_hdf5_errors(tmp_path: Path, make_image: MakeImage, write_hdf5: WriteHdf5) -> None:
    path = write_hdf5(tmp_path / "a.hdf5", [make_image(1), make_image(2)], adaptive=False)
    with pytest.raises(InputError, match=whole(f"{path} holds 2 images, but 3 image ids were given.")):
        list(read_hdf5(path, [1, 2, 3]))
    path.with_suffix(".ids.json").unlink()
    message = f"{tmp_path / 'a.ids.json'} does not exist; expected a JSON list of the image id of each row."
    with pytest.raises(InputError, match=whole(message)):
        list(read_proposals(path))
    with h5py.File(path, "a") as file:
        file["spatial_features"][1] **= 2
    message = "spatial_features are not the corners of image_bb divided by the image's size."
    with pytest.raises(InputError, match=whole(f"{path}, row 1: {message}")):
        list(read_hdf5(path, [1, 2]))
    with h5py.File(path, "a") as file:
        del file["image_bb"]
        file["image_bb"] = np.zeros((1, 3, 4))
    message = (
        f"{path} has data sets of different lengths: {{'image_features': 2, 'image_bb': 1, 'spatial_features': 2}}; "
        "it was not finished."
    )
    with pytest.raises(InputError, match=whole(message)):
        list(read_hdf5(path, [1, 2]))
    with h5py.File(path, "a") as file:
        del file["image_bb"]
    message = f"{path} has no data set 'image_bb'; it has ['image_features', 'spatial_features']."
    with pytest.raises(InputError, match=whole(message)):
        list(read_hdf5(path, [1, 2]))
    path.write_bytes(b"no HDF5")
    with pytest.raises(InputError, match=re.escape(f"{path} is not a readable HDF5 file (")):
        list(read_hdf5(path, [1, 2]))


@pytest.mark.parametrize(
    ("name", "data", "found"),
    [
        ("image_features", None, "a group; expected (images, proposals, size) of numbers."),
        ("image_features", np.array([[b"a"]]), "(1, 1) of |S1; expected (images, proposals, size) of numbers."),
        ("image_features", np.ones((2, 3, 4), complex), "(2, 3, 4) of complex128; expected (images, proposals, size)"),
        ("image_bb", np.ones(2), "(2,) of float64; expected (images, proposals, 4) of numbers."),
        ("image_bb", np.float32(3), "() of float32; expected (images, proposals, 4) of numbers."),
        ("image_bb", np.ones((2, 3, 3)), "(2, 3, 3) of float64; expected (images, proposals, 4) of numbers."),
        ("spatial_features", np.ones((2, 3, 4)), "(2, 3, 4) of float64; expected (images, proposals, 6) of numbers."),
    ],
)
def test_hdf5_with_wrong_shapes(
    tmp_path: Path, make_image: MakeImage, name: str, data: Any, found: str, write_hdf5: WriteHdf5
) -> None:
    path = write_hdf5(tmp_path / "a.hdf5", [make_image(1), make_image(2)], adaptive=False)
    with h5py.File(path, "a") as file:
        del file[name]
        if data is None:
            file.create_group(name)
        else:
            file[name] = data
    with pytest.raises(InputError, match=f"^{re.escape(f'{path}: data set {name!r} is {found}')}"):
        list(read_hdf5(path, [1, 2]))


@pytest.mark.parametrize(
    ("ends", "message"),
    [
        ([0, 6], ": data set 'pos_boxes' is (2,) of int64; expected (images, 2) of int."),
        ([[0, 3, 3], [3, 6, 3]], ": data set 'pos_boxes' is (2, 3) of int64; expected (images, 2) of int."),
        ([[0.0, 3.0], [3.0, 6.0]], ": data set 'pos_boxes' is (2, 2) of float64; expected (images, 2) of int."),
        ([[0, 3], [3, 7]], ", row 1: pos_boxes [3, 7] are not rows from 0 to 6."),
        ([[-3, 3], [3, 6]], ", row 0: pos_boxes [-3, 3] are not rows from 0 to 6."),
        ([[0, 3], [3, 3]], ", row 1: pos_boxes [3, 3] are not rows from 0 to 6."),
    ],
)
def test_hdf5_rows_out_of_range(
    tmp_path: Path, make_image: MakeImage, ends: Any, message: str, write_hdf5: WriteHdf5
) -> None:
    path = write_hdf5(tmp_path / "a.hdf5", [make_image(1), make_image(2)], adaptive=True)
    with h5py.File(path, "a") as file:
        del file["pos_boxes"]
        file["pos_boxes"] = np.array(ends)
    with pytest.raises(InputError, match=whole(f"{path}{message}")):
        list(read_hdf5(path, [1, 2]))


def test_hdf5_damaged_chunk(tmp_path: Path, make_image: MakeImage, write_hdf5: WriteHdf5) -> None:
    images = [make_image(i, feature_size=500) for i in range(1, 9)]
    path = write_hdf5(tmp_path / "a.hdf5", images, adaptive=False)
    with h5py.File(path, "a") as file:
        features = file["image_features"][:]
        del file["image_features"]
        file.create_dataset("image_features", data=features, compression="gzip", chunks=(2, 3, 500))
        place = file["image_features"].id.get_chunk_info(2).byte_offset
    data = bytearray(path.read_bytes())
    data[place : place + 1000] = bytes(1000)
    path.write_bytes(data)

    with pytest.raises(InputError, match=rf"^{re.escape(str(path))}, row 4: this part of the file cannot be read \("):
        list(read_hdf5(path, range(1, 9)))


@pytest.mark.parametrize("wrong", [b"HEAP", b"SNOD", b"TREE", b"image_bb"])
def test_hdf5_damaged_structure(tmp_path: Path, make_image: MakeImage, write_hdf5: WriteHdf5, wrong: bytes) -> None:
    path = write_hdf5(tmp_path / "a.hdf5", [make_image(1)], adaptive=False)
    data = bytearray(path.read_bytes())
    data[data.index(wrong)] = 0xFF
    path.write_bytes(data)
    with pytest.raises(InputError, match=f"^{re.escape(str(path))}: this part of the file cannot be read"):
        list(read_hdf5(path, [1]))


def test_hdf5_dangling_link(tmp_path: Path, make_image: MakeImage, write_hdf5: WriteHdf5) -> None:
    path = write_hdf5(tmp_path / "a.hdf5", [make_image(1)], adaptive=False)
    with h5py.File(path, "a") as file:
        del file["image_bb"]
        file["image_bb"] = h5py.ExternalLink("elsewhere.hdf5", "image_bb")
    with pytest.raises(InputError, match=f"^{re.escape(str(path))}"):
        list(read_hdf5(path, [1]))


def test_hdf5_larger_than_memory(tmp_path: Path, make_image: MakeImage, write_hdf5: WriteHdf5) -> None:
    path = write_hdf5(tmp_path / "a.hdf5", [make_image(1)], adaptive=False)
    with h5py.File(path, "a") as file:
        del file["image_features"]
        file.create_dataset("image_features", (1, 3, 2**40), "f4", chunks=(1, 1, 2**20))
    with pytest.raises(InputError, match=rf"^{re.escape(str(path))}, row 0: .*llocate"):
        list(read_hdf5(path, [1]))


def test_scaled_boxes_of_hdf5(tmp_path: Path, make_image: MakeImage, write_hdf5: WriteHdf5) -> None:
    path = write_hdf5(tmp_path / "a.hdf5", [make_image(1)], adaptive=False)
    with h5py.File(path, "a") as file:
        file["image_bb"][...] = file["spatial_features"][..., :4]
    with pytest.raises(InputError, match=r"row 0: all boxes are in \[0, 1\], such as .*; expected pixels: multiply x"):
        list(read_hdf5(path, [1]))


def test_hdf5_in_float64_beyond_float32(tmp_path: Path, make_image: MakeImage, write_hdf5: WriteHdf5) -> None:
    path = write_hdf5(tmp_path / "a.hdf5", [make_image(1)], adaptive=False)
    with h5py.File(path, "a") as file:
        features = file["image_features"][:].astype(np.float64) * 1e300
        del file["image_features"]
        file["image_features"] = features
    message = f"{path}, row 0: the features of proposal 0 are not finite; extract them again."
    with pytest.raises(InputError, match=whole(message)):
        list(read_hdf5(path, [1]))


def test_image_ids(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('[3, "COCO_train2014_000000000005.jpg"]')
    assert read_image_ids(tmp_path / "a.json") == [3, 5]
    (tmp_path / "b.json").write_text('{"3": 0}')
    message = f"{tmp_path / 'b.json'} holds a dict; expected a list of image ids."
    with pytest.raises(InputError, match=whole(message)):
        read_image_ids(tmp_path / "b.json")
    (tmp_path / "c.json").write_text('[3, "x"]')
    message = f"{tmp_path / 'c.json'}: image 'x' is neither an integer nor a COCO file name."
    with pytest.raises(InputError, match=whole(message)):
        read_image_ids(tmp_path / "c.json")


def write_baseline(path: Path, images: list[ImageProposals]) -> Path:
    """Write images in the layout of updown-baseline."""
    with h5py.File(path, "w") as file:
        for name, values in (
            ("image_id", [image.image_id for image in images]),
            ("width", [image.width for image in images]),
            ("height", [image.height for image in images]),
            ("num_boxes", [len(image.boxes) for image in images]),
        ):
            file[name] = np.array(values)
        for name, arrays in (("boxes", [i.boxes for i in images]), ("features", [i.features for i in images])):
            data = file.create_dataset(name, (len(images),), h5py.vlen_dtype(np.float32))
            for row, array in enumerate(arrays):
                data[row] = array.ravel()
    return path


def test_updown_baseline_file(tmp_path: Path, make_image: MakeImage, assert_same_image: AssertSame) -> None:
    images = [make_image(i, n=i) for i in (4, 2, 9)]
    path = write_baseline(tmp_path / "a.h5", images)
    assert proposal_sources(path) == [path]
    for found, expected in zip(list(read_proposals(path)), images, strict=True):
        assert_same_image(found, expected)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("num_boxes", np.array([4, 5, 9]), ", row 1: boxes hold 8 numbers, features 8; num_boxes is 5."),
        ("num_boxes", np.array([4, 0, 9]), ", row 1: boxes hold 8 numbers, features 8; num_boxes is 0."),
        ("width", np.ones((3, 2), dtype=np.int64), " has data sets of different shapes: {"),
        ("image_id", np.ones(3), ": data set 'image_id' is of float64; expected integers."),
    ],
)
def test_malformed_updown_baseline_file(
    tmp_path: Path, make_image: MakeImage, name: str, values: np.ndarray, message: str
) -> None:
    path = write_baseline(tmp_path / "a.h5", [make_image(i, n=i) for i in (4, 2, 9)])
    with h5py.File(path, "a") as file:
        del file[name]
        file[name] = values
    assert refusal(path).startswith(f"{path}{message}")


def test_hdf5_without_features(tmp_path: Path) -> None:
    path = tmp_path / "cocotalk_label.h5"
    with h5py.File(path, "w") as file:
        file["labels"] = np.ones((5, 16), dtype=np.uint32)
    assert refusal(path) == (
        f"{path} holds no features; it has ['labels']. Expected image_features, image_bb, spatial_features or "
        "image_id, width, height, num_boxes, boxes, features."
    )
