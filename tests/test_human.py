"""Human importance against per-pixel loops, counting, SciPy's integrals, and real gaze."""

import itertools
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import scipy.integrate
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hint_loss import (
    human_importance,
    human_importance_from_boxes,
    human_importance_from_points,
    two_level,
)

DATA = Path(__file__).parents[2] / "shared" / "data" / "attention"
NAN = float("nan")


def ratio(inside: float, total: float, area: float, whole: float) -> float:
    """The paper's s from energies and areas."""
    if area == 0:
        return 0.0
    if area == whole:
        return 0.5
    density_in, density_out = inside / area, (total - inside) / (whole - area)
    return density_in / (density_in + density_out)


def clip(box: list[float], height: float, width: float) -> list[float]:
    return [min(max(v, 0.0), limit) for v, limit in zip(box, (width, height, width, height), strict=True)]


def loop_map(attention_map: Tensor, box: list[float]) -> float:
    """Pixel by pixel: what share of its square does the box cover?"""
    height, width = attention_map.shape
    x1, y1, x2, y2 = clip(box, height, width)
    inside = 0.0
    for y in range(height):
        for x in range(width):
            cover_x = max(0.0, min(x2, x + 1) - max(x1, x))
            cover_y = max(0.0, min(y2, y + 1) - max(y1, y))
            inside += float(attention_map[y, x]) * cover_x * cover_y
    total = float(attention_map.double().sum())
    return ratio(inside, total, (x2 - x1) * (y2 - y1), float(height * width))


def random_boxes(*shape: int, height: float, width: float, beyond: float = 0.2) -> Tensor:
    """Boxes that begin and end anywhere, also ``beyond`` the image."""
    corners = torch.rand(*shape, 2, 2, dtype=torch.float64) * (1 + 2 * beyond) - beyond
    corners = corners.sort(-2).values * torch.tensor([width, height], dtype=torch.float64)
    return corners.flatten(-2)


