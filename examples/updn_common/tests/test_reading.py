"""Reading of JSON and text, and checksums."""

import gzip
import hashlib
import re
from pathlib import Path

import numpy as np
import pytest

from updn_common.errors import InputError
from updn_common.files.reading import read_json, read_json_lines, sha256, sha256_of_all


def whole(message: str) -> str:
    return f"^{re.escape(message)}$"


def test_read_json_gzip_by_content(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(gzip.compress(b'[1, "two"]'))
    assert read_json(path) == [1, "two"]


def test_read_json_real_gzip(shared_data: Path) -> None:
    questions = read_json(shared_data / "vqa_v2" / "vqa_questions_valid.gzip")
    assert questions["questions"][0].keys() >= {"image_id", "question", "question_id"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1,\n "b": }', ", line 2, column 7: malformed JSON (Expecting value); repair or fetch the file again."),
        (b'{"a": "b\xff"}', " is not UTF-8 text (byte 8); expected a JSON file."),
        (
            gzip.compress(b"[1, 2, 3]" * 99, mtime=0)[:-12],
            " is a damaged gzip file (Compressed file ended before the end-of-stream marker was reached); "
            "fetch it again.",
        ),
    ],
    ids=["syntax", "encoding", "gzip"],
)
def test_read_json_malformed(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=whole(f"{path}{message}")):
        read_json(path)


def test_read_json_missing(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(InputError, match=whole(f"{path} does not exist; expected VQA questions.")):
        read_json(path, expected="VQA questions")
    message = f"{tmp_path} cannot be read (Is a directory); expected a JSON file."
    with pytest.raises(InputError, match=whole(message)):
        read_json(tmp_path)


def test_read_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    content = '{"a": 1}\n\n  \n"a line\u2028in a text"\r\n[3]'
    for data in (content.encode(), gzip.compress(content.encode())):
        path.write_bytes(data)
        assert list(read_json_lines(path)) == [
            (f"{path}, line 1", {"a": 1}),
            (f"{path}, line 4", "a line\u2028in a text"),
            (f"{path}, line 5", [3]),
        ]
    path.write_text('{"a": 1}\n{"a": \n')
    lines = read_json_lines(path)
    assert next(lines)[1] == {"a": 1}
    message = f"{path}, line 2, column 7: malformed JSON (Expecting value); repair or fetch the file again."
    with pytest.raises(InputError, match=whole(message)):
        next(lines)
    with pytest.raises(InputError, match=whole(f"{tmp_path / 'b'} does not exist; expected a file of JSON lines.")):
        next(read_json_lines(tmp_path / "b"))


def test_sha256(tmp_path: Path) -> None:
    data = np.random.default_rng(0).bytes(3_000_001)
    (tmp_path / "a").write_bytes(data)
    assert sha256(tmp_path / "a") == hashlib.sha256(data).hexdigest()


def test_sha256_of_all_depends_on_contents_and_names(tmp_path: Path) -> None:
    """It equals the output of `sha256sum a b | sha256sum`, in any order of arguments."""
    folders = [tmp_path / name for name in ("z", "y")]
    for folder, name in zip(folders, ("a", "b"), strict=True):
        folder.mkdir()
        (folder / name).write_text(f"content of {name}")
    paths = [folders[0] / "a", folders[1] / "b"]
    listed = "".join(f"{hashlib.sha256(f'content of {name}'.encode()).hexdigest()}  {name}\n" for name in "ab")
    assert sha256_of_all(paths) == sha256_of_all(paths[::-1]) == hashlib.sha256(listed.encode()).hexdigest()
    paths[1].rename(folders[1] / "c")
    assert sha256_of_all([paths[0], folders[1] / "c"]) != hashlib.sha256(listed.encode()).hexdigest()


def test_read_json_compacts_the_inner_objects_first(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"a": {"b": {"c": 1}}, "d": [{"c": 2}]}')
    seen = []

    def compact(record):
        seen.append(record)
        return tuple(record.items())

    assert read_json(path, compact=compact) == (("a", (("b", (("c", 1),)),)), ("d", [(("c", 2),)]))
    assert seen[0] == {"c": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "lists or objects are nested too deeply; repair the file."),
        ('{"id": ' + "9" * 5000 + "}", "a number has thousands of digits; repair the file."),
    ],
)
def test_json_that_python_cannot_read(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(InputError, match=whole(f"{path}: {message}")):
        read_json(path)
    path.write_text(f"1\n{text}\n")
    with pytest.raises(InputError, match=whole(f"{path}, line 2: {message}")):
        list(read_json_lines(path))


def test_repeated_key(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('[{"a": 1}, {"b": {"1": 1, "2": 1, "1": 2}}]')
    assert read_json(path) == [{"a": 1}, {"b": {"1": 2, "2": 1}}]
    message = f"{path}: an object has the key '1' twice. Keep one of them."
    with pytest.raises(InputError, match=whole(message)):
        read_json(path, unique=True)
    path.write_text('[{"a": 1}, {"a": 2}]')
    assert read_json(path, unique=True) == [{"a": 1}, {"a": 2}]


def test_gzip_bombs_are_not_unpacked(tmp_path: Path) -> None:
    bomb = tmp_path / "a.json"
    bomb.write_bytes(gzip.compress(b"[" + b" " * (300 * 2**20) + b"]", compresslevel=1))
    with pytest.raises(InputError) as error:
        read_json(bomb)
    size = bomb.stat().st_size / 2**20
    assert str(error.value) == (
        f"{bomb} has {size:,.1f} MiB, but unpacks to more than 256 MiB: it may have been made to fill the memory. If "
        "you trust it, unpack it and give the unpacked file."
    )
