"""Hints from GQA's scene graphs."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch

from hint_loss import human_importance_from_boxes
from updn_common.errors import InputError
from updn_common.proposals.store import Geometry
from updn_vqa.data.hints import read_gqa
from updn_vqa.data.questions import Question

GRAPHS: dict[str, Any] = {
    "2407890": {
        "width": 40,
        "height": 30,
        "location": "living room",
        "objects": {
            "271881": {"name": "chair", "x": 0, "y": 0, "w": 10, "h": 15, "attributes": ["brown"], "relations": []},
            "275312": {"name": "table", "x": 30, "y": 20, "w": 20, "h": 20, "attributes": [], "relations": []},
            "275313": {"name": "beyond", "x": 41, "y": 20, "w": 5, "h": 5, "attributes": [], "relations": []},
        },
    }
}
QUESTIONS: dict[str, Any] = {
    "02930152": {
        "question": "What is the chair near?",
        "imageId": "2407890",
        "answer": "table",
        "annotations": {"question": {"3": "271881"}, "answer": {"0": "275312"}, "fullAnswer": {"4": "275312"}},
    },
    "02930153": {"question": "Is it day?", "imageId": "2407890", "annotations": {"question": {}, "answer": {}}},
    "02930154": {"question": "?", "imageId": "2407890", "annotations": {"question": {"0:2": "275313"}}},
}


@pytest.fixture
def files(dump: Callable[..., Path]) -> Callable[..., list[Path]]:
    def write(change: Callable[[Any, Any], Any] = lambda questions, graphs: None) -> list[Path]:
        questions, graphs = deepcopy(QUESTIONS), deepcopy(GRAPHS)
        change(questions, graphs)
        return [dump(graphs, "train_sceneGraphs.json"), dump(questions, "train_balanced_questions.json")]

    return write


def test_hints_are_boxes_of_named_objects(files: Callable[..., list[Path]]) -> None:
    hints = read_gqa(files())
    boxes = {key: value.tolist() for key, value in hints.boxes.items()}
    assert boxes == {2930152: [[0, 0, 10, 15], [30, 20, 40, 30]]}  # cut to the image; nothing is left of the third
    proposals = torch.tensor([[0.0, 0.0, 20.0, 15.0], [20.0, 15.0, 40.0, 30.0]])
    s = hints.importance(Question(2930152, 2407890, "What is the chair near?"), Geometry(proposals, 30, 40))
    assert s is not None
    torch.testing.assert_close(s, human_importance_from_boxes(hints.boxes[2930152], proposals, image_size=(30, 40)))
    assert hints.record()["about"].startswith("GQA: the boxes of the objects")


def test_both_kinds_of_files_are_needed(files: Callable[..., list[Path]], dump: Callable[..., Path]) -> None:
    graphs, questions = files()
    for given, missing, path in (("scene graphs", "questions", graphs), ("questions", "scene graphs", questions)):
        with pytest.raises(InputError) as error:
            read_gqa([path])
        assert str(error.value) == f"{path}: GQA {given} only. Give GQA's {missing} too with --hint-paths."
    for wrong in ([], {}, {"1": [[0, 0, 1, 1]]}):
        path = dump(wrong)
        with pytest.raises(InputError) as error:
            read_gqa([path])
        assert str(error.value) == (
            f"{path} holds neither GQA questions, {{id: {{imageId, annotations, ...}}}}, nor scene graphs, "
            "{image id: {width, height, objects}}."
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda q, g: q["02930152"].pop("annotations"), "KeyError: 'annotations'"),
        (lambda q, g: g["2407890"].pop("width"), "KeyError: 'width'"),
        (lambda q, g: g["2407890"]["objects"]["271881"].update(x=None), "ValueError: object 271881 is at [None, "),
        (lambda q, g: g["2407890"]["objects"]["271881"].update(w=10**400), "ValueError: object 271881 is at [0, "),
        (lambda q, g: g["2407890"]["objects"]["271881"].update(h=1e300), "ValueError: object 271881 is at [0, "),
        (lambda q, g: q["02930152"].update(imageId="7"), "KeyError: '7'"),
        (lambda q, g: q["02930152"].update(annotations=[]), "AttributeError: "),
    ],
)
def test_malformed(files: Callable[..., list[Path]], change: Callable[[Any, Any], Any], message: str) -> None:
    paths = files(change)
    with pytest.raises(InputError) as error:
        read_gqa(paths)
    assert str(error.value).startswith(f"{paths[0]}, {paths[1]}: not in the format of GQA ({message}")
    assert str(error.value).endswith("). Take questions and scene graphs of the same release and part.")


def test_wrong_and_repeated_ids(files: Callable[..., list[Path]], dump: Callable[..., Path]) -> None:
    def message(paths: list[Path]) -> str:
        with pytest.raises(InputError) as error:
            read_gqa(paths)
        return str(error.value)

    graphs, questions = files(lambda q, g: q.update(x1=q.pop("02930152")))
    assert message([graphs, questions]) == f"{questions}: 'x1' is not a question id. Keys should be question ids."
    graphs, questions = files(lambda q, g: q.update({"2930152": q["02930154"]}))
    assert message([graphs, questions]) == (
        f"{questions} has question 2930152 twice, once as '2930152'. Keep one of the two or, if they are "
        "two questions, give one of them another number in all files."
    )
    graphs, questions = files()
    more = dump({"2930153": QUESTIONS["02930153"]}, "val_balanced_questions.json")
    assert message([graphs, questions, more]) == (
        f"{more} has question 2930153, which an earlier file has too. Keep one of the two."
    )


def test_object_missing_from_the_graph(files: Callable[..., list[Path]]) -> None:
    with pytest.raises(InputError) as error:
        read_gqa(files(lambda questions, graphs: graphs["2407890"]["objects"].pop("275312")))
    assert str(error.value) == (
        "GQA question 2930152 names object 275312, which the scene graph of image 2407890 lacks. Take questions and "
        "scene graphs of the same release and part."
    )
