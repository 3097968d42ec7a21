"""The open format for hints."""

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hint_loss import human_importance_from_boxes
from updn_common.errors import InputError
from updn_common.proposals.store import Geometry
from updn_vqa.data.hints import FileHints, write_hints
from updn_vqa.data.questions import Question

HEADER = {"format": "hints", "version": 1, "about": "clicks"}
BOXES = torch.tensor([[0.0, 0.0, 20.0, 15.0], [20.0, 15.0, 40.0, 30.0], [0.0, 0.0, 40.0, 30.0]])
IMAGE = Geometry(BOXES, 30, 40, np.array([0, 1, 0]))


@pytest.fixture
def lines(tmp_path: Path) -> Callable[..., Path]:
    def write(*records: Any, name: str = "hints.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        return path

    return write


@pytest.fixture
def names(tmp_path: Path) -> Path:
    path = tmp_path / "objects_vocab.txt"
    path.write_text("stop sign\ntree\nhot dog\n")
    return path


def importance(hints: FileHints, question_id: int) -> list[float] | None:
    s = hints.importance(Question(question_id, 1, "?"), IMAGE)
    return None if s is None else s.tolist()


def test_three_kinds_of_hints(lines: Callable[..., Path], names: Path) -> None:
    path = lines(
        HEADER,
        {"question_id": 1, "importance": [0.25, 1, 0]},
        {"question_id": 2, "boxes": [[0, 0, 20, 15]]},
        {"question_id": 3, "words": ["stop signs", "hot", "dog"]},
        {"question_id": 4, "boxes": [{"x": 20, "y": 15, "w": 20, "h": 15}]},
    )
    hints = FileHints.read([path], names)
    assert importance(hints, 1) == [0.25, 1, 0]
    drawn = human_importance_from_boxes(torch.tensor([[0.0, 0.0, 20.0, 15.0]]), BOXES, image_size=(30, 40))
    assert importance(hints, 2) == drawn.tolist() == [1, 0, 0.5]
    assert importance(hints, 3) == [1, 0, 1]
    assert importance(hints, 4) == [0, 1, 0.5]
    assert importance(hints, 5) is None
    assert hints.record() == {"source": "file", "about": "clicks", "scored": 1, "boxed": 2, "worded": 1}


def test_several_files_plain_and_gzipped(lines: Callable[..., Path], tmp_path: Path) -> None:
    first = lines(HEADER, {"question_id": 1, "importance": [0, 0, 1]})
    second = tmp_path / "more.jsonl.gz"
    second.write_bytes(
        gzip.compress(b'{"format": "hints", "version": 1}\n\n{"question_id": 2, "importance": [1, 0, 0]}')
    )
    hints = FileHints.read([first, second], None)
    assert (importance(hints, 1), importance(hints, 2)) == ([0, 0, 1], [1, 0, 0])
    assert hints.record()["about"] == "clicks; more.jsonl.gz"


@settings(max_examples=50, deadline=None)
@given(
    st.dictionaries(
        st.integers(0, 2**62), arrays(np.float32, st.integers(1, 40), elements=st.floats(0, 1, width=32)), max_size=5
    )
)
def test_round_trip_is_bitwise(tmp_path_factory: pytest.TempPathFactory, scores: dict[int, Any]) -> None:
    path = tmp_path_factory.mktemp("hints") / "hints.jsonl"
    sources = [{"name": "a.tsv", "sha256": "0a"}]
    write_hints(path, scores.items(), about="a line\u2028that ends", features=sources)
    hints = FileHints.read([path], None)
    assert hints.scores.keys() == scores.keys()
    for question_id, s in scores.items():
        assert hints.scores[question_id].dtype == np.float32
        assert hints.scores[question_id].tobytes() == s.tobytes()
    assert (hints.features, hints.about) == ({"0a": "a.tsv"}, "a line\u2028that ends")


def test_numbers_are_written_in_short_form(tmp_path: Path) -> None:
    write_hints(tmp_path / "a", [(7, np.float32([0.1, 1, 1 / 3]))], about="test")
    assert (tmp_path / "a").read_text().splitlines()[1] == '{"question_id": 7, "importance": [0.1, 1.0, 0.33333334]}'


def test_hints_for_other_features(lines: Callable[..., Path]) -> None:
    header = HEADER | {"features": [{"name": "a.tsv", "sha256": "0a"}]}
    path = lines(header, {"question_id": 1, "importance": [0, 1, 0]})
    hints = FileHints.read([path], None)
    hints.check_features([{"name": "renamed.tsv", "sha256": "0a"}, {"name": "b.tsv", "sha256": "0b"}])
    with pytest.raises(InputError) as error:
        hints.check_features([{"name": "a.tsv", "sha256": "0b"}])
    assert str(error.value) == (
        f"{path}: the hints are for the proposals in a.tsv, but --features hold others (checksums differ). Give the "
        "features that the hints were made for, or hints as boxes."
    )
    FileHints.read([lines(header, {"question_id": 1, "boxes": [[0, 0, 1, 1]]})], None).check_features([])
    with pytest.raises(InputError) as error:
        hints.importance(Question(1, 5, "?"), Geometry(BOXES[:2], 30, 40))
    assert str(error.value) == (
        f"{path}: question 1 has 3 numbers, but image 5 has 2 proposals. "
        "Give the features that the hints were made for."
    )


EXPECTED = '{}, line 2: expected {{"question_id": integer}} with one of "importance", "boxes" or "words", found '


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (7, EXPECTED + "7."),
        ({"question_id": 7}, EXPECTED + '{{"question_id": 7}}.'),
        ({"question_id": "7", "words": ["a"]}, EXPECTED + '{{"question_id": "7", "words": ["a"]}}.'),
        ({"question_id": 2**63, "words": ["a"]}, EXPECTED + f'{{{{"question_id": {2**63}, "words": ["a"]}}}}.'),
        (
            {"question_id": 7, "importance": [0, 10**400]},
            f"{{}}, line 2: question 7 has {10**400}. Expected numbers from 0 to 1.",
        ),
        (
            {"question_id": 7, "words": ["a"], "boxes": []},
            EXPECTED + '{{"question_id": 7, "words": ["a"], "boxes": []}}.',
        ),
        ({"question_id": 7, "importance": 1}, "{}, line 2: question 7 has 1. Expected a list of numbers from 0 to 1."),
        ({"question_id": 7, "importance": [0, 1.5]}, "{}, line 2: question 7 has 1.5. Expected numbers from 0 to 1."),
        (
            {"question_id": 7, "importance": [0, float("nan")]},
            "{}, line 2: question 7 has nan. Expected numbers from 0 to 1.",
        ),
        ({"question_id": 7, "importance": [True]}, "{}, line 2: question 7 has True. Expected numbers from 0 to 1."),
        (
            {"question_id": 7, "importance": []},
            "{}, line 2: question 7 has no importance. Leave out questions without a hint.",
        ),
        (
            {"question_id": 7, "boxes": [[0, 0, 0, 1]]},
            "{}, line 2: question 7 has [[0, 0, 0, 1]]. "
            "Expected a list of boxes [x1, y1, x2, y2] with x1 < x2 and y1 < y2.",
        ),
        ({"question_id": 7, "boxes": []}, "{}, line 2: question 7 has no boxes. Leave out questions without a hint."),
        (
            {"question_id": 7, "words": "dog"},
            "{}, line 2: the words for question 7 should be a list of texts, found 'dog'.",
        ),
        ({"question_id": 7, "words": ["dog"]}, "{}: hints from words need the detector's names. Give --object-names."),
    ],
)
def test_malformed_records(lines: Callable[..., Path], record: Any, message: str) -> None:
    path = lines(HEADER, record)
    with pytest.raises(InputError) as error:
        FileHints.read([path], None)
    assert str(error.value) == message.format(path)


