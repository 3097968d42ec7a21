"""VQA-CP from VQA and two lists of question ids."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from updn_common.errors import InputError
from updn_vqa.data.official_files import find_splits
from updn_vqa.data.questions import read_annotations, read_questions
from updn_vqa.data.rebuild import RebuildConfig, read_question_ids, rebuild

IDS = {"train": [1000, 1001, 2000], "val": [3000, 3001, 4000]}


@pytest.fixture
def vqa(tmp_path: Path, question: Callable[..., Any], annotation: Callable[..., Any]) -> Path:
    """Official files of VQA v1 and v2, train and validation."""
    data = tmp_path / "vqa"
    data.mkdir()
    for part, ids in IDS.items():
        for prefix in ("", "v2_"):
            questions = [question(i, f"{prefix}{i}?") for i in ids]
            for record in questions:
                del record["coco_split"]
            annotations = [
                annotation(i, [prefix or "v1"] * 10, answer_type="number" if i % 2 else "other") for i in ids
            ]
            for kind, name, records in (("questions", "OpenEnded_", questions), ("annotations", "", annotations[::-1])):
                document = {"info": {}, "data_subtype": f"{part}2014", kind: records}
                (data / f"{prefix}{name}mscoco_{part}2014_{kind}.json").write_text(json.dumps(document))
    return data


@pytest.fixture
def config(tmp_path: Path, vqa: Path) -> Callable[..., RebuildConfig]:
    def make(train: Any = (3001, 1000, 2000), test: Any = (1001, 4000), **changes: Any) -> RebuildConfig:
        for name, ids in (("train", train), ("test", test)):
            (tmp_path / f"{name}.txt").write_text("".join(f"{question_id}\n" for question_id in ids))
        options = {"train_ids": tmp_path / "train.txt", "test_ids": tmp_path / "test.txt", "out": tmp_path / "out"}
        return RebuildConfig(**(options | {"data": vqa} | changes))

    return make


def fails(config: RebuildConfig) -> str:
    with pytest.raises(InputError) as error:
        rebuild(config)
    assert not list(config.out.parent.glob("out*"))
    return str(error.value)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_official_files(config: Callable[..., RebuildConfig], version: Any, shared_data: Path) -> None:
    options = config(version=version)
    rebuild(options)
    assert sorted(path.name for path in options.out.iterdir()) == sorted(
        f"vqacp_{version}_{part}_{kind}.json" for part in ("train", "test") for kind in ("questions", "annotations")
    )
    records = {path.stem.split("_", 2)[2]: json.loads(path.read_text()) for path in options.out.iterdir()}
    for kind in ("questions", "annotations"):
        assert [record["question_id"] for record in records[f"train_{kind}"]] == [3001, 1000, 2000]
        assert [record["question_id"] for record in records[f"test_{kind}"]] == [1001, 4000]
        assert [record["coco_split"] for record in records[f"train_{kind}"]] == ["val2014", "train2014", "train2014"]
        sample = json.loads((shared_data / f"formats/vqacp_v2_{kind}.FORMAT_SAMPLE.json").read_text())[0]
        assert all(list(record) == list(sample) for record in records[f"train_{kind}"])
        assert {k: type(v) for k, v in records[f"test_{kind}"][0].items()} == {k: type(v) for k, v in sample.items()}
    prefix = "" if version == "v1" else "v2_"
    assert records["test_questions"][0]["question"] == f"{prefix}1001?"
    assert records["test_annotations"][0]["answers"][3] == {
        "answer": prefix or "v1",
        "answer_confidence": "yes",
        "answer_id": 4,
    }


def test_prepare_finds_them(config: Callable[..., RebuildConfig]) -> None:
    options = config()
    rebuild(options)
    splits = find_splits(options.out)
    assert list(splits) == ["train", "test"]
    assert len(read_questions(splits["train"].questions)) == len(read_annotations(splits["train"].annotations)) == 3


def test_counts_are_printed(
    config: Callable[..., RebuildConfig], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    rebuild(config())
    printed = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in printed.splitlines() if "│" in line]
    assert rows == [["train", "3", "3", "1", "2"], ["test", "2", "2", "1", "1"]]
    assert "1 of 6 given questions are in neither part." in printed
    assert "VQA-CP v2 as published has 438,183 train and 219,928 test questions: this is another split." in printed
    rebuild(config(version="v1", out=config().out.with_name("v1")))
    assert "as published" not in capsys.readouterr().out


def test_real_questions(shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The real sample of VQA v2, split by the ids in a VQA-CP file."""
    folder = shared_data / "vqa_v2"
    sample = shared_data / "formats" / "vqacp_v2_questions.FORMAT_SAMPLE.json"
    questions = folder / "v2_OpenEnded_mscoco_train2014_questions.sub.json"
    annotations = folder / "v2_mscoco_train2014_annotations.sub.json"
    asked = json.loads(questions.read_text())["questions"]
    chosen = json.loads(sample.read_text())
    others = sorted({record["question_id"] for record in asked} - {record["question_id"] for record in chosen})
    (tmp_path / "train.txt").write_text("\n".join(map(str, others)))
    options = RebuildConfig(
        tmp_path / "train.txt", sample, tmp_path / "out", questions=(questions,), annotations=(annotations,)
    )
    rebuild(options)
    assert json.loads((tmp_path / "out" / "vqacp_v2_test_questions.json").read_text()) == chosen
    rebuilt = json.loads((tmp_path / "out" / "vqacp_v2_test_annotations.json").read_text())
    assert rebuilt == json.loads((shared_data / "formats" / "vqacp_v2_annotations.FORMAT_SAMPLE.json").read_text())
    assert "0 of 528 given questions are in neither part." in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    "content",
    [
        b"3\n1\n2\n",
        b" 3 1\r\n2",
        b"[3, 1, 2]",
        b'["3", "1", "2"]',
        b'[{"question_id": 3, "x": 0}, {"question_id": 1}, {"question_id": 2}]',
        b'{"questions": [{"question_id": 3}, {"question_id": 1}, {"question_id": 2}]}',
        gzip.compress(b"[3, 1, 2]", mtime=0),
    ],
)
def test_lists_of_ids(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "ids").write_bytes(content)
    assert read_question_ids(tmp_path / "ids") == [3, 1, 2]


