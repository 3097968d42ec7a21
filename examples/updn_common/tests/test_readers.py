import base64
import json
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from updn_common.errors import InputError
from updn_common.proposals.feature_entry import read_all
from updn_common.proposals.image_proposals import ImageProposals
from updn_common.proposals.readers import read_entries, read_proposals

MakeImage = Callable[..., ImageProposals]
TsvCells = Callable[..., list[str]]
WriteHdf5 = Callable[..., Path]
AssertSame = Callable[[ImageProposals, ImageProposals], None]


def whole(message: str) -> str:
    return f"^{re.escape(message)}$"


def encode(*values: float) -> str:
    return base64.b64encode(np.array(values, dtype="<f4").tobytes()).decode()


def write_tsv(path: Path, *rows: list[str]) -> Path:
    path.write_text("".join("\t".join(row) + "\n" for row in rows))
    return path


@pytest.fixture
def images(make_image: MakeImage) -> list[ImageProposals]:
    return [make_image(7, n=3), make_image(5, n=1), make_image(6, n=5)]


def test_real_lxmert_tsv_matches_its_goldens(shared_data: Path) -> None:
    path = shared_data / "bottom_up" / "train2014_obj36.tsv"
    goldens = json.loads(path.with_suffix(".golden.json").read_text())
    names = [line.split(",")[0] for line in (path.parent / "objects_vocab.txt").read_text().splitlines()]
    images = list(read_proposals(path))
    assert len(images) == len(goldens) == 10
    for image, golden in zip(images, goldens, strict=True):
        assert (image.image_id, image.width, image.height) == (golden["image_id"], golden["img_w"], golden["img_h"])
        assert image.boxes.shape == (golden["num_boxes"], 4)
        assert image.features.shape == (36, 2048)
        assert image.boxes[0].tolist() == golden["box0"]
        assert image.features[0, :4].tolist() == golden["features_row0_first4"]
        assert image.features.sum(dtype=np.float64) == pytest.approx(golden["features_sum"], rel=1e-9)
        assert image.boxes.sum(dtype=np.float64) == pytest.approx(golden["boxes_sum"], rel=1e-9)
        assert image.boxes[:, 2].max() == golden["boxes_max_x"]
        assert image.boxes[:, 3].max() == golden["boxes_max_y"]
        assert image.objects is not None
        assert [names[i] for i in image.objects[:5]] == [name for name, _ in golden["top5"]]


def test_real_column_orders_give_identical_arrays(shared_data: Path, assert_same_image: AssertSame) -> None:
    folder = shared_data / "bottom_up"
    lxmert = list(read_proposals(folder / "train2014_obj36.tsv"))
    original = list(read_proposals(next(folder.glob("*DERIVED.tsv"))))
    assert len(original) == 3
    for a, b in zip(original, lxmert, strict=False):
        assert_same_image(a, b)


@pytest.mark.parametrize("name", ["a.tsv", "karpathy_train.tsv.0"])
def test_tsv_round_trip(
    tmp_path: Path, images: list[ImageProposals], tsv_cells: TsvCells, assert_same_image: AssertSame, name: str
) -> None:
    path = write_tsv(tmp_path / name, *map(tsv_cells, images))
    for found, expected in zip(read_proposals(path), images, strict=True):
        assert_same_image(found, expected)


def test_tsv_lxmert_order_and_names(
    tmp_path: Path, make_image: MakeImage, tsv_cells: TsvCells, assert_same_image: AssertSame
) -> None:
    image = make_image(42)
    _, width, height, n, boxes, features = tsv_cells(image)
    objects = base64.b64encode(np.array([7, 0, 1599], dtype="<i8").tobytes()).decode()
    row = ["COCO_val2014_000000000042", height, width, objects, "conf", "ids", "conf", n, boxes, features]
    path = tmp_path / "a.tsv"
    path.write_bytes("\t".join(row).encode() + b"\r\n")  # csv.writer ends lines so
    (found,) = read_proposals(path)
    assert_same_image(found, image)
    assert found.objects is not None
    assert found.objects.tolist() == [7, 0, 1599]


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        (b"\0" * 12, "objects_id are 12 bytes, not a whole number of int64 values."),
        (np.array([1, 2]), "objects are (2,); expected one index from 0 for each of 3 boxes."),
        (np.array([1, -1, 2]), "objects are (3,); expected one index from 0 for each of 3 boxes."),
    ],
)
def test_tsv_malformed_objects(
    tmp_path: Path, make_image: MakeImage, tsv_cells: TsvCells, objects: bytes | np.ndarray, message: str
) -> None:
    name, width, height, n, boxes, features = tsv_cells(make_image(1))
    ids = base64.b64encode(objects if isinstance(objects, bytes) else objects.astype("<i8").tobytes()).decode()
    path = write_tsv(tmp_path / "a.tsv", [name, height, width, ids, "", "", "", n, boxes, features])
    with pytest.raises(InputError, match=whole(f"{path}, line 1: {message}")):
        list(read_proposals(path))