def test_malformed_files(lines: Callable[..., Path], tmp_path: Path) -> None:
    def message(path: Path, *more: Path) -> str:
        with pytest.raises(InputError) as error:
            FileHints.read([path, *more], None)
        return str(error.value)

    path = tmp_path / "hints.jsonl"
    header = '{"format": "hints", "version": 1, "about": "where they come from"}'
    no_header = f"not a file of hints. Its first line should be {header}."
    assert message(path) == f"{path} does not exist; expected a file of hints."
    path.write_text("")
    assert message(path) == f"{path}: {no_header}"
    for header in ([], {"version": 1}, HEADER | {"version": 2}, {"question_id": 7, "importance": [0]}):
        assert message(lines(header)) == f"{path}, line 1: {no_header}"
    for features in ("a.tsv", [{"name": "a.tsv"}], [{"name": "a.tsv", "sha256": 3}]):
        header = HEADER | {"features": features}
        assert (
            message(lines(header)) == f'{path}, line 1: "features" should be a list of {{"name": ..., "sha256": ...}}.'
        )
    for about in (5, ["a"], "\ud800"):
        assert message(lines(HEADER | {"about": about})) == (
            f'{path}, line 1: "about" should be text that says where the hints come from, found {about!r}.'
        )
    path.write_text(json.dumps(HEADER) + '\n{"question_id": 7, "impor')
    assert re.fullmatch(
        rf"{path}, line 2, column \d+: malformed JSON \(.*\); repair or fetch the file again\.", message(path)
    )
    record = {"question_id": 7, "importance": [0, 1]}
    twice = "question 7 has another hint in an earlier line. Keep one of the two."
    assert message(lines(HEADER, record, {"question_id": 7, "boxes": [[0, 0, 1, 1]]})) == f"{path}, line 3: {twice}"
    other = lines(HEADER, record, name="other.jsonl")
    assert message(lines(HEADER, record), other) == f"{other}, line 2: {twice}"