class TestMaps:
    """Attention maps and masks."""

    def test_equals_a_loop_over_pixels(self) -> None:
        maps = torch.rand(4, 9, 13, dtype=torch.float64)
        boxes = random_boxes(4, 20, height=9, width=13)
        s = human_importance(maps, boxes)
        expected = [[loop_map(m, box) for box in row] for m, row in zip(maps, boxes.tolist(), strict=True)]
        assert s.dtype == torch.float64
        torch.testing.assert_close(s, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-13)

    def test_float32_is_exact_to_a_millionth_on_large_maps(self) -> None:
        maps = torch.rand(2, 480, 640).pow(4)
        boxes = random_boxes(2, 36, height=480, width=640)
        s = human_importance(maps, boxes.float())
        assert s.dtype == torch.float32
        exact = human_importance(maps.double(), boxes.float())
        torch.testing.assert_close(s.double(), exact, rtol=0, atol=1e-6)

    def test_equals_supersampling(self) -> None:
        """Borders on a grid of eighths: the map and the boxes enlarged eight times have whole borders."""
        maps = torch.rand(2, 6, 7, dtype=torch.float64)
        boxes = (random_boxes(2, 10, height=6, width=7, beyond=0.0) * 8).round() / 8
        fine = maps.repeat_interleave(8, -1).repeat_interleave(8, -2)
        s = human_importance(maps, boxes)
        for b, row in enumerate((boxes * 8).long().tolist()):
            for k, (x1, y1, x2, y2) in enumerate(row):
                inside = float(fine[b, y1:y2, x1:x2].sum())
                expected = ratio(inside, float(fine[b].sum()), (x2 - x1) * (y2 - y1), fine[b].numel())
                assert s[b, k].item() == pytest.approx(expected, abs=1e-13)

    def test_frozen_values(self) -> None:
        attention_map = torch.tensor([[4.0, 0.0], [0.0, 0.0]])
        boxes = torch.tensor(
            [[0, 0, 1, 1], [0, 0, 2, 1], [0, 0, 2, 2], [0, 0, 0.5, 2], [1, 1, 2, 2], [1, 1, 1, 1], [-9, -9, 9, 9]]
        )
        s = human_importance(attention_map, boxes)
        # [0, 0, 0.5, 2] holds 2 of 4 in 1 of 4: (2 / 1) / (2 / 1 + 2 / 3)
        torch.testing.assert_close(s, torch.tensor([1.0, 1.0, 0.5, 0.75, 0.0, 0.0, 0.5]))

    def test_uniform_attention_is_half_everywhere(self) -> None:
        boxes = random_boxes(30, height=32, width=48, beyond=0.0)
        s = human_importance(torch.full((32, 48), 7.0), boxes)
        torch.testing.assert_close(s, torch.full((30,), 0.5), rtol=0, atol=1e-6)

    def test_boxes_without_area_in_the_image_are_zero(self) -> None:
        boxes = torch.tensor([[0.0, 0, 0, 0], [2, 2, 2, 5], [-5, -5, -1, -1], [9, 0, 12, 4], [8, 0, 9, 4]])
        assert (human_importance(torch.ones(8, 8), boxes) == 0).all()

    @given(
        st.lists(st.integers(0, 16 * 32), max_size=3),  # in 32nds of a pixel: a sliver's s could not be solved for
        st.lists(st.integers(0, 12 * 32), max_size=3),
        st.integers(0, 1000),
    )
    def test_the_energies_of_a_partition_add_up(self, cuts_x: list[int], cuts_y: list[int], seed: int) -> None:
        """Solved for e / E, a box's share of the energy, over boxes that tile the image."""
        x, y = (sorted({0.0, end, *(cut / 32 for cut in cuts)}) for end, cuts in ((16.0, cuts_x), (12.0, cuts_y)))
        tiles = [[x1, y1, x2, y2] for x1, x2 in itertools.pairwise(x) for y1, y2 in itertools.pairwise(y)]
        boxes = torch.tensor(tiles, dtype=torch.float64)
        attention_map = torch.rand(12, 16, generator=torch.Generator().manual_seed(seed)).double() + 0.01
        s = human_importance(attention_map, boxes)
        area = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
        odds = s * area / ((1 - s) * (192 - area))  # e / (E - e)
        energy = torch.where(area == 192, 1.0, odds / (1 + odds))
        assert energy.sum().item() == pytest.approx(1.0, abs=1e-9)

    def test_float32_is_exact_to_a_millionth_for_boxes_of_nearly_the_whole_image(self) -> None:
        """What is outside is added up, not subtracted from the whole."""
        maps = torch.rand(480, 640, generator=torch.Generator().manual_seed(0)).pow(4)
        boxes = torch.tensor([[0, 0, 639.0, 479.0], [0, 0, 640, 479.0], [0, 0, 639.9, 480], [0, 0, 639.99, 480]])
        exact = human_importance(maps.double(), boxes)
        torch.testing.assert_close(human_importance(maps, boxes).double(), exact, rtol=0, atol=1e-6)

    @pytest.mark.parametrize(("down", "across"), [(2, 2), (2, 3), (1, 4)])
    def test_image_size_equals_a_resized_map(self, down: int, across: int) -> None:
        maps = torch.rand(2, 6, 9, dtype=torch.float64)
        boxes = random_boxes(2, 12, height=6 * down, width=9 * across)
        large = maps.repeat_interleave(across, -1).repeat_interleave(down, -2)
        torch.testing.assert_close(
            human_importance(maps, boxes, image_size=(6 * down, 9 * across)),
            human_importance(large, boxes),
            rtol=0,
            atol=1e-13,
        )

    def test_image_size_of_each_sample(self) -> None:
        maps = torch.rand(2, 8, 8, dtype=torch.float64)
        sizes = torch.tensor([[480, 640], [333, 500]])
        boxes = random_boxes(2, 12, height=333, width=500)
        each = [human_importance(maps[b], boxes[b], image_size=sizes[b].tolist()) for b in range(2)]
        torch.testing.assert_close(human_importance(maps, boxes, image_size=sizes), torch.stack(each))

    @pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float16, torch.bfloat16])
    def test_any_dtype(self, dtype: torch.dtype) -> None:
        maps = torch.randint(0, 2 if dtype == torch.bool else 256, (2, 7, 5)).to(dtype)
        boxes = random_boxes(2, 6, height=7, width=5)
        s = human_importance(maps, boxes)
        assert s.dtype == torch.float32
        torch.testing.assert_close(s.double(), human_importance(maps.double(), boxes), rtol=0, atol=1e-6)

    def test_integer_boxes(self) -> None:
        maps, boxes = torch.rand(7, 5), torch.tensor([[0, 1, 3, 4], [2, 2, 5, 7]])
        assert torch.equal(human_importance(maps, boxes), human_importance(maps, boxes.double()))

    def test_the_unit_of_attention_does_not_matter(self) -> None:
        maps, boxes = torch.rand(2, 7, 5).double(), random_boxes(2, 6, height=7, width=5)
        torch.testing.assert_close(
            human_importance(255 * maps, boxes), human_importance(maps, boxes), rtol=1e-13, atol=0
        )

    def test_a_batch_equals_its_samples(self) -> None:
        maps, boxes = torch.rand(2, 3, 7, 5).double(), random_boxes(2, 3, 6, height=7, width=5)
        s = human_importance(maps, boxes)
        assert s.shape == (2, 3, 6)
        for i, j in itertools.product(range(2), range(3)):
            torch.testing.assert_close(s[i, j], human_importance(maps[i, j], boxes[i, j]))

    def test_no_boxes_and_no_samples(self) -> None:
        assert human_importance(torch.ones(2, 4, 4), torch.zeros(2, 0, 4)).shape == (2, 0)
        assert human_importance(torch.ones(0, 4, 4), torch.zeros(0, 3, 4)).shape == (0, 3)


