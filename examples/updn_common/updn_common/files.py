"""Files that are either whole or absent, and errors that say which one is wrong."""

import errno
import fcntl
import glob
import gzip
import hashlib
import json
import math
import os
import re
import shutil
import signal
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from types import FrameType
from typing import Any, cast

import numpy as np
from safetensors import SafetensorError

from updn_common.errors import InputError
from updn_common.progress import open_tracked, track

LOCK_NAME = ".lock"
"""The file in a directory by which `locked` locks it."""

_GZIP_MAGIC = b"\x1f\x8b"
_COMPRESSED = {
    _GZIP_MAGIC: "compressed with gzip",
    b"PK\x03\x04": "a zip archive",
    b"BZh": "compressed with bzip2",
    b"\xfd7zXZ": "compressed with xz",
    b"\x28\xb5\x2f\xfd": "compressed with zstd",
    b"7z\xbc\xaf": "a 7z archive",
}


def read_json(
    path: Path,
    *,
    expected: str = "a JSON file",
    compact: Callable[[dict[str, Any]], Any] | None = None,
    unique: bool = False,
) -> Any:
    """Reads a JSON file, plain or gzip-compressed (told apart by content, whatever the name).

    Args:
        path: The file.
        expected: What the file should be, for the error message when it is missing.
        compact: What becomes of each object as soon as it is read, the inner ones first: to keep large files small.
        unique: Refuse an object that has a key twice; otherwise the last is believed. It takes time for each object.

    Raises:
        InputError: If the file is missing, unreadable, not gzip after all, not UTF-8, or malformed JSON
            (the message gives line and column).
    """
    text = read_text(path, expected=expected)
    if not text.strip():
        raise InputError(f"{path} is empty; expected {expected}.")
    return _parse(text, str(path), compact=compact, unique=unique)


def read_json_lines(path: Path, *, expected: str = "a file of JSON lines") -> Iterator[tuple[str, Any]]:
    """Reads one JSON value a line, as `read_json` reads a whole file; empty lines are left out.

    Yields:
        Where a value stands, such as ``"a.jsonl, line 3"``, and the value.
    """
    for number, line in enumerate(read_text(path, expected=expected).split("\n"), start=1):
        where = f"{path}, line {number}"
        if line.strip():
            yield where, _parse(line, where, line_by_line=True)


def read_text(path: Path, *, expected: str = "a text file") -> str:
    """Reads UTF-8 text, plain or gzip-compressed; see `read_json` for the arguments and errors."""
    try:
        data = path.read_bytes()
        if data.startswith(_GZIP_MAGIC):
            data = _decompressed(data, path)
        if data.strip() and (told := _stand_in(data[:200]) or _compressed(data)):
            raise InputError(f"{path} is {told}; expected {expected}.")
        return data.decode("utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; expected {expected}.") from None
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise InputError(f"{path} is a damaged gzip file ({error}); fetch it again.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); expected {expected}.") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {error.start}); expected {expected}.") from None


def stand_in(path: Path) -> str:
    """What a file turns out to be instead of its content, and the remedy; empty if its first bytes tell nothing."""
    with path.open("rb") as file:
        return _stand_in(file.read(200))


def _compressed(head: bytes) -> str:
    return next((f"{kind}: unpack it" for magic, kind in _COMPRESSED.items() if head.startswith(magic)), "")


def check_is_itself(path: Path) -> None:
    """Refuse what often stands where a large file should be.

    Raises:
        InputError: It is empty, a page, a pointer or compressed, or cannot be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(200)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}).") from None
    if told := _stand_in(head) or _compressed(head):
        raise InputError(f"{path} is {told}.")


def _stand_in(head: bytes) -> str:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not text:
        return "empty: fetch it again"
    if text.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer: fetch the file itself with `git lfs pull`"
    if re.match(rb"(?i)<(!doctype|html|\?xml|error)", text):
        return "an HTML or XML page, such as a server's error: fetch it again"
    return ""


def _parse(
    text: str,
    where: str,
    *,
    compact: Callable[[dict[str, Any]], Any] | None = None,
    unique: bool = False,
    line_by_line: bool = False,
) -> Any:
    def without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            key = next(key for i, (key, _) in enumerate(pairs) if key in dict(pairs[:i]))
            raise InputError(f"{where}: an object has the key {key!r} twice. Keep one of them.")
        return found

    try:
        return json.loads(text, object_hook=compact, object_pairs_hook=without_doubles if unique else None)
    except json.JSONDecodeError as error:
        place = where if line_by_line else f"{where}, line {error.lineno}"
        message = f"{place}, column {error.colno}: malformed JSON ({error.msg}); repair or fetch the file again."
        raise InputError(message) from None
    except InputError:
        raise
    except RecursionError:
        raise InputError(f"{where}: lists or objects in one another, too deep to be read; repair the file.") from None
    except ValueError:  # Python refuses to read integers of thousands of digits
        raise InputError(f"{where}: a number has thousands of digits; repair the file.") from None


def unpacked_limit(packed: int) -> int:
    """How many bytes may be packed into so many: neither text nor features shrink to a hundredth."""
    return max(256 * 2**20, 100 * packed)


def _decompressed(data: bytes, path: Path) -> bytes:
    """Unpacks gzip, but not without end."""
    limit = unpacked_limit(len(data))
    with gzip.open(BytesIO(data)) as file:
        unpacked = file.read(limit + 1)
    if len(unpacked) > limit:
        raise InputError(
            f"{path} has {len(data) / 2**20:,.1f} MiB, but unpacks to more than {limit / 2**20:,.0f} MiB: it may have "
            "been made to fill the memory. If you trust it, unpack it and give the unpacked file."
        )
    return unpacked


def read_record(path: Path, version: int, *, expected: str) -> dict[str, Any]:
    """Reads a JSON object that notes the version of its directory's format, as `read_json` does.

    Raises:
        InputError: If the file is wrong, or of another version.
    """
    record = read_json(path, expected=expected)
    found = record.get("format_version") if isinstance(record, dict) else None
    if found != version:
        raise InputError(f"{path}: format version {found}; expected {version}. Prepare it again.")
    return cast(dict[str, Any], record)


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


def sha256(path: Path) -> str:
    """The SHA-256 of a file in hexadecimal, read in pieces (with a progress bar if it takes long)."""
    digest = hashlib.sha256()
    with open_tracked(path, f"checksum of {path.name}") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def sha256_of_all(paths: Iterable[Path]) -> str:
    """One SHA-256 of many files: that of the lines that `sha256sum` prints for them, in order of name."""
    ordered = sorted(paths, key=lambda path: path.name)
    lines = (f"{sha256(path)}  {path.name}\n" for path in track(ordered, "checksums"))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


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
