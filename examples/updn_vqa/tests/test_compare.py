"""Comparisons of runs: which are a row, what is told of it, and what of the paper's table stands beside it."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pytest
from accelerate import Accelerator
from numpy.typing import NDArray
from scipy.stats import bootstrap

from updn_common.errors import InputError
from updn_common.reports.bootstrap import estimate_means
from updn_common.reports.comparison import Cell, Row, compare_runs
from updn_vqa.data.prepared import PreparedData
from updn_vqa.evaluation.measures import evaluate_run
from updn_vqa.studies.compare import CompareConfig, compare
from updn_vqa.studies.compare_report import supervision, tables
from updn_vqa.studies.published import QUESTIONS, VQACP
from updn_vqa.studies.recipes import ComparedRun, read_runs

Tiny = tuple[Path, Path]
Untrained = Callable[..., Path]


def rows_of(*paths: Path) -> list[Row[ComparedRun]]:
    runs = read_runs(paths, None, None)
    measured = {run.path: columns(run) for run in runs}
    asked = {path: np.arange(len(found["all"])) for path, found in measured.items()}  # one question an image
    return compare_runs(
        runs, {run.path: estimate_means(measured[run.path], asked[run.path], seed=(0, run.world)) for run in runs}
    )


def columns(run: ComparedRun) -> dict[str, NDArray[np.float64]]:
    split = run.data.split(run.split)
    evaluation = evaluate_run(run.path, run.data, split, Accelerator(cpu=True), reuse=True)
    return evaluation.accuracy() | evaluation.grounding()


def interval(column: NDArray[np.float64], world: int = 0) -> tuple[float, float]:
    found = bootstrap((column,), np.mean, n_resamples=1000, method="percentile", rng=np.random.default_rng((0, world)))
    return tuple(found.confidence_interval)


@pytest.fixture
def another_world(tiny: Tiny, tmp_path: Path) -> Path:
    """The same data under another name, as if they were others."""
    other = tmp_path / "another"
    other.mkdir()
    for path in tiny[1].iterdir():
        (other / path.name).symlink_to(path)
    return other


@pytest.fixture
def four(untrained: Untrained) -> list[Path]:
    """Two methods with two seeds each; the second method's seeds come in the other order."""
    return [
        untrained("seed3/base", seed=3),
        untrained("seed4/base", seed=4),
        untrained("hint-4", "hint", seed=4, hint_share=0.25),
        untrained("hint-3", "hint", seed=3, hint_share=0.25),
    ]


def assert_cell(cell: Cell, runs: list[NDArray[np.float64]], world: int = 0) -> None:
    """It is of runs that have these columns."""
    means = [float(np.mean(column)) for column in runs]
    assert cell.value == pytest.approx(fmean(means))
    assert cell.spread == pytest.approx(stdev(means)) if len(runs) > 1 else cell.spread is None
    assert cell.interval == pytest.approx(interval(np.mean(runs, axis=0), world))


def test_rows_are_means_over_seeds_and_differences_are_paired(four: list[Path]) -> None:
    """Means, spreads and SciPy's intervals of what each run measured, question by question."""
    # Networks with random weights that differ by their seeds alone would have no difference.
    swapped = (four[2] / "best.safetensors").read_bytes()
    (four[2] / "best.safetensors").write_bytes((four[3] / "best.safetensors").read_bytes())
    (four[3] / "best.safetensors").write_bytes(swapped)
    base, hint = rows_of(*four)
    measured = {run.path: columns(run) for row in (base, hint) for run in row.runs}
    assert (base.name, hint.name) == ("base", "hint 25 %")
    assert [run.path for run in hint.runs] == four[2:]
    for name in ("all", "fpvg", "sufficiency"):
        b3, b4, h4, h3 = (measured[path][name] for path in four)
        known = ~np.isnan(b3)
        assert_cell(base.cells[name], [b3[known], b4[known]])
        assert_cell(hint.cells[name], [h4[known], h3[known]])
        assert_cell(hint.differences[name], [(h4 - b4)[known], (h3 - b3)[known]])
    assert not np.array_equal(measured[four[0]]["all"], measured[four[3]]["all"])
    assert base.differences == {}


def test_runs_without_a_partner_are_not_compared(untrained: Untrained) -> None:
    _, hint, both = rows_of(
        untrained("base", seed=0),
        untrained("hint", "hint", seed=1),
        untrained("permuted-0", "permuted", seed=0),
        untrained("permuted-1", "permuted", seed=1),
    )
    assert hint.cells
    assert hint.differences == {}
    assert both.cells["all"].spread is not None
    assert both.differences["all"].spread is None  # one pair