class TestPoints:
    """Gaze points and clicks."""

    def test_counts_points_where_sigma_is_zero(self) -> None:
        points = torch.randint(0, 20, (3, 40, 2)).double()  # on the boxes' borders too
        boxes = random_boxes(3, 8, height=16, width=20).round()
        s = human_importance_from_points(points, boxes, image_size=(16, 20))
        for b, k in itertools.product(range(3), range(8)):
            x1, y1, x2, y2 = clip(boxes[b, k].tolist(), 16, 20)
            inside = sum(x1 <= x < x2 and y1 <= y < y2 for x, y in points[b].tolist())
            total = sum(x < 20 and y < 16 for x, y in points[b].tolist())
            expected = ratio(inside, total, (x2 - x1) * (y2 - y1), 16 * 20)
            assert s[b, k].item() == pytest.approx(expected, abs=1e-13)

    def test_equals_the_map_of_counts(self) -> None:
        """A point in the middle of a pixel is that pixel's attention, for boxes with whole borders."""
        points = torch.randint(0, 12, (30, 2)) + 0.5
        counts = torch.zeros(12, 12)
        for x, y in points.long().tolist():
            counts[y, x] += 1
        boxes = random_boxes(10, height=12, width=12).round()
        torch.testing.assert_close(
            human_importance_from_points(points, boxes, image_size=(12, 12)), human_importance(counts, boxes)
        )

    def test_a_border_belongs_to_one_box_only(self) -> None:
        points, halves = torch.tensor([[5.0, 5.0], [1.0, 1.0]]), torch.tensor([[0.0, 0, 5, 10], [5, 0, 10, 10]])
        s = human_importance_from_points(points, halves, image_size=(10, 10))
        assert s.tolist() == [0.5, 0.5]

    def test_equals_numeric_integration_where_sigma_is_positive(self) -> None:
        """Independent of the error function: SciPy integrates the sum of the densities over each box."""
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

    def test_sharp_gaussians_are_points(self) -> None:
        points, boxes = torch.rand(20, 2).double() * 30, random_boxes(6, height=30, width=30)
        sharp = human_importance_from_points(points, boxes, image_size=(30, 30), sigma=1e-9)
        torch.testing.assert_close(sharp, human_importance_from_points(points, boxes, image_size=(30, 30)))

    @pytest.mark.parametrize("sigma", [0.0, 2.0])
    def test_weights_repeat_points_and_masks_leave_them_out(self, sigma: float) -> None:
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

    def test_dtype(self) -> None:
        boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
        for given_dtype, expected in ((torch.int64, torch.float32), (torch.float16, torch.float32)):
            points = torch.tensor([[1, 1]], dtype=given_dtype)
            assert human_importance_from_points(points, boxes, image_size=(4, 4)).dtype == expected

    @pytest.mark.skipif(not DATA.is_dir(), reason="SALICON's example annotations are not beside the repository")
    def test_real_gaze_as_points_equals_real_gaze_as_maps(self) -> None:
        """SALICON: fixations are [row, column] from 1, the middle of a pixel is half a pixel before."""
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
            boxes = random_boxes(36, height=height, width=width).round()
            s = human_importance_from_points(points, boxes, image_size=(height, width))
            torch.testing.assert_close(s, human_importance(counts, boxes), rtol=0, atol=1e-12)
            assert s.std() > 0.1


