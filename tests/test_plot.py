"""Importances drawn over an image."""

from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("matplotlib")
import matplotlib.pyplot as plt
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from PIL import Image

from hint_loss.plot import draw_importance, importance_map

BOXES = torch.tensor([[0.0, 0.0, 4.0, 3.0], [2.0, 1.0, 6.0, 5.0]])


@pytest.fixture
def axes() -> Any:
    figure, axes = plt.subplots()
    yield axes
    plt.close(figure)


def drawn(axes: Axes) -> np.ndarray:
    pixels = np.asarray(axes.images[0].get_array())
    assert pixels.min() >= 0
    assert pixels.max() <= 1
    return pixels


@given(st.integers(0, 2**32), st.integers(0, 5))
def test_each_pixel_has_the_largest_importance_that_covers_it(seed: int, k: int) -> None:
    random = torch.Generator().manual_seed(seed)
    corners = torch.randint(-2, 9, (k, 2, 2), generator=random).sort(1).values.flatten(1).double()
    importance = torch.randn(k, generator=random)
    expected = torch.zeros(6, 7)
    for y in range(6):
        for x in range(7):
            for (x1, y1, x2, y2), value in zip(corners.tolist(), importance.tolist(), strict=True):
                if x1 <= x < x2 and y1 <= y < y2:
                    expected[y, x] = max(expected[y, x].item(), value)
    found = importance_map(corners, importance, (6, 7))
    torch.testing.assert_close(found * expected.max(), expected)
    assert found.max() in (0, 1)


def test_a_pixel_that_a_box_covers_in_part_counts() -> None:
    found = importance_map(torch.tensor([[0.6, 0.2, 1.1, 0.8]]), torch.tensor([3.0]), (2, 3))
    assert found.tolist() == [[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]


def test_negative_and_undefined_importance_counts_as_none() -> None:
    assert not importance_map(BOXES, torch.tensor([-1.0, torch.nan]), (5, 6)).any()


def test_an_unimportant_pixel_is_grey_and_an_important_one_keeps_its_colours(axes: Axes) -> None:
    image = torch.rand(5, 6, 3)
    draw_importance(axes, image, BOXES, torch.tensor([1.0, 0.0]), tint=0.0)
    pixels = drawn(axes)
    np.testing.assert_allclose(pixels[:3, :4], image[:3, :4], atol=1e-6)
    assert np.ptp(pixels[4, 5]) < 1e-6
    assert pixels[4, 5, 0] > image[4, 5].mean()  # paler than it was


def test_the_most_important_proposal_is_outlined(axes: Axes) -> None:
    draw_importance(axes, torch.rand(5, 6, 3), BOXES, torch.tensor([-2.0, -1.0], requires_grad=True))
    (frame,) = axes.patches
    assert frame.get_bbox().bounds == (1.5, 0.5, 4.0, 4.0)  # type: ignore[attr-defined]


def test_a_tie_outlines_nothing(axes: Axes) -> None:
    draw_importance(axes, torch.rand(5, 6, 3), BOXES, torch.ones(2))
    assert not axes.patches


@pytest.mark.parametrize(
    "image",
    [
        np.full((5, 6), 100, np.uint8),
        np.full((5, 6, 1), 100, np.uint8),
        np.full((5, 6, 4), 100, np.uint8),
        torch.full((5, 6), 100 / 255),
        torch.full((5, 6, 3), 100 / 255, dtype=torch.bfloat16).float(),
        Image.new("RGB", (6, 5), (100, 100, 100)),
        Image.new("L", (6, 5), 100),
    ],
)
def test_pictures_of_any_kind_look_alike(axes: Axes, image: Any) -> None:
    draw_importance(axes, image, BOXES, torch.tensor([1.0, 0.0]), tint=0.0)
    np.testing.assert_allclose(drawn(axes)[0, 0], 100 / 255, atol=2e-3)


def test_errors_show_what_was_found(axes: Axes, raises: Any) -> None:
    shapes = (
        "Parameters `boxes` and `importance` should have shapes (K, 4) and (K,), of one image. "
        "Found `boxes.shape = (2, 4)` and `importance.shape = (3,)`."
    )
    with raises(ValueError, shapes):
        importance_map(BOXES, torch.ones(3), (5, 6))
    with raises(ValueError, "Parameter `image` should be a picture (H, W) or (H, W, 3). Found the shape (3, 5, 6)."):
        draw_importance(axes, torch.rand(3, 5, 6), BOXES, torch.ones(2))
