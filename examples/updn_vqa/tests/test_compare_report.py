"""What comparisons hold beside the runs: the paper's numbers, and names as they are."""

from pathlib import Path

import pytest

from updn_common.reports.bootstrap import Interval
from updn_common.reports.comparison import Cell
from updn_vqa.studies.compare_report import _draw
from updn_vqa.studies.published import TABLE_1
from updn_vqa.training.methods import METHODS


def test_the_table_of_the_paper() -> None:
    """Overall accuracies are means of the others, weighted by numbers of questions: no cell can be far off."""
    shares = {"VQA-CP v2 test": (0.304, 0.165, 0.531), "VQA v2 val": (0.376, 0.131, 0.493)}
    for row, found in TABLE_1.items():
        for data_set, (overall, *parts) in found.items():
            mean = sum(share * part for share, part in zip(shares[data_set], parts, strict=True))
            assert overall == pytest.approx(mean, abs=3.0), (row, data_set)


def test_every_method_of_the_paper_is_a_preset() -> None:
    assert {"base", "hint", "hint-paper", "attn-align", "adv-reg"} <= METHODS.keys()


def test_dollar_signs_in_names_are_no_formulas(tmp_path: Path) -> None:
    """Matplotlib would stop at this one, which may be the name of a directory."""
    points = [(share, Cell(50 + share, None, Interval(49.0, 51.0))) for share in (0.0, 0.06)]
    _draw(tmp_path / "a.png", {"$x_{$": points, "hint": points}, "test of $x_{$")
    assert (tmp_path / "a.png").stat().st_size > 1000