def test_worlds_are_resampled_apart(tiny: Tiny, untrained: Untrained, another_world: Path) -> None:
    paths = [untrained(f"{i}/base", seed=i, data=data) for i, data in enumerate((tiny[1], another_world))]
    (row,) = rows_of(*paths)
    assert [run.world for run in row.runs] == [0, 1]
    runs = [columns(run)["all"] for run in row.runs]
    resampled = [
        bootstrap(
            (column,), np.mean, n_resamples=1000, method="percentile", rng=np.random.default_rng((0, world))
        ).bootstrap_distribution
        for world, column in enumerate(runs)
    ]
    expected = np.quantile(np.mean(resampled, axis=0), [0.025, 0.975])
    assert row.cells["all"].interval == pytest.approx(tuple(expected))
    assert tables({None: [row]})[0].title == "test of prepared, another: official accuracy (%)"


def test_a_row_has_one_recipe(untrained: Untrained) -> None:
    """Fine-tuning, another share and another method are other recipes; seed, directory and device are not."""
    base = untrained("base")
    runs = [
        base,
        untrained("base-again", seed=1, cpu=True, workers=3),
        untrained("continued", start_from=base),
        untrained("hint", "hint"),
        untrained("hint-half", "hint", hint_share=0.5),
        untrained("heavy", method="hint", seed=1, hint_share=0.5),
    ]
    config = json.loads((runs[-1] / "config.json").read_text())
    config["config"]["method"]["weight"] = 7.0
    (runs[-1] / "config.json").write_text(json.dumps(config))
    rows = rows_of(*runs)
    assert [[run.path.name for run in row.runs] for row in rows] == [
        ["base", "base-again"],
        ["continued"],
        ["hint"],
        ["hint-half"],
        ["heavy"],
    ]
    assert [row.name for row in rows] == ["base", "continued", "hint", "hint-half", "heavy"]
    assert [row.runs[0].name for row in rows] == ["base", "base", "hint 100 %", "hint 50 %", "heavy 50 %"]


def test_no_name_occurs_twice(untrained: Untrained) -> None:
    start = untrained("start/net", seed=0)
    rows = rows_of(
        start, untrained("a/net", start_from=start), untrained("b/net", "hint"), untrained("hint", "permuted")
    )
    assert [row.name for row in rows] == ["net", "net (2)", "net (3)", "hint"]


def test_a_run_from_before_an_option_was_known(untrained: Untrained) -> None:
    """It had the option's default."""
    old, new = untrained("old/base", seed=0), untrained("new/base", seed=1)
    config = json.loads((old / "config.json").read_text())
    del config["config"]["scale"]["model"]["network"]
    for name in ("score", "visfis", "task_on", "adversary"):
        del config["config"]["method"][name]
    (old / "config.json").write_text(json.dumps(config))
    (row,) = rows_of(old, new)
    assert len(row.runs) == 2
    assert row.runs[0].published_row == "UpDn"


@pytest.mark.parametrize(
    ("network", "method", "share", "row"),
    [
        ("updn", "hint", 1.0, "UpDn + HINT"),
        ("updn", "hint", 0.25, None),  # the paper uses all hints
        ("updn", "base", 0.25, "UpDn"),  # there are none to use
        ("updn", "attn-align", 1.0, "UpDn + Attn. Align"),
        ("updn", "random", 1.0, None),
        ("san", "base", 1.0, "SAN"),
        ("san", "hint", 1.0, None),
    ],
)
def test_which_row_of_the_paper_a_run_reproduces(
    untrained: Untrained, network: str, method: str, share: float, row: str | None
) -> None:
    path = untrained("run", method, hint_share=share)
    config = json.loads((path / "config.json").read_text())
    config["config"]["scale"]["model"]["network"] = network
    (path / "config.json").write_text(json.dumps(config))
    (run,) = read_runs([path], None, None)
    assert run.published_row == row
    assert run.method == (method if network == "updn" else f"{network} {method}")


def test_all_hints_are_those_there_are(tiny: Tiny, untrained: Untrained, another_world: Path) -> None:
    """With attention maps for a quarter of the questions, 25 % is all of them, and the share is never larger."""
    record = json.loads((another_world / "prepared.json").read_text())
    train = record["splits"]["train"]
    train["hinted"] = train["questions"] // 4
    (another_world / "prepared.json").unlink()
    (another_world / "prepared.json").write_text(json.dumps(record))
    shares = {}
    for share in (0.125, 0.25, 1.0):
        (run,) = read_runs([untrained(f"run-{share}", "hint", hint_share=share, data=another_world)], None, None)
        shares[share] = run.share, run.published_row
    assert shares == {0.125: (0.125, None), 0.25: (0.25, "UpDn + HINT"), 1.0: (0.25, "UpDn + HINT")}


