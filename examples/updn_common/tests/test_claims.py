"""Claims: verdicts, rows and paired differences; the committed tables are up to date."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from updn_common.reports.claims import CLAIMS, Claim, committed, differences, interval, report, role

ROOT = Path(__file__).parents[3]


def arm(name: str, **changes: Any) -> dict[str, Any]:
    method = {"supervision": "importance", "hints": "human", "importance": "norm", "scale_free": True} | changes
    options = {"hint_share": method.pop("hint_share", 0.06), "from_start": method.pop("from_start", False)}
    return {"name": name, "method": method} | options


def outcome(name: str, seed: int, test: float) -> dict[str, Any]:
    accuracy = {"val": 50.0, "dev": 0.0, "test": test}
    return {"arm": name, "world": "w", "seed": seed, "accuracy": accuracy, "pointing": 1.0, "rank_correlation": 0.0}


@pytest.mark.parametrize(
    ("low", "high", "above", "below"),
    [(1.1, 2.0, "holds", "fails"), (-1, 0.9, "fails", "holds"), (0, 2, "open", "open")],
)
def test_a_verdict_depends_on_the_side_of_the_interval(low: float, high: float, above: str, below: str) -> None:
    assert Claim("", "test", "HINT", least=1.0).verdict(low, high) == above
    assert Claim("", "test", "HINT", least=1.0, below=True).verdict(low, high) == below


def test_the_interval_equals_that_of_a_paired_t_test() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 9))
    expected = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert interval([*(a - b)]) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ("unsigned", "HINT")),
        ({"importance": "sum", "hints": "permuted"}, ("signed", "HINT, permuted")),
        ({"importance": "sum", "scale_free": False}, ("the paper's loss", "HINT")),
        ({"hints": "random-per-epoch"}, ("unsigned", "HINT, redrawn")),
        ({"hint_share": 0.015, "hints": "irrelevant"}, ("unsigned", "HINT, 1.5 %, inverted")),
        ({"hint_share": 0.25}, None),
        ({"probes": 0}, None),
        ({"hints": "random"}, None),
        ({"supervision": "visfis"}, None),
        ({"task_on": "hinted"}, None),
    ],
)
def test_options_decide_the_form_and_the_row(changes: dict[str, Any], expected: Any) -> None:
    assert role(arm("any name", **changes), 0.06) == expected


def test_differences_are_paired_by_world_and_seed() -> None:
    arms = [arm("base", supervision="none"), arm("x"), arm("attn-align", supervision="attention")]
    runs = [outcome("base", 1, 10.0), outcome("base", 0, 20.0), outcome("x", 0, 25.0), outcome("x", 1, 17.0)]
    runs += [outcome("attn-align", seed, 20.0) for seed in (0, 1)]
    found = {
        (form, claim.text[:2], claim.measure): values
        for form, claim, values in differences({"arms": arms, "outcomes": runs})
    }
    assert found["unsigned, from the start", "C1", "test"] == [5.0, 7.0]
    assert found["attention, from the start", "C3", "test"] == [0.0, 10.0]
    assert found["unsigned, from the start", "Ou", "test"] == [5.0, -3.0]
    assert not [at for at in found if at[2] in ("flips", "cider") or at[1] == "C2"]


def test_fine_tuned_rows_have_claims_of_their_own_and_the_same_base() -> None:
    trained = [arm("x, trained", from_start=True), arm("attn-align, trained", supervision="attention", from_start=True)]
    arms = [arm("base", supervision="none"), arm("x"), *trained]
    scores = {"base": 10.0, "x": 40.0, "x, trained": 25.0, "attn-align, trained": 20.0}
    runs = [outcome(name, seed, score + seed) for name, score in scores.items() for seed in (0, 1)]
    found = {
        (form, claim.text[:2]): values
        for form, claim, values in differences({"arms": arms, "outcomes": runs})
        if claim.measure == "test"
    }
    assert found == {
        ("unsigned, from the start", "C1"): [30.0, 30.0],
        ("unsigned, fine-tuned", "C1"): [15.0, 15.0],
        ("unsigned, fine-tuned", "Ou"): [5.0, 5.0],
        ("attention, fine-tuned", "C3"): [10.0, 10.0],
    }


def test_the_committed_tables_match_the_committed_results() -> None:
    found = report(committed(ROOT / "examples"))
    assert all(claim.text in found[0] for claim in CLAIMS)
    for name, text in zip(("table.md", "settings.md"), found, strict=True):
        assert (ROOT / "docs/claims" / name).read_text(encoding="utf-8") == text, "run `make claims`"
