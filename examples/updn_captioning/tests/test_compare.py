"""Comparisons of runs, and the results of the paper beside them; updn_common tests which runs make a row."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from accelerate import Accelerator

from updn_captioning.data.prepared import PreparedData
from updn_captioning.evaluation.measures import evaluate_run
from updn_captioning.networks.generate import Decoding
from updn_captioning.studies.compare import GROUNDING, LAYOUT, SCORES, CompareConfig, compare
from updn_captioning.studies.compared_run import ComparedRun
from updn_captioning.studies.published import PUBLISHED, ROBUST, ROWS, STANDARD, published_data_set
from updn_captioning.training.methods import METHODS
from updn_common.errors import InputError
from updn_common.reports.bootstrap import estimate
from updn_common.reports.rows import Row
from updn_common.studies.compare import FORMS_GUIDE, comparison_blocks, forms_note
from updn_common.studies.compared_runs import make_rows, open_runs

Tiny = tuple[Path, Path]
Untrained = Callable[..., Path]


def read_runs(*paths: Path, split: str | None = None) -> list[ComparedRun]:
    return open_runs(paths, None, split, PreparedData.open, ComparedRun)


def rows_of(*paths: Path) -> list[Row[ComparedRun]]:
    runs = read_runs(*paths)
    estimates = {}
    for run in runs:
        found = evaluate_run(run.path, run.data, run.data.split(run.split), Accelerator(cpu=True), reuse=True)
        estimates[run.path] = estimate(found.statistics, seed=(0, run.world))
    return make_rows(runs, estimates)


@pytest.fixture(scope="module")
def four(untrained_in: Untrained, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Runs of two methods with two seeds each, and different weights."""
    folder = tmp_path_factory.mktemp("runs")
    runs = [untrained_in(folder, f"{name}{seed}", name, seed=seed) for name in ("base", "hint") for seed in (3, 4)]
    swapped = (runs[2] / "best.safetensors").read_bytes()
    (runs[2] / "best.safetensors").write_bytes((runs[3] / "best.safetensors").read_bytes())
    (runs[3] / "best.safetensors").write_bytes(swapped)
    return runs


def test_runs_are_named_by_preset_and_share(untrained: Untrained) -> None:
    runs = [untrained("a", hint_share=0.5), untrained("b", "hint"), untrained("c", "hint", hint_share=0.5)]
    config = json.loads((runs[0] / "config.json").read_text())
    del config["config"]["method"]["words"]  # an option newer than the run
    (runs[0] / "config.json").write_text(json.dumps(config))
    assert [run.name for run in read_runs(*runs)] == ["base", "hint", "hint 50 %"]


def record(kind: str, **counts: int) -> dict[str, Any]:
    return {"options": {"split": kind}, "splits": {"test": counts, "val": counts}}


@pytest.mark.parametrize(
    ("kind", "counts", "split", "data_set"),
    [
        ("karpathy", {"images": 5000, "captions": 25_010}, "test", STANDARD),
        ("karpathy", {"images": 5000, "captions": 25_000}, "test", None),  # a large world of shapes_cp
        ("karpathy", {"images": 5000, "captions": 25_010}, "val", None),
        ("robust", {"images": 9138, "captions": 45_000}, "test", ROBUST),
        ("robust", {"images": 9137, "captions": 45_000}, "test", None),
        ("robust", {"images": 5000, "captions": 25_010}, "test", None),
    ],
)
def test_only_whole_test_sets_are_those_of_the_paper(
    kind: str, counts: dict[str, int], split: str, data_set: str | None
) -> None:
    assert published_data_set(record(kind, **counts), split) == data_set


def test_the_official_robust_split_is_the_papers(shared_data: Path) -> None:
    split = json.loads((shared_data / "coco" / "split_robust_coco.json").read_text())
    assert published_data_set(record("robust", images=len(split["test_id"]), captions=0), "test") == ROBUST


@pytest.mark.parametrize(
    ("method", "share", "row"),
    [
        ("hint", 1.0, "UpDn + HINT"),
        ("hint-paper", 1.0, "UpDn + HINT"),
        ("unsigned", 1.0, "UpDn + HINT"),
        ("hint", 0.25, None),  # the paper uses all hints
        ("base", 0.25, "UpDn"),  # there are none to use
        ("permuted", 1.0, None),
        ("scst", 1.0, None),
    ],
)
def test_which_result_a_run_reproduces(untrained: Untrained, method: str, share: float, row: str | None) -> None:
    (run,) = read_runs(untrained("run", method, hint_share=share))
    assert run.published_row == row


