"""Features of proposals, in place of a detector: a small convolutional network on 16 x 16 crops, and the box.

The weights are part of the package. ``python -m shapes_cp.encoder --out FILE`` trains them again, on separate images
with uniform answers and without signs.
"""

from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from safetensors.torch import load, save
from torch import Tensor, nn

from shapes_cp.proposals import iou, propose
from shapes_cp.render import decode_image, encode_jpeg, render
from shapes_cp.scene import IMAGE_SIZE, UNIFORM_PRIORS, Item, sample_scene
from shapes_cp.shapes import COLORS, SHAPES, TEXTURES
from updn_common.errors import check_range
from updn_common.progress import track

CROP_SIZE = 16
APPEARANCE_SIZE = 128
FEATURE_SIZE = APPEARANCE_SIZE + 5
_BACKGROUND_CROPS = 4  # per image, in training
_STREAM = 6  # separates the random numbers from those of the splits


class Encoder(nn.Module):
    """Maps crops to non-negative features: three convolutions and one fully connected layer, each with ReLU.

    Attributes:
        scale: Standard deviation of each feature over the training proposals, (FEATURE_SIZE,).
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 48, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(48 * (CROP_SIZE // 4) ** 2, APPEARANCE_SIZE),
            nn.ReLU(),
        )
        self.scale: Tensor
        self.register_buffer("scale", torch.ones(FEATURE_SIZE))

    def forward(self, crops: Tensor) -> Tensor:
        """Map crops (N, 3, CROP_SIZE, CROP_SIZE) in [0, 1] to appearance features (N, APPEARANCE_SIZE)."""
        features: Tensor = self.layers(crops - 0.45)
        return features

    @torch.no_grad()
    def encode(self, image: NDArray[np.uint8], boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Features of proposals: appearance, corners and area of the box, each divided by its scale.

        Args:
            image: (IMAGE_SIZE, IMAGE_SIZE, 3), as read from the saved file.
            boxes: (K, 4) in pixels.

        Returns:
            (K, FEATURE_SIZE), non-negative.
        """
        place = torch.from_numpy(boxes) / IMAGE_SIZE
        area = (place[:, 2:] - place[:, :2]).prod(1, keepdim=True)
        features = torch.cat([self(crop(image, boxes)), place, area], dim=1) / self.scale
        return features.numpy()


@cache
def load_encoder() -> Encoder:
    """The encoder with the weights of the package."""
    encoder = Encoder()
    encoder.load_state_dict(load(resources.files("shapes_cp").joinpath("encoder.safetensors").read_bytes()))
    return encoder.eval()


def crop(image: NDArray[np.uint8], boxes: NDArray[np.float32]) -> Tensor:
    """Crop boxes (K, 4) out of an image with bilinear resampling: (K, 3, CROP_SIZE, CROP_SIZE) in [0, 1]."""
    corners = torch.from_numpy(boxes)
    steps = (torch.arange(CROP_SIZE) + 0.5) / CROP_SIZE
    x = corners[:, 0:1] + (corners[:, 2:3] - corners[:, 0:1]) * steps
    y = corners[:, 1:2] + (corners[:, 3:4] - corners[:, 1:2]) * steps
    count = len(boxes)
    grid = torch.stack([x[:, None, :].expand(-1, CROP_SIZE, -1), y[:, :, None].expand(-1, -1, CROP_SIZE)], dim=-1)
    pixels = torch.tensor(image).permute(2, 0, 1)[None].float() / 255
    sampled = F.grid_sample(pixels, grid.reshape(1, -1, CROP_SIZE, 2) * (2 / IMAGE_SIZE) - 1, align_corners=False)
    return sampled.reshape(3, count, CROP_SIZE, CROP_SIZE).transpose(0, 1)


@dataclass(frozen=True)
class TrainEncoder:
    """Train the encoder from scratch and write its weights and scale.

    Raises:
        InputError: There are too few images to hold some out, or no epochs.
    """

    out: Path
    """The safetensors file to write."""
    images: int = 1500
    """Number of images to cut crops from; the first tenth is held out."""
    epochs: int = 14
    seed: int = 0

    def __post_init__(self) -> None:
        check_range(10, images=self.images)
        check_range(1, epochs=self.epochs)


