"""Readers of the official VQA files, and their errors for malformed files."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from updn_common.errors import InputError
from updn_vqa.data.official_writers import write_annotations, write_questions
from updn_vqa.data.questions import (
    Annotation,
    Question,
    pair,
    read_annotations,
    read_questions,
    read_results,
    write_results,
)

Make = Callable[..., Any]


def test_official_questions(question: Make, dump: Make) -> None:
    record = question(1000)
    del record["coco_split"]
    path = dump({"info": {}, "data_subtype": "val2014", "questions": [record]})
    assert read_questions(path) == [Question(1000, 1, "What color is the cat?", "val2014")]


def test_vqa_cp_questions_are_a_bare_list(question: Make, dump: Make) -> None:
    assert read_questions(dump([question(1000), question(2000, coco_split="val2014")])) == [
        Question(1000, 1, "What color is the cat?", "train2014"),
        Question(2000, 2, "What color is the cat?", "val2014"),
    ]


@pytest.mark.parametrize("header", [True, False])
def test_annotations(annotation: Make, dump: Make, header: bool) -> None:
    answers = [f"answer {number}" for number in range(10)]
    records = [annotation(1000, answers)]
    assert read_annotations(dump({"annotations": records} if header else records)) == [
        Annotation(1000, 1, "what color is the", "other", "answer 0", tuple(answers), ("yes",) * 10)
    ]


def test_gzip_under_any_name(question: Make, tmp_path: Path) -> None:
    path = tmp_path / "questions.json"
    path.write_bytes(gzip.compress(json.dumps([question(1000)]).encode()))
    assert [item.question_id for item in read_questions(path)] == [1000]


@pytest.mark.parametrize(("name", "count"), [("valid", 8977), ("test", 2962)])
def test_real_files(shared_data: Path, name: str, count: int) -> None:
    questions = read_questions(shared_data / f"vqa_v2/vqa_questions_{name}.gzip")
    annotations = read_annotations(shared_data / f"vqa_v2/vqa_annotatons_{name}.gzip")
    paired = pair(questions, reversed(annotations), name)
    assert len(paired) == count
    assert [item.question_id for item in paired] == [item.question_id for item in questions]


def test_real_file_with_trimmed_records(shared_data: Path) -> None:
    path = shared_data / "vqa_v2/allennlp_annotations.json"
    with pytest.raises(InputError) as error:
        read_annotations(path)
    assert str(error.value) == f"{path}, record 0 has no 'image_id'; it has 'question_id', 'answers'."


def test_written_files_are_official_and_read_back(question: Make, annotation: Make, dump: Make, tmp_path: Path) -> None:
    questions = read_questions(dump([question(1000), question(2000, coco_split="val2014")]))
    annotations = read_annotations(dump([annotation(1000), annotation(2000, ["a", "b"] * 5)]))
    write_questions(tmp_path / "q.json", questions, "dev")
    write_annotations(tmp_path / "a.json", annotations, "dev")
    assert read_questions(tmp_path / "q.json") == questions
    assert read_annotations(tmp_path / "a.json") == annotations
    # The entries that the official evaluator reads.
    header = {"info", "license", "data_type", "data_subtype"}
    assert set(json.loads((tmp_path / "q.json").read_text())) == header | {"task_type", "questions"}
    written = json.loads((tmp_path / "a.json").read_text())
    assert set(written) == header | {"annotations"}
    assert written["annotations"][0] == annotation(1000)


def test_results_round_trip_in_order(tmp_path: Path) -> None:
    write_results(tmp_path / "results.json", [(2000, "red"), (1000, "blue")])
    assert json.loads((tmp_path / "results.json").read_text())[0] == {"question_id": 2000, "answer": "red"}
    assert list(read_results(tmp_path / "results.json").items()) == [(2000, "red"), (1000, "blue")]


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ({"1000": "red"}, "{} is not a VQA results file: it should hold a list, found an object with the keys '1000'."),
        ([{"question_id": 1000}], "{}, record 0 has no 'answer'; it has 'question_id'."),
        ([{"question_id": "1000", "answer": "red"}], "{}, record 0: 'question_id' should be int, found '1000' (str)."),
        (
            [{"question_id": 1000, "answer": "red"}] * 2,
            "{}, record 1: question 1000 is answered twice. Keep one of the answers.",
        ),
    ],
)
def test_malformed_results(dump: Make, results: Any, message: str) -> None:
    path = dump(results, "results.json")
    with pytest.raises(InputError) as error:
        read_results(path)
    assert str(error.value) == message.format(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda records: records.clear(), "{} holds no questions. Give a file with at least one record."),
        (lambda records: records.append(7), "{}, record 2 should be an object with the key 'question_id', found int."),
        (lambda records: records.append({}), "{}, record 2 has no 'question_id'; it has no keys."),
        (
            lambda records: records[1].pop("question"),
            "{}, record 1 has no 'question'; it has 'image_id', 'question_id', 'coco_split'.",
        ),
        (lambda records: records[1].update(image_id=2.0), "{}, record 1: 'image_id' should be int, found 2.0 (float)."),
        (
            lambda records: records[1].update(question_id=True),
            "{}, record 1: 'question_id' should be int, found True (bool).",
        ),
        (
            lambda records: records[1].update(question_id=2**63),
            f"{{}}, record 1: 'question_id' should be an integer of 64 bits, found {2**63}.",
        ),
        (
            lambda records: records[1].update(question="a \ud800"),
            r"{}, record 1: 'question' should be text, found an unpaired surrogate in 'a \ud800'.",
        ),
        (
            lambda records: records[1].update(coco_split=["val2014"]),
            "{}, record 1: 'coco_split' should be str, found ['val2014'] (list).",
        ),
        (
            lambda records: records[1].update(question_id=1000),
            "{}: question id 1000 occurs twice, in records 0 and 1. "
            "Question ids must be unique; remove one of the two.",
        ),
    ],
)
def test_malformed_questions(question: Make, dump: Make, change: Callable[[list[Any]], Any], message: str) -> None:
    records = [question(1000), question(2000)]
    change(records)
    path = dump(records)
    with pytest.raises(InputError) as error:
        read_questions(path)
    assert str(error.value) == message.format(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answers": "red"}, "{}, record 0: 'answers' should be list, found 'red' (str)."),
        (
            {"answers": [{"answer": "red"}] * 9},
            "{}, record 0: question 1000 has 9 answers. The VQA accuracy is defined on 10.",
        ),
        ({"answers": [{"answer": 3}] * 10}, "{}, record 0: 'answer' should be str, found 3 (int)."),
        ({"answers": ["red"] * 10}, "{}, record 0 should be an object with the key 'answer', found str."),
        ({"answer_type": None}, "{}, record 0: 'answer_type' should be str, found None (NoneType)."),
    ],
)
def test_malformed_annotations(annotation: Make, dump: Make, changes: dict[str, Any], message: str) -> None:
    path = dump([annotation(1000, **changes)])
    with pytest.raises(InputError) as error:
        read_annotations(path)
    assert str(error.value) == message.format(path)


def test_header_of_the_wrong_type(question: Make, dump: Make) -> None:
    path = dump({"data_subtype": 2014, "questions": [question(1000)]})
    with pytest.raises(InputError) as error:
        read_questions(path)
    assert str(error.value) == f"{path}: 'data_subtype' should be str, found 2014 (int)."


def test_other_kinds_of_file(dump: Make, tmp_path: Path) -> None:
    path = dump({"info": {}, "annotations": []})
    with pytest.raises(InputError) as error:
        read_questions(path)
    assert str(error.value) == (
        f"{path} is not a VQA questions file: it should hold a list of records, or an object with such a list under "
        "'questions'. Found an object with the keys 'info', 'annotations'."
    )
    with pytest.raises(InputError) as error:
        read_annotations(tmp_path / "absent.json")
    assert str(error.value) == f"{tmp_path / 'absent.json'} does not exist; expected a VQA annotations file."


@pytest.mark.parametrize(
    ("questions", "annotations", "message"),
    [
        (
            [1000, 2000],
            [1000],
            "split: 1 questions have no annotation, the first is 2000. There should be one record for each annotation.",
        ),
        (
            [1000],
            [1000, 2000, 3000],
            "split: 2 of the 3 annotated questions are missing, the first is 2000. "
            "There should be one record for each annotation.",
        ),
    ],
)
def test_questions_and_annotations_must_match(
    question: Make, annotation: Make, dump: Make, questions: list[int], annotations: list[int], message: str
) -> None:
    read = read_questions(dump([question(i) for i in questions]))
    with pytest.raises(InputError) as error:
        pair(read, read_annotations(dump([annotation(i) for i in annotations])), "split")
    assert str(error.value) == message


def test_paired_records_must_be_about_the_same_image(question: Make, annotation: Make, dump: Make) -> None:
    read = read_questions(dump([question(1000)]))
    with pytest.raises(InputError) as error:
        pair(read, read_annotations(dump([annotation(1000, image_id=5)])), "split")
    assert str(error.value) == (
        "split: question 1000 is about image 1, but its annotation about image 5. "
        "Take both files from the same release."
    )