class TestBoxes:
    """Boxes that people drew."""

    def test_equals_the_rasterised_boxes(self) -> None:
        """Whole borders, overlapping or not: densities add up."""
        drawn = torch.tensor([[1.0, 1, 5, 4], [6, 2, 11, 9], [3, 3, 8, 8]])
        weights = torch.tensor([1.0, 2.0, 0.5])
        raster = torch.zeros(10, 12)
        for (x1, y1, x2, y2), weight in zip(drawn.int().tolist(), weights.tolist(), strict=True):
            raster[y1:y2, x1:x2] += weight
        boxes = random_boxes(20, height=10, width=12)
        s = human_importance_from_boxes(drawn, boxes, image_size=(10, 12), weights=weights)
        torch.testing.assert_close(s, human_importance(raster, boxes))

    def test_disjoint_boxes_are_a_mask(self) -> None:
        drawn = torch.tensor([[0.0, 0, 3, 3], [3, 3, 7, 5], [8, 0, 12, 2]])
        mask = torch.zeros(10, 12, dtype=torch.bool)
        for x1, y1, x2, y2 in drawn.int().tolist():
            mask[y1:y2, x1:x2] = True
        boxes = random_boxes(20, height=10, width=12)
        s = human_importance_from_boxes(drawn, boxes, image_size=(10, 12))
        torch.testing.assert_close(s, human_importance(mask, boxes))

    def test_sub_pixel_borders_of_a_drawn_box(self) -> None:
        s = human_importance_from_boxes(
            torch.tensor([[0.25, 0.0, 1.25, 1.0]]), torch.tensor([[0.0, 0.0, 1.0, 1.0]]), image_size=(1, 4)
        )
        assert s.item() == pytest.approx(0.75 / (0.75 + 0.25 / 3))

    def test_what_is_drawn_beyond_the_image_is_cut_off(self) -> None:
        boxes = random_boxes(8, height=10, width=12)
        beyond, within = torch.tensor([[-5.0, 4, 6, 99]]), torch.tensor([[0.0, 4, 6, 10]])
        assert torch.equal(
            human_importance_from_boxes(beyond, boxes, image_size=(10, 12)),
            human_importance_from_boxes(within, boxes, image_size=(10, 12)),
        )

    def test_a_mask_leaves_padding_out_in_a_batch(self) -> None:
        drawn = random_boxes(2, 3, height=10, width=12, beyond=0.0)
        boxes = random_boxes(2, 5, height=10, width=12)
        padded = torch.cat([drawn, torch.zeros(2, 2, 4, dtype=torch.float64)], 1)
        mask = torch.tensor([[True] * 3 + [False] * 2]).expand(2, 5)
        s = human_importance_from_boxes(padded, boxes, image_size=(10, 12), weights=mask)
        torch.testing.assert_close(s, human_importance_from_boxes(drawn, boxes, image_size=(10, 12)))
        first = human_importance_from_boxes(drawn[0], boxes[0], image_size=(10, 12))
        torch.testing.assert_close(s[0], first)


