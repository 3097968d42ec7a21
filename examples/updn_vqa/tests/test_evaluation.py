"""Measurements that are kept and reused, and the numbers that are printed and written."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from scipy.stats import bootstrap

from updn_common.errors import InputError
from updn_vqa.data.prepared import PreparedData
from updn_vqa.evaluation.evaluate import NAMES, EvaluateConfig, evaluate
from updn_vqa.evaluation.measures import Evaluation, evaluate_run, numbers, relevant_by

Tiny = tuple[Path, Path]
Untrained = Callable[..., Path]
NAN = float("nan")


def evaluated(run: Path, data: Path, *, reuse: bool = False) -> Evaluation:
    prepared = PreparedData.open(data)
    return evaluate_run(run, prepared, prepared.split("test"), Accelerator(cpu=True), reuse=reuse)


def kept(run: Path) -> Path:
    return run / "evaluation" / "test" / "questions.safetensors"


def assert_same(one: Evaluation, other: Evaluation) -> None:
    assert one.answers == other.answers
    assert one.reports == other.reports
    assert one.measured.keys() == other.measured.keys()
    for name, column in one.measured.items():
        torch.testing.assert_close(column, other.measured[name], rtol=0, atol=0, equal_nan=True)


def test_kept_measurements_are_reused(tiny: Tiny, untrained: Untrained, monkeypatch: pytest.MonkeyPatch) -> None:
    run = untrained("run")
    first = evaluated(run, tiny[1])
    monkeypatch.setattr("updn_vqa.evaluation.measures.measure", lambda *_: pytest.fail("measured"))
    assert_same(evaluated(run, tiny[1], reuse=True), first)
    assert set(first.measured) == {
        *("answers", "scores", "rank_correlation", "pointing"),
        *("stays", "changes", "sufficiency", "comprehensiveness", "flips_irrelevant", "flips_relevant"),
    }
    assert not first.measured["stays"].isnan().all()


@pytest.mark.parametrize("change", ["trained on", "damaged", "another format", "asked to", "other data"])
def test_outdated_measurements_are_not_reused(
    tiny: Tiny, untrained: Untrained, monkeypatch: pytest.MonkeyPatch, change: str, tmp_path: Path
) -> None:
    run, other, data = untrained("run"), untrained("other", seed=1), tiny[1]
    evaluated(run, data)
    expected = evaluated(other if change == "trained on" else run, data)
    if change == "trained on":
        (run / "best.safetensors").write_bytes((other / "best.safetensors").read_bytes())
    elif change == "damaged":
        kept(run).write_bytes(kept(run).read_bytes()[:-10])
    elif change == "another format":
        monkeypatch.setattr("updn_vqa.evaluation.measures._FORMAT", "0")
    elif change == "other data":
        data = tmp_path / "copy"
        data.mkdir()
        for path in tiny[1].iterdir():
            (data / path.name).symlink_to(path)
        record = json.loads((data / "prepared.json").read_text()) | {"another": "key"}
        (data / "prepared.json").unlink()
        (data / "prepared.json").write_text(json.dumps(record))
    written = kept(run).stat().st_mtime_ns
    assert_same(evaluated(run, data, reuse=change != "asked to"), expected)
    assert kept(run).stat().st_mtime_ns > written
    written = kept(run).stat().st_mtime_ns
    assert_same(evaluated(run, data, reuse=True), expected)
    assert kept(run).stat().st_mtime_ns == written


def test_a_run_without_a_checkpoint(tiny: Tiny, untrained: Untrained) -> None:
    run = untrained("run")
    evaluated(run, tiny[1])
    (run / "best.safetensors").unlink()
    message = f"--run {run} holds a run without best.safetensors. Give the --out of a training run."
    with pytest.raises(InputError) as error:
        evaluated(run, tiny[1], reuse=True)
    assert str(error.value) == message


def test_the_accuracies_are_the_official_ones(tiny: Tiny, untrained: Untrained) -> None:
    evaluation = evaluated(untrained("run"), tiny[1])
    for version, report in evaluation.reports.items():
        found = {
            name: round(number.value, 2)
            for name, number in numbers(evaluation.accuracy(version), evaluation.images).items()
        }
        assert found == {
            "all": report.overall,
            **report.by_answer_type,
            **{f'"{name}"': value for name, value in report.by_question_type.items()},
        }


def test_numbers_are_means_of_known_values() -> None:
    columns = {"a": np.array([1.0, NAN, 0.0, 4.0, NAN]), "unknown": np.full(5, NAN), "b": np.arange(5.0)}
    found = numbers(columns, np.arange(5))
    assert list(found) == ["a", "b"]
    assert found["a"].value == pytest.approx(5 / 3)
    expected = bootstrap(
        (columns["b"],), np.mean, n_resamples=1000, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    assert found["b"].interval == pytest.approx(tuple(expected))
    assert numbers({"unknown": columns["unknown"]}, np.arange(5)) == {}


def test_fpvg_and_its_parts_add_up(tiny: Tiny, untrained: Untrained) -> None:
    evaluation = evaluated(untrained("run"), tiny[1])
    found = {name: number.value for name, number in numbers(evaluation.grounding(), evaluation.images).items()}
    assert found["ggc"] + found["ggw"] == pytest.approx(found["fpvg"])
    assert sum(found[name] for name in ("ggc", "ggw", "bgc", "bgw")) == pytest.approx(100)
    assert found["sufficiency"] == pytest.approx(evaluation.measured["sufficiency"].nanmean().item(), abs=1e-6)


@pytest.mark.parametrize(("grounded", "expected"), [(3, "boxes"), (0, "hints")])
def test_boxes_define_relevant_proposals_if_there_are_any(tiny: Tiny, grounded: int, expected: str) -> None:
    data = PreparedData.open(tiny[1])
    data.record["splits"]["test"]["grounded"] = grounded
    assert relevant_by(data, "test") == expected


def test_evaluate_reports_every_number_with_its_interval(
    tiny: Tiny, untrained: Untrained, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    run = untrained("run")
    evaluate(EvaluateConfig(data=tiny[1], run=run, cpu=True))
    printed = capsys.readouterr().out
    written = json.loads((run / "evaluation" / "test" / "accuracy.json").read_text())
    evaluation = evaluated(run, tiny[1], reuse=True)
    assert list(written) == ["accuracy", *NAMES, "relevant_by", "importance", "intervals"]
    assert written["relevant_by"] == "boxes"
    assert written["importance"] == "sum"
    for version, report in evaluation.reports.items():
        found = written["accuracy"][version]
        assert found["overall"] == report.overall
        assert {int(key): value for key, value in found["by_question"].items()} == report.by_question
        for name, number in numbers(evaluation.accuracy(version), evaluation.images).items():
            assert written["intervals"]["accuracy"][version][name] == list(number.interval)
            assert f"{number.value:.2f} [{number.interval.low:.2f}, {number.interval.high:.2f}]" in printed
    for name, number in numbers(evaluation.grounding(), evaluation.images).items():
        assert written[name] == number.value
        assert written["intervals"][name] == list(number.interval)
        digits = 2 if "%" in NAMES[name] else 3
        interval = f"[{number.interval.low:.{digits}f}, {number.interval.high:.{digits}f}]"
        line = next(line for line in printed.splitlines() if NAMES[name] in line)
        assert f"{number.value:.{digits}f} {interval}" in line
    answers = json.loads((run / "evaluation" / "test" / "results.json").read_text())
    assert [record["answer"] for record in answers] == evaluation.answers