def npz_entries(image: ImageProposals) -> dict[str, object]:
    return {
        "x": image.features,
        "bbox": image.boxes,
        "num_bbox": len(image.boxes),
        "image_h": image.height,
        "image_w": image.width,
    }


@pytest.mark.parametrize("skip", range(4))
def test_entries_are_parsed_only_when_read(
    tmp_path: Path,
    images: list[ImageProposals],
    tsv_cells: TsvCells,
    assert_same_image: AssertSame,
    skip: int,
    write_hdf5: WriteHdf5,
) -> None:
    nonsense = [["nonsense"]] * skip
    tsv = write_tsv(tmp_path / "a.tsv", *nonsense, *map(tsv_cells, images[skip:]))
    hdf5 = write_hdf5(tmp_path / "b.hdf5", images, adaptive=True)
    hdf5.with_suffix(".ids.json").write_text(json.dumps([image.image_id for image in images]))
    npz = tmp_path / "npz"
    npz.mkdir()
    for number, image in enumerate(images):
        np.savez(npz / f"{number}.npz", **npz_entries(image) if number >= skip else {})  # type: ignore[arg-type]
    pieces: list[bytes] = []
    for path in (tsv, hdf5, npz):
        found = list(read_all(islice(read_entries(path, on_bytes=pieces.append), skip, None)))
        assert len(found) == 3 - skip
        for a, b in zip(found, images[skip:], strict=True):
            assert_same_image(replace(a, image_id=0), replace(b, image_id=0))
    assert b"".join(pieces) == tsv.read_bytes()


def test_tsv_is_read_lazily(tmp_path: Path, make_image: MakeImage, tsv_cells: TsvCells) -> None:
    path = write_tsv(tmp_path / "a.tsv", tsv_cells(make_image(1)), ["nonsense"])
    reader = read_proposals(path)
    assert next(reader).image_id == 1
    with pytest.raises(InputError, match="line 2"):
        next(reader)


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        ({"image_id": "dog.jpg"}, "image 'dog.jpg' is neither an integer nor a COCO file name."),
        ({"image_w": "0"}, "image_w is '0'; expected a positive integer."),
        ({"image_h": "-4"}, "image_h is '-4'; expected a positive integer."),
        ({"num_boxes": "9" * 5000}, f"num_boxes is '{'9' * 20}'; expected a positive integer."),
        ({"num_boxes": "4"}, "boxes hold 12 numbers; num_boxes 4 needs 16."),
        ({"boxes": "AA$AA"}, "boxes are not base64; the line is damaged or truncated."),
        ({"features": "AAAAA"}, "features are not base64; the line is damaged or truncated."),
        ({"features": "AAAA"}, "features are 3 bytes, not a whole number of float32 values."),
        ({"features": encode(*range(13))}, "features hold 13 numbers, not a multiple of num_boxes 3."),
        ({"features": ""}, "features hold 0 numbers, not a multiple of num_boxes 3."),
        ({"features": encode(*range(15))}, "feature size 5; the images before it have 4."),
        (
            {"features": encode(*range(7), np.nan, *range(4))},
            "the features of proposal 1 are not finite; extract them again.",
        ),
        (
            {"features": encode(*range(8), np.inf, *range(3))},
            "the features of proposal 2 are not finite; extract them again.",
        ),
        (
            {"boxes": encode(0, 0, 1, 1, 0, 0, 101.5, 1, 0, 0, 1, 1)},
            "box 1 [0.0, 0.0, 101.5, 1.0] leaves the 100 x 80 image; expected x1 y1 x2 y2 in pixels.",
        ),
        (
            {"boxes": encode(0, -1.5, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1)},
            "box 0 [0.0, -1.5, 1.0, 1.0] leaves the 100 x 80 image; expected x1 y1 x2 y2 in pixels.",
        ),
        (
            {"boxes": encode(0, 0, 1, 1, 0, 0, 1, 1, 0, 9, 1, 8)},
            "box 2 [0.0, 9.0, 1.0, 8.0] is inverted; expected x1 y1 x2 y2 in pixels.",
        ),
        (
            {"boxes": encode(0, 0, 1, 1, 0, 0, np.nan, 1, 0, 0, 1, 1)},
            "box 1 [0.0, 0.0, nan, 1.0] leaves the 100 x 80 image; expected x1 y1 x2 y2 in pixels.",
        ),
    ],
)
def test_tsv_malformed_line(
    tmp_path: Path, make_image: MakeImage, tsv_cells: TsvCells, replaced: dict[str, str], message: str
) -> None:
    rows = [tsv_cells(make_image(1)), tsv_cells(make_image(2), **replaced)]
    path = write_tsv(tmp_path / "a.tsv", *rows)
    with pytest.raises(InputError, match=whole(f"{path}, line 2: {message}")):
        list(read_proposals(path))