def train_encoder(config: TrainEncoder) -> tuple[Encoder, dict[str, float]]:
    """Train an encoder to classify shape, colour and texture of crops.

    Returns:
        The encoder, and its accuracy on held-out crops for each attribute.
    """
    torch.manual_seed(config.seed)
    examples = [_example(config.seed, i) for i in track(range(config.images), "rendering")]
    held_out, training = examples[: config.images // 10], examples[config.images // 10 :]
    encoder = Encoder()
    # One linear classifier per attribute; the last class is background.
    heads = nn.ModuleList(nn.Linear(APPEARANCE_SIZE, len(names) + 1) for names in (SHAPES, COLORS, TEXTURES))
    optimizer = torch.optim.Adam([*encoder.parameters(), *heads.parameters()], lr=2e-3)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.85)
    crops, labels = _gather(training)
    for _ in track(range(config.epochs), "training the encoder"):
        order = torch.randperm(len(crops))
        for start in range(0, len(crops), 128):
            rows = order[start : start + 128]
            features = encoder(crops[rows])
            losses = [F.cross_entropy(h(features), label) for h, label in zip(heads, labels[rows].T, strict=True)]
            optimizer.zero_grad()
            torch.autograd.backward(losses)  # the gradient of their sum
            optimizer.step()
        schedule.step()
    encoder.eval()
    unscaled = [encoder.encode(example.image, example.boxes) for example in training]
    scale = torch.from_numpy(np.concatenate(unscaled).std(0))
    encoder.scale.copy_(torch.where(scale > 0, scale, 1))  # features that are always zero are not scaled
    return encoder, _accuracy(encoder, heads, *_gather(held_out))


@dataclass(frozen=True)
class _Example:
    """An image with its proposals; the ``chosen`` ones, with labels (N, 3), train the encoder."""

    image: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    chosen: NDArray[np.int64]
    labels: Tensor


def _example(seed: int, index: int) -> _Example:
    """An image of the unbiased world; all proposals of objects and a few of the background are chosen."""
    rng = np.random.default_rng((0, _STREAM, seed, index))
    scene = sample_scene(rng, UNIFORM_PRIORS, cue=None)
    image = decode_image(encode_jpeg(render(scene, rng)))
    boxes = propose(scene, rng)
    overlap = np.stack([iou(boxes, item.box) for item in scene.objects])
    nearest, is_object = overlap.argmax(0), overlap.max(0) > 0.4
    background = rng.permutation(np.flatnonzero(~is_object))[:_BACKGROUND_CROPS]
    chosen = np.concatenate([np.flatnonzero(is_object), background])
    labels = torch.tensor([_label(scene.objects[nearest[i]] if is_object[i] else None) for i in chosen])
    return _Example(image, boxes, chosen, labels)


def _label(item: Item | None) -> tuple[int, int, int]:
    """Class numbers of shape, colour and texture; the last class is background."""
    if item is None:
        return len(SHAPES), len(COLORS), len(TEXTURES)
    return list(SHAPES).index(item.shape), list(COLORS).index(item.color), TEXTURES.index(item.texture)


def _gather(examples: list[_Example]) -> tuple[Tensor, Tensor]:
    crops = torch.cat([crop(example.image, example.boxes[example.chosen]) for example in examples])
    return crops, torch.cat([example.labels for example in examples])


@torch.no_grad()
def _accuracy(encoder: Encoder, heads: nn.ModuleList, crops: Tensor, labels: Tensor) -> dict[str, float]:
    predicted = torch.stack([head(encoder(crops)).argmax(1) for head in heads], dim=1)
    shares = (predicted == labels).double().mean(0).tolist()
    return dict(zip(("shape", "color", "texture"), shares, strict=True))


def main() -> None:
    config = tyro.cli(TrainEncoder, description=__doc__)
    torch.set_num_threads(1)  # for the same weights on any number of cores
    encoder, accuracy = train_encoder(config)
    config.out.write_bytes(save(dict(encoder.state_dict())))
    table = Table("held-out accuracy", *accuracy)
    table.add_row("%", *(f"{100 * share:.1f}" for share in accuracy.values()))
    Console().print(table)


if __name__ == "__main__":
    main()
