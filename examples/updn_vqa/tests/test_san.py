"""Stacked attention against the paper's equations in loops over proposals; and grid features as proposals."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from updn_common.proposals.readers import read_proposals
from updn_common.runs.directory import read_metrics
from updn_vqa.data.prepare import prepare
from updn_vqa.data.prepare_config import PrepareConfig
from updn_vqa.data.prepared import PreparedData
from updn_vqa.evaluation.evaluate import EvaluateConfig, evaluate
from updn_vqa.networks.layers import NetworkSizes
from updn_vqa.networks.san import San
from updn_vqa.training.config import TrainConfig
from updn_vqa.training.methods import METHODS, SCALES, SMALL
from updn_vqa.training.train import train

SIZES = NetworkSizes("san", embedding=5, hidden=7, attention_dropout=0.0, classifier_dropout=0.0)
TOKENS = torch.tensor([[0, 3, 4], [5, 6, 1]])
MASK = torch.tensor([[True, True, True], [True, True, False]])


@pytest.fixture
def model() -> San:
    """A network with large weights, so that no layer is nearly linear and no attention nearly uniform."""
    torch.manual_seed(0)
    model = San(SIZES, words=11, answers=4, feature_size=6).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 3
    return model


@pytest.fixture
def features() -> Tensor:
    return torch.rand(2, 3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_the_papers_equations(model: San, features: Tensor) -> None:
    state = model.state_dict()

    def affine(name: str, x: Tensor) -> Tensor:
        return state[f"{name}.weight"] @ x + state.get(f"{name}.bias", torch.zeros((), dtype=torch.float64))

    output = model(TOKENS, features, MASK)
    for i, tokens in enumerate(TOKENS):
        h = c = torch.zeros(7, dtype=torch.float64)
        for token in tokens[tokens != 0]:  # padding is skipped
            x = state["embedding.weight"][token]
            gates = state["lstm.weight_ih_l0"] @ x + state["lstm.bias_ih_l0"]
            gates = gates + state["lstm.weight_hh_l0"] @ h + state["lstm.bias_hh_l0"]
            enter, forget, new, leave = gates.view(4, 7)
            c = forget.sigmoid() * c + enter.sigmoid() * new.tanh()
            h = leave.sigmoid() * c.tanh()
        u = h
        v = [affine("project", x).tanh() for x in features[i][MASK[i]]]
        for k in range(2):
            scores = []
            for proposal in v:
                joint = (affine(f"glimpses.{k}.proposal", proposal) + affine(f"glimpses.{k}.query", u)).tanh()
                scores.append(affine(f"glimpses.{k}.logit", joint))
            p = torch.cat(scores).exp() / torch.cat(scores).exp().sum()
            u = u + sum(weight * proposal for weight, proposal in zip(p, v, strict=True))
        torch.testing.assert_close(output.question[i], h)
        torch.testing.assert_close(output.attention[i][MASK[i]], p)
        torch.testing.assert_close(output.logits[i], affine("classifier.1", u))


def test_the_second_attention_depends_on_the_first(model: San, features: Tensor) -> None:
    first = model.glimpses[0].query.weight
    attention = model(TOKENS, features, MASK).attention
    assert torch.autograd.grad(attention[:, 0].sum(), first)[0].abs().max() > 1e-4


def test_a_grid_is_read_as_proposals(tmp_path: Path) -> None:
    """As the docstring of the module describes."""
    channels, rows, columns = 5, 2, 3
    grid = np.random.default_rng(0).random((channels, rows, columns), dtype=np.float32)
    width, height = 30, 40
    cells = [[x * 10, y * 20, (x + 1) * 10, (y + 1) * 20] for y in range(rows) for x in range(columns)]
    np.savez(
        tmp_path / "17.npz",
        x=grid.reshape(channels, rows * columns),
        bbox=np.array(cells, dtype=np.float32),
        num_bbox=rows * columns,
        image_h=height,
        image_w=width,
    )
    (image,) = read_proposals(tmp_path)
    for y in range(rows):
        for x in range(columns):
            (index,) = np.flatnonzero((image.boxes == [x * 10, y * 20, (x + 1) * 10, (y + 1) * 20]).all(1))
            np.testing.assert_array_equal(image.features[index], grid[:, y, x])


def test_hints_on_a_grid_from_photos_to_accuracies(tiny: tuple[Path, Path], tmp_path: Path) -> None:
    """Features are mean colors of 8 x 8 cells of an image; human importance of the cells is from attention maps."""
    world, _ = tiny
    grids = tmp_path / "grids"
    grids.mkdir()
    cells = [[16 * x, 16 * y, 16 * x + 16, 16 * y + 16] for y in range(8) for x in range(8)]
    for path in world.glob("*2014/*.jpg"):
        with Image.open(path) as photo:
            pixels = np.asarray(photo, dtype=np.float32) / 255
        grid = pixels.reshape(8, 16, 8, 16, 3).mean((1, 3)).transpose(2, 0, 1)
        boxes, size = np.array(cells, dtype=np.float32), {"num_bbox": 64, "image_h": 128, "image_w": 128}
        np.savez(grids / f"{path.stem}.npz", x=grid.reshape(3, 64), bbox=boxes, **size)
    out = tmp_path / "prepared"
    prepare(PrepareConfig(data=world, out=out, features=(grids,), hints="hat", min_answer_occurrences=1))
    split = PreparedData.open(out).split("train")
    batch = split.batch(range(len(split)))
    assert batch.features.shape == (24, 64, 3)
    asked = json.loads((world / "vqacp_v2_train_boxes.json").read_text())
    near = 0
    for question, boxes, human in zip(split.question_ids, batch.boxes, batch.human, strict=True):
        x1, y1, x2, y2 = asked[str(question)][0]
        left, top, right, bottom = boxes[human.argmax()].tolist()
        near += left < x2 and x1 < right and top < y2 and y1 < bottom
    assert near > 18  # most cells with the highest importance are near the object
    scale = replace(SCALES["shapes"], model=replace(SMALL, network="san", hidden=16), steps=2, evaluate_every=2)
    run = TrainConfig(data=out, out=tmp_path / "run", method=METHODS["hint"], scale=scale, cpu=True)
    train(run)
    assert read_metrics(run.out)[-1]["train/hint_loss"] > 0
    evaluate(EvaluateConfig(data=out, run=run.out, cpu=True))
