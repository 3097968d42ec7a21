"""Names that mean something elsewhere go as they are through every command, table and page."""

import csv
import html
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from updn_common.console import plain_console
from updn_common.reports.tables import markdown
from updn_common.studies.compare import write_csv
from updn_vqa.data.prepare import PrepareConfig, prepare
from updn_vqa.evaluation.evaluate import EvaluateConfig, evaluate
from updn_vqa.evaluation.explain import ExplainConfig, explain
from updn_vqa.studies.compare import CompareConfig, compare
from updn_vqa.training.config import TrainConfig
from updn_vqa.training.methods import METHODS, SCALES, SMALL
from updn_vqa.training.train import train

NAMES = ["[/x]", "run[seed=1]", "[bold red]", ":cat:", "=cmd()", "<script>alert(1)</script>", "$x$", "a|b", "ü" * 300]
SCALE = replace(SCALES["shapes"], model=replace(SMALL, embedding=8, hidden=16), steps=1, evaluate_every=1, batch_size=4)


@pytest.mark.parametrize("name", NAMES)
def test_through_every_command(
    name: str, config: Callable[..., PrepareConfig], world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a question, its type, an answer, and part of each path."""
    for path in world.glob("vqacp_v2_*.json"):
        text = path.read_text()
        for old, new in (("What color is the cat?", f"Is it {name}?"), ('"what color is the"', f'"{name}"')):
            text = text.replace(old, new)
        path.write_text(text.replace('"red"', f'"{name}"'))
    folder = tmp_path / f"{name[:40]}".replace("/", "_")
    folder.mkdir()
    prepared = config(out=folder / "prepared", hints="boxes")
    prepare(prepared)
    runs = [folder / f"{method} {name[:40]}".replace("/", "_") for method in ("base", "hint")]
    for run, method in zip(runs, ("base", "hint"), strict=True):
        train(TrainConfig(prepared.out, run, METHODS[method], SCALE, cpu=True))
        evaluate(EvaluateConfig(prepared.out, run, cpu=True))
    compare(CompareConfig(tuple(runs), out=folder / "comparison", cpu=True))
    for image_id in (11, 12):
        Image.new("RGB", (40, 30), "white").save(world / f"COCO_train2014_{image_id:012d}.png")
    page = folder / "page"
    explain(ExplainConfig(prepared.out, *runs, world, page, questions=(11000, 12000)))

    printed = capsys.readouterr().out
    assert name[:20] in printed.replace("\n", "")
    assert "written: " in printed
    document = (page / "index.html").read_text()
    assert html.escape(name) in document
    assert "<script>alert" not in document
    table = (folder / "comparison" / "table.md").read_text()
    assert "<script>" not in table
    with (folder / "comparison" / "table.csv").open(encoding="utf-8", newline="") as file:
        assert not [cell for row in csv.reader(file) for cell in row if cell[:1] in ("=", "+", "@")]


@pytest.mark.parametrize("name", NAMES)
def test_the_terminal_and_tables_show_them(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain_console(soft_wrap=True).print(f"before {name} after")
    assert capsys.readouterr().out == f"before {name} after\n"
    (line,) = markdown(["name", "value"], [[name, "1"]]).splitlines()[2:]
    cell, value = re.split(r"(?<!\\)\|", line)[1:3]
    assert html.unescape(re.sub(r"\\(.)", r"\1", cell.strip())) == name
    assert value.strip() == "1"
    assert "<" not in line
    assert not re.search(r"(?<!\\)\$", line)
    path = tmp_path / "table.csv"
    write_csv(path, {}, {"ours": {name: {"accuracy": -1.5}}})
    _, row = csv.reader(path.read_text(encoding="utf-8").splitlines())
    assert row[0].removeprefix("'") == name
    assert row[0][0] not in "=+-@"
    assert row[4] == "-1.5"
