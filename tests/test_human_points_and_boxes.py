"""Human importance of gaze points and of drawn boxes equals counts, SciPy's integrals, rasters and real gaze."""

import itertools
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import scipy.integrate
import torch
from torch import Tensor

from hint_loss import grid_boxes, human_importance, human_importance_from_boxes, human_importance_from_points

from .boxes import clip, random_boxes, ratio

DATA = Path(__file__).parents[2] / "shared" / "data" / "attention"
NAN = float("nan")


class TestPoints:
    def test_equal_counts_if_sigma_is_zero(self) -> None:
        points = torch.randint(0, 20, (3, 40, 2)).double()  # some are on the borders of boxes
        boxes = random_boxes(3, 8, height=16, width=20, whole=True)
        s = human_importance_from_points(points, boxes, image_size=(16, 20))
        for b, k in itertools.product(range(3), range(8)):
            x1, y1, x2, y2 = clip(boxes[b, k].tolist(), 16, 20)
            inside = sum(x1 <= x < x2 and y1 <= y < y2 for x, y in points[b].tolist())
            total = sum(x < 20 and y < 16 for x, y in points[b].tolist())
            expected = ratio(inside, total, (x2 - x1) * (y2 - y1), 16 * 20)
            assert s[b, k].item() == pytest.approx(expected, abs=1e-13)

    def test_equal_a_map_of_counts(self) -> None:
        """For boxes with whole borders, a point counts as attention on its pixel."""
        points = torch.randint(0, 12, (30, 2)) + 0.5
        counts = torch.zeros(12, 12)
        for x, y in points.long().tolist():
            counts[y, x] += 1
        boxes = random_boxes(10, height=12, width=12, whole=True)
        torch.testing.assert_close(
            human_importance_from_points(points, boxes, image_size=(12, 12)), human_importance(counts, boxes)
        )

    def test_on_a_border_belong_to_one_box_only(self) -> None:
        points, halves = torch.tensor([[5.0, 5.0], [1.0, 1.0]]), torch.tensor([[0.0, 0, 5, 10], [5, 0, 10, 10]])
        s = human_importance_from_points(points, halves, image_size=(10, 10))
        assert s.tolist() == [0.5, 0.5]

    def test_equal_a_numeric_integral_if_sigma_is_positive(self) -> None:
        """SciPy integrates the sum of the densities over each box."""
        points = torch.tensor([[4.0, 3.0], [9.5, 7.0], [-1.0, 2.0]], dtype=torch.float64)
        weights = torch.tensor([1.0, 2.5, 0.5], dtype=torch.float64)
        boxes = torch.tensor([[1.0, 1, 6, 5.5], [8, 2, 12, 8], [3, 3, 20, 20]], dtype=torch.float64)
        sigma = 1.7

        def density(y: float, x: float) -> float:
            peaks = (
                w * math.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * sigma**2))
                for (px, py), w in zip(points.tolist(), weights.tolist(), strict=True)
            )
            return sum(peaks) / (2 * math.pi * sigma**2)

        def energy(x1: float, y1: float, x2: float, y2: float) -> float:
            return float(scipy.integrate.dblquad(density, x1, x2, y1, y2, epsabs=1e-10)[0])

        s = human_importance_from_points(points, boxes, image_size=(10, 14), weights=weights, sigma=sigma)
        total = energy(0, 0, 14, 10)
        for actual, box in zip(s.tolist(), boxes.tolist(), strict=True):
            x1, y1, x2, y2 = clip(box, 10, 14)
            expected = ratio(energy(x1, y1, x2, y2), total, (x2 - x1) * (y2 - y1), 140)
            assert actual == pytest.approx(expected, abs=1e-9)

    def test_are_the_limit_of_narrow_gaussians(self) -> None:
        points, boxes = torch.rand(20, 2).double() * 30, random_boxes(6, height=30, width=30)
        sharp = human_importance_from_points(points, boxes, image_size=(30, 30), sigma=1e-9)
        torch.testing.assert_close(sharp, human_importance_from_points(points, boxes, image_size=(30, 30)))

    @pytest.mark.parametrize("sigma", [0.0, 2.0])
    def test_are_repeated_by_weights_and_left_out_by_masks(self, sigma: float) -> None:
        points, boxes = torch.rand(2, 3, 2).double() * 16, random_boxes(2, 5, height=16, width=16)
        twice = torch.cat([points, points[:, :1]], 1)
        expected = human_importance_from_points(twice, boxes, image_size=(16, 16), sigma=sigma)
        weights = torch.tensor([[2.0, 1.0, 1.0]]).expand(2, 3)
        weighted = human_importance_from_points(points, boxes, image_size=(16, 16), sigma=sigma, weights=weights)
        torch.testing.assert_close(weighted, expected)
        padded = torch.cat([twice, torch.full((2, 2, 2), NAN).double()], 1)
        mask = torch.tensor([[True] * 4 + [False] * 2]).expand(2, 6)
        masked = human_importance_from_points(padded, boxes, image_size=(16, 16), sigma=sigma, weights=mask)
        torch.testing.assert_close(masked, expected)

    @pytest.mark.parametrize("dtype", [torch.int64, torch.float16])
    def test_of_other_dtypes_give_float32(self, dtype: torch.dtype) -> None:
        points, boxes = torch.tensor([[1, 1]], dtype=dtype), torch.tensor([[0.0, 0.0, 2.0, 2.0]])
        assert human_importance_from_points(points, boxes, image_size=(4, 4)).dtype == torch.float32

    @pytest.mark.skipif(not DATA.is_dir(), reason="SALICON's example annotations are not beside the repository")
    def test_of_real_gaze_equal_its_map(self) -> None:
        """Fixations of SALICON are [row, column], counted from 1, so the middle of their pixel is 0.5 lower."""
        examples = json.loads((DATA / "fixations_train2014examples.json").read_text())
        sizes = {image["id"]: (image["height"], image["width"]) for image in examples["images"]}
        gaze: dict[int, list[list[int]]] = {image: [] for image in sizes}
        for trial in examples["annotations"]:
            gaze[trial["image_id"]] += trial["fixations"]
        assert len(gaze) == 10
        for image, fixations in gaze.items():
            height, width = sizes[image]
            counts = torch.zeros(height, width, dtype=torch.float64)
            for (row, column), count in Counter(map(tuple, fixations)).items():
                counts[row - 1, column - 1] = count
            points = torch.tensor(fixations, dtype=torch.float64).flip(-1) - 0.5
            boxes = random_boxes(36, height=height, width=width, whole=True)
            s = human_importance_from_points(points, boxes, image_size=(height, width))
            torch.testing.assert_close(s, human_importance(counts, boxes), rtol=0, atol=1e-12)
            assert s.std() > 0.1


