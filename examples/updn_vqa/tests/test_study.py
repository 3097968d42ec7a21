"""A small study from end to end, and the rows of all studies."""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from updn_common.errors import InputError
from updn_common.studies.study import Job
from updn_vqa.studies.definitions import STUDIES, Arm, Study
from updn_vqa.studies.report import GALLERY
from updn_vqa.studies.study import TRAINER, StudyConfig, study
from updn_vqa.training.config import TrainConfig
from updn_vqa.training.methods import METHODS, SCALES, SMALL, Scale

Tiny = tuple[Path, Path]
SCALE: Scale = replace(
    SCALES["shapes"],
    model=replace(SMALL, embedding=8, hidden=16),
    steps=2,
    evaluate_every=1,
    batch_size=8,
    hint_batch_size=4,
)
STUDY = Study(
    arms=(
        Arm("base", METHODS["base"], scale=SCALE),
        Arm("hint", METHODS["hint"], 0.5, SCALE),
        Arm("hint 12.5 %", METHODS["hint"], 0.125, SCALE),
    ),
    model_seeds=1,
    start=Arm("start", METHODS["base"], scale=SCALE),
)
RUNS = ("start", "base", "hint", "hint-12.5")


@pytest.fixture(scope="module")
def finished(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StudyConfig]:
    """A small study that has been run, under the name ``demo``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(STUDIES, "demo", STUDY)
        patch.setattr("updn_vqa.studies.report.GALLERY", dict.fromkeys(GALLERY, 1))
        out = tmp_path_factory.mktemp("study") / "out"
        config = StudyConfig(study="demo", data=(tiny[1],), out=out, images=tiny[0], processes=1)
        study(config)
        yield config


@pytest.fixture
def runs(finished: StudyConfig) -> Path:
    return finished.out / "prepared" / "seed0"


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_the_table_shows_the_evaluations(finished: StudyConfig, runs: Path) -> None:
    measured = {
        run: {split: read(runs / run / "evaluation" / split / "accuracy.json") for split in ("val", "dev", "test")}
        for run in RUNS
    }
    accuracy = {run: {split: m["accuracy"]["2016"] for split, m in splits.items()} for run, splits in measured.items()}
    kinds = list(accuracy["base"]["test"]["by_question_type"])
    header = [
        "method",
        "in distribution",
        "development",
        "shifted test",
        "gain",
        *kinds,
        "rank corr.",
        "pointing",
        "flips",
    ]
    lines = [header, ["---"] + ["---:"] * (len(header) - 1)]
    for run, name in zip(RUNS, ("start", "base", "hint", "hint 12.5 %"), strict=True):
        overall = {split: accuracy[run][split]["overall"] for split in ("val", "dev", "test")}
        gain = "-" if run == "base" else f"{overall['test'] - accuracy['base']['test']['overall']:.1f}"
        by_type = [f"{accuracy[run]['test']['by_question_type'][kind]:.1f}" for kind in kinds]
        found = measured[run]["test"]
        grounding = [f"{found['rank_correlation']:.2f}", f"{found['pointing']:.1f}", f"{found['flips_irrelevant']:.1f}"]
        lines.append([name, *(f"{value:.1f}" for value in overall.values()), gain, *by_type, *grounding])
    assert (finished.out / "table.md").read_text() == "".join(f"| {' | '.join(line)} |\n" for line in lines)


def test_the_results_record_the_code_and_the_options_of_every_row(finished: StudyConfig, runs: Path) -> None:
    results = read(finished.out / "results.json")
    assert list(results) == ["made_by", "arms", "outcomes"]
    assert results["made_by"] == {
        "git": [read(runs / "hint" / "config.json")["git"]],
        "torch": [version("torch")],
        "hint-loss": [version("hint-loss")],
    }
    assert results["arms"] == json.loads(json.dumps([asdict(arm) for arm in (STUDY.start, *STUDY.arms)]))
    trained = [read(runs / run / "config.json")["config"] for run in RUNS]
    for name in ("method", "scale", "hint_share"):
        assert [arm[name] for arm in results["arms"]] == [config[name] for config in trained]
    assert [outcome["arm"] for outcome in results["outcomes"]] == [arm["name"] for arm in results["arms"]]
    assert all(list(outcome["accuracy"]) == ["val", "dev", "test"] for outcome in results["outcomes"])


def test_the_page_shows_its_figures(finished: StudyConfig) -> None:
    html = (finished.out / "index.html").read_text()
    assert "is the network that all others start from" in html
    figures = {path.relative_to(finished.out).as_posix() for path in finished.out.rglob("*.png")}
    assert {"curves.png", "shares.png"} < figures
    assert {Path(figure).parent.name for figure in figures} == {"", "most-improved", "most-harmed", "random"}
    assert set(re.findall(r'src="([^"]+)"', html)) == figures


def test_arms_start_from_the_base_network_and_have_their_own_logs(runs: Path) -> None:
    starts = [read(runs / run / "config.json")["config"]["start_from"] for run in RUNS]
    assert starts == [None] + [str(runs / "start")] * 3
    assert sorted(path.name for path in runs.iterdir()) == sorted([*RUNS, *(f"{run}.log" for run in RUNS)])


def test_finished_runs_are_not_run_again(finished: StudyConfig, runs: Path) -> None:
    def times() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in runs.rglob("*")}

    before, report = times(), finished.out / "table.md"
    written = report.stat().st_mtime_ns
    study(replace(finished, images=None))
    assert times() == before
    assert report.stat().st_mtime_ns > written


def test_a_run_without_an_evaluation_is_evaluated_but_not_trained(finished: StudyConfig, runs: Path) -> None:
    lost, checkpoint = runs / "hint" / "evaluation" / "dev" / "accuracy.json", runs / "hint" / "best.safetensors"
    content, trained = lost.read_text(), checkpoint.stat().st_mtime_ns
    (run,) = [run for run in STUDY.runs(finished.out, finished.data) if run.directory == runs / "hint"]
    job = Job(run, STUDY.splits, TRAINER)
    assert job.finished
    lost.unlink()
    assert not job.finished
    job.work()
    assert job.finished
    assert lost.read_text() == content
    assert checkpoint.stat().st_mtime_ns == trained


@pytest.mark.parametrize(
    ("changes", "run", "found"),
    [
        ({"method": replace(METHODS["hint"], weight=7.0)}, "hint", "method.weight = 30.0, not 7.0"),
        (
            {"scale": replace(SCALE, steps=3, model=replace(SCALE.model, hidden=8)), "hint_share": 0.25},
            "hint",
            "scale.steps = 2, not 3; scale.model.hidden = 16, not 8; hint_share = 0.5, not 0.25",
        ),
    ],
)
def test_a_run_with_other_options_is_refused_before_anything_is_run(
    finished: StudyConfig, runs: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], run: str, found: str
) -> None:
    new = Arm("new", METHODS["base"], scale=SCALE)
    changed = replace(STUDY.arms[1], **changes)
    monkeypatch.setitem(STUDIES, "demo", replace(STUDY, arms=(new, STUDY.arms[0], changed)))
    message = f"{runs / run} was trained with {found}: delete it or choose another --out."
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        study(finished)
    assert not (runs / "new").exists()


def test_runs_on_other_data_are_refused(finished: StudyConfig, runs: Path, tiny: Tiny, tmp_path: Path) -> None:
    shutil.copytree(tiny[1], tmp_path / "prepared")
    message = f"{runs / 'start'} was trained with data = {tiny[1]}, not {tmp_path / 'prepared'}: delete it or"
    with pytest.raises(InputError, match=f"^{re.escape(message)}"):
        study(replace(finished, data=(tmp_path / "prepared",)))


def test_options_that_a_run_did_not_record_had_their_defaults(finished: StudyConfig, runs: Path) -> None:
    written = read(runs / "hint" / "config.json")["config"]
    older = {name: value for name, value in written.items() if name not in ("processes", "method")}
    method = {name: value for name, value in written["method"].items() if name != "min_gap"}
    out = finished.out.with_name("older")
    out.mkdir()
    (out / "config.json").write_text(json.dumps({"config": older | {"method": method}}))
    config = TrainConfig(finished.data[0], out, METHODS["hint"], SCALE, runs / "start", hint_share=0.5)
    assert config.differences() == []
    assert replace(config, method=METHODS["hint-paper"]).differences()[1:3] == [
        "method.margin = 0.4, not 0.0",
        "method.min_gap = 0.5, not 0.0",
    ]
    assert config.differences(processes=2) == ["processes = 1, not 2"]


def test_options_without_an_effect_are_not_compared(finished: StudyConfig, runs: Path) -> None:
    config = TrainConfig(finished.data[0], runs / "base", METHODS["base"], SCALE, runs / "start", hint_share=0.06)
    assert replace(config, cpu=False, workers=2, hint_share=1.0).differences() == []
    assert replace(config, method=replace(METHODS["base"], weight=1.0)).differences() == []
    assert replace(config, method=METHODS["hint"]).differences() == ["method.supervision = none, not importance"]
    assert replace(config, out=runs / "hint").differences() == ["method.supervision = importance, not none"]


@pytest.mark.parametrize(
    ("split", "counts", "lacking"),
    [
        ("dev", None, "questions, hints, boxes of asked objects"),
        ("test", {"hinted": 0}, "hints"),
        ("train", {"grounded": 0}, "boxes of asked objects"),
    ],
)
def test_data_other_than_a_world_of_shapes_is_refused(
    finished: StudyConfig, tmp_path: Path, split: str, counts: dict[str, int] | None, lacking: str
) -> None:
    directory = tmp_path / "other"
    shutil.copytree(finished.data[0], directory)
    record = read(directory / "prepared.json")
    was = record["splits"].pop(split)
    if counts is not None:
        record["splits"][split] = was | counts
    (directory / "prepared.json").write_text(json.dumps(record))
    message = (
        f"{directory} cannot be used for a study: its split {split!r} has no {lacking}. "
        "Prepare a world of shapes_cp with --hints hat."
    )
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        study(replace(finished, data=(*finished.data, directory), out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_an_absent_folder_of_images_is_refused_before_anything_is_run(finished: StudyConfig, tmp_path: Path) -> None:
    config = replace(finished, out=tmp_path / "out", images=tmp_path / "none")
    with pytest.raises(InputError, match=f"^{re.escape(str(tmp_path / 'none'))} is not a folder: give the one that"):
        study(config)
    assert not config.out.exists()


def test_the_selected_weights_and_margins_are_inside_their_grids() -> None:
    methods = [arm.method for name in ("selection", "selection-unsigned") for arm in STUDIES[name].arms]
    options = [("hint", "weight"), ("hint", "margin"), ("hint-paper", "weight"), ("unsigned", "weight")]
    for name, option in [*options, ("unsigned", "margin")]:
        chosen = METHODS[name]
        value = getattr(chosen, option)
        values = [getattr(m, option) for m in methods if replace(m, **{option: value}) == chosen]
        assert min(values) < value < max(values), (name, option)
