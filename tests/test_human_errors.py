"""What human importance refuses: whole messages."""

from typing import Any

import numpy as np
import pytest
import torch

from hint_loss import human_importance, human_importance_from_boxes, human_importance_from_points

NAN = float("nan")
BOXES = torch.tensor([[[0.0, 0.0, 2.0, 2.0], [1.0, 1.0, 3.0, 3.0]]])


@pytest.mark.parametrize(
    ("human", "boxes"),
    [((4, 4), (1, 2, 4)), ((2, 4, 4), (1, 2, 4)), ((4,), (2, 4)), ((4, 4), (4,)), ((4, 4), (2, 5))],
)
def test_shapes_of_maps(raises: Any, human: tuple[int, ...], boxes: tuple[int, ...]) -> None:
    message = (
        "Parameters `attention_maps` (..., H, W) and `boxes` (..., K, 4) should agree in their leading dimensions. "
        f"Found `attention_maps.shape = {human}` and `boxes.shape = {boxes}`."
    )
    with raises(ValueError, message):
        human_importance(torch.ones(human), torch.zeros(boxes))


def test_shape_of_points(raises: Any) -> None:
    message = (
        "Parameters `points` (..., N, 2) and `boxes` (..., K, 4) should agree in their leading dimensions. "
        "Found `points.shape = (1, 5, 3)` and `boxes.shape = (1, 2, 4)`."
    )
    with raises(ValueError, message):
        human_importance_from_points(torch.ones(1, 5, 3), BOXES, image_size=(4, 4))


def test_shape_of_human_boxes(raises: Any) -> None:
    message = (
        "Parameters `human_boxes` (..., M, 4) and `boxes` (..., K, 4) should agree in their leading dimensions. "
        "Found `human_boxes.shape = (3, 4)` and `boxes.shape = (1, 2, 4)`."
    )
    with raises(ValueError, message):
        human_importance_from_boxes(torch.ones(3, 4), BOXES, image_size=(4, 4))


@pytest.mark.parametrize("box", [[2.0, 0.0, 1.0, 1.0], [0.0, 3.0, 1.0, 1.0], [0.0, 0.0, float("inf"), 1.0]])
def test_inverted_or_infinite_boxes(raises: Any, box: list[float]) -> None:
    boxes = BOXES.clone()
    boxes[0, 1] = torch.tensor(box)
    message = (
        "Parameter `{}` should hold finite corners with x1 <= x2 and y1 <= y2, or be of `box_format='xywh'`. "
        f"Found `{{}}[0, 1] = {box}`."
    )
    with raises(ValueError, message.format("boxes", "boxes")):
        human_importance(torch.ones(1, 4, 4), boxes)
    with raises(ValueError, message.format("boxes", "boxes")):
        human_importance_from_points(torch.ones(1, 3, 2), boxes, image_size=(4, 4))
    with raises(ValueError, message.format("human_boxes", "human_boxes")):
        human_importance_from_boxes(boxes, BOXES, image_size=(4, 4))


@pytest.mark.parametrize("box", [[2.0, 0.0, -1.0, 1.0], [0.0, 3.0, 1.0, NAN]])
def test_negative_or_undefined_sizes_of_boxes(raises: Any, box: list[float]) -> None:
    """The error shows the box as it was passed."""
    message = f"Parameter `boxes` should hold finite corners and sizes of at least 0. Found `boxes[0] = {box}`."
    with raises(ValueError, message):
        human_importance(torch.ones(4, 4), torch.tensor([box]), box_format="xywh")


@pytest.mark.parametrize("size", [(0, 4), (4, -1), (4, NAN), (4, 4, 3)])
def test_image_size(raises: Any, size: tuple[float, ...]) -> None:
    message = (
        "Parameter `image_size` should be a positive (height, width), or a tensor of them of shape (1, 2). "
        f"Found `image_size = {size}`."
    )
    with raises(ValueError, message):
        human_importance(torch.ones(1, 4, 4), BOXES, image_size=size)


