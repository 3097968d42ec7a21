"""The pipeline end to end on a tiny world: train two networks, evaluate one, and explain both."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from updn_common.errors import InputError
from updn_vqa.data.prepared import PreparedData
from updn_vqa.evaluation.evaluate import EvaluateConfig, evaluate
from updn_vqa.evaluation.explain import ExplainConfig, explain
from updn_vqa.training.config import TrainConfig
from updn_vqa.training.train import train


def whole(message: str) -> str:
    return f"^{re.escape(message)}$"


def test_evaluate_and_explain(
    tiny_run: Callable[..., TrainConfig], tiny: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, after = tiny_run("before", "base"), tiny_run("after")
    train(before)
    train(after)
    evaluate(EvaluateConfig(data=tiny[1], run=after.out))
    printed = capsys.readouterr().out
    assert re.search(r"rank correlation +│ +-?\d\.\d{3} \[-?\d\.\d{3}, -?\d\.\d{3}\] │\n", printed)
    folder = after.out / "evaluation" / "test"
    results = json.loads((folder / "results.json").read_text())
    assert {record["question_id"] for record in results} == {
        question.question_id for question in PreparedData.open(tiny[1]).split("test").questions
    }
    accuracy = json.loads((folder / "accuracy.json").read_text())
    assert accuracy["accuracy"].keys() == {"2016", "2021"}
    assert -1 <= accuracy["rank_correlation"] <= 1
    assert 0 <= accuracy["pointing"] <= 100

    options = ExplainConfig(tiny[1], before.out, after.out, tiny[0], tmp_path / "page", count=2)
    explain(options)
    html = (options.out / "index.html").read_text()
    figures = sorted(path.name for path in options.out.glob("*.png"))
    assert len(figures) == 2
    assert all(f'src="{name}"' in html for name in figures)
    chosen = int(figures[0].removesuffix(".png"))
    explain(replace(options, out=tmp_path / "one", questions=(chosen,)))
    assert [path.name for path in (tmp_path / "one").glob("*.png")] == figures[:1]
    none = replace(options, out=tmp_path / "none")
    with pytest.raises(InputError, match="7"):
        explain(replace(none, questions=(7,)))
    for option in ("before", "after"):
        message = f"--{option} {tmp_path / 'absent'} does not exist. Give the --out of a training run."
        with pytest.raises(InputError, match=whole(message)):
            explain(replace(none, **{option: tmp_path / "absent"}))
    assert not none.out.exists()
    (after.out / "best.safetensors").unlink()
    message = f"--run {after.out} holds a run without best.safetensors. Give the --out of a training run."
    with pytest.raises(InputError, match=whole(message)):
        evaluate(EvaluateConfig(data=tiny[1], run=after.out))
    evaluate(EvaluateConfig(data=tiny[1], run=after.out, checkpoint="last"))
