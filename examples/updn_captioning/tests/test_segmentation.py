"""Masks of single objects: polygons and run lengths, valid and malformed."""

import copy
import json
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask

from updn_captioning.data.segmentation import Segmentation, compact, decompress, read_segmentation, union
from updn_common.errors import InputError

SIZE = (4, 6)


def read(value: Any, size: tuple[int, int] = SIZE) -> Segmentation:
    """Compact a document as `read_json` does, inner objects first."""
    value = copy.deepcopy(value)
    record = compact({"segmentation": compact(value) if isinstance(value, dict) else value})
    return read_segmentation(record["segmentation"], size, "a.json, annotation 0")


def test_all_real_instances_decode_to_the_golden_pixel_counts(shared_data: Path) -> None:
    document = json.loads((shared_data / "coco/instances_val2014_100.json").read_text())
    golden = json.loads((shared_data / "coco/instances_val2014_100.mask_pixels_golden.json").read_text())
    sizes = {image["id"]: (image["height"], image["width"]) for image in document["images"]}
    found, crowds = {}, 0
    for record in document["annotations"]:
        size = sizes[record["image_id"]]
        mask = union([read(record["segmentation"], size)], size)
        assert mask.shape == size
        found[str(record["id"])] = [int(mask.sum()), record["iscrowd"]]
        crowds += record["iscrowd"]
    assert found == golden
    assert (len(found), crowds) == (839, 9)


def test_polygon_by_hand() -> None:
    """A rectangle from (1, 1) to (4, 3) covers three columns of two rows."""
    mask = union([read([[1, 1, 4, 1, 4, 3, 1, 3]])], SIZE)
    expected = np.zeros(SIZE, dtype=bool)
    expected[1:3, 1:4] = True
    assert mask.numpy().tolist() == expected.tolist()


def test_polygon_may_extend_beyond_the_image() -> None:
    """By at most the width or height of the image on every side."""
    assert union([read([[-6, -4, 12, -4, 12, 8, -6, 8]])], SIZE).all()
    assert not union([read([[-6, -4, -1, -4, -1, -1, -6, -1]])], SIZE).any()


def test_run_lengths_by_hand() -> None:
    """Runs are along the columns."""
    mask = union([read({"size": [4, 6], "counts": [5, 2, 17]})], SIZE)
    assert mask.nonzero().tolist() == [[1, 1], [2, 1]]
    assert union([read({"size": [4, 6], "counts": [0, 1, 23]})], SIZE).nonzero().tolist() == [[0, 0]]


def test_union_of_several_and_of_none() -> None:
    shapes = [read([[1, 1, 3, 1, 3, 3, 1, 3], [0, 0, 1, 0, 1, 1, 0, 1]]), read({"size": [4, 6], "counts": [22, 2]})]
    expected = np.zeros(SIZE, dtype=bool)
    expected[1:3, 1:3] = expected[0, 0] = expected[2:, 5] = True
    assert union(shapes, SIZE).numpy().tolist() == expected.tolist()
    assert union([], SIZE).numpy().tolist() == np.zeros(SIZE, dtype=bool).tolist()


MASKS = arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40)), elements=st.integers(0, 1))


@given(MASKS)
def test_decompression_inverts_pycocotools(mask: np.ndarray[Any, Any]) -> None:
    text = coco_mask.encode(np.asfortranarray(mask))["counts"].decode()
    runs = [len(list(run)) for _, run in groupby([0, *mask.T.ravel().tolist()])]
    runs[0] -= 1  # the run of zeros that comes first may be empty
    counts = decompress(text)
    assert counts is not None
    assert counts.tolist() == runs
    for value in ({"size": list(mask.shape), "counts": text}, {"size": list(mask.shape), "counts": runs}):
        assert union([read(value, mask.shape)], mask.shape).numpy().tolist() == mask.astype(bool).tolist()


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=12))
def test_malformed_text_never_decodes_to_other_memory(text: str) -> None:
    """Either an error, or run lengths that cover the image."""
    try:
        segmentation = read({"size": [4, 6], "counts": text})
    except InputError:
        return
    assert segmentation.runs is not None
    assert segmentation.runs.sum() == 24


