"""Coverage of the intervals: a small measurement, and the committed one."""

import json
from pathlib import Path

import pytest

from human_study.analysis import coverage as program
from human_study.analysis.coverage import (
    METHODS,
    SCENARIOS,
    CoverageConfig,
    Scenario,
    coverage,
    coverage_table,
    measure,
)

RESULTS = Path(__file__).parents[1] / "results" / "coverage.json"
CLUSTERED = [number for number, scenario in enumerate(SCENARIOS) if scenario.rater_sd]


def test_headline_covers_in_a_small_measurement() -> None:
    found = measure(Scenario("small", 0.5, 0.8, 0.8, 24, 12, 10), 100, 0, 100, [0, 0])["measured"]
    assert 0.89 <= found["crossed"]["coverage"] <= 0.99
    assert found["crossed"]["found"] == pytest.approx(1 - found["crossed"]["coverage"])
    assert found["wilson"]["coverage"] < 0.88
    assert found["bootstrap both"]["mean_width"] > found["crossed"]["mean_width"] > found["wilson"]["mean_width"]


def test_program_writes_all_methods(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = [scenario._replace(items=8, items_per_participant=4, raters_per_item=4) for scenario in SCENARIOS[:2]]
    monkeypatch.setattr(program, "SCENARIOS", small)
    coverage(CoverageConfig(tmp_path / "coverage.json", studies=3, slow_studies=1, resamples=10))
    result = json.loads((tmp_path / "coverage.json").read_text())
    assert result["simulated"] is True
    assert {*result["scenarios"][1]["measured"]} == {*METHODS}
    assert "numpy" in result["machine"]
    assert (tmp_path / "coverage.md").read_text().startswith("Simulated answers.")


def test_committed_table_is_that_of_the_committed_numbers() -> None:
    assert RESULTS.with_suffix(".md").read_text() == coverage_table(json.loads(RESULTS.read_text()))


@pytest.mark.parametrize("number", range(len(SCENARIOS)), ids=[scenario.name for scenario in SCENARIOS])
def test_committed_headline_has_nominal_coverage(number: int) -> None:
    committed = json.loads(RESULTS.read_text())["scenarios"][number]
    expected = json.loads(json.dumps(SCENARIOS[number]._asdict()))
    assert {name: committed[name] for name in expected} == expected
    headline, mixed = committed["measured"]["crossed"], committed["measured"]["mixed"]
    assert headline["studies"] >= 1000
    assert 0.93 <= headline["coverage"] <= 0.97
    assert mixed["coverage"] >= 0.93
    assert number not in CLUSTERED or mixed["coverage"] <= 0.97
    if committed["share"] == 0.5:
        assert 0.035 <= headline["found"] <= 0.065


@pytest.mark.parametrize("number", CLUSTERED)
def test_committed_results_show_what_ignoring_clusters_does(number: int) -> None:
    measured = json.loads(RESULTS.read_text())["scenarios"][number]["measured"]
    assert measured["wilson"]["coverage"] < 0.93
    assert measured["bootstrap both"]["coverage"] >= 0.965