def test_image_size_of_another_batch(raises: Any) -> None:
    with pytest.raises(ValueError, match=r"a tensor of them of shape \(2, 2\)"):
        human_importance(torch.ones(2, 4, 4), torch.zeros(2, 3, 4), image_size=torch.ones(3, 2))


def test_a_point_that_is_nowhere(raises: Any) -> None:
    points = torch.tensor([[1.0, 1.0], [NAN, 1.0]])
    message = "Parameter `points` should be finite wherever `weights` is not 0. Found `points[1] = [nan, 1.0]`."
    with raises(ValueError, message):
        human_importance_from_points(points, BOXES[0], image_size=(4, 4))


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (0.0, "zeros alone"),
        (NAN, "a NaN or an infinity"),
        (float("inf"), "a NaN or an infinity"),
        (-1.0, "a minimum of -1.0, which is negative"),
    ],
)
def test_a_map_that_says_nothing(raises: Any, value: float, found: str) -> None:
    message = (
        "Parameter `attention_maps` should hold finite, non-negative attention, and some of it in every image. "
        f"Found `attention_maps{{}}` with {found}: correct it, or leave it out of the hints."
    )
    maps = torch.ones(2, 4, 4)
    maps[1] = value
    with raises(ValueError, message.format("[1]")):
        human_importance(maps, BOXES.expand(2, 2, 4))
    with raises(ValueError, message.format("")):
        human_importance(maps[1], BOXES[0])


@pytest.mark.parametrize("row", [1, 3], ids=["inside a box", "outside"])
def test_negative_attention_that_the_rest_outweighs(raises: Any, row: int) -> None:
    message = (
        "Parameter `attention_maps` should hold finite, non-negative attention, and some of it in every image. "
        "Found `attention_maps[0]` with a minimum of -12.5, which is negative: correct it, or leave it out of the "
        "hints."
    )
    maps = torch.ones(1, 4, 4)
    maps[0, row, row] = -12.5
    with raises(ValueError, message):
        human_importance(maps, BOXES)


def test_an_infinity_beside_all_boxes(raises: Any) -> None:
    message = (
        "Parameter `attention_maps` should hold finite, non-negative attention, and some of it in every image. "
        "Found `attention_maps[0]` with a NaN or an infinity: correct it, or leave it out of the hints."
    )
    maps = torch.ones(1, 8, 8)
    maps[0, 5, 5] = float("inf")
    with raises(ValueError, message):
        human_importance(maps, BOXES)


def test_no_point_in_the_image(raises: Any) -> None:
    message = (
        "Parameter `points` should lie within the image, one at least. Found all of `points[0]` outside of an image of "
        "(height, width) = (4.0, 4.0), or without weight or size: pass the size that they refer to, "
        "`image_size=(height, width)`, or leave the sample out of the hints."
    )
    points = torch.tensor([[[9.0, 1.0], [1.0, 1.0]]])
    with raises(ValueError, message):
        human_importance_from_points(points[:, :1], BOXES, image_size=(4, 4))
    with raises(ValueError, message):
        human_importance_from_points(points, BOXES, image_size=(4, 4), weights=torch.tensor([[True, False]]))


def test_no_drawn_box_of_any_size(raises: Any) -> None:
    message = (
        "Parameter `human_boxes` should lie within the image, one at least. Found all of `human_boxes` outside of an "
        "image of (height, width) = (4.0, 4.0), or without weight or size: pass the size that they refer to, "
        "`image_size=(height, width)`, or leave the sample out of the hints."
    )
    with raises(ValueError, message):
        human_importance_from_boxes(torch.ones(2, 4), BOXES[0], image_size=(4, 4))


MAPS, POINTS, SIZES = torch.ones(2, 16, 16), torch.ones(2, 3, 2), torch.tensor([[480.0, 640.0], [32.0, 24.0]])


