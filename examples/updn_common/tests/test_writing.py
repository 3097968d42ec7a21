"""Atomic files, new directories and locks."""

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.numpy import save_file

from updn_common.errors import InputError
from updn_common.files.reading import read_json
from updn_common.files.writing import atomic_file, json_text, locked, new_directory, write_json
from updn_common.runs.measurements import keep_measurements


def whole(message: str) -> str:
    return f"^{re.escape(message)}$"


def write_then_raise(path: Path, error: type[BaseException]) -> None:
    path.write_text("new")
    raise error


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_json_round_trip(tmp_path: Path) -> None:
    value = {"é": [1, 2.5, None, True], "nested": {"a": "b"}}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value
    assert "é".encode() in (tmp_path / "a.json").read_bytes()
    assert names(tmp_path) == ["a.json"]


def test_json_text_is_strict() -> None:
    value = {"a": float("inf"), "b": [np.float32("nan")], "c": np.int64(3), "d": (Path("x"), 1)}
    assert json_text(value) == '{"a": null, "b": [null], "c": 3, "d": ["x", 1]}'
    with pytest.raises(TypeError, match="not JSON serializable"):
        json_text({"a": object()})


def test_atomic_file_keeps_the_old_file_on_failure(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_file(path) as temporary:
        write_then_raise(temporary, KeyboardInterrupt)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]
    with atomic_file(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


@pytest.mark.parametrize("existing", [False, True])
def test_new_directory(tmp_path: Path, existing: bool) -> None:
    path = tmp_path / "parent" / "out"
    if existing:
        path.mkdir(parents=True)
    with new_directory(path) as temporary:
        (temporary / "sub").mkdir()
        (temporary / "sub" / "a").write_text("a")
        assert not (path / "sub").exists()
    assert names(path) == ["sub"]
    assert names(path.parent) == ["out"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_new_directory_leaves_nothing_on_failure(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), new_directory(tmp_path / "out") as temporary:
        write_then_raise(temporary / "a", error)
    assert names(tmp_path) == []


def test_new_directory_refuses_existing_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("precious")
    message = f"{tmp_path} already holds files: choose another directory or delete it."
    with pytest.raises(InputError, match=whole(message)), new_directory(tmp_path):
        raise AssertionError
    message = f"{tmp_path / 'a'} is a file, not a directory: choose another directory or delete it."
    with pytest.raises(InputError, match=whole(message)), new_directory(tmp_path / "a"):
        raise AssertionError
    assert (tmp_path / "a").read_text() == "precious"


def test_new_directory_refuses_files_written_meanwhile(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a").write_text("precious")
    with pytest.raises(InputError, match="already holds files"), new_directory(tmp_path / "out"):
        shutil.copytree(tmp_path / "other", tmp_path / "out")
    assert (tmp_path / "out" / "a").read_text() == "precious"
    assert names(tmp_path) == ["other", "out"]


def test_new_directory_clears_leftovers_of_a_killed_process(tmp_path: Path) -> None:
    (tmp_path / "out.partial" / "sub").mkdir(parents=True)
    (tmp_path / "out.partial" / "stale").write_text("stale")
    with new_directory(tmp_path / "out") as temporary:
        (temporary / "a").write_text("a")
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["a"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full exists on Linux only")
def test_full_disk_leaves_nothing(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError) as caught,
        new_directory(tmp_path / "out") as temporary,
        (temporary / "a").open("w"),
        Path("/dev/full").open("w") as full,
    ):
        full.write("a" * 100_000)  # the real thing: the kernel answers ENOSPC
    assert re.fullmatch(
        re.escape(f"{tmp_path / 'out'} could not be written: the disk is full (")
        + r"[\d,]+ MiB free now, nothing was left behind\); free some space or choose another disk\.",
        str(caught.value),
    )
    assert names(tmp_path) == []


def test_other_os_errors_are_not_changed(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), new_directory(tmp_path / "out"):
        raise PermissionError(errno.EACCES, "denied")


WORKER = """
import signal, sys, time
from pathlib import Path
from updn_common.files.writing import {context}
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored if the tests run in the background
with {context}(Path(sys.argv[1])) as directory:
    (directory or Path(sys.argv[1])).joinpath("a").write_text("a")
    print("ready", flush=True)
    time.sleep(60)
"""


class Worker:
    """Another process inside `context(path)`."""

    def __init__(self, context: str, path: Path) -> None:
        code = WORKER.format(context=context)
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self.process.stdout
        assert self.process.stdout.readline() == "ready\n"

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=20)


@pytest.fixture
def start() -> Iterator[type[Worker]]:
    workers: list[Worker] = []

    def tracked(context: str, path: Path) -> Worker:
        workers.append(Worker(context, path))
        return workers[-1]

    yield tracked  # type: ignore[misc]
    for worker in workers:
        worker.process.kill()
        worker.process.wait()
        assert worker.process.stdout
        worker.process.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_writing_leaves_nothing(tmp_path: Path, start: type[Worker], number: signal.Signals) -> None:
    worker = start("new_directory", tmp_path / "out")
    assert names(tmp_path) == ["out.partial"]
    assert worker.end(number) != 0
    assert names(tmp_path) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError])