class TestDrawnBoxes:
    def test_equal_their_raster(self) -> None:
        """Densities of boxes that overlap add up."""
        drawn = torch.tensor([[1.0, 1, 5, 4], [6, 2, 11, 9], [3, 3, 8, 8]])
        weights = torch.tensor([1.0, 2.0, 0.5])
        raster = torch.zeros(10, 12)
        for (x1, y1, x2, y2), weight in zip(drawn.int().tolist(), weights.tolist(), strict=True):
            raster[y1:y2, x1:x2] += weight
        boxes = random_boxes(20, height=10, width=12)
        s = human_importance_from_boxes(drawn, boxes, image_size=(10, 12), weights=weights)
        torch.testing.assert_close(s, human_importance(raster, boxes))

    def test_that_are_disjoint_equal_a_mask(self) -> None:
        drawn = torch.tensor([[0.0, 0, 3, 3], [3, 3, 7, 5], [8, 0, 12, 2]])
        mask = torch.zeros(10, 12, dtype=torch.bool)
        for x1, y1, x2, y2 in drawn.int().tolist():
            mask[y1:y2, x1:x2] = True
        boxes = random_boxes(20, height=10, width=12)
        s = human_importance_from_boxes(drawn, boxes, image_size=(10, 12))
        torch.testing.assert_close(s, human_importance(mask, boxes))

    def test_may_have_borders_within_a_pixel(self) -> None:
        s = human_importance_from_boxes(
            torch.tensor([[0.25, 0.0, 1.25, 1.0]]), torch.tensor([[0.0, 0.0, 1.0, 1.0]]), image_size=(1, 4)
        )
        assert s.item() == pytest.approx(0.75 / (0.75 + 0.25 / 3))

    def test_are_cut_at_the_border_of_the_image(self) -> None:
        boxes = random_boxes(8, height=10, width=12)
        beyond, within = torch.tensor([[-5.0, 4, 6, 99]]), torch.tensor([[0.0, 4, 6, 10]])
        assert torch.equal(
            human_importance_from_boxes(beyond, boxes, image_size=(10, 12)),
            human_importance_from_boxes(within, boxes, image_size=(10, 12)),
        )

    def test_that_are_padding_are_left_out_by_a_mask(self) -> None:
        drawn = random_boxes(2, 3, height=10, width=12, beyond=0.0)
        boxes = random_boxes(2, 5, height=10, width=12)
        padded = torch.cat([drawn, torch.zeros(2, 2, 4, dtype=torch.float64)], 1)
        mask = torch.tensor([[True] * 3 + [False] * 2]).expand(2, 5)
        s = human_importance_from_boxes(padded, boxes, image_size=(10, 12), weights=mask)
        torch.testing.assert_close(s, human_importance_from_boxes(drawn, boxes, image_size=(10, 12)))
        first = human_importance_from_boxes(drawn[0], boxes[0], image_size=(10, 12))
        torch.testing.assert_close(s[0], first)

    def test_that_are_masked_may_be_nan(self) -> None:
        drawn, boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0], [NAN] * 4]), torch.tensor([[0.0, 0.0, 2.0, 1.0]])
        s = human_importance_from_boxes(drawn, boxes, image_size=(4, 4), weights=torch.tensor([True, False]))
        assert s.tolist() == human_importance_from_boxes(drawn[:1], boxes, image_size=(4, 4)).tolist()


