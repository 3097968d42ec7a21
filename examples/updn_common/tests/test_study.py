"""The runs of a study, the processes that they run in, and the table of their outcomes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from updn_common.errors import InputError
from updn_common.reports.rows import Column
from updn_common.studies import report
from updn_common.studies.report import code_versions, study_table
from updn_common.studies.study import Arm, Job, Study, StudyOptions, StudyRun, Trainer, check_splits, run_study

START = Arm("start", "base", 1.0, "long")
STUDY = Study(
    arms=(
        Arm("base", "base", 1.0, "short"),
        Arm("hint, 12.5 %", "hint", 0.125, "short"),
        Arm("other", "x", 1.0, "long", from_start=False),
    ),
    model_seeds=2,
    splits=("val", "test"),
    start=START,
)


def test_every_run_has_its_own_directory_in_the_order_of_the_table() -> None:
    runs = [run.directory for run in STUDY.runs(Path("out"), [Path("x/a"), Path("x/b")])]
    assert len(set(runs)) == len(runs) == 16
    assert runs[:3] == [Path("out/a/seed0/start"), Path("out/a/seed1/start"), Path("out/b/seed0/start")]
    assert Path("out/b/seed1/hint-12.5") in runs


def test_arms_start_from_the_base_network_of_their_world_and_seed_unless_they_say_otherwise() -> None:
    runs = [run for run in STUDY.runs(Path("out"), [Path("a")]) if run.seed == 1]
    assert [run.start_from for run in runs] == [None, Path("out/a/seed1/start"), Path("out/a/seed1/start"), None]


@dataclass(frozen=True)
class Options:
    """Options of a training run that knows no others."""

    data: Path
    out: Path
    start_from: Path | None
    resume: bool

    def record(self, processes: int) -> dict[str, Any]:
        return {"vocabulary": ""}

    def differences(self, processes: int = 1) -> list[str]:
        return []


def make_job(folder: Path) -> tuple[Job[str, str, Options], list[object]]:
    """A job that notes what it does, and these notes."""
    notes: list[object] = []

    def train(options: Options) -> None:
        notes.append(options)
        print("training")  # noqa: T201

    def evaluate(data: Path, run: Path, split: str) -> None:
        notes.append(split)
        (run / "evaluation" / split).mkdir(parents=True)
        (run / "evaluation" / split / "scores.json").touch()

    def options(run: StudyRun[str, str], resume: bool) -> Options:
        return Options(run.data, run.directory, run.start_from, resume)

    run = STUDY.runs(folder / "out", [folder / "world"])[2]
    return Job(run, STUDY.splits, Trainer(options, train, evaluate, "scores.json")), notes


@pytest.mark.parametrize("resume", [False, True])
def test_a_job_trains_and_evaluates_on_the_splits_of_the_study_alone(tmp_path: Path, resume: bool) -> None:
    job, notes = make_job(tmp_path)
    out = job.run.directory
    if resume:
        out.mkdir(parents=True)
        (out / "last.safetensors").touch()
    assert not job.finished
    job.work()
    start = tmp_path / "out" / "world" / "seed0" / "start"
    assert notes == [Options(tmp_path / "world", out, start, resume), "val", "test"]
    assert job.finished
    assert out.with_name("base.log").read_text() == "training\n"
    (out / "evaluation" / "test" / "scores.json").unlink()
    assert not job.finished


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": ("x/a", "y/a")}, "--data should be directories of different names, found a, a."),
        ({"data": ()}, "--data should be directories of different names, found none."),
        ({"processes": 0}, "--processes should be at least 1, found 0."),
    ],
)
def test_options_are_checked_before_anything_is_run(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    job, notes = make_job(tmp_path)
    given = {"data": ("x/a",), "processes": 1} | changes
    options = StudyOptions(out=tmp_path / "out", data=tuple(map(Path, given["data"])), processes=given["processes"])
    with pytest.raises(InputError) as error:
        run_study(options, STUDY, job.trainer, notes.append)
    assert str(error.value) == message
    assert notes == []
    assert not options.out.exists()


def test_splits_that_lack_something_are_refused(tmp_path: Path) -> None:
    splits = {"train": {"questions": 3, "hinted": 2}, "val": {"questions": 3, "hinted": 0}}
    (tmp_path / "prepared.json").write_text(json.dumps({"splits": splits}))
    needed = {"questions": "questions", "hinted": "hints"}
    check_splits(tmp_path, ["train"], needed, "Prepare it again.")
    for split, lacking in (("val", "hints"), ("test", "questions, hints")):
        with pytest.raises(InputError) as error:
            check_splits(tmp_path, ["train", split], needed, "Prepare it again.")
        assert str(error.value) == (
            f"{tmp_path} cannot be used for a study: its split {split!r} has no {lacking}. Prepare it again."
        )


def test_code_versions_lists_all_revisions(tmp_path: Path) -> None:
    for name, made in {
        "one": {"git": "new", "packages": {"torch": "2.13", "hint-loss": "0.1.0"}},
        "two": {"git": None, "packages": {"torch": "2.13"}},
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(made))
    found = code_versions([tmp_path / "one", tmp_path / "two"])
    assert found == {"git": ["new", None], "torch": ["2.13"], "hint-loss": ["0.1.0", None]}


@dataclass(frozen=True)
class Outcome(report.Outcome):
    scores: dict[str, float]

    @property
    def values(self) -> dict[str, float]:
        return self.scores


def test_means_and_paired_gains_over_runs() -> None:
    outcomes = [
        Outcome("hint", "w", 1, {"test": 90.0, "rank": 0.125, "pointing": 10.0}),
        Outcome("hint", "w", 0, {"test": 30.0, "rank": 0.0, "pointing": 0.0}),
        Outcome("base", "w", 0, {"test": 20.0, "rank": 0.0, "pointing": 5.0}),
        Outcome("base", "w", 1, {"test": 78.0, "rank": 0.0}),
        Outcome("other", "v", 0, {"test": 1.0}),
    ]
    columns = [
        Column("test", "test"),
        Column("test", "gain", difference=True),
        Column("rank", "rank corr.", 2),
        Column("pointing", "pointing"),
    ]
    table = study_table(outcomes, ["base", "hint", "other"], columns, emphasised={"hint"})
    assert table.header == ["method", "test", "gain", "rank corr.", "pointing"]
    assert [line.texts for line in table.lines] == [
        ["base", "49.0 ± 41.0", "-", "0.00 ± 0.00", "-"],  # one run lacks the pointing
        ["hint", "60.0 ± 42.4", "11.0 ± 1.4", "0.06 ± 0.09", "5.0 ± 7.1"],
        ["other", "1.0", "-", "-", "-"],  # no run of base has the same world
    ]
    assert [line.style for line in table.lines] == ["", "emphasised", ""]


JOBS = """
import os, signal, sys, time
from dataclasses import dataclass
from pathlib import Path
from updn_common.studies.study import run_jobs

@dataclass
class Job:
    noted: Path
    finished: bool = False
    def check(self): pass
    def work(self):
        self.noted.write_text(str(os.getpid()))
        time.sleep(60)

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored if the tests run in the background
    run_jobs({"jobs": [Job(Path(name)) for name in sys.argv[1:]]}, 2)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_study_ends_its_processes(tmp_path: Path, number: signal.Signals) -> None:
    script, noted = tmp_path / "jobs.py", [tmp_path / "a", tmp_path / "b"]
    script.write_text(JOBS)
    command = [sys.executable, str(script), *map(str, noted)]
    study = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        wait_until(lambda: all(path.exists() and path.read_text() for path in noted))
        study.send_signal(number)
        assert study.wait(timeout=120) != 0
        wait_until(lambda: not any(is_alive(int(path.read_text())) for path in noted))
    finally:
        with suppress(ProcessLookupError):
            os.killpg(study.pid, signal.SIGKILL)


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until(happened: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.05)