def test_large_lists_become_arrays() -> None:
    record = {"segmentation": [[1, 2, 3.5, 4, 5, 6]], "area": 3}
    polygon = compact(record)["segmentation"][0]
    assert (polygon.dtype, polygon.tolist()) == (np.float64, [1, 2, 3.5, 4, 5, 6])
    counts = compact({"counts": [1, 2], "size": [1, 3]})["counts"]
    assert (counts.dtype, counts.tolist()) == (np.uint32, [1, 2])


WHERE = "a.json, annotation 0: "
NO_SHAPE = "'segmentation' should be a list of polygons, or run lengths, found "
NO_POLYGON = "a polygon should be a list of numbers x1, y1, x2, y2, ..., found "
FAR_OFF = "a polygon has {}: far outside of its image of 6 x 4 pixels. Fetch the file again."
NO_RUNS = "'counts' should be run lengths from 0, as a list or compressed, found "
NOT_ALL = "its run lengths add up to {}, but its image has 24 pixels. Fetch the file again."
OTHER_SIZE = "its run lengths are of [height, width] {}, but its image is [4, 6]."


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], NO_SHAPE + "an empty list."),
        ("x", NO_SHAPE + "str."),
        ([[]], "a polygon has 0 numbers; expected x and y of at least 3 points."),
        ([[1, 1, 2, 2]], "a polygon has 4 numbers; expected x and y of at least 3 points."),
        ([[1, 1, 2, 1, 2, 2, 1]], "a polygon has 7 numbers; expected x and y of at least 3 points."),
        ([[1, 1, 2, 1, 2, "2"]], NO_POLYGON + "[1, 1, 2, 1, 2, '2']."),
        ([1, 1, 2, 1, 2, 2], NO_POLYGON + "1."),
        ([[1, [1]]], NO_POLYGON + "[1, [1]]."),
        ([[1, 1, 2, 1, 2, float("nan")]], NO_POLYGON + "[1.0, 1.0, 2.0, 1.0, 2.0, nan]."),
        ([[1, 1, 2, 1, 2, True]], NO_POLYGON + "[1, 1, 2, 1, 2, True]."),
        ([[1, 1, 2, 1, 2, 10**400]], NO_POLYGON + f"[1, 1, 2, 1, 2, {10**400}]."),
        ([[0, 0, 3, 1, 1e8, 2]], FAR_OFF.format("x from 0 to 100000000 and y from 0 to 2")),
        ([[0, 0, 12.5, 1, 2, 2]], FAR_OFF.format("x from 0 to 12.5 and y from 0 to 2")),
        ([[0, 0, 1, 1, 0, 2], [-6.5, 0, 1, 1, 0, 2]], FAR_OFF.format("x from -6.5 to 1 and y from 0 to 2")),
        ([[0, 0, 3, 1, 2, 8.5]], FAR_OFF.format("x from 0 to 3 and y from 0 to 8.5")),
        ([[0, 0, 3, 1, 2, -1e12]], FAR_OFF.format("x from 0 to 3 and y from -1000000000000 to 1")),
        ({}, NO_RUNS + "None."),
        ({"size": [4, 6], "counts": [5, -2, 21]}, NO_RUNS + "[5, -2, 21]."),
        ({"size": [4, 6], "counts": [5, 2.5, 16.5]}, NO_RUNS + "[5, 2.5, 16.5]."),
        ({"size": [4, 6], "counts": "e\n"}, NO_RUNS + r"'e\n'."),
        ({"size": [4, 6], "counts": "P"}, NO_RUNS + "'P'."),
        ({"size": [4, 6], "counts": ""}, NOT_ALL.format(0)),
        ({"size": [4, 6], "counts": []}, NOT_ALL.format(0)),
        ({"size": [4, 6], "counts": [5, 2, 16]}, NOT_ALL.format(23)),
        ({"size": [4, 6], "counts": [4294967295, 25]}, NOT_ALL.format(4294967320)),
        ({"size": [6, 4], "counts": [5, 2, 17]}, OTHER_SIZE.format([6, 4])),
        ({"counts": [5, 2, 17]}, OTHER_SIZE.format(None)),
    ],
)
def test_malformed_masks(value: Any, message: str) -> None:
    with pytest.raises(InputError) as error:
        read(value)
    assert str(error.value) == WHERE + message
