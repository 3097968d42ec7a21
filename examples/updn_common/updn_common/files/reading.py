"""Read files completely, with errors that name the file and recognise what often stands in its place."""

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
    """Read a JSON file, plain or gzip-compressed (recognised by content, not by name).

    Args:
        path: The file.
        expected: What the file should be, for the error message when it is missing.
        compact: Replaces each object as soon as it is read, inner objects first, to save memory.
        unique: Refuse an object that has a key twice, which takes time; otherwise the last value counts.

    Raises:
        InputError: The file is missing, unreadable, a damaged gzip file, not UTF-8, or malformed JSON; for the latter,
            the message gives line and column.
    """
    text = read_text(path, expected=expected)
    if not text.strip():
        raise InputError(f"{path} is empty; expected {expected}.")
    return _parse(text, str(path), compact=compact, unique=unique)


def read_json_lines(path: Path, *, expected: str = "a file of JSON lines") -> Iterator[tuple[str, Any]]:
    """Read a file with one JSON value per line; see `read_json`. Empty lines are skipped.

    Yields:
        The place of a value, such as ``"a.jsonl, line 3"``, and the value.
    """
    for number, line in enumerate(read_text(path, expected=expected).split("\n"), start=1):
        where = f"{path}, line {number}"
        if line.strip():
            yield where, _parse(line, where, line_by_line=True)


def read_text(path: Path, *, expected: str = "a text file") -> str:
    """Read UTF-8 text, plain or gzip-compressed; see `read_json` for the arguments and errors."""
    try:
        data = path.read_bytes()
        if data.startswith(_GZIP_MAGIC):
            data = _decompressed(data, path)
        if data.strip() and (found := _stand_in(data[:200]) or _compressed(data)):
            raise InputError(f"{path} is {found}; expected {expected}.")
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
    """What stands in the place of a file, such as an HTML page, and the remedy; empty if nothing is recognised."""
    with path.open("rb") as file:
        return _stand_in(file.read(200))


def _compressed(head: bytes) -> str:
    return next((f"{kind}: unpack it" for magic, kind in _COMPRESSED.items() if head.startswith(magic)), "")


def check_not_stand_in(path: Path) -> None:
    """Refuse what often stands in the place of a large file.

    Raises:
        InputError: The file is empty, an HTML page, a Git LFS pointer or compressed, or cannot be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(200)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}).") from None
    if found := _stand_in(head) or _compressed(head):
        raise InputError(f"{path} is {found}.")


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
    def check_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            key = next(key for i, (key, _) in enumerate(pairs) if key in dict(pairs[:i]))
            raise InputError(f"{where}: an object has the key {key!r} twice. Keep one of them.")
        return found

    try:
        return json.loads(text, object_hook=compact, object_pairs_hook=check_keys if unique else None)
    except json.JSONDecodeError as error:
        place = where if line_by_line else f"{where}, line {error.lineno}"
        message = f"{place}, column {error.colno}: malformed JSON ({error.msg}); repair or fetch the file again."
        raise InputError(message) from None
    except InputError:
        raise
    except RecursionError:
        raise InputError(f"{where}: lists or objects are nested too deeply; repair the file.") from None
    except ValueError:  # Python refuses to read integers of thousands of digits
        raise InputError(f"{where}: a number has thousands of digits; repair the file.") from None


def unpacked_limit(packed: int) -> int:
    """Largest plausible size of unpacked data, in bytes: neither text nor features shrink to a hundredth."""
    return max(256 * 2**20, 100 * packed)


def _decompressed(data: bytes, path: Path) -> bytes:
    """Unpack gzip up to `unpacked_limit`."""
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
    """Read a JSON object that holds the format version of its directory; see `read_json`.

    Raises:
        InputError: The file is missing, malformed, or of another version.
    """
    record = read_json(path, expected=expected)
    found = record.get("format_version") if isinstance(record, dict) else None
    if found != version:
        raise InputError(f"{path}: format version {found}; expected {version}. Prepare it again.")
    return cast(dict[str, Any], record)


def sha256(path: Path) -> str:
    """The SHA-256 of a file in hexadecimal, with a progress bar."""
    digest = hashlib.sha256()
    with open_tracked(path, f"checksum of {path.name}") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def sha256_of_all(paths: Iterable[Path]) -> str:
    """The SHA-256 of the lines that `sha256sum` prints for the files in the order of their names."""
    ordered = sorted(paths, key=lambda path: path.name)
    lines = (f"{sha256(path)}  {path.name}\n" for path in track(ordered, "checksums"))
    return hashlib.sha256("".join(lines).encode()).hexdigest()
