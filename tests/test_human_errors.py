"""Human importance refuses wrong arguments: whole messages."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hint_loss import human_importance, human_importance_from_boxes, human_importance_from_points

NAN = float("nan")
BOXES = torch.tensor([[[0.0, 0.0, 2.0, 2.0], [1.0, 1.0, 3.0, 3.0]]])


@pytest.fixture(params=["maps", "points", "drawn boxes"])
def refused(request: pytest.FixtureRequest, raises: Any) -> Callable[[Tensor, Any, str], None]:
    """Passes wrong boxes to one of the functions, and compares the message, in which "NAME" is the parameter."""

    def check(boxes: Tensor, size: Any, message: str) -> None:
        samples = boxes.shape[:-2]
        with raises(ValueError, message.replace("NAME", "human_boxes" if request.param == "drawn boxes" else "boxes")):
            if request.param == "maps":
                human_importance(torch.ones(*samples, 16, 16), boxes, image_size=size)
            elif request.param == "points":
                human_importance_from_points(torch.ones(*samples, 3, 2), boxes, image_size=size)
            else:
                human_importance_from_boxes(boxes, BOXES.expand(*samples, 2, 4), image_size=size)

    return check


@pytest.mark.parametrize(
    ("human", "boxes"),
    [((4, 4), (1, 2, 4)), ((2, 4, 4), (1, 2, 4)), ((4,), (2, 4)), ((4, 4), (4,)), ((4, 4), (2, 5))],
)
def test_maps_and_boxes_of_other_shapes_raise(raises: Any, human: tuple[int, ...], boxes: tuple[int, ...]) -> None:
    message = (
        "Parameters `attention_maps` (..., H, W) and `boxes` (..., K, 4) should agree in their leading dimensions. "
        f"Found `attention_maps.shape = {human}` and `boxes.shape = {boxes}`."
    )
    with raises(ValueError, message):
        human_importance(torch.ones(human), torch.zeros(boxes))


@pytest.mark.parametrize(
    ("function", "name", "axes", "shape"),
    [
        (human_importance_from_points, "points", "N, 2", (1, 5, 3)),
        (human_importance_from_boxes, "human_boxes", "M, 4", (3, 4)),
    ],
)
def test_points_or_drawn_boxes_of_another_shape_raise(
    raises: Any, function: Any, name: str, axes: str, shape: tuple[int, ...]
) -> None:
    message = (
        f"Parameters `{name}` (..., {axes}) and `boxes` (..., K, 4) should agree in their leading dimensions. "
        f"Found `{name}.shape = {shape}` and `boxes.shape = (1, 2, 4)`."
    )
    with raises(ValueError, message):
        function(torch.ones(shape), BOXES, image_size=(4, 4))


@pytest.mark.parametrize("box", [[2.0, 0.0, 1.0, 1.0], [0.0, 3.0, 1.0, 1.0], [0.0, 0.0, float("inf"), 1.0]])
def test_inverted_or_infinite_boxes_raise(refused: Any, box: list[float]) -> None:
    message = (
        "Parameter `NAME` should hold finite corners with x1 <= x2 and y1 <= y2, or be of `box_format='xywh'`. "
        f"Found `NAME[0, 1] = {box}`."
    )
    refused(torch.tensor([[[0.0, 0.0, 2.0, 2.0], box]]), (4, 4), message)


@pytest.mark.parametrize("box", [[2.0, 0.0, -1.0, 1.0], [0.0, 3.0, 1.0, NAN]])
def test_negative_or_undefined_sizes_of_boxes_raise(raises: Any, box: list[float]) -> None:
    """The message shows the box as it was passed."""
    message = f"Parameter `boxes` should hold finite corners and sizes of at least 0. Found `boxes[0] = {box}`."
    with raises(ValueError, message):
        human_importance(torch.ones(4, 4), torch.tensor([box]), box_format="xywh")


@pytest.mark.parametrize("size", [(0, 4), (4, -1), (4, NAN), (4, 4, 3)])
def test_an_image_size_that_is_not_positive_raises(raises: Any, size: tuple[float, ...]) -> None:
    message = (
        "Parameter `image_size` should be a positive (height, width), or a tensor of them of shape (1, 2). "
        f"Found `image_size = {size}`."
    )
    with raises(ValueError, message):
        human_importance(torch.ones(1, 4, 4), BOXES, image_size=size)


def test_image_sizes_of_another_batch_raise() -> None:
    with pytest.raises(ValueError, match=r"a tensor of them of shape \(2, 2\)"):
        human_importance(torch.ones(2, 4, 4), torch.zeros(2, 3, 4), image_size=torch.ones(3, 2))


def test_an_undefined_point_raises(raises: Any) -> None:
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
def test_a_map_without_attention_raises(raises: Any, value: float, found: str) -> None:
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


@pytest.mark.parametrize(
    ("cell", "value", "found"),
    [
        (1, -12.5, "a minimum of -12.5, which is negative"),
        (3, -12.5, "a minimum of -12.5, which is negative"),
        (3, float("inf"), "a NaN or an infinity"),
    ],
    ids=["negative inside a box", "negative outside", "infinite outside"],
)
def test_a_single_wrong_cell_raises(raises: Any, cell: int, value: float, found: str) -> None:
    """The total may be positive all the same, and no box may contain the cell."""
    message = (
        "Parameter `attention_maps` should hold finite, non-negative attention, and some of it in every image. "
        f"Found `attention_maps[0]` with {found}: correct it, or leave it out of the hints."
    )
    maps = torch.ones(1, 4, 4)
    maps[0, cell, cell] = value
    with raises(ValueError, message):
        human_importance(maps, BOXES)


def test_points_outside_of_the_image_raise(raises: Any) -> None:
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


def test_drawn_boxes_without_area_raise(raises: Any) -> None:
    message = (
        "Parameter `human_boxes` should lie within the image, one at least. Found all of `human_boxes` outside of an "
        "image of (height, width) = (4.0, 4.0), or without weight or size: pass the size that they refer to, "
        "`image_size=(height, width)`, or leave the sample out of the hints."
    )
    with raises(ValueError, message):
        human_importance_from_boxes(torch.ones(2, 4), BOXES[0], image_size=(4, 4))


MAPS, SIZES = torch.ones(2, 16, 16), torch.tensor([[480.0, 640.0], [32.0, 24.0]])


class TestUnits:
    """Boxes in another unit than the pixels of the image would silently have s = 0, or the s of its corner."""

    PIXELS = torch.tensor([[[0.0, 0, 0, 0], [30, 20, 300, 200]], [[2, 3, 12, 30], [24, 16, 30, 20]]])

    def test_boxes_outside_of_the_image_raise(self, refused: Any) -> None:
        message = (
            "Parameter `NAME` should overlap the image. Found `NAME[1, 1] = [24.0, 16.0, 30.0, 20.0]` in an image of "
            "(height, width) = (32.0, 24.0): pass the size that they refer to, `image_size=(height, width)`."
        )
        refused(self.PIXELS, SIZES, message)

    def test_boxes_outside_of_a_map_without_an_image_size_raise(self, raises: Any) -> None:
        message = (
            "Parameter `boxes` should overlap the image. Found `boxes[0, 1] = [30.0, 20.0, 300.0, 200.0]` in an image "
            "of (height, width) = (16.0, 16.0): pass the size that they refer to, `image_size=(height, width)`."
        )
        with raises(ValueError, message):
            human_importance(MAPS, self.PIXELS)

    def test_normalised_boxes_raise(self, refused: Any) -> None:
        message = (
            "Parameter `NAME` should be in pixels, but all of a sample are in [0, 1]. "
            "Found `NAME[0, 1] = [0.0, 0.25, 0.5, 1.0]` in an image of (height, width) = (480.0, 640.0): multiply x by "
            "the width and y by the height."
        )
        boxes = torch.tensor([[[0.0, 0, 1, 1], [0, 0.25, 0.5, 1]], [[0.25, 0.5, 0.5, 1], [5, 5, 5, 5]]])  # and padding
        refused(boxes, SIZES, message)

    def test_one_normalised_sample_among_others_raises(self, raises: Any) -> None:
        message = (
            "Parameter `boxes` should be in pixels, but all of a sample are in [0, 1]. "
            "Found `boxes[1, 0] = [0.25, 0.5, 0.5, 1.0]` in an image of (height, width) = (32.0, 16.0): multiply x by "
            "the width and y by the height."
        )
        boxes = torch.tensor([[[0.0, 0, 12, 9], [4, 5, 6, 7]], [[0.25, 0.5, 0.5, 1], [0, 0, 0, 0]]])  # and padding
        with raises(ValueError, message):
            human_importance(torch.rand(2, 32, 16), boxes)
        assert human_importance(torch.rand(2, 32, 16), boxes.flip(1)[:1].expand(2, 2, 4)).isfinite().all()

    def test_normalised_points_raise(self, raises: Any) -> None:
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
        ids=["one whole pixel", "more than one pixel", "only padding", "partly outside", "without area"],
    )
    def test_small_boxes_that_may_be_in_pixels_are_accepted(self, boxes: list[list[float]]) -> None:
        assert human_importance(MAPS[0], torch.tensor(boxes)).isfinite().all()


@pytest.mark.parametrize(
    ("function", "name", "value"),
    [
        (human_importance, "attention_maps", np.ones((1, 4, 4))),
        (human_importance, "boxes", BOXES.tolist()),
        (human_importance_from_points, "points", [[[1.0, 1.0]]]),
        (human_importance_from_boxes, "human_boxes", None),
        (human_importance_from_boxes, "weights", np.ones((1, 2))),
    ],
)
def test_arguments_that_are_no_tensors_raise(raises: Any, function: Any, name: str, value: Any) -> None:
    kind = {np.ndarray: "numpy.ndarray", list: "list"}.get(type(value), "NoneType")
    message = f"Parameter `{name}` should be a torch.Tensor. Found a {kind}: pass `torch.as_tensor({name})`."
    maps, drawn = {"attention_maps": torch.ones(1, 4, 4)}, {"human_boxes": BOXES}
    right = {human_importance: maps, human_importance_from_boxes: drawn}.get(function, {})
    with raises(TypeError, message):
        function(**{"boxes": BOXES, "image_size": (4, 4)} | right | {name: value})


def test_weights_of_another_shape_raise(raises: Any) -> None:
    message = "Parameter `weights` should have shape (1, 3). Found `weights.shape = (3,)`."
    with raises(ValueError, message):
        human_importance_from_points(torch.ones(1, 3, 2), BOXES, image_size=(4, 4), weights=torch.ones(3))


@pytest.mark.parametrize("weight", [-1.0, NAN, float("inf")])
def test_negative_or_infinite_weights_raise(raises: Any, weight: float) -> None:
    weights = torch.tensor([[1.0, weight]])
    message = f"Parameter `weights` should be finite and at least 0. Found `weights[0, 1] = {weight}`."
    with raises(ValueError, message):
        human_importance_from_points(torch.ones(1, 2, 2), BOXES, image_size=(4, 4), weights=weights)
    with raises(ValueError, message):
        human_importance_from_boxes(BOXES, BOXES, image_size=(4, 4), weights=weights)


@pytest.mark.parametrize("sigma", [-1.0, NAN])
def test_a_negative_or_undefined_sigma_raises(raises: Any, sigma: float) -> None:
    with raises(ValueError, f"Parameter `sigma` should be at least 0. Found `sigma = {sigma}`."):
        human_importance_from_points(torch.ones(1, 3, 2), BOXES, image_size=(4, 4), sigma=sigma)
