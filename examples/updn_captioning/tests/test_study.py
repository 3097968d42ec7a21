"""A small study from end to end, and the rows of all studies."""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from updn_captioning.networks.updn import NetworkSizes
from updn_captioning.studies.definitions import STUDIES, Arm, Study
from updn_captioning.studies.study import StudyConfig, study
from updn_captioning.training.methods import METHODS, SCALES, Scale
from updn_common.errors import InputError

Tiny = tuple[Path, Path]
SCALE: Scale = replace(
    SCALES["shapes"],
    model=NetworkSizes(embedding=8, hidden=16, attention=8),
    steps=2,
    evaluate_every=1,
    batch_size=8,
    learning_rate=0.02,
)
STUDY = Study(
    arms=(Arm("base", METHODS["base"], scale=SCALE), Arm("hint", METHODS["hint"], 0.5, SCALE)),
    model_seeds=1,
    start=Arm("start", METHODS["base"], scale=replace(SCALE, steps=30, evaluate_every=30)),
    splits=("val", "test"),
)
RUNS = ("start", "base", "hint")
REAL = dict(STUDIES)


@pytest.fixture(scope="module")
def finished(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StudyConfig]:
    """A small study that has been run, under the name ``robust``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(STUDIES, "robust", STUDY)
        out = tmp_path_factory.mktemp("study") / "out"
        config = StudyConfig(study="robust", data=(tiny[1],), out=out, processes=1)
        study(config)
        yield config


@pytest.fixture
def runs(finished: StudyConfig) -> Path:
    return finished.out / "prepared" / "seed0"


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_the_table_shows_the_evaluations(finished: StudyConfig, runs: Path) -> None:
    scores = {
        run: {split: read(runs / run / "evaluation" / split / "scores.json")["scores"] for split in ("val", "test")}
        for run in RUNS
    }
    header = ["method", "in distribution", "shifted test", "gain", "hallucinated (%)", "pointing", "gain"]
    header += ["by attention", "rank corr.", "own words"]
    lines = [header, ["---"] + ["---:"] * (len(header) - 1)]
    base = scores["base"]["test"]
    for run in RUNS:
        test = scores[run]["test"]

        def number(name: str, digits: int = 1, test: dict[str, float] = test) -> str:
            return f"{test[name]:.{digits}f}" if name in test else "-"

        def gain(name: str, digits: int = 1, run: str = run, test: dict[str, float] = test) -> str:
            return "-" if run == "base" else f"{test[name] - base[name]:.{digits}f}"

        lines.append(
            [
                *(run, f"{scores[run]['val']['CIDEr']:.3f}", number("CIDEr", 3), gain("CIDEr", 3), number("CHAIRi")),
                *(number("reference_gradient_pointing"), gain("reference_gradient_pointing")),
                *(number("reference_attention_pointing"), number("reference_gradient_rank_correlation", 3)),
                number("generated_gradient_pointing"),
            ]
        )
    assert (finished.out / "table.md").read_text() == "".join(f"| {' | '.join(line)} |\n" for line in lines)


def test_every_run_is_trained_with_the_options_of_its_row(finished: StudyConfig, runs: Path) -> None:
    rows = read(finished.out / "results.json")["arms"]
    trained = [read(runs / run / "config.json")["config"] for run in RUNS]
    for name in ("method", "scale", "hint_share"):
        assert [row[name] for row in rows] == [config[name] for config in trained]
    assert [config["start_from"] for config in trained] == [None] + [str(runs / "start")] * 2


def test_the_page_shows_the_curves(finished: StudyConfig) -> None:
    html = (finished.out / "index.html").read_text()
    assert "is the network that all others start from" in html
    assert re.findall(r'src="([^"]+)"', html) == ["curves.png"]
    assert "the language prior misleads" in html


def test_finished_runs_are_not_run_again(finished: StudyConfig, runs: Path) -> None:
    def times() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in runs.rglob("*")}

    before = times()
    study(finished)
    assert times() == before


def test_data_without_hints_are_refused(finished: StudyConfig, tmp_path: Path) -> None:
    directory = tmp_path / "other"
    shutil.copytree(finished.data[0], directory)
    record = read(directory / "prepared.json")
    record["splits"]["val"]["hinted_captions"] = 0
    (directory / "prepared.json").write_text(json.dumps(record))
    with pytest.raises(InputError) as error:
        study(replace(finished, data=(*finished.data, directory), out=tmp_path / "out"))
    assert str(error.value) == (
        f"{directory} cannot be used for a study: its split 'val' has no hinted captions. "
        "Prepare a captioning world of shapes_cp with --split robust."
    )
    assert not (tmp_path / "out").exists()


def test_data_of_another_kind_of_split_are_refused(finished: StudyConfig, tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        study(replace(finished, study="standard", out=tmp_path / "out"))
    assert str(error.value) == (
        f"{finished.data[0]} was prepared with --split robust, but this study needs another. Prepare a captioning "
        "world of shapes_cp with --split karpathy."
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", [name for name in REAL if name.startswith("selection")])
def test_options_are_selected_on_the_development_split_alone(name: str) -> None:
    assert REAL[name].splits == ("dev",)


@pytest.mark.parametrize("name", REAL)
def test_all_rows_of_a_study_have_the_same_budget_and_one_is_the_base(name: str) -> None:
    start, rows = REAL[name].start, REAL[name].arms
    assert len({(arm.scale, arm.hint_share, arm.from_start) for arm in rows}) == 1
    in_all = SCALES["shapes-base"].steps + SCALES["shapes"].steps
    assert rows[0].scale.steps + (start.scale.steps if start else 0) == in_all
    assert rows[0].from_start == (start is not None)
    assert rows[0].hint_share == 1
    assert [arm.name for arm in rows].count("base") == 1
    assert [arm.method for arm in rows].count(METHODS["unsigned" if name != "selection" else "hint"]) == 1
