"""Hints from texts: which detected objects they name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from updn_common.errors import InputError
from updn_common.proposals.readers import read_proposals
from updn_common.proposals.store import Geometry
from updn_vqa.data.hints import ObjectNames, WordHints
from updn_vqa.data.hints.words import read_explanations, words
from updn_vqa.data.questions import Annotation, Question

BOXES = torch.tensor([[0.0, 0.0, 20.0, 15.0]]).repeat(4, 1)
NAMES = ["dog", "hot dog,hotdog", "man", "men", "t-shirt,t shirt", "glasses"]


@pytest.fixture
def names(tmp_path: Path) -> Path:
    path = tmp_path / "objects_vocab.txt"
    path.write_text("\n".join(NAMES) + "\n")
    return path


def image(*objects: int) -> Geometry:
    return Geometry(BOXES[: len(objects)], 30, 40, np.array(objects))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The dogs' owner", ["dog", "the", "owner"]),
        ("It's Bob's T-shirt.", ["it", "bob", "t", "shirt"]),
        ("men, women & children eat sandwiches", ["man", "woman", "child", "eat", "sandwich"]),
        ("skies glasses shoes ties buses grass boxes", ["sky", "glass", "shoe", "tie", "bus", "grass", "box"]),
        ("the lens is his gas", ["the", "len", "is", "his", "gas"]),
        ("?!", []),
    ],
)
def test_words_of_a_text(text: str, expected: list[str]) -> None:
    assert sorted(words(text)) == sorted(expected)


@pytest.mark.parametrize(
    ("text", "classes"),
    [
        ("a dog", {0}),
        ("Hot dogs!", {1}),  # no dog in it
        ("it is hot, dog", {0}),
        ("two hotdogs and two dogs", {0, 1}),
        ("one man", {2, 3}),  # two classes of the detector are one word
        ("T-shirts", {4}),
        ("t. shirt", set()),
        ("a glass", {5}),
        ("", set()),
    ],
)
def test_names_in_a_text(names: Path, text: str, classes: set[int]) -> None:
    assert ObjectNames.read(names).named_in(text) == classes


def test_importance_is_the_share_of_texts_that_name_the_object(dump: Callable[..., Path], names: Path) -> None:
    explanations = dump({"1000": ["the man's dog", "a dog", "it barks"], "1001": ["it barks"], "1002": []}, "x.json")
    hints = WordHints.of_explanations([explanations], names)
    s = hints.importance(Question(1000, 1, "?"), image(0, 2, 4, 0))
    assert s is not None
    torch.testing.assert_close(s, torch.tensor([2 / 3, 1 / 3, 0, 2 / 3]))
    assert hints.importance(Question(1001, 1, "?"), image(0, 2)) is None  # names none of them
    assert hints.importance(Question(1000, 1, "?"), image(0, 0)) is None  # says nothing about their order
    assert hints.importance(Question(1002, 1, "?"), image(0, 2)) is None
    assert hints.record() == {
        "source": "explanations",
        "about": "words of VQA-X explanations matched with the names of detected objects; nobody looked at proposals",
        "questions": 2,
    }
    assert hints.files == [explanations, names]


def test_question_and_answer(names: Path) -> None:
    asked = [Question(1000, 1, "What is the man eating?"), Question(1001, 1, "Why?")]
    answered = [Annotation(q.question_id, 1, "what", "other", "hot dogs", ("sausage",) * 10) for q in asked]
    hints = WordHints.of_answers(asked, answered, names)
    for question, expected in zip(asked, ([0, 1, 1, 1], [0, 1, 0, 0]), strict=True):
        s = hints.importance(question, image(0, 1, 2, 3))
        assert s is not None
        assert s.tolist() == expected
    assert "NOT human attention" in hints.record()["about"]


def test_features_without_objects(dump: Callable[..., Path], names: Path) -> None:
    hints = WordHints.of_explanations([dump({"1000": ["a dog"]})], names)
    with pytest.raises(InputError) as error:
        hints.importance(Question(1000, 1, "?"), Geometry(BOXES, 30, 40))
    assert str(error.value) == (
        "The features of image 1 do not say what objects were detected, which hints from words need. Give features in "
        "LXMERT's TSV, which has the column objects_id."
    )
    with pytest.raises(InputError) as error:
        hints.importance(Question(1000, 1, "?"), image(0, 6))
    assert str(error.value) == (
        f"{names} has 6 object names, but image 1 an object 6. Give the list of the detector that made the features "
        "with --object-names."
    )


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "{} should hold an object from question ids to explanations, found list."),
        ({"x": ["a"]}, "{}: 'x' is not a question id. Keys should be question ids."),
        ({"7": "because"}, "{}: question 7 has 'because'. Expected a list of explanations."),
        ({"7": ["a", None]}, "{}: question 7 has ['a', None]. Expected a list of explanations."),
    ],
)
def test_malformed_explanations(dump: Callable[..., Path], document: Any, message: str) -> None:
    path = dump(document)
    with pytest.raises(InputError) as error:
        read_explanations(path)
    assert str(error.value) == message.format(path)


def test_malformed_names(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    for content, message in (
        (None, f"{path} does not exist; expected the detector's object names, one per line."),
        (b"", f"{path}, line 1 is empty; expected the detector's object names, one per line."),
        (b"dog\n\ncat\n", f"{path}, line 2 is empty; expected the detector's object names, one per line."),
        (b"\xff\xfe", f"{path} is not UTF-8 text (byte 0); expected the detector's object names, one per line."),
    ):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(InputError) as error:
            ObjectNames.read(path)
        assert str(error.value) == message


def test_real_explanations_on_real_detections(shared_data: Path) -> None:
    """Of two VQA-X questions about photos with features, one explanation names a detected object."""
    names = shared_data / "bottom_up" / "objects_vocab.txt"
    hints = WordHints.of_explanations([shared_data / "vqa_x" / "train_exp_anno.sub.json"], names)
    assert len(hints.texts) == 3194
    images = {i.image_id: i for i in read_proposals(shared_data / "bottom_up" / "train2014_obj36.tsv")}
    called = names.read_text().splitlines()

    def hint(question_id: int) -> tuple[torch.Tensor | None, list[str]]:
        i = images[question_id // 1000]
        assert i.objects is not None
        geometry = Geometry(torch.tensor(i.boxes), i.height, i.width, i.objects)
        return hints.importance(Question(question_id, i.image_id, "?"), geometry), [called[k] for k in i.objects]

    assert hints.texts[201446000] == ["wood makes great cutting boards."]
    s, objects = hint(201446000)
    assert s is not None
    assert objects.count("wood") == 3
    assert objects.count("cutting board") == 2
    assert s.tolist() == [float(name in ("wood", "cutting board")) for name in objects]
    assert hints.texts[306661001] == ["you can see the wii remote"]
    assert "wii remote" in called
    assert hint(306661001)[0] is None  # which the detector has not found


@pytest.mark.parametrize("part", ["train_exp_anno.sub", "val_exp_anno", "test_exp_anno"])
def test_most_real_explanations_name_an_object(shared_data: Path, part: str) -> None:
    names = ObjectNames.read(shared_data / "bottom_up" / "objects_vocab.txt")
    assert len(names.names) == 1600
    texts = [text for all_of in read_explanations(shared_data / "vqa_x" / f"{part}.json").values() for text in all_of]
    assert sum(bool(names.named_in(text)) for text in texts) > 0.9 * len(texts)