@pytest.mark.parametrize("function", ["maps", "points", "boxes"])
def test_boxes_may_be_given_by_width_and_height(function: str) -> None:
    corners = torch.tensor([[2.0, 3.0, 10.0, 12.0], [0.0, 0.0, 20.0, 16.0], [5.0, 5.0, 5.0, 5.0]])
    xywh = torch.cat([corners[:, :2], corners[:, 2:] - corners[:, :2]], 1)

    def importance(boxes: Tensor, **options: Any) -> Tensor:
        if function == "maps":
            return human_importance(torch.arange(320.0).view(16, 20), boxes, **options)
        if function == "points":
            points = torch.tensor([[3.0, 4.0], [15.0, 9.0]])
            return human_importance_from_points(points, boxes, image_size=(16, 20), **options)
        return human_importance_from_boxes(boxes[:1], boxes, image_size=(16, 20), **options)

    assert torch.equal(importance(xywh, box_format="xywh"), importance(corners))
    with pytest.raises(ValueError, match=r"Parameter `box_format` should be 'xyxy' or 'xywh'\. Found 'cxcywh'"):
        importance(corners, box_format="cxcywh")


def test_width_and_height_may_have_any_dtype() -> None:
    """The right edge, 319, does not fit into a uint8."""
    maps = torch.arange(64000.0).view(200, 320)
    expected = human_importance(maps, torch.tensor([[201, 50, 319, 150]]))
    for dtype in (torch.uint8, torch.int16, torch.float16):
        boxes = torch.tensor([[201, 50, 118, 100]]).to(dtype)
        assert torch.equal(human_importance(maps, boxes, box_format="xywh"), expected)


def test_a_grid_ends_at_the_border_of_its_image() -> None:
    """This holds even if the size of a cell is not exact in floating point."""
    sizes = [(cells, size) for cells in range(1, 60) for size in range(cells, 1000, 37)]
    assert all(grid_boxes(n, n, image_size=(size, size))[-1, 2:].tolist() == [size, size] for n, size in sizes)


@pytest.mark.parametrize(
    ("rows", "size", "error", "message"),
    [
        (2, (9, NAN), ValueError, r"should be positive. Found .*nan"),
        (0, (9, 9), ValueError, r"should be positive. Found `rows = 0`"),
        (2.5, (9, 9), TypeError, "cannot be interpreted as an integer"),
    ],
)
def test_a_grid_of_no_size_raises(rows: Any, size: tuple[float, float], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        grid_boxes(rows, 2, image_size=size)


@pytest.mark.parametrize(("rows", "columns", "size"), [(3, 5, (48, 60)), (1, 1, (7, 9)), (7, 7, (480, 640))])
def test_a_grid_has_the_order_of_a_flattened_feature_map(rows: int, columns: int, size: tuple[int, int]) -> None:
    boxes = grid_boxes(rows, columns, image_size=size)
    cells = torch.arange(1.0, rows * columns + 1).view(rows, columns)
    inside = cells.flatten()
    outside = (inside.sum() - inside) / max(rows * columns - 1, 1)
    expected = inside / (inside + outside) if rows * columns > 1 else torch.tensor([0.5])
    torch.testing.assert_close(human_importance(cells, boxes, image_size=size), expected)
