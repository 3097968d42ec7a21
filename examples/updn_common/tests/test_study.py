"""What studies of both pipelines share; running one is tested with them."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from updn_common.errors import InputError
from updn_common.reports.figures import draw
from updn_common.reports.tables import spread
from updn_common.runs.study import Arm, Study, check_worlds, directories, made_by

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


def test_every_run_has_its_own_directory() -> None:
    runs = directories(STUDY, Path("out"), ["a", "b"])
    assert len(set(runs)) == len(runs) == 16
    assert runs[:3] == [Path("out/a/seed0/start"), Path("out/a/seed1/start"), Path("out/b/seed0/start")]
    assert Path("out/b/seed1/hint-12.5") in runs


def test_only_some_arms_go_on_from_the_start() -> None:
    starts = [STUDY.starts_from(arm, Path("out"), "a", 1) for arm in STUDY.rows]
    assert starts == [None, Path("out/a/seed1/start"), Path("out/a/seed1/start"), None]


def test_worlds_are_told_apart_by_their_names() -> None:
    check_worlds([Path("a"), Path("b")])
    for worlds, found in (([Path("x/a"), Path("y/a")], "a, a"), ([], "none")):
        with pytest.raises(InputError) as error:
            check_worlds(worlds)
        assert str(error.value) == f"--data should be directories of different names, found {found}."


def test_made_by_lists_all_revisions(tmp_path: Path) -> None:
    for name, made in {
        "one": {"git": "new", "packages": {"torch": "2.13", "hint-loss": "0.1.0"}},
        "two": {"git": None, "packages": {"torch": "2.13"}},
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(made))
    found = made_by([tmp_path / "one", tmp_path / "two"])
    assert found == {"git": ["new", None], "torch": ["2.13"], "hint-loss": ["0.1.0", None]}


JOBS = """
import os, signal, sys, time
from dataclasses import dataclass
from pathlib import Path
from updn_common.runs.study import run_jobs

@dataclass
class Job:
    noted: Path
    finished: bool = False
    def check(self): pass
    def run(self):
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
        until(lambda: all(path.exists() and path.read_text() for path in noted))
        study.send_signal(number)
        assert study.wait(timeout=120) != 0
        until(lambda: not any(alive(int(path.read_text())) for path in noted))
    finally:
        with suppress(ProcessLookupError):
            os.killpg(study.pid, signal.SIGKILL)


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def until(happened: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_spread() -> None:
    assert spread([]) == "-"
    assert spread([1.25], digits=2) == "1.25"
    assert spread([1.0, 2.0, 6.0]) == "3.0 ± 2.6"  # the sample's: n - 1


def test_dollar_signs_in_a_figure(tmp_path: Path) -> None:
    """They are no formulas; matplotlib would stop at this one."""
    draw(tmp_path / "a.png", lambda axes: axes.set(ylabel="$x_{$") and None)
    assert (tmp_path / "a.png").stat().st_size > 1000
