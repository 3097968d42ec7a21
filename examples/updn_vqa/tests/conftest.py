"""A small handmade data set in the official formats, and the way to the real samples."""

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from shapes_cp.world import World
from shapes_cp.write import write_world
from updn_common.runs.directory import RunDirectory
from updn_vqa.data.prepare import PrepareConfig, prepare
from updn_vqa.data.prepared import PreparedData
from updn_vqa.networks import build_network
from updn_vqa.training.config import TrainConfig
from updn_vqa.training.methods import METHODS, SCALES, SMALL

WIDTH, HEIGHT = 40, 30
BOXES = [[0, 0, 20, 15], [20, 15, 40, 30], [0, 0, 40, 30], [5, 5, 10, 10]]
IMAGES = {"train": [1, 2, 3, 4], "test": [11, 12]}


@pytest.fixture
def question() -> Callable[..., dict[str, Any]]:
    def make(question_id: int, text: str = "What color is the cat?", **changes: Any) -> dict[str, Any]:
        record = {"image_id": question_id // 1000, "question": text, "question_id": question_id}
        return record | {"coco_split": "train2014"} | changes

    return make


@pytest.fixture
def annotation() -> Callable[..., dict[str, Any]]:
    def make(question_id: int, texts: Sequence[str] = ("red",) * 9 + ("dark red",), **changes: Any) -> dict[str, Any]:
        return {
            "question_type": "what color is the",
            "multiple_choice_answer": texts[0],
            "answers": [
                {"answer": answer, "answer_confidence": "yes", "answer_id": number}
                for number, answer in enumerate(texts, start=1)
            ],
            "image_id": question_id // 1000,
            "answer_type": "other",
            "question_id": question_id,
        } | changes

    return make


@pytest.fixture
def world(tmp_path: Path, question: Callable[..., Any], annotation: Callable[..., Any]) -> Path:
    """VQA-CP v2 files with two questions for each image; 4 or (image 2) 3 proposals of 5 features."""
    data = tmp_path / "data"
    (data / "vqahat_train").mkdir(parents=True)
    for split, images in IMAGES.items():
        ids = [image_id * 1000 + k for image_id in images for k in range(2)]
        texts = ["What color is the cat?", "Is it Bob's dog, then?"]
        answers = [["red"] * 9 + ["dark red"], ["yes"] * 7 + ["no"] * 3]
        questions = [question(i, texts[i % 2]) for i in ids]
        annotations = [annotation(i, answers[i % 2]) for i in ids]
        (data / f"vqacp_v2_{split}_questions.json").write_text(json.dumps(questions))
        (data / f"vqacp_v2_{split}_annotations.json").write_text(json.dumps(annotations[::-1]))
    rng = np.random.default_rng(0)
    rows = []
    for image_id in [*IMAGES["train"], *IMAGES["test"], 99]:
        boxes = np.array(BOXES[: 3 if image_id == 2 else 4], dtype="<f4")
        cells = [base64.b64encode(x.astype("<f4").tobytes()).decode() for x in (boxes, rng.random((len(boxes), 5)))]
        rows.append("\t".join([str(image_id), str(WIDTH), str(HEIGHT), str(len(boxes)), *cells]))
    (data / "features.tsv").write_text("\n".join(rows) + "\n")
    v1 = [
        {"image_id": 1, "question": "What color is the cat?", "question_id": 15},
        {"image_id": 1, "question": "What color is the cat", "question_id": 16},
        {"image_id": 2, "question": "Is it Bob's dog, then?", "question_id": 21},
    ]
    (data / "OpenEnded_mscoco_train2014_questions.json").write_text(json.dumps({"questions": v1}))
    for name, where in {"15_1": (0, 0), "15_2": (0, 0), "16_1": (0, 0), "21_1": (25, 35), "777_1": (1, 1)}.items():
        attention = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
        attention[where] = 255
        Image.fromarray(attention).save(data / "vqahat_train" / f"{name}.png")
    (data / "vqacp_v2_train_boxes.json").write_text(json.dumps({"1000": [[0, 0, 20, 14]], "2001": [[30, 1, 33, 4]]}))
    return data


@pytest.fixture
def config(world: Path, tmp_path: Path) -> Callable[..., PrepareConfig]:
    def make(**changes: Any) -> PrepareConfig:
        options = {"out": tmp_path / "out", "data": world, "min_answer_occurrences": 1, "development_share": 0.25}
        return PrepareConfig(**(options | changes))

    return make


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A tiny rendered world and what `prepare` makes of it."""
    folder = tmp_path_factory.mktemp("tiny")
    write_world(folder / "world", World(seed=0), "tiny", workers=1)
    prepare(PrepareConfig(data=folder / "world", out=folder / "prepared", hints="hat", min_answer_occurrences=1))
    return folder / "world", folder / "prepared"


@pytest.fixture
def tiny_run(tiny: tuple[Path, Path], tmp_path: Path) -> Callable[..., TrainConfig]:
    """Makes options of a short run of a small network on the tiny world."""
    model = replace(SMALL, embedding=8, hidden=16, attention_dropout=0.3)
    scale = replace(SCALES["shapes"], model=model, steps=4, evaluate_every=2, batch_size=8, hint_batch_size=4)

    def make(out: str = "run", method: str = "hint", **changes: object) -> TrainConfig:
        options = {"data": tiny[1], "out": tmp_path / out, "method": METHODS[method], "scale": scale, "cpu": True}
        return TrainConfig(**(options | changes))

    return make


@pytest.fixture
def untrained(tiny: tuple[Path, Path], tmp_path: Path) -> Callable[..., Path]:
    """Makes a run of a small network with random weights, as training would leave it."""

    def make(name: str, method: str = "base", *, seed: int = 0, **changes: Any) -> Path:
        sizes = replace(SMALL, embedding=8, hidden=16)
        scale = replace(SCALES["shapes"], model=sizes)
        options = {"data": tiny[1], "out": tmp_path / name, "method": METHODS[method], "scale": scale, "seed": seed}
        config = TrainConfig(**(options | changes))
        torch.manual_seed(seed)
        with RunDirectory.create(config.out, config.record(processes=1)) as run:
            model = build_network(config.scale.model, PreparedData.open(tiny[1]))
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.mul_(3)  # else all answers are the same
            run.save_checkpoint("best", model.state_dict(), None, {})
        return config.out

    return make
