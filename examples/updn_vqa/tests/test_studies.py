"""Which runs the studies consist of."""

from pathlib import Path

import pytest

from updn_vqa.studies.definitions import STUDIES
from updn_vqa.studies.study import StudyConfig, _jobs
from updn_vqa.training.methods import METHODS


def test_table1_has_every_method() -> None:
    arms = STUDIES["table1"].arms
    assert {arm.name for arm in arms} >= METHODS.keys()
    assert all(arm.method == METHODS[arm.name] for arm in arms if arm.name in METHODS)
    assert {arm.scale.model.network for arm in arms} == {"updn", "san", "gvqa"}


def test_the_supervision_curve_goes_from_none_to_all() -> None:
    arms = STUDIES["supervision"].arms
    assert [0 if arm.method.supervision == "none" else arm.hint_share for arm in arms] == [
        0,
        0.015,
        0.03,
        0.06,
        0.25,
        1,
    ]
    assert {arm.method for arm in arms} == {METHODS["base"], METHODS["unsigned"]}


@pytest.mark.parametrize("name", ["transformer", "updn-bypass", "updn-mean", "updn-concat", "san"])
def test_all_rows_of_another_network_have_it(name: str) -> None:
    assert {arm.scale.model.network for arm in STUDIES[name].rows} == {name}


@pytest.mark.parametrize("name", STUDIES)
def test_all_rows_of_a_study_have_the_same_budget(name: str) -> None:
    """Also those that do not go on from its start, such as other networks."""
    study = STUDIES[name]
    before = sum(arm.scale.steps for arm in study.starts)
    steps = [arm.scale.steps + (before if arm.from_start else 0) for arm in study.arms]
    assert len(set(steps)) == 1


def test_only_some_rows_go_on_from_the_start(tmp_path: Path) -> None:
    study = STUDIES["table1"]
    config = StudyConfig("table1", (tmp_path / "world",), tmp_path)
    starts = {arm.name: [job.config.start_from for job in _jobs(config, study, arm)] for arm in study.rows}
    from_start = [tmp_path / "world" / f"seed{seed}" / "start" for seed in range(3)]
    assert starts["hint"] == from_start
    assert all(starts[name] == [None] * 3 for name in ("start", "san", "gvqa", "adv-reg"))
