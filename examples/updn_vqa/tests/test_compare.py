"""Comparisons of runs, and the rows of the paper beside them; updn_common tests which runs make a row."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from accelerate import Accelerator

from updn_common.errors import InputError
from updn_common.reports.bootstrap import Interval, estimate_means
from updn_common.reports.figures import draw
from updn_common.reports.rows import Cell, Row
from updn_common.studies.compare import FORMS_GUIDE
from updn_common.studies.compared_runs import make_rows, open_runs
from updn_vqa.data.prepared import PreparedData
from updn_vqa.evaluation.measures import evaluate_run
from updn_vqa.studies.compare import CompareConfig, compare
from updn_vqa.studies.compared_run import ComparedRun
from updn_vqa.studies.published import QUESTIONS, ROWS, TABLE_1, VQACP
from updn_vqa.studies.supervision import plot_supervision, supervision_curves
from updn_vqa.training.methods import METHODS

Tiny = tuple[Path, Path]
Untrained = Callable[..., Path]


def rows_of(*paths: Path) -> list[Row[ComparedRun]]:
    runs = read_runs(*paths)
    estimates = {}
    for run in runs:
        found = evaluate_run(run.path, run.data, run.data.split(run.split), Accelerator(cpu=True), reuse=True)
        estimates[run.path] = estimate_means(found.accuracy() | found.grounding(), found.images, seed=(0, run.world))
    return make_rows(runs, estimates)


def read_runs(*paths: Path, data: Path | None = None, split: str | None = None) -> list[ComparedRun]:
    return open_runs(paths, data, split, PreparedData.open, ComparedRun)


@pytest.fixture
def another_world(tiny: Tiny, tmp_path: Path) -> Path:
    """The same data under another name, as if they were other data."""
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


def test_runs_are_named_by_preset_and_share(untrained: Untrained) -> None:
    runs = [untrained("a"), untrained("b", "hint"), untrained("c", "hint", hint_share=0.5), untrained("heavy", "hint")]
    config = json.loads((runs[-1] / "config.json").read_text())
    config["config"]["method"]["weight"] = 7.0
    (runs[-1] / "config.json").write_text(json.dumps(config))
    assert [run.name for run in read_runs(*runs)] == ["base", "hint 100 %", "hint 50 %", "heavy 100 %"]


def test_training_on_hinted_questions_uses_hints(untrained: Untrained) -> None:
    methods = ("base", "base-on-hinted")
    runs = read_runs(*(untrained(method, method, hint_share=0.5) for method in methods))
    assert [run.description["hint_share"] for run in runs] == [0.0, 0.5]


def test_options_that_a_run_did_not_record_had_their_defaults(untrained: Untrained) -> None:
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
        ("updn", "hint-paper", 1.0, "UpDn + HINT"),
        ("updn", "unsigned", 1.0, "UpDn + HINT"),
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
    (run,) = read_runs(path)
    assert run.published_row == row
    assert run.method == (method if network == "updn" else f"{network} {method}")


def test_all_hints_are_those_of_the_prepared_data(tiny: Tiny, untrained: Untrained, another_world: Path) -> None:
    """If a quarter of the questions have hints, 25 % are all hints, and the share is never larger."""
    record = json.loads((another_world / "prepared.json").read_text())
    train = record["splits"]["train"]
    train["hinted"] = train["questions"] // 4
    (another_world / "prepared.json").unlink()
    (another_world / "prepared.json").write_text(json.dumps(record))
    shares = {}
    for share in (0.125, 0.25, 1.0):
        (run,) = read_runs(untrained(f"run-{share}", "hint", hint_share=share, data=another_world))
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


def test_on_other_data_the_papers_rows_stand_apart(
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
    text = (out / "table.md").read_text()
    assert FORMS_GUIDE not in text
    assert "each with all of its questions" in text
    published = found["VQA-CP v2 test, published accuracy (%): other data than above, not to be compared"]
    assert published[-1] == ["UpDn + HINT", "46.73", "67.27", "10.61", "45.88"]
    for line in found["test of prepared: faithful and plausible grounding (%), relevant by boxes"][1:]:
        good, *parts = (float(cell.split()[0]) for cell in line[1:])
        assert good == pytest.approx(parts[0] + parts[1], abs=0.11)
    printed = capsys.readouterr().out
    assert "hint 25 %" in printed
    assert f"written: {out / 'table.md'}, {out / 'table.csv'}\n" in printed.replace("\n/", " /")


def test_on_the_papers_data_its_rows_stand_above_ours(
    tiny: Tiny, untrained: Untrained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The split is taken for the official one. The paper's rows keep their order, each with ours below it."""
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
    assert FORMS_GUIDE in (tmp_path / "out" / "table.md").read_text()
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


def test_the_csv_file_has_every_number(four: list[Path], tmp_path: Path) -> None:
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
    """One curve for each method with several shares; it begins at the base run with the same scale and start."""
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
    curves = supervision_curves(list(rows.values()))
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


def test_runs_that_cannot_be_compared_are_refused(tiny: Tiny, untrained: Untrained, tmp_path: Path) -> None:
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
    (run / "best.safetensors").unlink()
    assert fails(run) == f"RUN {run} holds a run without best.safetensors. Give the --out of a training run."


def test_overall_accuracies_of_the_paper_are_means_of_the_others() -> None:
    """They are weighted by numbers of questions, so a wrong digit would show."""
    shares = {"VQA-CP v2 test": (0.304, 0.165, 0.531), "VQA v2 val": (0.376, 0.131, 0.493)}
    for row, found in TABLE_1.items():
        for data_set, accuracies in found.items():
            overall, *parts = accuracies.values()
            mean = sum(share * part for share, part in zip(shares[data_set], parts, strict=True))
            assert overall == pytest.approx(mean, abs=3.0), (row, data_set)


def test_every_published_row_has_a_preset() -> None:
    assert {preset for _, preset in ROWS} <= METHODS.keys()
    assert set(ROWS.values()) == TABLE_1.keys()


def test_dollar_signs_in_names_are_shown(tmp_path: Path) -> None:
    """Matplotlib would take them for a formula, and fail at this one, which may be the name of a directory."""
    points = [(share, Cell(50 + share, None, Interval(49.0, 51.0))) for share in (0.0, 0.06)]
    draw(tmp_path / "a.png", plot_supervision({"$x_{$": points, "hint": points}, "test of $x_{$"))
    assert (tmp_path / "a.png").stat().st_size > 1000
