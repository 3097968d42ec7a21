"""MNIST from whichever of its files there are."""

import gzip
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def load(folder: Path | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """MNIST's images and labels, for training and for the test, or scikit-learn's small digits where there is none."""
    if folder is None:
        from sklearn.datasets import load_digits

        digits = load_digits()
        images = F.interpolate(torch.tensor(digits.images)[:, None] * 255 / 16, (28, 28), mode="bilinear")[:, 0].byte()
        labels = torch.tensor(digits.target)
        return images[:1400], labels[:1400], images[1400:], labels[1400:]
    if (folder / "mnist_labels.js").exists():  # as published with ConvNetJS: 3,000 images a file
        from PIL import Image

        names = sorted(folder.glob("mnist_batch_*.png"), key=lambda path: int(path.stem.rpartition("_")[2]))
        images = torch.tensor(np.concatenate([np.asarray(Image.open(name)) for name in names])).view(-1, 28, 28)
        text = (folder / "mnist_labels.js").read_text()
        labels = torch.tensor(json.loads(text[text.index("[") : text.index("]") + 1]))[: len(images)]
        return images[:60_000], labels[:60_000], images[60_000:], labels[60_000:]

    def read(name: str, start: int) -> Tensor:
        path = next((p for p in (folder / name, folder / f"{name}.gz") if p.exists()), None)
        if path is None:
            raise SystemExit(f"--data {folder} holds neither {name}, nor {name}.gz, nor ConvNetJS's mnist_labels.js.")
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        return torch.tensor(np.frombuffer(raw, np.uint8, offset=start))

    parts = [(read(f"{p}-images-idx3-ubyte", 16), read(f"{p}-labels-idx1-ubyte", 8)) for p in ("train", "t10k")]
    (images, labels), (test_images, test_labels) = ((x.view(-1, 28, 28), y.long()) for x, y in parts)
    return images, labels, test_images, test_labels