def test_every_published_row_has_a_preset() -> None:
    assert ROWS.keys() <= METHODS.keys()
    assert set(ROWS.values()) == PUBLISHED.keys()


def test_the_papers_numbers_stand_beside_ours(four: list[Path]) -> None:
    rows = rows_of(*four)
    blocks = comparison_blocks({ROBUST: rows}, LAYOUT)
    assert [block.title for block in blocks] == [
        "COCO robust test: official scores",
        "COCO robust test: visual words of the references, importance: the gradient's sum",
        "COCO robust test: visual words of own captions, importance: the gradient's sum",
        "COCO robust test: difference to base, scores",
        "COCO robust test: difference to base, visual words of the references",
        "COCO robust test: difference to base, visual words of own captions",
    ]
    names = ["UpDn, published", "base (2)", "UpDn + HINT, published", "hint (2)"]
    assert [line.name for line in blocks[0].lines] == names
    assert list(blocks[0].header) == ["method (runs)", *(column.header for column in SCORES)]
    assert blocks[0].lines[2].cells[:2] == [("0.92", ""), ("-", "")]
    assert forms_note({ROBUST: rows}) == [FORMS_GUIDE]
    assert forms_note({ROBUST: rows[:1]}) == forms_note({None: rows}) == []
    (standard, *_) = comparison_blocks({STANDARD: rows}, LAYOUT)
    assert [line.name for line in standard.lines] == ["UpDn, published", "base (2)", "hint (2)"]


def test_on_other_data_the_papers_numbers_stand_apart(
    four: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = CompareConfig(runs=tuple(four), out=tmp_path / "out", cpu=True)
    compare(config)
    printed = capsys.readouterr().out
    assert "test of prepared: difference to base, visual words of the references\n" in printed
    text = (tmp_path / "out" / "table.md").read_text()
    assert "## COCO robust test, published: other data than above, not to be compared\n\n| method | CIDEr |" in text
    assert "| UpDn + HINT | 0.92 |" in text
    assert "each with all of its captions" in text
    rows = rows_of(*four)
    with (tmp_path / "out" / "table.csv").open() as file:
        records = list(csv.DictReader(file))
    for row in rows:
        for name, cell in row.cells.items():
            (found,) = (r for r in records if (r["method"], r["measure"]) == (row.name, name))
            assert found["data"] == "test of prepared"
            assert (float(found["value"]), float(found["low"]), float(found["high"])) == (cell.value, *cell.interval)
        for column in (*SCORES, *(column for columns in GROUNDING.values() for column in columns)):
            assert f"{row.cells[column.measure].value:.{column.digits}f} ±" in text
    published = [r for r in records if r["data"] != "test of prepared"]
    assert sorted(float(r["value"]) for r in published) == [0.9, 0.92, 1.06]
    assert printed.rstrip().endswith(f"written: {tmp_path / 'out' / 'table.md'}, {tmp_path / 'out' / 'table.csv'}")


def test_runs_are_measured_once(four: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = CompareConfig(runs=tuple(four), out=tmp_path / "first", cpu=True)
    compare(config)
    monkeypatch.setattr("updn_captioning.evaluation.measures.generate", lambda *_: pytest.fail("measured"))
    compare(replace(config, out=tmp_path / "second"))
    for name in ("table.md", "table.csv"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


def test_runs_that_cannot_be_compared_are_refused(tiny: Tiny, untrained: Untrained, tmp_path: Path) -> None:
    run = untrained("run")

    def fails(*paths: Path, **options: Any) -> str:
        out = tmp_path / "out"
        with pytest.raises(InputError) as error:
            compare(CompareConfig(runs=paths, out=out, cpu=True, **options))
        assert not out.exists()
        return str(error.value)

    assert fails() == "Give the directories of the runs to compare."
    assert fails(run, decoding=Decoding(beam_size=0)) == "--beam-size should be at least 1, found 0."
    twin = untrained("twin")
    assert fails(run, twin) == f"{run} and {twin} have the same options, seed and data: give one of them."
    absent = tmp_path / "absent"
    assert fails(run, absent) == f"{absent / 'config.json'} does not exist; expected the configuration of a run."
    assert fails(run, split="tset") == (
        f"{tiny[1]} has no split 'tset'; it has train, val, dev, test. Give --split one of these."
    )
    (run / "best.safetensors").unlink()
    assert fails(run) == f"RUN {run} holds a run without best.safetensors. Give the --out of a training run."


def test_a_split_can_be_chosen(tiny: Tiny, untrained: Untrained) -> None:
    (run,) = read_runs(untrained("run"), split="val")
    assert run.split == "val"
    assert PreparedData.open(tiny[1]).directory == run.data.directory