class TestTwoLevel:
    """Relevant or not."""

    def test_thresholds_are_inclusive(self) -> None:
        s = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0], dtype=torch.float64)
        levels, mask = two_level(s, relevant=0.75, irrelevant=0.25)
        assert levels.tolist() == [0.0, 0.0, 0.0, 1.0, 1.0]
        assert levels.dtype == torch.float64
        assert mask.tolist() == [True, True, False, True, True]

    def test_without_irrelevant_all_have_a_level(self) -> None:
        levels, mask = two_level(torch.tensor([[0.2, 0.75]]), relevant=0.75)
        assert levels.tolist() == [[0.0, 1.0]]
        assert mask.all()

    def test_a_nan_has_no_level(self) -> None:
        for options in ({"relevant": 0.7}, {"relevant": 0.7, "irrelevant": 0.3}):
            assert not two_level(torch.tensor([NAN]), **options)[1].any()


def test_masked_drawn_boxes_may_hold_anything() -> None:
    drawn, boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0], [NAN] * 4]), torch.tensor([[0.0, 0.0, 2.0, 1.0]])
    s = human_importance_from_boxes(drawn, boxes, image_size=(4, 4), weights=torch.tensor([True, False]))
    assert s.tolist() == human_importance_from_boxes(drawn[:1], boxes, image_size=(4, 4)).tolist()