class TestBoxesInAnotherUnit:
    """Boxes that are not in the pixels of the image would have s = 0, or that of its corner, without a word."""

    PIXELS = torch.tensor([[[0.0, 0, 0, 0], [30, 20, 300, 200]], [[2, 3, 12, 30], [24, 16, 30, 20]]])

    def test_wholly_outside(self, raises: Any) -> None:
        message = (
            "Parameter `{}` should overlap the image. Found `{}[1, 1] = [24.0, 16.0, 30.0, 20.0]` in an image of "
            "(height, width) = (32.0, 24.0): pass the size that they refer to, `image_size=(height, width)`."
        )
        with raises(ValueError, message.format("boxes", "boxes")):
            human_importance(MAPS, self.PIXELS, image_size=SIZES)
        with raises(ValueError, message.format("boxes", "boxes")):
            human_importance_from_points(POINTS, self.PIXELS, image_size=SIZES)
        with raises(ValueError, message.format("human_boxes", "human_boxes")):
            human_importance_from_boxes(self.PIXELS, BOXES.expand(2, 2, 4), image_size=SIZES)

    def test_the_map_is_smaller_than_the_image(self, raises: Any) -> None:
        message = (
            "Parameter `boxes` should overlap the image. Found `boxes[0, 1] = [30.0, 20.0, 300.0, 200.0]` in an image "
            "of (height, width) = (16.0, 16.0): pass the size that they refer to, `image_size=(height, width)`."
        )
        with raises(ValueError, message):
            human_importance(MAPS, self.PIXELS)

    def test_normalised(self, raises: Any) -> None:
        message = (
            "Parameter `{}` should be in pixels, but all of a sample are in [0, 1]. "
            "Found `{}[0, 1] = [0.0, 0.25, 0.5, 1.0]` in an image of (height, width) = (480.0, 640.0): multiply x by "
            "the width and y by the height."
        )
        boxes = torch.tensor([[[0.0, 0, 1, 1], [0, 0.25, 0.5, 1]], [[0.25, 0.5, 0.5, 1], [5, 5, 5, 5]]])  # and padding
        with raises(ValueError, message.format("boxes", "boxes")):
            human_importance(MAPS, boxes, image_size=SIZES)
        with raises(ValueError, message.format("boxes", "boxes")):
            human_importance_from_points(POINTS, boxes, image_size=SIZES)
        with raises(ValueError, message.format("human_boxes", "human_boxes")):
            human_importance_from_boxes(boxes, BOXES.expand(2, 2, 4), image_size=SIZES)

    def test_one_normalised_sample_among_others(self, raises: Any) -> None:
        message = (
            "Parameter `boxes` should be in pixels, but all of a sample are in [0, 1]. "
            "Found `boxes[1, 0] = [0.25, 0.5, 0.5, 1.0]` in an image of (height, width) = (32.0, 16.0): multiply x by "
            "the width and y by the height."
        )
        boxes = torch.tensor([[[0.0, 0, 12, 9], [4, 5, 6, 7]], [[0.25, 0.5, 0.5, 1], [0, 0, 0, 0]]])  # and padding
        with raises(ValueError, message):
            human_importance(torch.rand(2, 32, 16), boxes)
        assert human_importance(torch.rand(2, 32, 16), boxes.flip(1)[:1].expand(2, 2, 4)).isfinite().all()

    def test_normalised_points(self, raises: Any) -> None:
        message = (
            "Parameter `points` should be in pixels, but all of a sample are in [0, 1]. "
            "Found `points[1, 0] = [0.25, 0.5]` in an image of (height, width) = (32.0, 16.0): multiply x by the width "
            "and y by the height."
        )
        points = torch.tensor([[[3.0, 4.0], [0.5, 0.5]], [[0.25, 0.5], [77.0, 3.0]]])
        boxes = torch.tensor([[0.0, 0.0, 8.0, 8.0]]).expand(2, 1, 4)
        weights = torch.tensor([[True, True], [True, False]])  # the last one is padding
        with raises(ValueError, message):
            human_importance_from_points(points, boxes, image_size=(32, 16), weights=weights)
        lost = torch.tensor([[[0.25, 0.5], [-0.25, 0.5]]])  # a gaze that leaves the image to the left
        with raises(ValueError, message.replace("[1, 0]", "[0, 0]")):
            human_importance_from_points(lost, boxes[:1], image_size=(32, 16))
        clicks = torch.tensor([[[0.0, 1.0], [0.0, 0.0]], [[1.0, 1.0], [5.0, 5.0]]])  # whole pixels
        assert human_importance_from_points(clicks, boxes, image_size=(32, 16)).isfinite().all()
        unit = human_importance_from_points(points[1:, :1], torch.tensor([[[0.0, 0.0, 0.5, 1.0]]]), image_size=(1, 1))
        assert unit == 1

    def test_normalised_boxes_fit_an_image_of_size_one(self) -> None:
        maps, boxes = torch.rand(4, 8), torch.tensor([[0.0, 0.25, 0.5, 1.0]])
        pixels = human_importance(maps, torch.tensor([[0.0, 1.0, 4.0, 4.0]]))
        assert torch.equal(human_importance(maps, boxes, image_size=(1, 1)), pixels)

    @pytest.mark.parametrize(
        "boxes",
        [
            [[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]],
            [[0.0, 0.0, 0.5, 0.5], [0.0, 0.0, 1.0, 1.25]],
            [[0.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.5, 0.5]],
            [[-3.0, -2.0, 0.5, 4.0], [15.5, 15.5, 17.0, 99.0]],
            [[-2.0, -2.0, -2.0, 5.0], [16.0, 0.0, 16.0, 16.0]],
        ],
        ids=["one whole pixel", "one leaves the pixel", "padding alone", "beyond the image in part", "without area"],
    )
    def test_what_may_be_in_pixels_is_taken_as_it_is(self, boxes: list[list[float]]) -> None:
        assert human_importance(MAPS[0], torch.tensor(boxes)).isfinite().all()


