"""The official VQA accuracy, against the official evaluator's own numbers."""

import json
from pathlib import Path

import pytest

from updn_common.errors import InputError
from updn_vqa.data.accuracy import evaluate, normalise_answer, vqa_accuracy
from updn_vqa.data.questions import Annotation, read_annotations, read_results

NAMES = ("prior_yes", "per_qtype_prior", "mc_answer", "first_annotator_raw")


def make_annotation(question_id: int, answers: list[str], kind: str = "other") -> Annotation:
    return Annotation(question_id, question_id // 1000, f"a {kind}", kind, answers[0], tuple(answers))


@pytest.mark.parametrize("version", ["2016", "2021"])
@pytest.mark.parametrize("name", NAMES)
def test_equals_the_official_results_to_the_last_digit(shared_data: Path, name: str, version: str) -> None:
    folder = shared_data / "vqa_v2"
    golden = json.loads((folder / "expected" / "expected_accuracy_sub.json").read_text())[name]
    expected = next(value for key, value in golden.items() if key.startswith(version))
    annotations = read_annotations(folder / "v2_mscoco_train2014_annotations.sub.json")
    results = read_results(folder / "expected" / f"{name}_results.json")

    report = evaluate(results, annotations, version=version)  # type: ignore[arg-type]

    assert report.overall == expected["overall"]
    assert report.by_answer_type == expected["perAnswerType"]
    assert report.by_question_type == expected["perQuestionType"]
    assert {str(key): value for key, value in report.by_question.items()} == expected["perQuestion"]


@pytest.mark.parametrize(("part", "count"), [("changed_real_answers", 2934), ("handmade", 27)])
def test_equals_official_normalisation(shared_data: Path, part: str, count: int) -> None:
    golden = json.loads((shared_data / "vqa_v2/expected/answer_normalisation_golden.json").read_text())[part]
    assert len(golden) == count
    assert {text: normalise_answer(text) for text in golden} == golden


@pytest.mark.parametrize(
    ("text", "normalised"),
    [
        ("  Yes.\n", "yes"),
        ("the cat and a dog", "cat and dog"),
        ("none", "0"),
        ("Ten", "10"),
        ("eleven", "eleven"),
        ("black/white", "black white"),  # a mark between letters becomes a space
        ("black/ white", "black white"),  # a mark beside a space goes
        ("1,000/day", "1000day"),  # after a comma within a number all marks go
        ("2.5", "2.5"),
        ("u.s.a. 5.", "usa 5"),
        ("." * 40, "." * 8),  # 32 periods at most
        ("dont", "don't"),
        ("somebody'd", "somebodyd"),
        ("it's 3:15", "it's 3:15"),  # neither is punctuation
        ("wet/dry /cold", "wetdry cold"),  # beside a space once: removed everywhere
        ("wet/dry/ cold", "wetdry cold"),
        ("wet/dry cold", "wet dry cold"),
    ],
)
def test_normalisation(text: str, normalised: str) -> None:
    assert normalise_answer(text) == normalised


@pytest.mark.parametrize(("matches", "expected"), [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (10, 1.0)])
@pytest.mark.parametrize("version", ["2016", "2021"])
def test_accuracy_by_number_of_matches(matches: int, expected: float, version: str) -> None:
    answers = ["red"] * matches + ["blue"] * (10 - matches)
    assert vqa_accuracy("red", answers, version=version) == pytest.approx(expected, abs=1e-12)  # type: ignore[arg-type]


def test_versions_differ_where_people_agree() -> None:
    unanimous = ["yes"] * 10
    assert vqa_accuracy("The YES.", unanimous) == 1.0
    assert vqa_accuracy("The YES.", unanimous, version="2021") == 0.0
    assert vqa_accuracy("yes", ["Yes."] * 10) == 0.0
    assert vqa_accuracy("Yes.", ["Yes."] * 10, version="2021") == 1.0


def test_versions_differ_where_people_disagree() -> None:
    disputed = ["two"] * 4 + ["red, blue"] * 6
    assert vqa_accuracy("two", disputed) == 0.0  # 2016 makes a "2" of ours alone
    assert vqa_accuracy("two", disputed, version="2021") == 1.0
    assert vqa_accuracy("red blue", disputed) == 1.0


def test_report_averages_over_questions() -> None:
    annotations = [
        make_annotation(1000, ["red"] * 10),
        make_annotation(1001, ["red"] * 1 + ["blue"] * 9),
        make_annotation(1002, ["yes"] * 10, "yes/no"),
    ]
    report = evaluate({1001: "red", 1000: "red", 1002: "no"}, annotations)
    assert report.overall == 43.33
    assert report.by_answer_type == {"other": 65.0, "yes/no": 0.0}
    assert report.by_question_type == {"a other": 65.0, "a yes/no": 0.0}
    assert report.by_question == {1001: 30.0, 1000: 100.0, 1002: 0.0}


def test_results_of_other_questions_are_refused() -> None:
    annotations = [make_annotation(1000, ["red"] * 10), make_annotation(1001, ["red"] * 10)]
    with pytest.raises(InputError) as error:
        evaluate({1001: "red"}, annotations)
    assert str(error.value) == (
        "results: 1 of the 2 annotated questions are missing, the first is 1000. "
        "There should be one record for each annotation."
    )
