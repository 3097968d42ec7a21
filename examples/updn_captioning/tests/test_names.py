"""Names that mean something elsewhere go as they are through every command, table and page."""

import csv
import html
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from updn_captioning.data.data_command import DataConfig, show_data
from updn_captioning.data.prepare import prepare
from updn_captioning.data.prepare_config import PrepareConfig
from updn_captioning.data.prepared import PreparedData
from updn_captioning.evaluation.evaluate import EvaluateConfig, evaluate
from updn_captioning.evaluation.explain import ExplainConfig, explain
from updn_captioning.networks.updn import NetworkSizes
from updn_captioning.studies.compare import CompareConfig, compare
from updn_captioning.training.config import TrainConfig
from updn_captioning.training.methods import METHODS, SCALES
from updn_captioning.training.train import train
from updn_common.errors import InputError

NAMES = ["[/x]", "run[seed=1]", "[bold]", ":cat:", "=cmd()", "<script>alert(1)</script>", "$x$", "a|b", "ü" * 300]
SCALE = replace(
    SCALES["shapes"],
    model=NetworkSizes(embedding=8, hidden=16, attention=8),
    steps=30,
    evaluate_every=30,
    batch_size=4,
    learning_rate=0.02,
)


def rename(world: Path, name: str) -> None:
    """The cat, in captions and as a category."""
    for path in world.glob("*.json"):
        text = json.dumps(json.loads(path.read_text()))
        for old in ('"cat"', "A cat near"):
            text = text.replace(old, old.replace("cat", json.dumps(name)[1:-1]))
        path.write_text(text)


@pytest.mark.parametrize("name", NAMES)
def test_through_every_command(
    name: str, config: Callable[..., PrepareConfig], world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a word, as the category that it names, and as part of each path."""
    rename(world, name)
    folder = tmp_path / name[:40].replace("/", "_")
    folder.mkdir()
    world = world.rename(folder / "data")
    show_data(DataConfig(world))
    prepared = config(data=world, out=folder / "prepared")
    prepare(prepared)
    data = PreparedData.open(prepared.out)
    assert name in data.vocabulary.words
    assert (data.split("train").batch([0]).word_categories == data.categories.index(name)).any()
    runs = [folder / f"{method} {name[:40]}".replace("/", "_") for method in ("base", "hint")]
    for run, method in zip(runs, ("base", "hint"), strict=True):
        train(TrainConfig(prepared.out, run, METHODS[method], SCALE, cpu=True))
        evaluate(EvaluateConfig(prepared.out, run, cpu=True))
    compare(CompareConfig(tuple(runs), out=folder / "comparison", cpu=True))
    for image_id in (11, 12):
        Image.new("RGB", (40, 30), "white").save(world / f"COCO_val2014_{image_id:012d}.png")
    page = folder / "page"
    explain(ExplainConfig(prepared.out, *runs, world, page, image_ids=(11, 12), words="reference", cpu=True))

    printed = capsys.readouterr().out
    assert name[:20].replace("/", "_") in printed.replace("\n", "")
    document = (page / "index.html").read_text()
    assert html.escape(str(runs[0])) in document
    assert "<script>alert" not in document
    assert "<script>" not in (folder / "comparison" / "table.md").read_text()
    with (folder / "comparison" / "table.csv").open(encoding="utf-8", newline="") as file:
        assert not [cell for row in csv.reader(file) for cell in row if cell[:1] in ("=", "+", "@")]


@pytest.mark.parametrize("name", ["../../x", "/absolute/x"])
def test_a_split_is_no_path(config: Callable[..., PrepareConfig], name: str) -> None:
    prepare(config())
    with pytest.raises(InputError, match="has no split"):
        PreparedData.open(config().out).split(name)


def test_a_lone_surrogate_is_refused(config: Callable[..., PrepareConfig], world: Path) -> None:
    rename(world, "\ud800")
    with pytest.raises(InputError, match="surrogate"):
        prepare(config())
    assert not config().out.exists()