def test_tsv_tolerates_one_pixel_and_flat_boxes(tmp_path: Path, make_image: MakeImage, tsv_cells: TsvCells) -> None:
    boxes = encode(-1, -1, 101, 81, 5, 5, 5, 5, 0, 0, 100, 80)
    (image,) = read_proposals(write_tsv(tmp_path / "a.tsv", tsv_cells(make_image(1), boxes=boxes)))
    assert image.boxes[0].tolist() == [-1, -1, 101, 81]


def test_tsv_swapped_width_and_height_is_noticed(tmp_path: Path, make_image: MakeImage, tsv_cells: TsvCells) -> None:
    cells = tsv_cells(make_image(1), image_w="80", image_h="100", boxes=encode(0, 0, 99, 79, *[1, 1, 2, 2] * 2))
    with pytest.raises(InputError, match="leaves the 80 x 100 image"):
        list(read_proposals(write_tsv(tmp_path / "a.tsv", cells)))


def test_tsv_truncated_anywhere_in_a_line_is_noticed(
    tmp_path: Path, make_image: MakeImage, tsv_cells: TsvCells
) -> None:
    path = write_tsv(tmp_path / "a.tsv", tsv_cells(make_image(1)), tsv_cells(make_image(2)))
    data = path.read_bytes()
    first = data.index(b"\n") + 1
    for end in range(first + 1, len(data) - 1):
        path.write_bytes(data[:end])
        with pytest.raises(InputError, match=re.escape(f"{path}, line 2: ")):
            list(read_proposals(path))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n \n"])
def test_tsv_empty_lines_are_skipped(
    tmp_path: Path, images: list[ImageProposals], tsv_cells: TsvCells, assert_same_image: AssertSame, end: str
) -> None:
    path = tmp_path / "a.tsv"
    path.write_bytes(b"".join(("\t".join(tsv_cells(image)) + "\n" + end).encode() for image in images))
    for found, expected in zip(read_proposals(path), images, strict=True):
        assert_same_image(found, expected)


def test_tsv_wrong_number_of_columns(tmp_path: Path) -> None:
    path = write_tsv(tmp_path / "a.tsv", ["1", "2", "3"])
    message = (
        f"{path}, line 1: 3 columns; expected 6 (original order) or 10 (LXMERT order). The file is not a "
        "bottom-up TSV, or was truncated here."
    )
    with pytest.raises(InputError, match=whole(message)):
        list(read_proposals(path))


def test_unknown_and_missing_paths(tmp_path: Path) -> None:
    path = tmp_path / "a.pkl"
    message = f"{path} does not exist; expected a TSV or HDF5 file, or a folder of npz files."
    with pytest.raises(InputError, match=whole(message)):
        read_proposals(path)
    path.write_bytes(b"")
    message = f"{path} is of an unknown format; expected .tsv, .hdf5 or .h5, or a folder of npz files."
    with pytest.raises(InputError, match=whole(message)):
        read_proposals(path)


@pytest.mark.parametrize(
    ("boxes", "features", "width", "message"),
    [
        (
            np.ones((0, 4)),
            np.ones((0, 2)),
            9,
            "boxes (0, 4) and features (0, 2); expected (n, 4) and (n, D), n at least 1.",
        ),
        (
            np.ones((2, 4)),
            np.ones((3, 2)),
            9,
            "boxes (2, 4) and features (3, 2); expected (n, 4) and (n, D), n at least 1.",
        ),
        (
            np.array([[9, 0, 9.5, 5]]),  # within the tolerance, but not in the image
            np.ones((1, 2)),
            9,
            "box 0 [9.0, 0.0, 9.5, 5.0] leaves the 9 x 9 image; expected x1 y1 x2 y2 in pixels.",
        ),
        (
            np.array([[0, -1, 5, 0]]),
            np.ones((1, 2)),
            9,
            "box 0 [0.0, -1.0, 5.0, 0.0] leaves the 9 x 9 image; expected x1 y1 x2 y2 in pixels.",
        ),
        (np.ones((1, 4)), np.ones((1, 2)), 0, "the image has 0 x 9 pixels; expected sizes from 1 to 1000000."),
    ],
)
def test_image_proposals_are_checked(boxes: np.ndarray, features: np.ndarray, width: int, message: str) -> None:
    with pytest.raises(InputError, match=whole(message)):
        ImageProposals(1, width, 9, boxes.astype(np.float32), features.astype(np.float32))


def test_object_class_too_large_to_store() -> None:
    """It would overflow when it is stored."""
    boxes, features = np.ones((2, 4), np.float32), np.ones((2, 2), np.float32)
    ImageProposals(1, 9, 9, boxes, features, np.array([2**31 - 1, 0]))
    message = f"object {2**40 + 3} is in no detector's list of names; extract them again."
    with pytest.raises(InputError, match=whole(message)):
        ImageProposals(1, 9, 9, boxes, features, np.array([2**40 + 3, 0]))
