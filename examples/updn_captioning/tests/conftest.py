"""A small handmade data set in the official formats, a tiny rendered world, and the way to the real samples."""

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shapes_cp.pairs import PairWorld
from shapes_cp.write_pairs import write_pair_world
from updn_captioning.data.prepare import prepare
from updn_captioning.data.prepare_config import PrepareConfig
from updn_captioning.data.prepared import PreparedData
from updn_captioning.networks.generate import build_model
from updn_captioning.networks.updn import NetworkSizes
from updn_captioning.training.config import TrainConfig
from updn_captioning.training.methods import METHODS, SCALES
from updn_common.runs.directory import RunDirectory

WIDTH, HEIGHT = 40, 30
BOXES = [[0, 0, 20, 15], [20, 15, 40, 30], [0, 0, 40, 30], [5, 5, 10, 10]]
IMAGES = {"train": [1, 2, 3, 4], "val": [5, 6], "test": [11, 12]}
CATEGORIES = {17: "cat", 18: "dog", 58: "hot dog"}
TEXTS = ("A cat near two hot dogs.", "Dogs, and a kitten!")


def rectangle(x: float, y: float, width: float, height: float) -> list[list[float]]:
    return [[x, y, x + width, y, x + width, y + height, x, y + height]]


def instance(image_id: int, category_id: int, box: tuple[float, float, float, float]) -> dict[str, Any]:
    shape = {"segmentation": rectangle(*box), "bbox": list(box), "iscrowd": 0, "area": box[2] * box[3]}
    return {"image_id": image_id, "category_id": category_id, "id": 100 * image_id + category_id, **shape}


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """Two captions an image; 4 or (image 2) 3 proposals of 5 features.

    Each image has a cat top left, images 1, 2, 5 and 11 a hot dog bottom right; nobody has a dog.
    """
    data = tmp_path / "data"
    data.mkdir()
    numbers = [image_id for images in IMAGES.values() for image_id in images]
    captions = [
        {"image_id": image_id, "id": 10 * image_id + k, "caption": text}
        for image_id in numbers
        for k, text in enumerate(TEXTS)
    ]
    instances = [instance(image_id, 17, (0, 0, 20, 15)) for image_id in numbers]
    instances += [instance(image_id, 58, (20, 15, 20, 15)) for image_id in (1, 2, 5, 11)]
    categories = [{"id": number, "name": name} for number, name in CATEGORIES.items()]
    for part, here in {"train": IMAGES["train"], "val": [*IMAGES["val"], *IMAGES["test"]]}.items():
        images = [{"id": image_id, "width": WIDTH, "height": HEIGHT} for image_id in here]
        files = {
            "captions": {"annotations": captions},
            "instances": {"annotations": instances, "categories": categories},
        }
        for kind, document in files.items():
            kept = [record for record in document["annotations"] if record["image_id"] in here]
            path = data / f"{kind}_{part}2014.json"
            path.write_text(json.dumps(document | {"images": images, "annotations": kept}))
    karpathy = [
        {
            "cocoid": image_id,
            "split": "restval" if image_id == 4 else split,
            "sentences": [
                {
                    "tokens": c["caption"].lower().strip(".!").replace(",", "").split(),
                    "raw": c["caption"],
                    "sentid": c["id"],
                }
                for c in captions
                if c["image_id"] == image_id
            ],
        }
        for split, images in IMAGES.items()
        for image_id in images
    ]
    (data / "dataset_coco.json").write_text(json.dumps({"images": karpathy, "dataset": "coco"}))
    robust = {"train": [1, 3, 5, 12], "val": [6], "test": [2, 4, 11]}
    entries = {f"{name}_id": [{"img_id": image_id} for image_id in images] for name, images in robust.items()}
    (data / "split_robust_coco.json").write_text(json.dumps(entries))
    rng = np.random.default_rng(0)
    rows = []
    for image_id in [*numbers, 99]:
        boxes = np.array(BOXES[: 3 if image_id == 2 else 4], dtype="<f4")
        cells = [base64.b64encode(x.astype("<f4").tobytes()).decode() for x in (boxes, rng.random((len(boxes), 5)))]
        rows.append("\t".join([str(image_id), str(WIDTH), str(HEIGHT), str(len(boxes)), *cells]))
    (data / "features.tsv").write_text("\n".join(rows) + "\n")
    return data


@pytest.fixture
def config(world: Path, tmp_path: Path) -> Callable[..., PrepareConfig]:
    """Options of `prepare` for the handmade data."""

    def make(**changes: Any) -> PrepareConfig:
        return PrepareConfig(**({"out": tmp_path / "out", "data": world, "min_word_occurrences": 1} | changes))

    return make


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A tiny rendered captioning world and what `prepare` makes of its robust split."""
    folder = tmp_path_factory.mktemp("tiny")
    write_pair_world(folder / "world", PairWorld(seed=0), "tiny", workers=1)
    options = PrepareConfig(data=folder / "world", out=folder / "prepared", split="robust", min_word_occurrences=1)
    prepare(options)
    return folder / "world", folder / "prepared"


@pytest.fixture(scope="session")
def untrained_in(tiny: tuple[Path, Path]) -> Callable[..., Path]:
    """Makes a run of a small network with random weights in a folder, as training would leave it."""

    def make(folder: Path, name: str, method: str = "base", *, seed: int = 0, **changes: Any) -> Path:
        scale = replace(SCALES["shapes"], model=NetworkSizes(embedding=8, hidden=16, attention=8))
        options = {"data": tiny[1], "out": folder / name, "method": METHODS[method], "scale": scale, "seed": seed}
        config = TrainConfig(**(options | changes))
        torch.manual_seed(seed)
        with RunDirectory.create(config.out, config.record(processes=1)) as run:
            data = PreparedData.open(config.data)
            model = build_model(config.scale.model, data)
            names = [data.vocabulary.index[name] for name in data.categories if name in data.vocabulary.index]
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.mul_(8)  # else all captions are the same
                model.word.bias[names] += 5  # else few of them name anything
            run.save_checkpoint("best", model.state_dict(), None, {})
        return config.out

    return make


@pytest.fixture
def untrained(untrained_in: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """The same, in the test's own folder."""
    return partial(untrained_in, tmp_path)