def lines(path: Path) -> dict[str, list[list[str]]]:
    """The tables of a Markdown file, by their headings."""
    found: dict[str, list[list[str]]] = {}
    for line in path.read_text().splitlines():
        if line.startswith("## "):
            found[line[3:]] = []
        elif line.startswith("| ") and not line.startswith("| ---"):
            list(found.values())[-1].append([cell.strip() for cell in line.strip("|").split("|")])
    return found


def test_other_data_stand_apart_from_the_paper(
    four: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "comparison"
    compare(CompareConfig(runs=tuple(four), out=out, cpu=True))
    found = lines(out / "table.md")
    assert list(found) == [
        "test of prepared: official accuracy (%)",
        "test of prepared: difference to base, accuracy (%)",
        "test of prepared: difference to base, grounding",
        "test of prepared: grounding, importance: sum",
        "test of prepared: faithful and plausible grounding (%), relevant by boxes",
        "test of prepared: answers that change with another image's proposals (%), relevant by boxes",
        "VQA-CP v2 test, published accuracy (%): other data than above, not to be compared",
        "VQA v2 val, published accuracy (%): other data than above, not to be compared",
    ]
    base, _ = rows_of(*four)
    ours = found["test of prepared: official accuracy (%)"]
    assert ours[0] == ["method (runs)", "all", "yes/no", "other"]
    assert [line[0] for line in ours[1:]] == ["base (2)", "hint 25 % (2)"]
    cell = base.cells["all"]
    low, high = cell.interval
    assert ours[1][1] == f"{cell.value:.2f} ± {cell.spread:.2f} [{low:.2f}, {high:.2f}]"
    published = found["VQA-CP v2 test, published accuracy (%): other data than above, not to be compared"]
    assert published[-1] == ["UpDn + HINT", "46.73", "67.27", "10.61", "45.88"]
    for line in found["test of prepared: faithful and plausible grounding (%), relevant by boxes"][1:]:
        good, *parts = (float(cell.split()[0]) for cell in line[1:])
        assert good == pytest.approx(parts[0] + parts[1], abs=0.11)
    printed = capsys.readouterr().out
    assert "hint 25 %" in printed
    assert f"written: {out / 'table.md'}, {out / 'table.csv'}\n" in printed.replace("\n/", " /")


def test_the_same_data_stand_beside_the_paper(
    tiny: Tiny, untrained: Untrained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the split were the official one: the paper's rows in its order, each with ours below it."""
    questions = PreparedData.open(tiny[1]).record["splits"]["test"]["questions"]
    monkeypatch.setitem(QUESTIONS, questions, VQACP)
    runs = [
        untrained("ours", "hint"),
        untrained("random", "random"),
        untrained("base"),
        untrained("a-quarter", "hint", hint_share=0.25),
    ]
    compare(CompareConfig(runs=tuple(runs), out=tmp_path / "out", cpu=True))
    found = lines(tmp_path / "out" / "table.md")
    assert not any("other data" in title for title in found)
    table = found["VQA-CP v2 test: official accuracy (%)"]
    assert table[0] == ["method (runs)", "all", "yes/no", "number", "other"]
    assert [line[0] for line in table[1:]] == [
        "SAN, published",
        "UpDn, published",
        "base (1)",
        "GVQA, published",
        "UpDn + Attn. Align, published",
        "UpDn + AdvReg, published",
        "UpDn + HINT, published",
        "ours (1)",
        "random (1)",
        "a-quarter (1)",
    ]
    assert table[1][1:] == ["24.96", "38.35", "11.14", "21.74"]
    assert table[3][3] == "-"  # no question asks for a number
    assert (tmp_path / "out" / "supervision-vqacp.png").stat().st_size > 1000


def test_csv_has_every_number(four: list[Path], tmp_path: Path) -> None:
    compare(CompareConfig(runs=tuple(four), out=tmp_path, cpu=True))
    with (tmp_path / "table.csv").open(newline="") as file:
        records = list(csv.DictReader(file))
    ours = {(r["method"], r["measure"]): r for r in records if r["data"] == "test of prepared"}
    rows = rows_of(*four)
    assert set(ours) == {(row.name, name) for row in rows for name in row.cells}
    assert any(name.startswith('"') for _, name in ours)  # question types
    for row in rows:
        for name, cell in row.cells.items():
            record = ours[row.name, name]
            assert (float(record["value"]), float(record["spread"])) == (cell.value, cell.spread)
            assert (float(record["low"]), float(record["high"])) == cell.interval
            assert record["runs"] == "2"
            if row.differences:
                difference = row.differences[name]
                assert float(record["difference"]) == difference.value
                assert (float(record["difference_low"]), float(record["difference_high"])) == difference.interval
            else:
                assert record["difference"] == record["difference_low"] == ""
    published = [r for r in records if r["data"] != "test of prepared"]
    assert len(published) == 6 * 2 * 4
    assert {r["low"] for r in published} == {""}


def test_the_supervision_curve(tmp_path: Path, untrained: Untrained) -> None:
    """One curve for each method with several shares, from the base run that is otherwise alike."""
    start = untrained("start")
    tuned: dict[str, Any] = {"start_from": start}
    runs = [
        start,
        untrained("adversary", "adv-reg", **tuned),
        untrained("base", seed=1, **tuned),
        *(untrained(f"hint-{share}", "hint", hint_share=share, **tuned) for share in (0.5, 0.25, 1.0)),
        *(untrained(f"paper-{share}", "hint-paper", hint_share=share) for share in (0.5, 0.25)),
        untrained("random", "random", hint_share=0.5, **tuned),
    ]
    rows = {row.name: row for row in rows_of(*runs)}
    curves = supervision(list(rows.values()))
    cells = {name: row.cells["all"] for name, row in rows.items()}
    assert curves == {
        "hint": [
            (0.0, cells["base"]),
            (0.25, cells["hint-0.25"]),
            (0.5, cells["hint-0.5"]),
            (1.0, cells["hint-1.0"]),
        ],
        "hint-paper": [(0.0, cells["start"]), (0.25, cells["paper-0.25"]), (0.5, cells["paper-0.5"])],
    }
    compare(CompareConfig(runs=tuple(runs), out=tmp_path / "out", cpu=True))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["supervision.png", "table.csv", "table.md"]


def test_runs_are_measured_once(four: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = CompareConfig(runs=tuple(four), out=tmp_path / "first", cpu=True)
    compare(config)
    monkeypatch.setattr("updn_vqa.evaluation.measures.measure", lambda *_: pytest.fail("measured"))
    compare(replace(config, out=tmp_path / "second"))
    for name in ("table.md", "table.csv"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


def test_a_split_or_other_data_can_be_given(untrained: Untrained, another_world: Path) -> None:
    path = untrained("run")
    (run,) = read_runs([path], another_world, "val")
    assert (run.data.directory, run.split) == (another_world, "val")
    with pytest.raises(InputError) as error:
        read_runs([path], another_world, "tset")
    assert (
        str(error.value)
        == f"{another_world} has no split 'tset'; it has train, val, dev, test. Give --split one of these."
    )


def test_data_without_a_test_split(untrained: Untrained, another_world: Path) -> None:
    record = json.loads((another_world / "prepared.json").read_text())
    del record["splits"]["test"]
    (another_world / "prepared.json").unlink()
    (another_world / "prepared.json").write_text(json.dumps(record))
    path = untrained("run")
    (run,) = read_runs([path], another_world, None)
    assert run.split == "val"
    del record["splits"]["val"]
    (another_world / "prepared.json").write_text(json.dumps(record))
    with pytest.raises(InputError) as error:
        read_runs([path], another_world, None)
    assert str(error.value) == (
        f"{another_world} has no split test or val; it has train, dev. Give --split one of these."
    )


def test_what_cannot_be_compared(tiny: Tiny, untrained: Untrained, tmp_path: Path) -> None:
    run = untrained("run")

    def fails(*paths: Path) -> str:
        out = tmp_path / "out"
        with pytest.raises(InputError) as error:
            compare(CompareConfig(runs=paths, out=out, cpu=True))
        assert not out.exists()
        return str(error.value)

    assert fails() == "Give the directories of the runs to compare."
    assert fails(run, run) == f"{run} and {run} have the same options, seed and data: give one of them."
    twin = untrained("twin")
    assert fails(run, twin) == f"{run} and {twin} have the same options, seed and data: give one of them."
    absent = tmp_path / "absent"
    assert fails(run, absent) == f"{absent / 'config.json'} does not exist; expected the configuration of a run."
    config = json.loads((twin / "config.json").read_text())
    config["config"]["data"] = "elsewhere/prepared"
    (twin / "config.json").write_text(json.dumps(config))
    assert fails(twin) == (
        f"{twin} was trained on elsewhere/prepared, which is not there. Give the directory with --data."
    )
    (run / "best.safetensors").unlink()
    assert fails(run) == f"RUN {run} holds a run without best.safetensors. Give the --out of a training run."