def test_new_directory_keeps_an_entry_for_the_next_attempt(tmp_path: Path, error: type[BaseException]) -> None:
    """It is kept after an interruption but not after an error, and other entries are deleted."""

    def work(temporary: Path) -> None:
        for name in ("other", "work"):
            (temporary / name).mkdir()
        write_then_raise(temporary / "work" / "a", error)

    with pytest.raises(error), new_directory(tmp_path / "out", keep="work") as temporary:
        work(temporary)
    if error is ValueError:
        assert names(tmp_path) == []
        return
    assert set(names(tmp_path / "out.partial")) <= {"work", ".lock"}
    with new_directory(tmp_path / "out", keep="work") as temporary:
        assert names(temporary / "work") == ["a"]
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["work"]


def test_nothing_is_left_without_the_entry_to_keep(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), new_directory(tmp_path / "out", keep="work") as temporary:
        write_then_raise(temporary / "a", KeyboardInterrupt)
    assert names(tmp_path) == []


def test_output_in_use_is_refused(tmp_path: Path, start: type[Worker]) -> None:
    path = tmp_path / "out"
    worker = start("new_directory", path)
    message = (
        f"{path}.partial is in use by process {worker.process.pid}: wait for it to end or choose another directory."
    )
    with pytest.raises(InputError, match=whole(message)), new_directory(path):
        raise AssertionError
    assert names(tmp_path / "out.partial") == [".lock", "a"]  # the other's work is untouched
    worker.end(signal.SIGKILL)
    with new_directory(path) as temporary:
        (temporary / "b").write_text("b")
    assert names(path) == ["b"]


def test_lock_ends_with_its_process(tmp_path: Path, start: type[Worker]) -> None:
    worker = start("locked", tmp_path)
    message = f"{tmp_path} is in use by process {worker.process.pid}: wait for it to end or choose another directory."
    with pytest.raises(InputError, match=whole(message)), locked(tmp_path):
        raise AssertionError
    worker.end(signal.SIGKILL)
    message = f"{tmp_path} is in use by process {os.getpid()}: wait for it to end or choose another directory."
    with locked(tmp_path), pytest.raises(InputError, match=whole(message)), locked(tmp_path):
        raise AssertionError
    with locked(tmp_path):
        pass


def test_lock_is_released_although_a_forked_child_runs(tmp_path: Path) -> None:
    code = (
        "import os, sys, time; from pathlib import Path; from updn_common.files.writing import locked\n"
        "path = Path(sys.argv[1])\n"
        "with locked(path):\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        time.sleep(30); os._exit(0)\n"
        "with locked(path): print('again')\n"
        "os.kill(child, 9)\n"
    )
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout == "again\n"
    assert time.monotonic() - started < 25


def test_atomic_file_clears_leftovers_of_killed_processes(tmp_path: Path) -> None:
    """Temporary files of other files and of running processes stay."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left = [
        f"a.json.partial-{ended.pid}",
        f"a.json.partial-{os.getppid()}",
        f"b.json.partial-{ended.pid}",
        "a.json.partial-x",
    ]
    for name in left:
        (tmp_path / name).touch()
    write_json(tmp_path / "a.json", 1)
    assert {path.name for path in tmp_path.iterdir()} == {"a.json", *left[1:]}


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_modes_follow_the_umask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        write_json(tmp_path / "a.json", 1)
        with atomic_file(tmp_path / "a.safetensors") as temporary:
            save_file({"a": np.zeros(2)}, temporary)
    finally:
        os.umask(before)
    for name in ("a.json", "a.safetensors"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o666 & ~mask


def test_safetensors_errors_on_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="could not be written: the disk is full"), atomic_file(tmp_path / "a"):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    assert not list(tmp_path.iterdir())


def test_measurements_on_a_really_full_disk(small_disk: Path) -> None:
    path = small_disk / "evaluation" / "a.safetensors"
    with pytest.raises(InputError, match=re.escape(f"{path} could not be written: the disk is full (")):
        keep_measurements(path, {"a": torch.ones(1000, 1000)}, {})
    assert not list(path.parent.iterdir())
