import dataclasses

import numpy as np
import pytest

from shapes_cp.render import SUPERSAMPLING, coverage, decode_image, encode_jpeg, render
from shapes_cp.scene import IMAGE_SIZE, UNIFORM_PRIORS, Item, sample_scene
from shapes_cp.shapes import SHAPES, SIGN, TEXTURES, place, polygon_area


def perimeter(polygon):
    return np.linalg.norm(polygon - np.roll(polygon, 1, axis=0), axis=1).sum()


@pytest.mark.parametrize("shape", list(SHAPES))
def test_drawn_pixels_equal_the_segmentation(shape, rng):
    for _ in range(10):
        polygon = place(SHAPES[shape], *rng.uniform(20, 100, 2), rng.uniform(22, 34), rng.uniform(-0.12, 0.12))
        # Half a supersampled pixel for the width of the outline, half for the rounding of corners.
        error = perimeter(polygon) / SUPERSAMPLING
        assert coverage(polygon).sum() == pytest.approx(polygon_area(polygon), abs=error)


def test_position_of_a_drawn_polygon():
    rows = np.array([(30.0, 40.0), (50.0, 40.0), (50.0, 45.0), (30.0, 45.0)])  # x, y
    drawn = np.zeros((IMAGE_SIZE, IMAGE_SIZE))
    drawn[40:45, 30:50] = 1
    np.testing.assert_allclose(coverage(rows), drawn, atol=0.01)


def test_polygons_outside_the_image_are_clipped():
    corner = place(SHAPES["square"], 0, 0, 40, 0)
    assert coverage(corner).sum() == pytest.approx(polygon_area(corner) / 4, rel=0.02)


@pytest.mark.parametrize("polygon", [*SHAPES.values(), SIGN], ids=[*SHAPES, "sign"])
def test_shapes_stay_in_the_unit_square(polygon):
    assert np.abs(polygon).max() <= 1


def test_keyholes_are_holes():
    for polygon, covered in ((SHAPES["ring"], (1, 0, 0)), (SIGN, (1, 0, 1))):
        drawn = coverage(place(polygon, 64.5, 64.5, 100, 0))
        middle = drawn[64, [64 - 41, 64 - 26, 64]]  # in units of the half size: 0.82, 0.52, 0
        np.testing.assert_allclose(middle, covered)


def test_place_turns_and_moves():
    turned = place(np.array([(1.0, 0.0)]), 10, 20, 6, np.pi / 2)  # y points down: clockwise to the eye
    np.testing.assert_allclose(turned, [(10, 23)])


@pytest.mark.parametrize(("texture", "brightness"), list(zip(TEXTURES, (1, 0.725, 0.79, 0.725), strict=True)))
def test_textures_darken_by_their_share_of_ink(texture, brightness, rng):
    scene = sample_scene(rng, UNIFORM_PRIORS, cue=None)
    item = Item("square", "white", texture, (0.5, 0.5, 0.5), 64.0, 64.0, 100.0, 0.1)
    scene = dataclasses.replace(scene, objects=(item,), clutter=(), illumination=1.0)
    inside = render(scene, rng)[35:93, 35:93] / 255
    assert inside.mean() == pytest.approx(0.5 * brightness, abs=0.01)


def test_illumination_scales_the_image(rng):
    scene = sample_scene(rng, UNIFORM_PRIORS, cue=0.8)
    dark, bright = (
        render(dataclasses.replace(scene, illumination=x), np.random.default_rng(0)).mean() for x in (0.5, 1.0)
    )
    assert dark == pytest.approx(bright / 2, rel=0.02)


def test_noise_comes_from_the_generator(rng):
    scene = sample_scene(rng, UNIFORM_PRIORS, cue=0.8)
    one, same, other = (render(scene, np.random.default_rng(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    difference = one.astype(float) - other
    assert difference.std() == pytest.approx(0.03 * 255 * np.sqrt(2), rel=0.05)


def test_saved_image_is_close_to_the_rendered_one(rng):
    image = render(sample_scene(rng, UNIFORM_PRIORS, cue=0.8), rng)
    saved = decode_image(encode_jpeg(image))
    assert saved.shape == image.shape
    assert np.abs(saved.astype(float) - image).mean() < 6
