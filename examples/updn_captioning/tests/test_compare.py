"""Comparisons of captioning runs, and what of the paper stands beside them. The statistics are tested in updn_vqa."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from accelerate import Accelerator

from updn_captioning.data.prepared import PreparedData
from updn_captioning.evaluation.measures import evaluate_run
from updn_captioning.networks.generate import Decoding
from updn_captioning.studies.compare import CompareConfig, compare
from updn_captioning.studies.compare_report import GROUNDING, SCORES, notes, tables
from updn_captioning.studies.published import PUBLISHED, ROBUST, ROWS, STANDARD, published_data_set
from updn_captioning.studies.recipes import ComparedRun, read_runs
from updn_captioning.training.methods import METHODS
from updn_common.errors import InputError
from updn_common.reports.bootstrap import Estimates, estimate
from updn_common.reports.comparison import Row, by_data_set

Tiny = tuple[Path, Path]
Untrained = Callable[..., Path]


def estimates(run: ComparedRun) -> Estimates:
    split = run.data.split(run.split)
    found = evaluate_run(run.path, run.data, split, Accelerator(cpu=True), reuse=True)
    return estimate(found.statistics, seed=(0, run.world))


def rows_of(*paths: Path, measured: bool = False) -> list[Row[ComparedRun]]:
    runs = read_runs(paths, None, None)
    found = {run.path: estimates(run) if measured else Estimates({}, {}) for run in runs}
    (rows,) = by_data_set(runs, found).values()
    return rows


@pytest.fixture(scope="module")
def four(untrained_in: Untrained, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two methods with two seeds each; networks of different weights."""
    folder = tmp_path_factory.mktemp("runs")
    runs = [untrained_in(folder, f"{name}{seed}", name, seed=seed) for name in ("base", "hint") for seed in (3, 4)]
    swapped = (runs[2] / "best.safetensors").read_bytes()
    (runs[2] / "best.safetensors").write_bytes((runs[3] / "best.safetensors").read_bytes())
    (runs[3] / "best.safetensors").write_bytes(swapped)
    return runs


def test_numbers_are_means_over_seeds_and_differences_are_paired(four: list[Path]) -> None:
    base, hint = rows_of(*four, measured=True)
    found = [estimates(run) for row in (base, hint) for run in row.runs]
    for name in ("CIDEr", "Bleu_4", "CHAIRi", "reference_gradient_pointing", "generated_attention_rank_correlation"):
        values, resampled = [e.values[name] for e in found], [e.resampled[name] for e in found]
        assert base.cells[name].value == pytest.approx(np.mean(values[:2]))
        assert base.cells[name].spread == pytest.approx(np.std(values[:2], ddof=1))
        mean = np.mean(resampled[:2], axis=0)
        assert base.cells[name].interval == pytest.approx(np.quantile(mean[~np.isnan(mean)], [0.025, 0.975]))
        difference = np.mean([resampled[2] - resampled[0], resampled[3] - resampled[1]], axis=0)
        assert hint.differences[name].value == pytest.approx(np.mean(values[2:]) - np.mean(values[:2]))
        expected = np.quantile(difference[~np.isnan(difference)], [0.025, 0.975])
        assert hint.differences[name].interval == pytest.approx(expected)
    assert base.differences == {}


def test_a_row_has_one_recipe(untrained: Untrained) -> None:
    base, other = untrained("base"), untrained("other", "attn-align")
    runs = [
        base,
        untrained("again", seed=1, cpu=True),
        untrained("continued", start_from=base),
        untrained("from-other", start_from=other),
        untrained("hint", "hint"),
        untrained("half", "hint", hint_share=0.5),
    ]
    rows = rows_of(*runs)
    assert [[run.path.name for run in row.runs] for row in rows] == [
        ["base", "again"],
        ["continued"],
        ["from-other"],
        ["hint"],
        ["half"],
    ]
    assert [row.runs[0].name for row in rows] == ["base", "base", "base", "hint", "hint 50 %"]


def test_a_run_from_before_an_option_was_known(untrained: Untrained) -> None:
    old, new = untrained("old"), untrained("new", seed=1)
    config = json.loads((old / "config.json").read_text())
    del config["config"]["method"]["words"]
    (old / "config.json").write_text(json.dumps(config))
    (row,) = rows_of(old, new)
    assert len(row.runs) == 2


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
def test_published_numbers_are_of_whole_test_sets(
    kind: str, counts: dict[str, int], split: str, data_set: str | None
) -> None:
    assert published_data_set(record(kind, **counts), split) == data_set


def test_the_robust_split_has_that_many_images(shared_data: Path) -> None:
    split = json.loads((shared_data / "coco" / "split_robust_coco.json").read_text())
    assert published_data_set(record("robust", images=len(split["test_id"]), captions=0), "test") == ROBUST


@pytest.mark.parametrize(
    ("method", "share", "row"),
    [
        ("hint", 1.0, "UpDn + HINT"),
        ("hint", 0.25, None),  # the paper uses all hints
        ("base", 0.25, "UpDn"),  # there are none to use
        ("permuted", 1.0, None),
        ("scst", 1.0, None),
    ],
)
def test_which_result_a_run_reproduces(untrained: Untrained, method: str, share: float, row: str | None) -> None:
    (run,) = read_runs([untrained("run", method, hint_share=share)], None, None)
    assert run.published_row == row


def test_every_published_row_is_a_preset() -> None:
    assert ROWS.keys() <= METHODS.keys()
    assert set(ROWS.values()) == PUBLISHED.keys()


def test_the_papers_numbers_stand_beside_ours(four: list[Path]) -> None:
    rows = rows_of(*four, measured=True)
    blocks = tables({ROBUST: rows})
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
    assert list(blocks[0].header) == ["method (runs)", *SCORES.values()]
    assert blocks[0].lines[2].cells[:2] == [("0.92", ""), ("-", "")]
    note = "hint is the signed form with a margin, hint-paper the paper's to the letter"
    assert any(note in line for line in notes({ROBUST: rows}))
    assert not any(note in line for line in (*notes({ROBUST: rows[:1]}), *notes({None: rows})))
    assert [line.name for line in tables({STANDARD: rows})[0].lines] == ["UpDn, published", "base (2)", "hint (2)"]


def test_on_other_data_the_papers_numbers_stand_apart(
    four: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = CompareConfig(runs=tuple(four), out=tmp_path / "out", cpu=True)
    compare(config)
    printed = capsys.readouterr().out
    assert "test of prepared: difference to base, visual words of the references\n" in printed
    text = (tmp_path / "out" / "table.md").read_text()
    assert "## COCO robust test, published: other data than above, not to be compared\n\n| method | CIDEr |" in text
    assert "| UpDn + HINT, published | 0.92 |" in text
    rows = rows_of(*four, measured=True)
    with (tmp_path / "out" / "table.csv").open() as file:
        records = list(csv.DictReader(file))
    for row in rows:
        for name, cell in row.cells.items():
            (found,) = (r for r in records if (r["method"], r["measure"]) == (row.name, name))
            assert found["data"] == "test of prepared"
            assert (float(found["value"]), float(found["low"]), float(found["high"])) == (cell.value, *cell.interval)
        for names in (SCORES, *GROUNDING.values()):
            for name, label in names.items():
                value = row.cells[name].value
                assert f"{value:.{2 if '%' in label else 3}f} ±" in text
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


def test_what_cannot_be_compared(tiny: Tiny, untrained: Untrained, tmp_path: Path) -> None:
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
    (run,) = read_runs([untrained("run")], None, "val")
    assert run.split == "val"
    assert PreparedData.open(tiny[1]).directory == run.data.directory
