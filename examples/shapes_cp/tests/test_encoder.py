from importlib import resources

import numpy as np
import pytest
import torch

from shapes_cp.encoder import FEATURE_SIZE, TrainEncoder, crop, load_encoder, train_encoder
from shapes_cp.proposals import propose
from shapes_cp.render import render
from shapes_cp.scene import UNIFORM_PRIORS, sample_scene
from shapes_cp.shapes import COLORS
from updn_common.errors import InputError


@pytest.fixture(scope="module")
def encoded():
    """Unbiased scenes, their proposals and features."""
    rng = np.random.default_rng(7)
    found = []
    for _ in range(120):
        scene = sample_scene(rng, UNIFORM_PRIORS, cue=None)
        image, boxes = render(scene, rng), propose(scene, rng)
        found.append((scene, image, boxes, load_encoder().encode(image, boxes)))
    return found


def test_features_are_non_negative_and_have_unit_spread(encoded):
    features = np.concatenate([row[-1] for row in encoded])
    assert features.shape == (120 * 36, FEATURE_SIZE)
    assert FEATURE_SIZE == 133
    assert features.dtype == np.float32
    assert features.min() >= 0
    spread = features.std(0)
    np.testing.assert_allclose(spread[spread > 0], 1, atol=0.2)


def test_last_five_features_are_the_box(encoded):
    _, _, boxes, features = encoded[0]
    x1, y1, x2, y2 = boxes.T / 128
    place = np.stack([x1, y1, x2, y2, (x2 - x1) * (y2 - y1)], axis=1)
    np.testing.assert_allclose(features[:, -5:] * load_encoder().scale[-5:].numpy(), place, atol=1e-6)


def test_colour_is_linearly_decodable(encoded):
    features, colors = [], []
    for scene, image, _, _ in encoded:
        features.append(load_encoder().encode(image, np.array([i.box for i in scene.objects], dtype=np.float32)))
        colors += [list(COLORS).index(item.color) for item in scene.objects]
    x, y = np.concatenate(features), np.array(colors)
    x = np.concatenate([x, np.ones((len(x), 1), dtype=np.float32)], axis=1)
    half = len(x) // 2
    gram = x[:half].T @ x[:half] + 10 * np.eye(x.shape[1])
    weights = np.linalg.solve(gram, x[:half].T @ np.eye(len(COLORS))[y[:half]])
    assert ((x[half:] @ weights).argmax(1) == y[half:]).mean() > 0.85


def test_crop_samples_its_box():
    image = np.zeros((128, 128, 3), dtype=np.uint8)
    image[40:72, 16:48] = (255, 0, 51)
    image[40:72, 32:48, 1] = 255  # the right half
    inside = crop(image, np.array([[16, 40, 48, 72]], dtype=np.float32))
    assert inside.shape == (1, 3, 16, 16)
    torch.testing.assert_close(inside[0, 0], torch.ones(16, 16))
    torch.testing.assert_close(inside[0, 2], torch.full((16, 16), 0.2))
    torch.testing.assert_close(inside[0, 1], (torch.arange(16) >= 8).float().expand(16, 16))


def test_proposals_are_encoded_independently(encoded):
    _, image, boxes, features = encoded[0]
    np.testing.assert_allclose(load_encoder().encode(image, boxes[5:6]), features[5:6], atol=1e-5)


def test_weights_file_is_small():
    assert len(resources.files("shapes_cp").joinpath("encoder.safetensors").read_bytes()) < 1_000_000


def test_training_is_deterministic(tmp_path):
    config = TrainEncoder(tmp_path / "encoder.safetensors", images=20, epochs=1)
    (one, accuracy), (two, again) = train_encoder(config), train_encoder(config)
    assert list(accuracy) == ["shape", "color", "texture"]
    assert accuracy == again
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


def test_training_needs_enough_images(tmp_path):
    with pytest.raises(InputError, match=r"^--images should be at least 10, found 9\.$"):
        TrainEncoder(tmp_path / "encoder.safetensors", images=9)
