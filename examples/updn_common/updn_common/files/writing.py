"""Files and directories that are either whole or absent, whatever interrupts their writing."""

import errno
import fcntl
import glob
import json
import math
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from safetensors import SafetensorError

from updn_common.errors import InputError

LOCK_NAME = ".lock"
"""The file in a directory by which `locked` locks it."""


def json_text(value: Any, *, indent: int | None = None) -> str:
    """Strict JSON text: a non-finite float becomes null, a Path a string, a numpy scalar a number.

    >>> json_text({"loss": float("nan"), "out": Path("runs"), "n": np.int64(3)})
    '{"loss": null, "out": "runs", "n": 3}'
    """
    return json.dumps(_plain(value), ensure_ascii=False, allow_nan=False, indent=indent)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, Path):
        return str(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: Path, value: Any, *, indent: int | None = None) -> None:
    """Writes `json_text` of a value as UTF-8, atomically: readers see the old file or the new one."""
    with atomic_file(path) as temporary:
        temporary.write_text(json_text(value, indent=indent) + "\n", encoding="utf-8")


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yields a temporary sibling path; moves it onto `path` on success, removes it on failure.

    What a killed process left of the same file is removed. The file's mode follows the umask, whatever wrote it.

    Raises:
        InputError: If the disk is full.
    """
    for left in path.parent.glob(f"{glob.escape(path.name)}.partial-*"):
        if not _is_running(left.name.rpartition("-")[2]):
            left.unlink(missing_ok=True)
    temporary = path.with_name(f"{path.name}.partial-{os.getpid()}")
    with _disk_full_explained(path):
        try:
            temporary.touch()
            mode = temporary.stat().st_mode
            yield temporary
            temporary.chmod(mode)  # safetensors writes files that nobody else may read
            with temporary.open("rb") as file:
                os.fsync(file.fileno())  # else a power failure may leave the new name with no content
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def _is_running(process: str) -> bool:
    """Whether there is a process of this number; True if it is no number."""
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except (ValueError, OverflowError, PermissionError):
        pass
    return True


@contextmanager
def new_directory(path: Path, *, keep: str = "") -> Iterator[Path]:
    """Yields a temporary sibling directory that becomes `path` on success and vanishes on any failure.

    Failure includes Ctrl-C and SIGTERM. After a SIGKILL, `<name>.partial` stays until the next attempt clears it.

    Args:
        path: The directory to be.
        keep: The name of an entry that an interrupted attempt (Ctrl-C, SIGTERM, SIGKILL) leaves to the next one, in
            `<name>.partial`.

    Raises:
        InputError: If `path` exists and is not an empty directory, before or after the work; if another process
            is at work on it; or if the disk is full.
    """
    _require_vacant(path)
    absolute = path.absolute()
    temporary = absolute.with_name(f"{absolute.name}.partial")
    with _disk_full_explained(path), sigterm_as_exit(), locked(temporary):
        kept = False
        try:
            _clear(temporary, keep)
            yield temporary
            _require_vacant(path)
            (temporary / LOCK_NAME).unlink()
            temporary.replace(path)
        except (KeyboardInterrupt, SystemExit):
            kept = bool(keep) and (temporary / keep).exists()
            raise
        finally:
            if kept:
                _clear(temporary, keep)
            else:
                shutil.rmtree(temporary, ignore_errors=True)


def _clear(directory: Path, keep: str) -> None:
    for item in directory.iterdir():
        if item.name in (LOCK_NAME, keep):
            continue
        if item.is_dir():
            shutil.rmtree(item)
        else:
            item.unlink()


def _require_vacant(path: Path) -> None:
    if path.is_dir() and any(path.iterdir()):
        raise InputError(f"{path} already holds files: choose another directory or delete it.")
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file, not a directory: choose another directory or delete it.")


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Holds an advisory lock on a directory (created if absent), so that one process at a time writes it.

    The lock is the kernel's: it ends with the process, however that ends; the file stays.

    Raises:
        InputError: If another process holds the lock, or the directory cannot be created.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{directory} cannot be created ({error.strerror}): choose another directory.") from None
    with (directory / LOCK_NAME).open("a+", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read().strip()
            raise InputError(
                f"{directory} is in use by process {owner}: wait for it to end or choose another directory."
            ) from None
        with suppress(OSError):  # on a full disk: whose lock it is, others cannot read then
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)  # forked workers that still hold the file must not keep the lock


def is_disk_full(error: OSError | SafetensorError) -> bool:
    """Whether this says that a disk, or a user's share of it, is full; safetensors has but words for it."""
    full = (errno.ENOSPC, errno.EDQUOT)
    if isinstance(error, OSError):
        return error.errno in full
    return any(f"os error {number})" in str(error) for number in full)


@contextmanager
def _disk_full_explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        if not is_disk_full(error):
            raise
        free = shutil.disk_usage(path.parent).free / 2**20
        raise InputError(
            f"{path} could not be written: the disk is full ({free:,.0f} MiB free now, nothing was left "
            "behind); free some space or choose another disk."
        ) from error


@contextmanager
def sigterm_as_exit() -> Iterator[None]:
    """Lets `finally` clauses run when a scheduler or `kill` ends the process."""

    def leave(signum: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + signum)

    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield  # signals belong to the main thread, or the caller has a handler of its own
        return
    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