EXPECTED = (
    "Expected the ids of one part: one per line, as a JSON list, or in an official file of questions or annotations."
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1\n2.5\n", "{}, entry 2: '2.5' is not a question id. Expected one per line, or a JSON list."),
        ("[1, true]", "{}, entry 2: True is not a question id. Expected one per line, or a JSON list."),
        ('[{"id": 1}]', "{}, entry 1: None is not a question id. Expected one per line, or a JSON list."),
        ('{"ids": [1]}', "{} holds a JSON object with the keys 'ids'. " + EXPECTED),
        ('{"train": [1], "test": [2]}', "{} holds a JSON object with the keys 'train', 'test'. " + EXPECTED),
        (
            '{"1": "train", "2": "test", "3": "test", "4": "test"}',
            "{} holds a JSON object with the keys '1', '2', '3' .... " + EXPECTED,
        ),
        ('{"questions": {"1": 2}}', "{} holds a JSON object with the keys 'questions'. " + EXPECTED),
        ("9" * 5000, "{}, entry 1: '" + "9" * 59 + " is not a question id. Expected one per line, or a JSON list."),
        (f"[{2**63}]", f"{{}}, entry 1: {2**63} is not a question id. Expected one per line, or a JSON list."),
        ("", "{} holds no question ids."),
        ("[]", "{} holds no question ids."),
        ("1\n2\n1\n1", "{} lists question 1 3 times. Keep one of them."),
    ],
)
def test_malformed_lists(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "ids").write_text(content)
    with pytest.raises(InputError) as error:
        read_question_ids(tmp_path / "ids")
    assert str(error.value) == message.format(tmp_path / "ids")


def test_wrong_ids(config: Callable[..., RebuildConfig], tmp_path: Path) -> None:
    assert fails(config(test=(1000, 4000, 3001))) == (
        f"{tmp_path / 'train.txt'} and {tmp_path / 'test.txt'} share 2 question ids, the first is 1000. "
        "Every question belongs to one part."
    )
    assert fails(config(test=(1001, 77, 78))) == (
        f"{tmp_path / 'test.txt'}: 2 of 3 ids are not in the given question files, the first is 77. VQA-CP v2 needs "
        "questions of VQA v2, train and validation."
    )
    (tmp_path / "train.txt").unlink()
    missing = RebuildConfig(tmp_path / "train.txt", tmp_path / "test.txt", tmp_path / "out")
    assert fails(missing) == f"{tmp_path / 'train.txt'} does not exist; expected a list of question ids."


def test_wrong_files(config: Callable[..., RebuildConfig], vqa: Path) -> None:
    assert fails(config(data=None)) == (
        "There is nothing to rebuild from. Give --data, or --questions and --annotations."
    )
    train = vqa / "v2_OpenEnded_mscoco_train2014_questions.json"
    answers = vqa / "v2_mscoco_train2014_annotations.json"
    assert fails(config(questions=(train,))) == ("--questions and --annotations belong together: found 1 and 0 files.")
    assert fails(config(questions=(train, train), annotations=(answers, answers))) == (
        f"{train}: question 1000 is in an earlier file too. Give each once."
    )
    text = train.read_text()
    train.write_text(text.replace('"data_subtype": "train2014", ', ""))
    assert fails(config()) == (
        f"{train} does not say which part of COCO its images are in. The official files do: add "
        '"data_subtype": "train2014" or "val2014" to its header.'
    )
    train.write_text(text[:-9])
    assert "malformed JSON" in fails(config())
    train.write_text(text)
    answers.unlink()
    assert fails(config()) == f"{answers} does not exist; expected a VQA annotations file."


def test_output_in_use(config: Callable[..., RebuildConfig]) -> None:
    options = config()
    rebuild(options)
    with pytest.raises(InputError) as error:
        rebuild(options)
    assert str(error.value) == f"{options.out} already holds files: choose another directory or delete it."