class TestTypes:
    """NumPy arrays and lists."""

    def test_maps_and_boxes(self, raises: Any) -> None:
        message = "Parameter `{}` should be a torch.Tensor. Found a {}: pass `torch.as_tensor({})`."
        with raises(TypeError, message.format("attention_maps", "numpy.ndarray", "attention_maps")):
            human_importance(np.ones((1, 4, 4)), BOXES)  # type: ignore[arg-type]
        with raises(TypeError, message.format("boxes", "list", "boxes")):
            human_importance(torch.ones(1, 4, 4), BOXES.tolist())  # type: ignore[arg-type]
        with raises(TypeError, message.format("points", "list", "points")):
            human_importance_from_points([[[1.0, 1.0]]], BOXES, image_size=(4, 4))  # type: ignore[arg-type]
        with raises(TypeError, message.format("human_boxes", "NoneType", "human_boxes")):
            human_importance_from_boxes(None, BOXES, image_size=(4, 4))  # type: ignore[arg-type]
        with raises(TypeError, message.format("weights", "numpy.ndarray", "weights")):
            human_importance_from_boxes(BOXES, BOXES, image_size=(4, 4), weights=np.ones((1, 2)))  # type: ignore[arg-type]


def test_weights(raises: Any) -> None:
    message = "Parameter `weights` should have shape (1, 3). Found `weights.shape = (3,)`."
    with raises(ValueError, message):
        human_importance_from_points(torch.ones(1, 3, 2), BOXES, image_size=(4, 4), weights=torch.ones(3))


@pytest.mark.parametrize("weight", [-1.0, NAN, float("inf")])
def test_negative_or_infinite_weights(raises: Any, weight: float) -> None:
    weights = torch.tensor([[1.0, weight]])
    message = f"Parameter `weights` should be finite and at least 0. Found `weights[0, 1] = {weight}`."
    with raises(ValueError, message):
        human_importance_from_points(torch.ones(1, 2, 2), BOXES, image_size=(4, 4), weights=weights)
    with raises(ValueError, message):
        human_importance_from_boxes(BOXES, BOXES, image_size=(4, 4), weights=weights)


@pytest.mark.parametrize("sigma", [-1.0, NAN])
def test_sigma(raises: Any, sigma: float) -> None:
    with raises(ValueError, f"Parameter `sigma` should be at least 0. Found `sigma = {sigma}`."):
        human_importance_from_points(torch.ones(1, 3, 2), BOXES, image_size=(4, 4), sigma=sigma)
