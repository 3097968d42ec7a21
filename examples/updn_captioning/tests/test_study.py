"""Studies: what is run, what is kept, what is refused, and what the report says of it."""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from updn_captioning.networks.updn import NetworkSizes
from updn_captioning.studies.definitions import STUDIES, Arm, Study
from updn_captioning.studies.report import MEASURES, Outcome, table
from updn_captioning.studies.study import Job, StudyConfig, _jobs, study
from updn_captioning.training.config import TrainConfig
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
        config = StudyConfig("robust", (tiny[1],), tmp_path_factory.mktemp("study") / "out", processes=1)
        study(config)
        yield config


@pytest.fixture
def runs(finished: StudyConfig) -> Path:
    return finished.out / "prepared" / "seed0"


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_the_table_shows_what_was_evaluated(finished: StudyConfig, runs: Path) -> None:
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

        def told(name: str, digits: int = 1, test: dict[str, float] = test) -> str:
            return f"{test[name]:.{digits}f}" if name in test else "-"

        def gain(name: str, digits: int = 1, run: str = run, test: dict[str, float] = test) -> str:
            return "-" if run == "base" else f"{test[name] - base[name]:.{digits}f}"

        lines.append(
            [
                *(run, f"{scores[run]['val']['CIDEr']:.3f}", told("CIDEr", 3), gain("CIDEr", 3), told("CHAIRi")),
                *(told("reference_gradient_pointing"), gain("reference_gradient_pointing")),
                *(told("reference_attention_pointing"), told("reference_gradient_rank_correlation", 3)),
                told("generated_gradient_pointing"),
            ]
        )
    assert (finished.out / "table.md").read_text() == "".join(f"| {' | '.join(line)} |\n" for line in lines)


def test_the_results_say_what_made_them(finished: StudyConfig, runs: Path) -> None:
    results = read(finished.out / "results.json")
    assert list(results) == ["made_by", "arms", "outcomes"]
    assert results["made_by"]["git"] == [read(runs / "hint" / "config.json")["git"]]
    assert results["arms"] == json.loads(json.dumps([asdict(arm) for arm in STUDY.rows]))
    trained = [read(runs / run / "config.json")["config"] for run in RUNS]
    for name in ("method", "scale", "hint_share"):
        assert [arm[name] for arm in results["arms"]] == [config[name] for config in trained]
    assert [config["start_from"] for config in trained] == [None] + [str(runs / "start")] * 2
    assert [list(outcome["scores"]) for outcome in results["outcomes"]] == [["val", "test"]] * 3


def test_the_page_shows_the_curves(finished: StudyConfig) -> None:
    html = (finished.out / "index.html").read_text()
    assert re.findall(r'src="([^"]+)"', html) == ["curves.png"]
    assert (finished.out / "curves.png").is_file()
    assert "the language prior misleads" in html


def test_what_is_finished_is_not_run_again(finished: StudyConfig, runs: Path) -> None:
    def times() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in runs.rglob("*")}

    before = times()
    study(finished)
    assert times() == before


def test_what_lacks_an_evaluation_is_evaluated_not_trained(finished: StudyConfig, runs: Path) -> None:
    lost, checkpoint = runs / "hint" / "evaluation" / "val" / "scores.json", runs / "hint" / "best.safetensors"
    content, trained = lost.read_text(), checkpoint.stat().st_mtime_ns
    (job,) = _jobs(finished, STUDY, STUDY.arms[1])
    assert job.finished
    lost.unlink()
    assert not job.finished
    job.run()
    assert job.finished
    assert lost.read_text() == content
    assert checkpoint.stat().st_mtime_ns == trained


def test_runs_of_other_settings_are_refused_before_anything_is_run(
    finished: StudyConfig, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = replace(STUDY.arms[1], method=replace(METHODS["hint"], weight=7.0), hint_share=0.25)
    new = Arm("new", METHODS["base"], scale=SCALE)
    monkeypatch.setitem(STUDIES, "robust", replace(STUDY, arms=(new, STUDY.arms[0], changed)))
    with pytest.raises(InputError) as error:
        study(finished)
    found = "method.weight = 3.0, not 7.0; hint_share = 0.5, not 0.25"
    assert str(error.value) == f"{runs / 'hint'} was trained with {found}: delete it or choose another --out."
    assert not (runs / "new").exists()


def change(record: Any, **changes: Any) -> None:
    split = changes.pop("split", None)
    if split is None:
        record["options"] |= changes
    elif changes:
        record["splits"][split] |= changes
    else:
        del record["splits"][split]


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"split": "test"}, "is not for a study: its split 'test' has no captions and no hinted captions"),
        ({"split": "val", "hinted_captions": 0}, "is not for a study: its split 'val' has no hinted captions"),
    ],
)
def test_data_that_lack_what_is_measured_are_refused(
    finished: StudyConfig, tmp_path: Path, changes: dict[str, Any], found: str
) -> None:
    directory = tmp_path / "other"
    shutil.copytree(finished.data[0], directory)
    record = read(directory / "prepared.json")
    change(record, **changes)
    (directory / "prepared.json").write_text(json.dumps(record))
    with pytest.raises(InputError) as error:
        study(replace(finished, data=(*finished.data, directory), out=tmp_path / "out"))
    assert str(error.value) == f"{directory} {found}. Prepare a captioning world of shapes_cp with --split robust."
    assert not (tmp_path / "out").exists()


def test_a_study_is_of_one_kind_of_split(finished: StudyConfig, tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        study(replace(finished, study="standard", out=tmp_path / "out"))
    assert str(error.value) == (
        f"{finished.data[0]} was prepared with --split robust, which this study is not of. Prepare a captioning world "
        "of shapes_cp with --split karpathy."
    )
    with pytest.raises(InputError, match=r"^--processes should be at least 1, found 0\.$"):
        study(replace(finished, processes=0))
    assert not (tmp_path / "out").exists()


def test_selection_does_not_look_at_the_test(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluated = []
    monkeypatch.setattr("updn_captioning.studies.study.train", lambda config: config.out.mkdir())
    monkeypatch.setattr("updn_captioning.studies.study.evaluate", lambda config: evaluated.append(config.split))
    Job(TrainConfig(tiny[1], tmp_path / "run", METHODS["base"], SCALE), REAL["selection"].splits).run()
    assert evaluated == ["dev"]


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


def test_gains_are_paired_differences_on_the_last_split() -> None:
    def outcome(arm: str, seed: int, cider: float, pointing: float) -> Outcome:
        last = dict.fromkeys(MEASURES, 1.0) | {"CIDEr": cider, "reference_gradient_pointing": pointing}
        return Outcome(arm, "w", seed, {"val": {"CIDEr": 9.0}, "test": last})

    outcomes = [outcome("hint", 1, 3.0, 90.0), outcome("hint", 0, 1.0, 30.0)]
    outcomes += [outcome("base", 0, 0.5, 20.0), outcome("base", 1, 2.75, 78.0), outcome("start", 0, 0.0, 0.0)]
    header, rows = table(outcomes, replace(STUDY, model_seeds=2))
    cells = [
        dict(zip([*header[:3], "gain", header[4], "pointing", "pointing gain"], row, strict=False)) for row in rows
    ]
    assert [row["gain"] for row in cells] == ["-0.500", "-", "0.375 ± 0.177"]
    assert [row["pointing gain"] for row in cells] == ["-20.0", "-", "11.0 ± 1.4"]
    assert cells[2]["shifted test"] == "2.000 ± 1.414"
