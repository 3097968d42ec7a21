"""The runs that each study consists of."""

from pathlib import Path

import pytest

from updn_vqa.studies.definitions import STUDIES
from updn_vqa.studies.report import main_arm
from updn_vqa.training.methods import METHODS


def test_table1_has_the_methods_of_the_paper_and_their_rivals() -> None:
    arms = STUDIES["table1"].arms
    methods = {"base", "attn-align", "adv-reg", "hint", "hint-paper", "unsigned", "scr", "visfis", "zero-out"}
    assert {arm.name for arm in arms} >= methods
    assert all(arm.method == METHODS[arm.name] for arm in arms if arm.name in METHODS)
    assert {arm.scale.model.network for arm in arms} == {"updn", "san", "gvqa"}


def test_the_supervision_curve_goes_from_none_to_all() -> None:
    arms = STUDIES["supervision"].arms
    shares = [0 if arm.method.supervision == "none" else arm.hint_share for arm in arms]
    assert shares == [0, 0.015, 0.03, 0.06, 0.25, 1]
    assert {arm.method for arm in arms} == {METHODS["base"], METHODS["unsigned"]}


@pytest.mark.parametrize("name", ["transformer", "updn-bypass", "updn-mean", "updn-concat", "san"])
def test_a_study_of_another_network_has_it_in_all_rows(name: str) -> None:
    assert {arm.scale.model.network for arm in STUDIES[name].rows} == {name}


@pytest.mark.parametrize("name", STUDIES)
def test_all_rows_of_a_study_have_the_same_budget(name: str) -> None:
    """Also those that do not fine-tune the study's base network, such as other networks."""
    study = STUDIES[name]
    before = study.start.scale.steps if study.start else 0
    steps = [arm.scale.steps + (before if arm.from_start else 0) for arm in study.arms]
    assert len(set(steps)) == 1


@pytest.mark.parametrize("name", STUDIES)
def test_every_row_has_its_own_directory_and_one_is_the_base(name: str, tmp_path: Path) -> None:
    study = STUDIES[name]
    assert len({run.directory for run in study.runs(tmp_path, [tmp_path / "world"])}) == (
        len(study.rows) * study.model_seeds
    )
    assert "base" in {arm.name for arm in study.rows}
    assert main_arm(study) in study.arms


@pytest.mark.parametrize("name", [name for name in STUDIES if name.startswith("selection")])
def test_options_are_selected_on_the_development_split_alone(name: str) -> None:
    assert STUDIES[name].splits == ("dev",)


def test_only_some_rows_fine_tune_the_base_network(tmp_path: Path) -> None:
    starts: dict[str, list[Path | None]] = {}
    for run in STUDIES["table1"].runs(tmp_path, [tmp_path / "world"]):
        starts.setdefault(run.arm.name, []).append(run.start_from)
    assert starts["hint"] == [tmp_path / "world" / f"seed{seed}" / "start" for seed in range(3)]
    assert all(starts[name] == [None] * 3 for name in ("start", "san", "gvqa", "adv-reg"))
