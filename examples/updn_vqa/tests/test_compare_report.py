"""The numbers of the paper, and figures of runs with awkward names."""

from pathlib import Path

import pytest

from updn_common.reports.bootstrap import Interval
from updn_common.reports.figures import draw
from updn_common.reports.rows import Cell
from updn_vqa.studies.published import TABLE_1
from updn_vqa.studies.supervision import plot_supervision
from updn_vqa.training.methods import METHODS


def test_overall_accuracies_of_the_paper_are_means_of_the_others() -> None:
    """They are weighted by numbers of questions, so a wrong digit would show."""
    shares = {"VQA-CP v2 test": (0.304, 0.165, 0.531), "VQA v2 val": (0.376, 0.131, 0.493)}
    for row, found in TABLE_1.items():
        for data_set, accuracies in found.items():
            overall, *parts = accuracies.values()
            mean = sum(share * part for share, part in zip(shares[data_set], parts, strict=True))
            assert overall == pytest.approx(mean, abs=3.0), (row, data_set)


def test_every_method_of_the_paper_is_a_preset() -> None:
    assert {"base", "hint", "hint-paper", "attn-align", "adv-reg"} <= METHODS.keys()


def test_dollar_signs_in_names_are_shown(tmp_path: Path) -> None:
    """Matplotlib would take them for a formula, and fail at this one, which may be the name of a directory."""
    points = [(share, Cell(50 + share, None, Interval(49.0, 51.0))) for share in (0.0, 0.06)]
    draw(tmp_path / "a.png", plot_supervision({"$x_{$": points, "hint": points}, "test of $x_{$"))
    assert (tmp_path / "a.png").stat().st_size > 1000
