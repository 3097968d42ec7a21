"""Write files and directories that are either complete or absent, whatever interrupts the writing."""

import errno
import fcntl
import glob
import json
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError

from updn_common.errors import InputError
from updn_common.signals import sigterm_as_exit

LOCK_NAME = ".lock"
"""Name of the file through which `locked` locks a directory."""


def json_text(value: Any, *, indent: int | None = None) -> str:
    """Convert a value to strict JSON: a non-finite float becomes null, a Path a string, a numpy scalar a number.

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
    """Write a value as JSON (see `json_text`) atomically: readers see the old file or the new one."""
    with atomic_file(path) as temporary:
        temporary.write_text(json_text(value, indent=indent) + "\n", encoding="utf-8")


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same directory; move it to `path` on success, delete it on failure.

    Temporary files that a killed process left are deleted. The mode of the file follows the umask.

    Raises:
        InputError: The disk is full.
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
            temporary.chmod(mode)  # safetensors writes files that only their owner may read
            with temporary.open("rb") as file:
                os.fsync(file.fileno())  # without this, a power failure may leave an empty file under the new name
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def _is_running(process: str) -> bool:
    """Whether a process with this id runs; True if the text is not a number."""
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except (ValueError, OverflowError, PermissionError):
        pass
    return True


@contextmanager
def new_directory(path: Path, *, keep: str = "") -> Iterator[Path]:
    """Yield a temporary directory, `<name>.partial`, that becomes `path` on success and is deleted on failure.

    Ctrl-C and SIGTERM count as failures. After SIGKILL, the temporary directory stays until the next attempt clears it.

    Args:
        path: The new directory.
        keep: Name of an entry of the temporary directory that the next attempt finds again after an interruption
            (Ctrl-C, SIGTERM, SIGKILL).

    Raises:
        InputError: `path` exists and is not an empty directory, before or after the work; another process is writing
            it; or the disk is full.
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
    """Lock a directory (created if absent), so that only one process at a time writes it.

    The kernel releases the lock when the process ends, however it ends; the lock file stays. `filelock` does the same,
    but cannot say which process holds the lock.

    Raises:
        InputError: Another process holds the lock, or the directory cannot be created.
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
        with suppress(OSError):  # on a full disk, the lock holds, but other processes cannot name its owner
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)  # forked workers may still have the file open


def is_disk_full(error: OSError | SafetensorError) -> bool:
    """Whether an error means that the disk or the user's quota is full. safetensors only says so in its message."""
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
