"""From official files to pictures of why, by the commands that a user types, on a tiny world."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from updn_captioning.cli import main
from updn_common.runs.directory import read_config, read_metrics

Tiny = tuple[Path, Path]
SMALL = "--model.embedding 16 --model.hidden 32 --model.attention 16 --batch-size 24 --learning-rate 0.01 --cpu"


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Runs ``updn-captioning`` with these arguments."""

    def run(arguments: str) -> None:
        monkeypatch.setattr(sys, "argv", ["updn-captioning", *arguments.split()])
        main()

    return run


def test_the_whole_pipeline(
    command: Callable[[str], None], tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world, runs, data = tiny[0], tmp_path / "runs", tmp_path / "prepared"
    command(f"data --data {world}")
    command(f"prepare --data {world} --out {data} --split robust --min-word-occurrences 1")

    train = f"{SMALL} --data {data}"
    command(f"train base shapes-base --steps 100 --evaluate-every 50 --out {runs / 'base'} {train}")
    assert [line["step"] for line in read_metrics(runs / "base")] == [50, 100]
    tuned = f"shapes --steps 4 --evaluate-every 2 --weight 1 --start-from {runs / 'base'} {train}"
    for method in ("hint", "hint-scst"):
        command(f"train {method} {tuned} --out {runs / method}")
        assert read_config(runs / method)["start_from"] == str(runs / "base")
    last = (runs / "hint" / "last.safetensors").read_bytes()
    command(f"train hint {tuned} --out {runs / 'hint'} --resume")  # there is nothing left to do
    assert (runs / "hint" / "last.safetensors").read_bytes() == last

    capsys.readouterr()
    for run in ("base", "hint"):
        command(f"evaluate --data {data} --run {runs / run} --decoding.beam-size 3 --decoding.no-repeats --cpu")
        assert "gradient: pointing (%)" in capsys.readouterr().out
    evaluation = runs / "base" / "evaluation" / "test"
    captions = json.loads((evaluation / "results.json").read_text())
    assert len(captions) == 16
    assert all(set(record) == {"image_id", "caption"} for record in captions)
    scores = json.loads((evaluation / "scores.json").read_text())["scores"]
    assert scores["Bleu_1"] > 0.3  # it has learned the grammar
    assert {"CIDEr", "ROUGE_L", "reference_gradient_pointing", "reference_attention_rank_correlation"} < set(scores)

    command(f"compare {runs / 'base'} {runs / 'hint'} --split test --out {tmp_path / 'comparison'} --cpu")
    assert "hint" in (tmp_path / "comparison" / "table.md").read_text()
    page = tmp_path / "page"
    command(
        f"explain --data {data} --before {runs / 'base'} --after {runs / 'hint'} --images {world} --out {page} "
        "--count 2 --words reference --cpu"
    )
    figures = list(page.glob("*.png"))
    assert len(figures) == 2
    assert all(f'src="{figure.name}"' in (page / "index.html").read_text() for figure in figures)
