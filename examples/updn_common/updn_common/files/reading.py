"""Files that are read whole, with errors that say which one is wrong and what stands in its place."""

import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, cast

from updn_common.errors import InputError
from updn_common.progress import open_tracked, track

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
