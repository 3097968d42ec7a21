"""Vocabularies, soft scores and tokens, against the reference implementation's numbers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from updn_common.errors import InputError
from updn_vqa.data.questions import Annotation, read_annotations
from updn_vqa.data.vocabulary import (
    PADDING,
    UNKNOWN,
    AnswerVocabulary,
    QuestionVocabulary,
    ground_truth,
    no_ground_truth,
    soft_scores,
    tokenise,
)


def make_annotation(question_id: int, answers: list[str]) -> Annotation:
    return Annotation(question_id, 1, "", "other", answers[0], tuple(answers))


def test_ground_truth_is_the_annotated_answer() -> None:
    vocabulary = AnswerVocabulary(("yes", "no", "maybe"))
    split_vote = Annotation(1, 1, "", "yes/no", "no", ("yes",) * 4 + ("no",) * 6)
    assert set(soft_scores(split_vote).values()) == {1.0}
    assert ground_truth(split_vote, vocabulary) == 1
    unknown = Annotation(2, 1, "", "other", "perhaps", ("perhaps",) * 5 + ("yes",) * 2 + ("maybe",) * 3)
    assert ground_truth(unknown, vocabulary) == -1  # and not 2, which hints are not about
    assert no_ground_truth(unknown, vocabulary) == "not in the vocabulary"
    assert ground_truth(make_annotation(3, ["red"] * 10), vocabulary) == -1
    typed_otherwise = make_annotation(4, ["No."] * 10)  # has a soft score of 0, and the loss lowers its logit
    assert "no" not in soft_scores(typed_otherwise)
    assert ground_truth(typed_otherwise, vocabulary) == -1
    assert no_ground_truth(typed_otherwise, vocabulary) == "typed in another form by all people"
    assert ground_truth(make_annotation(5, ["No.", "no"]), vocabulary) == 1


def test_soft_scores_equal_the_reference_code(shared_data: Path) -> None:
    folder = shared_data / "vqa_v2"
    golden = json.loads((folder / "expected/soft_targets_golden.json").read_text())["targets"]
    vocabulary = AnswerVocabulary.read(folder / "trainval_ans2label.json")
    annotations = read_annotations(folder / "v2_mscoco_train2014_annotations.sub.json")
    targets = {
        str(annotation.question_id): [
            [vocabulary.index[answer], score]
            for answer, score in soft_scores(annotation).items()
            if answer in vocabulary.index
        ]
        for annotation in annotations
    }
    assert len(targets) == 528
    assert targets == golden


def test_both_files_of_lxmert_are_the_same_vocabulary(shared_data: Path) -> None:
    listed = AnswerVocabulary.read(shared_data / "vqa_v2/trainval_label2ans.json")
    mapped = AnswerVocabulary.read(shared_data / "vqa_v2/trainval_ans2label.json")
    assert listed == mapped
    assert len(listed) == 3129
    assert listed.answers[listed.index["net"]] == "net"


def test_frequent_answers_are_in_the_real_vocabulary(shared_data: Path) -> None:
    """The 71 frequent answers of 9,000 questions are among the 3,129 of the whole data set."""
    built = AnswerVocabulary.build(read_annotations(shared_data / "vqa_v2/vqa_annotatons_valid.gzip"))
    assert len(built) == 71
    assert built.answers[:2] == ("yes", "no")
    assert set(built.answers) <= set(AnswerVocabulary.read(shared_data / "vqa_v2/trainval_label2ans.json").answers)


def test_soft_scores() -> None:
    annotation = make_annotation(1, ["a", "b", "b", "c", "c", "c", "d", "d", "d", "d"])
    assert list(soft_scores(annotation).items()) == [("a", 0.3), ("b", 0.6), ("c", 0.9), ("d", 1.0)]
    assert soft_scores(make_annotation(1, ["Red."] * 10)) == {"Red.": 1.0}


def test_normalised_answers_are_counted_once_per_question() -> None:
    firsts = ["Red.", "red", "the red", "blue", "blue", "green", "1,000", "apple", "apple"]
    annotations = [make_annotation(i, [answer] + ["zebra"] * 9) for i, answer in enumerate(firsts)]
    assert AnswerVocabulary.build(annotations, 2).answers == ("red", "apple", "blue")
    assert AnswerVocabulary.build(annotations, 1).answers == ("red", "apple", "blue", "1000", "green")
    with pytest.raises(InputError) as error:
        AnswerVocabulary.build(annotations)
    assert str(error.value) == (
        "No answer belongs to 9 or more train questions; the most frequent belongs to 3. Give a lower "
        "--min-answer-occurrences (1 keeps every answer), or a fixed list with --answers."
    )


@pytest.mark.parametrize(
    "document",
    [
        ["yes", "2", "red"],
        {"2": 1, "red": 2, "yes": 0},
        [{"yes": 0, "2": 1, "red": 2}, {"0": "yes", "1": "2", "2": "red"}],
    ],
    ids=["list", "LXMERT", "OpenVQA"],
)
def test_formats_of_answer_files(dump: Callable[..., Path], document: Any) -> None:
    assert AnswerVocabulary.read(dump(document)).answers == ("yes", "2", "red")


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("red", "{} should hold a JSON list of strings, found str."),
        ([], "{} holds an empty list. It should hold at least one string."),
        (["red", 2], "{} should hold a JSON list of strings, but entry 1 is int."),
        ([{"red": 0}], "{} should hold a JSON list of strings, but entry 0 is an object with the keys 'red'."),
        (
            [{"red": 0, "no": 1}, {"0": "no", "1": "red"}],
            "{} holds two objects, but the second does not map the indices of the first back.",
        ),
        (["red", "blue", "red"], "{} lists 'red' twice. Remove one of the two."),
        ({"red": 0, "blue": 2}, "{} maps 2 answers to indices, but not to 0 ... 1, once each."),
        ({"red": 0, "blue": 0}, "{} maps 2 answers to indices, but not to 0 ... 1, once each."),
        ({"red": 0, "blue": "1"}, "{} maps 2 answers to indices, but not to 0 ... 1, once each."),
    ],
)
def test_malformed_answer_files(dump: Callable[..., Path], document: Any, message: str) -> None:
    path = dump(document)
    with pytest.raises(InputError) as error:
        AnswerVocabulary.read(path)
    assert str(error.value) == message.format(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("What color is the cat?", ["what", "color", "is", "the", "cat"]),
        ("Is it Bob's dog, then?", ["is", "it", "bob", "'s", "dog", "then"]),
        ("  Who?me, you ", ["whome", "you"]),
        ('Don\'t "stop".', ["don't", '"stop".']),
        ("?", []),
    ],
)
def test_words_of_a_question(text: str, words: list[str]) -> None:
    assert tokenise(text) == words


def test_tokens_are_padded_on_the_left_and_trimmed_at_the_end() -> None:
    vocabulary = QuestionVocabulary.build(["What is the cat?", "What is what?"])
    assert vocabulary.words == ("what", "is", "cat", "the")
    assert len(vocabulary) == 6
    tokens = vocabulary.encode(["What is that?", "the cat is what it is", "?"], 4)
    assert tokens.dtype == np.int64
    assert tokens.tolist() == [[PADDING, 2, 3, UNKNOWN], [5, 4, 3, 2], [PADDING] * 4]
    assert vocabulary.encode(["cat"]).tolist() == [[PADDING] * 13 + [4]]


def test_vocabularies_round_trip(tmp_path: Path) -> None:
    words = QuestionVocabulary.build(["Où est le café?"])
    words.write(tmp_path / "words.json")
    assert QuestionVocabulary.read(tmp_path / "words.json") == words
    answers = AnswerVocabulary(("yes", "no", "3"))
    answers.write(tmp_path / "answers.json")
    assert AnswerVocabulary.read(tmp_path / "answers.json") == answers
    assert json.loads((tmp_path / "answers.json").read_text()) == ["yes", "no", "3"]