class TestErrors:
    """Whole messages."""

    BOXES = torch.tensor([[[0.0, 0.0, 2.0, 2.0], [1.0, 1.0, 3.0, 3.0]]])

    @pytest.mark.parametrize(
        ("human", "boxes"),
        [((4, 4), (1, 2, 4)), ((2, 4, 4), (1, 2, 4)), ((4,), (2, 4)), ((4, 4), (4,)), ((4, 4), (2, 5))],
    )
    def test_shapes_of_maps(self, raises: Any, human: tuple[int, ...], boxes: tuple[int, ...]) -> None:
        message = (
            "Parameters `attention_maps` (..., H, W) and `boxes` (..., K, 4) should agree in their leading dimensions. "
            f"Found `attention_maps.shape = {human}` and `boxes.shape = {boxes}`."
        )
        with raises(ValueError, message):
            human_importance(torch.ones(human), torch.zeros(boxes))

    def test_shape_of_points(self, raises: Any) -> None:
        message = (
            "Parameters `points` (..., N, 2) and `boxes` (..., K, 4) should agree in their leading dimensions. "
            "Found `points.shape = (1, 5, 3)` and `boxes.shape = (1, 2, 4)`."
        )
        with raises(ValueError, message):
            human_importance_from_points(torch.ones(1, 5, 3), self.BOXES, image_size=(4, 4))

    def test_shape_of_human_boxes(self, raises: Any) -> None:
        message = (
            "Parameters `human_boxes` (..., M, 4) and `boxes` (..., K, 4) should agree in their leading dimensions. "
            "Found `human_boxes.shape = (3, 4)` and `boxes.shape = (1, 2, 4)`."
        )
        with raises(ValueError, message):
            human_importance_from_boxes(torch.ones(3, 4), self.BOXES, image_size=(4, 4))

    @pytest.mark.parametrize("box", [[2.0, 0.0, 1.0, 1.0], [0.0, 3.0, 1.0, 1.0], [0.0, 0.0, float("inf"), 1.0]])
    def test_inverted_or_infinite_boxes(self, raises: Any, box: list[float]) -> None:
        boxes = self.BOXES.clone()
        boxes[0, 1] = torch.tensor(box)
        message = (
            "Parameter `{}` should hold finite corners with x1 <= x2 and y1 <= y2. Found `{}[0, 1] = " + f"{box}`."
        )
        with raises(ValueError, message.format("boxes", "boxes")):
            human_importance(torch.ones(1, 4, 4), boxes)
        with raises(ValueError, message.format("boxes", "boxes")):
            human_importance_from_points(torch.ones(1, 3, 2), boxes, image_size=(4, 4))
        with raises(ValueError, message.format("human_boxes", "human_boxes")):
            human_importance_from_boxes(boxes, self.BOXES, image_size=(4, 4))

    @pytest.mark.parametrize("size", [(0, 4), (4, -1), (4, NAN), (4, 4, 3)])
    def test_image_size(self, raises: Any, size: tuple[float, ...]) -> None:
        message = (
            "Parameter `image_size` should be a positive (height, width), or a tensor of them of shape (1, 2). "
            f"Found `image_size = {size}`."
        )
        with raises(ValueError, message):
            human_importance(torch.ones(1, 4, 4), self.BOXES, image_size=size)

    @pytest.mark.parametrize(("value", "total"), [(0.0, "0.0"), (NAN, "nan"), (float("inf"), "nan"), (-1.0, "-16.0")])
    def test_a_map_that_says_nothing(self, raises: Any, value: float, total: str) -> None:
        message = (
            "Parameter `attention_maps` should hold finite, non-negative attention, and some of it in every image. "
            f"Found `attention_maps{{}}` with a sum of {total}: leave it out of the hints."
        )
        maps = torch.ones(2, 4, 4)
        maps[1] = value
        with raises(ValueError, message.format("[1]")):
            human_importance(maps, self.BOXES.expand(2, 2, 4))
        with raises(ValueError, message.format("")):
            human_importance(maps[1], self.BOXES[0])

    def test_image_size_of_another_batch(self, raises: Any) -> None:
        with pytest.raises(ValueError, match=r"a tensor of them of shape \(2, 2\)"):
            human_importance(torch.ones(2, 4, 4), torch.zeros(2, 3, 4), image_size=torch.ones(3, 2))

    def test_a_point_that_is_nowhere(self, raises: Any) -> None:
        points = torch.tensor([[1.0, 1.0], [NAN, 1.0]])
        message = "Parameter `points` should be finite wherever `weights` is not 0. Found a NaN or an infinity."
        with raises(ValueError, message):
            human_importance_from_points(points, self.BOXES[0], image_size=(4, 4))

    def test_a_box_with_negative_attention(self, raises: Any) -> None:
        message = (
            "Parameter `attention_maps` should hold finite, non-negative attention, and some of it in every image. "
            "Found `attention_maps[0]` with a sum of 7.0: leave it out of the hints."
        )
        maps = torch.ones(1, 4, 4)
        maps[0, 1, 1] = -8.0
        with raises(ValueError, message):
            human_importance(maps, self.BOXES)

    def test_no_point_in_the_image(self, raises: Any) -> None:
        message = (
            "Parameter `points` should hold finite, non-negative attention, and some of it in every image. "
            "Found `points[0]` with a sum of 0.0: leave it out of the hints."
        )
        points = torch.tensor([[[9.0, 1.0], [1.0, 1.0]]])
        with raises(ValueError, message):
            human_importance_from_points(points[:, :1], self.BOXES, image_size=(4, 4))
        with raises(ValueError, message):
            human_importance_from_points(
                points, self.BOXES, image_size=(4, 4), weights=torch.tensor([[True, False]])
            )  # fmt: skip

    def test_no_drawn_box_in_the_image(self, raises: Any) -> None:
        message = (
            "Parameter `human_boxes` should hold finite, non-negative attention, and some of it in every image. "
            "Found `human_boxes[0]` with a sum of 0.0: leave it out of the hints."
        )
        with raises(ValueError, message):
            human_importance_from_boxes(self.BOXES + 10, self.BOXES, image_size=(4, 4))

    def test_weights(self, raises: Any) -> None:
        message = "Parameter `weights` should have shape (1, 3). Found `weights.shape = (3,)`."
        with raises(ValueError, message):
            human_importance_from_points(torch.ones(1, 3, 2), self.BOXES, image_size=(4, 4), weights=torch.ones(3))

    @pytest.mark.parametrize("sigma", [-1.0, NAN])
    def test_sigma(self, raises: Any, sigma: float) -> None:
        with raises(ValueError, f"Parameter `sigma` should be at least 0. Found `sigma = {sigma}`."):
            human_importance_from_points(torch.ones(1, 3, 2), self.BOXES, image_size=(4, 4), sigma=sigma)

    def test_levels(self, raises: Any) -> None:
        message = (
            "Parameter `irrelevant` should be below `relevant`. Found `irrelevant = 0.7`, `relevant = 0.7`."
        )  # fmt: skip
        with raises(ValueError, message):
            two_level(torch.rand(3), relevant=0.7, irrelevant=0.7)
