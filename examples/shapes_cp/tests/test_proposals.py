import numpy as np
import pytest

from shapes_cp.attention import attention_map
from shapes_cp.proposals import PROPOSALS, iou, propose
from shapes_cp.scene import IMAGE_SIZE
from shapes_cp.world import World


@pytest.mark.parametrize("kind", ["cue", "prior"])
def test_36_boxes_inside_the_image(scenes, rng, kind):
    for scene in scenes(World(kind=kind), "train", 50):
        boxes = propose(scene, rng)
        assert boxes.shape == (PROPOSALS, 4)
        assert boxes.dtype == np.float32
        assert boxes.min() >= 0
        assert boxes.max() <= IMAGE_SIZE
        assert (boxes[:, 2:] - boxes[:, :2]).min() > 2


def test_objects_and_sign_have_two_close_boxes(scenes, rng):
    for scene in scenes(World(), "train", 50):
        boxes = propose(scene, rng)
        for item in scene.items:
            assert np.sort(iou(boxes, item.box))[-2] > 0.6


def test_boxes_come_in_random_order(scenes, rng):
    best = [iou(propose(scene, rng), scene.asked.box).argmax() for scene in scenes(World(), "train", 100)]
    assert len(set(best)) > 20


def test_iou_counts_pixels(rng):
    corners = rng.integers(0, 10, (30, 2))
    boxes = np.concatenate([corners, corners + rng.integers(1, 8, (30, 2))], axis=1).astype(np.float32)
    grid = np.zeros((len(boxes), 20, 20), dtype=bool)
    for cells, (x1, y1, x2, y2) in zip(grid, boxes.astype(int), strict=True):
        cells[y1:y2, x1:x2] = True
    expected = [(cells & grid[0]).sum() / (cells | grid[0]).sum() for cells in grid]
    np.testing.assert_allclose(iou(boxes, tuple(boxes[0])), expected, rtol=1e-6)


def human_importance(attention, box):
    """The paper's s, pixel by pixel."""
    x1, y1, x2, y2 = np.rint(box).astype(int)
    inside = np.zeros(attention.shape, dtype=bool)
    inside[y1:y2, x1:x2] = True
    e_in, e_out = attention[inside].mean(), attention[~inside].mean()
    return e_in / (e_in + e_out)


def test_people_attend_to_the_asked_object(scenes, rng):
    target, elsewhere = [], []
    for scene in scenes(World(), "train", 150):
        attention, boxes = attention_map(scene.asked, rng), propose(scene, rng)
        assert attention.shape == (IMAGE_SIZE, IMAGE_SIZE)
        assert attention.dtype == np.uint8
        assert attention.max() > 200
        for box, overlap in zip(boxes, iou(boxes, scene.asked.box), strict=True):
            (target if overlap > 0.5 else elsewhere).append(human_importance(attention, box))
    assert np.mean(target) == pytest.approx(0.89, abs=0.02)
    assert np.mean(elsewhere) == pytest.approx(0.41, abs=0.03)
