"""Studies: what is run, what is kept, what is refused, and what the report says of it."""

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
from updn_vqa.studies.definitions import STUDIES, Arm, Study
from updn_vqa.studies.report import GALLERY, Outcome, leading, table
from updn_vqa.studies.study import Job, StudyConfig, _jobs, study
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
        config = StudyConfig("demo", (tiny[1],), tmp_path_factory.mktemp("study") / "out", tiny[0], processes=1)
        study(config)
        yield config


@pytest.fixture
def runs(finished: StudyConfig) -> Path:
    return finished.out / "prepared" / "seed0"


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_the_table_shows_what_was_evaluated(finished: StudyConfig, runs: Path) -> None:
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


def test_the_results_say_what_made_them(finished: StudyConfig, runs: Path) -> None:
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
    figures = {path.relative_to(finished.out).as_posix() for path in finished.out.rglob("*.png")}
    assert {"curves.png", "shares.png"} < figures
    assert {Path(figure).parent.name for figure in figures} == {"", "most-improved", "most-harmed", "random"}
    assert set(re.findall(r'src="([^"]+)"', html)) == figures


def test_the_arms_start_from_their_seeds_start_and_have_their_own_logs(runs: Path) -> None:
    starts = [read(runs / run / "config.json")["config"]["start_from"] for run in RUNS]
    assert starts == [None] + [str(runs / "start")] * 3
    assert sorted(path.name for path in runs.iterdir()) == sorted([*RUNS, *(f"{run}.log" for run in RUNS)])


def test_what_is_finished_is_not_run_again(finished: StudyConfig, runs: Path) -> None:
    def times() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in runs.rglob("*")}

    before, report = times(), finished.out / "table.md"
    written = report.stat().st_mtime_ns
    study(replace(finished, images=None))
    assert times() == before
    assert report.stat().st_mtime_ns > written


def test_what_lacks_an_evaluation_is_evaluated_not_trained(finished: StudyConfig, runs: Path) -> None:
    lost, checkpoint = runs / "hint" / "evaluation" / "dev" / "accuracy.json", runs / "hint" / "best.safetensors"
    content, trained = lost.read_text(), checkpoint.stat().st_mtime_ns
    (job,) = _jobs(finished, STUDY, STUDY.arms[1])
    assert job.finished
    lost.unlink()
    assert not job.finished
    job.run()
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
def test_runs_of_other_settings_are_refused_before_anything_is_run(
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


def test_options_that_an_older_revision_did_not_know_had_their_defaults(finished: StudyConfig, runs: Path) -> None:
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


def test_options_without_an_effect_do_not_count(finished: StudyConfig, runs: Path) -> None:
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
def test_data_that_is_no_world_of_shapes_is_refused(
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
        f"{directory} is not for a study: its split {split!r} has no {lacking}. "
        "Prepare a world of shapes_cp with --hints hat."
    )
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        study(replace(finished, data=(*finished.data, directory), out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_options_are_checked_before_anything_is_run(finished: StudyConfig, tmp_path: Path) -> None:
    config = replace(finished, out=tmp_path / "out")
    with pytest.raises(
        InputError, match=r"^--data should be directories of different names, found prepared, prepared\.$"
    ):
        study(replace(config, data=config.data * 2))
    with pytest.raises(InputError, match=r"^--data should be directories of different names, found none\.$"):
        study(replace(config, data=()))
    with pytest.raises(InputError, match=r"^--processes should be at least 1, found 0\.$"):
        study(replace(config, processes=0))
    with pytest.raises(InputError, match=f"^{re.escape(str(tmp_path / 'none'))} is not a folder: give the one that"):
        study(replace(config, images=tmp_path / "none"))
    assert not config.out.exists()


def test_selection_does_not_look_at_the_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluated = []
    monkeypatch.setattr("updn_vqa.studies.study.train", lambda config: config.out.mkdir())
    monkeypatch.setattr("updn_vqa.studies.study.evaluate", lambda config: evaluated.append(config.split))
    config = TrainConfig(tmp_path, tmp_path / "run", METHODS["base"], SCALE)
    Job(config, STUDIES["selection"].splits).run()
    assert evaluated == ["dev"]


def test_the_chosen_weights_and_margins_are_inside_of_their_grids() -> None:
    methods = [arm.method for name in ("selection", "selection-unsigned") for arm in STUDIES[name].arms]
    options = [("hint", "weight"), ("hint", "margin"), ("hint-paper", "weight"), ("unsigned", "weight")]
    for name, option in [*options, ("unsigned", "margin")]:
        chosen = METHODS[name]
        value = getattr(chosen, option)
        values = [getattr(m, option) for m in methods if replace(m, **{option: value}) == chosen]
        assert min(values) < value < max(values), (name, option)


@pytest.mark.parametrize("name", STUDIES)
def test_every_row_has_its_own_directory_and_one_is_the_base(name: str, tmp_path: Path) -> None:
    arms = STUDIES[name].rows
    assert len({arm.directory(tmp_path, "world", 0) for arm in arms}) == len(arms)
    assert "base" in {arm.name for arm in arms}
    assert leading(STUDIES[name]) in arms


def outcome(arm: str, seed: int, accuracy: dict[str, float], kind: float = 50.0) -> Outcome:
    return Outcome(
        arm,
        "w",
        seed,
        accuracy,
        {"what": kind},
        rank_correlation=0.125 * seed,
        pointing=10.0 * seed,
        flips_irrelevant=5.0 * seed,
        importance="sum",
    )


def test_gains_are_paired_differences_on_the_last_split() -> None:
    outcomes = [
        outcome("hint", 1, {"dev": 1.0, "test": 90.0}, 40.0),
        outcome("hint", 0, {"dev": 3.0, "test": 30.0}, 60.0),
        outcome("base", 0, {"dev": 0.0, "test": 20.0}),
        outcome("base", 1, {"dev": 0.0, "test": 78.0}),
    ]
    header, rows = table(outcomes, ["base", "hint"])
    assert header == ["method", "development", "shifted test", "gain", "what", "rank corr.", "pointing", "flips"]
    assert rows == [
        ["base", "0.0 ± 0.0", "49.0 ± 41.0", "-", "50.0 ± 0.0", "0.06 ± 0.09", "5.0 ± 7.1", "2.5 ± 3.5"],
        ["hint", "2.0 ± 1.4", "60.0 ± 42.4", "11.0 ± 1.4", "50.0 ± 14.1", "0.06 ± 0.09", "5.0 ± 7.1", "2.5 ± 3.5"],
    ]


def test_a_table_of_one_split_compares_on_it() -> None:
    outcomes = [outcome("base", 0, {"dev": 20.0}), outcome("hint", 0, {"dev": 31.0})]
    header, rows = table(outcomes, ["base", "hint"])
    assert header[:3] == ["method", "development", "gain"]
    assert [row[:3] for row in rows] == [["base", "20.0", "-"], ["hint", "31.0", "11.0"]]
