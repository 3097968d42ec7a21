"""Human hints from VQA-HAT maps, drawn boxes and SALICON fixations."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from hint_loss import human_importance, human_importance_from_boxes
from updn_common.errors import InputError
from updn_common.proposals.store import Geometry
from updn_vqa.data.hints import BoxHints, HatHints, SaliconHints, read_question_boxes
from updn_vqa.data.questions import Question

SIZE = (30, 40)
BOXES = torch.tensor([[0.0, 0.0, 20.0, 15.0], [20.0, 15.0, 40.0, 30.0], [0.0, 0.0, 40.0, 30.0]])
IMAGE = Geometry(BOXES, *SIZE)
CAT, DOG = "What color is the cat?", "Is it Bob's dog, then?"


def save_map(folder: Path, name: str, values: Any) -> Path:
    folder.mkdir(exist_ok=True)
    Image.fromarray(np.asarray(values, dtype=np.uint8)).save(folder / name)
    return folder / name


def spot(row: int, column: int, height: int = 30, width: int = 40) -> np.ndarray:
    values = np.zeros((height, width), dtype=np.uint8)
    values[row, column] = 255
    return values


@pytest.fixture
def v1_file(dump: Callable[..., Path]) -> Path:
    records = [
        {"image_id": 1, "question": CAT, "question_id": 10},
        {"image_id": 1, "question": DOG, "question_id": 11},
        {"image_id": 2, "question": CAT, "question_id": 20},
    ]
    return dump({"questions": records}, "v1.json")


def test_hat_maps_need_the_same_text_and_image(tmp_path: Path, v1_file: Path) -> None:
    folder = tmp_path / "maps"
    paths = [save_map(folder, f"{name}.png", spot(0, 0)) for name in ("10_1", "10_2", "11_1", "20_1", "99_1")]
    questions = [
        Question(1000, 1, CAT),
        Question(1001, 1, CAT),  # asked twice
        Question(1002, 1, DOG.lower()),
        Question(3000, 3, CAT),
    ]
    hints = HatHints.match([folder], [v1_file], questions)
    assert hints.maps == {1000: paths[:2], 1001: paths[:2]}
    assert (hints.matched, hints.unmatched) == (1, 3)
    record = hints.record()
    assert record.pop("maps_sha256") != HatHints({1000: paths[:1]}, 1, 0, []).record()["maps_sha256"]
    assert record == {
        "source": "hat",
        "about": "VQA-HAT attention maps, made with the question in view",
        "matched_v1_questions": 1,
        "unmatched_v1_questions": 3,
    }
    assert hints.importance(questions[2], IMAGE) is None


def test_hat_maps_of_questions_asked_twice_are_averaged(tmp_path: Path, dump: Callable[..., Path]) -> None:
    """VQA v1 asks some questions twice about an image, with two ids."""
    v1 = [{"image_id": 1, "question": CAT, "question_id": i} for i in (10, 11)]
    paths = [save_map(tmp_path / "maps", f"{name}.png", spot(0, 0)) for name in ("10_1", "10_2", "11_1")]
    hints = HatHints.match([tmp_path / "maps"], [dump({"questions": v1})], [Question(1000, 1, CAT)])
    assert hints.maps == {1000: paths}
    assert (hints.matched, hints.unmatched) == (2, 0)


def test_question_in_two_files_is_refused(tmp_path: Path, dump: Callable[..., Path], v1_file: Path) -> None:
    first = dump({"7": [[0, 0, 1, 5]], "8": []}, "a.json")
    second = dump({"8": [[0, 0, 1, 5]], "7": [[3, 3, 4, 5]]}, "b.json")
    with pytest.raises(InputError) as error:
        BoxHints.read([first, second])
    assert str(error.value) == f"{second} has question 7, which {first} has too. Keep one of the two."
    folders = [save_map(tmp_path / name, "10_1.png", spot(0, 0)).parent for name in ("one", "two")]
    with pytest.raises(InputError) as error:
        HatHints.match(folders, [v1_file], [Question(1000, 1, CAT)])
    assert str(error.value) == f"{folders[1]} has question 10, which {folders[0]} has too. Keep one of the two."
    gaze = {"images": [{"id": 1, "width": 4, "height": 3}], "annotations": [{"image_id": 1, "fixations": [[1, 1]]}]}
    files = [dump(gaze, "c.json"), dump(gaze, "d.json")]
    with pytest.raises(InputError) as error:
        SaliconHints.read(files)
    assert str(error.value) == f"{files[1]} has image 1, which {files[0]} has too. Keep one of the two."


def test_question_twice_in_one_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "boxes.json"
    path.write_text('{"1": [[0, 0, 1, 5]], "1": [[3, 3, 4, 5]]}')
    with pytest.raises(InputError) as error:
        read_question_boxes(path)
    assert str(error.value) == f"{path}: an object has the key '1' twice. Keep one of them."


def test_hat_maps_of_one_question_are_averaged(tmp_path: Path) -> None:
    paths = [save_map(tmp_path, "10_1.png", spot(0, 0)), save_map(tmp_path, "10_2.png", spot(29, 39) // 2)]
    hints = HatHints({1000: paths}, 1, 0, [])
    mean = (spot(0, 0) / 255 + (spot(29, 39) // 2) / 255) / 2
    s = hints.importance(Question(1000, 1, CAT), IMAGE)
    assert s is not None
    torch.testing.assert_close(s, human_importance(torch.tensor(mean, dtype=torch.float32), BOXES))
    assert s[0] > s[1] > 0
    assert s[2] == 0.5


@pytest.mark.parametrize(("height", "width"), [(15, 20), (60, 80), (61, 80)])
def test_hat_map_of_another_resolution(tmp_path: Path, height: int, width: int) -> None:
    path = save_map(tmp_path, "10_1.png", spot(0, 0, height, width))
    s = HatHints({1000: [path]}, 1, 0, []).importance(Question(1000, 1, CAT), IMAGE)
    assert s is not None
    torch.testing.assert_close(s, torch.tensor([1.0, 0.0, 0.5]))


def test_hat_map_of_another_shape(tmp_path: Path) -> None:
    path = save_map(tmp_path, "10_1.png", spot(0, 0, 40, 30))
    with pytest.raises(InputError) as error:
        HatHints({1000: [path]}, 1, 0, []).importance(Question(1000, 1, CAT), IMAGE)
    assert str(error.value) == (
        f"{path}: a hint on 30 x 40 pixels does not fit image 1 of 40 x 30. Resize it to the image, or remove it."
    )


def test_hat_map_without_attention(tmp_path: Path) -> None:
    path = save_map(tmp_path, "10_1.png", np.zeros((30, 40)))
    with pytest.raises(InputError) as error:
        HatHints({1000: [path]}, 1, 0, []).importance(Question(1000, 1, CAT), IMAGE)
    assert str(error.value) == f"{path} (40 x 30 pixels) is zero everywhere: it shows no attention."


def test_hat_maps_of_other_questions_only(tmp_path: Path, v1_file: Path) -> None:
    folder = tmp_path / "maps"
    save_map(folder, "10_1.png", spot(0, 0))
    with pytest.raises(InputError) as error:
        HatHints.match([folder], [v1_file], [Question(1000, 1, DOG)])
    assert str(error.value) == (
        f"None of the 1 questions with attention maps in {folder} is among the given ones (same image, same text). "
        "Check the VQA v1 question files."
    )


def test_drawn_boxes(dump: Callable[..., Path]) -> None:
    path = dump({"1000": [[0, 0, 10, 10], [5, 5, 20, 15]], "2000": []}, "boxes.json")
    hints = BoxHints.read([path])
    s = hints.importance(Question(1000, 1, CAT), IMAGE)
    drawn = torch.tensor([[0.0, 0.0, 10.0, 10.0], [5.0, 5.0, 20.0, 15.0]])
    assert s is not None
    torch.testing.assert_close(s, human_importance_from_boxes(drawn, BOXES, image_size=SIZE))
    assert s.tolist() == [1.0, 0.0, 0.5]
    assert hints.importance(Question(2000, 2, CAT), IMAGE) is None
    assert hints.record()["questions"] == 1
    assert hints.files == [path]


def test_boxes_as_in_scene_graphs(dump: Callable[..., Path]) -> None:
    path = dump({"7": [{"x": 1, "y": 2, "w": 3, "h": 4.5, "name": "cat"}, [0, 0, 1, 1]]})
    assert read_question_boxes(path)[7].tolist() == [[1.0, 2.0, 4.0, 6.5], [0.0, 0.0, 1.0, 1.0]]
    for wrong in ({"x": 1, "y": 2, "w": 0, "h": 4}, {"x": 1, "y": 2, "w": 3}, {"x": 1, "y": 2, "w": "3", "h": 4}):
        path = dump({"7": [wrong]})
        with pytest.raises(InputError) as error:
            read_question_boxes(path)
        assert str(error.value) == (
            f"{path}: question 7 has [{wrong}]. Expected a list of boxes [x1, y1, x2, y2] with x1 < x2 and y1 < y2."
        )


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "{} should hold an object from question ids to boxes, found list."),
        ({"x1": []}, "{}: 'x1' is not a question id. Keys should be question ids."),
        ({"1" * 20: []}, f"{{}}: '{'1' * 20}' is not a question id. Keys should be question ids."),
        (
            {"1": [], "01": []},
            "{} has question 1 twice, once as '01'. Keep one of the two or, if they are two questions, give one of "
            "them another number in all files.",
        ),
        *(
            (
                {"7": [wrong]},
                f"{{}}: question 7 has [{wrong}]. Expected a list of boxes [x1, y1, x2, y2] with x1 < x2 and y1 < y2.",
            )
            for wrong in (
                *(5, [1, 2, 3], [1, 2, 3, "4"], [5, 0, 5, 9], [0, 9, 5, 3], [0, 0, float("nan"), 3]),
                *([0, 0, 10**400, 5], [0, 0, 1e300, 5], [100000000, 0, 100000001, 5]),  # one and the same in float32
                {"x": 3e38, "y": 0, "w": 3e38, "h": 1},
            )
        ),
    ],
)
def test_malformed_boxes(dump: Callable[..., Path], document: Any, message: str) -> None:
    path = dump(document)
    with pytest.raises(InputError) as error:
        read_question_boxes(path)
    assert str(error.value) == message.replace("{}", str(path))


def test_drawn_box_outside_its_image(dump: Callable[..., Path]) -> None:
    path = dump({"1000": [[0, 0, 10, 10], [0, 0, 40, 50]]})
    with pytest.raises(InputError) as error:
        BoxHints.read([path]).importance(Question(1000, 1, CAT), IMAGE)
    assert str(error.value) == (
        f"{path}: question 1000: box 1 [0.0, 0.0, 40.0, 50.0] leaves the 40 x 30 image; expected x1 y1 x2 y2 in pixels."
    )


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        (
            [[0.1, 0.1, 0.6, 0.5]],
            "all boxes are in [0, 1], such as [0.1, 0.1, 0.6, 0.5]; expected pixels: multiply x by",
        ),
        ([[0, 0, 1, 1], [0.2, 0, 0.7, 1]], "all boxes are in [0, 1], such as [0.0, 0.0, 1.0, 1.0]; expected pixels"),
        (
            [[40.2, 3, 40.9, 9]],
            "box 0 [40.2, 3.0, 40.9, 9.0] leaves the 40 x 30 image; expected x1 y1 x2 y2 in pixels.",
        ),
        ([[0, 0, 5, 5], [3, -0.9, 9, -0.1]], "box 1 [3.0, -0.9, 9.0, -0.1] leaves the 40 x 30 image; expected"),
    ],
)
def test_drawn_boxes_in_another_unit_or_beyond_the_edge(
    dump: Callable[..., Path], boxes: list[list[float]], message: str
) -> None:
    """Also if a box is within the tolerance but completely outside the image."""
    path = dump({"1000": boxes})
    with pytest.raises(InputError) as error:
        BoxHints.read([path]).importance(Question(1000, 1, CAT), IMAGE)
    assert str(error.value).startswith(f"{path}: question 1000: {message}")


@pytest.mark.parametrize("scale", [1, 2, 7.5])
def test_boxes_on_an_image_of_another_resolution(scale: float) -> None:
    drawn = torch.tensor([[4.0, 6.0, 20.0, 15.0]])
    source = BoxHints({1000: drawn * scale}, [], sizes={1000: (40 * scale, 30 * scale)})
    found, expected = (
        hints.importance(Question(1000, 1, CAT), IMAGE) for hints in (source, BoxHints({1000: drawn}, []))
    )
    torch.testing.assert_close(found, expected)
    with pytest.raises(InputError, match=r"question 1000: a hint on 30 x 40 pixels does not fit image 1 of 40 x 30\."):
        replace(source, sizes={1000: (30, 40)}).importance(Question(1000, 1, CAT), IMAGE)


def test_fixations_are_the_same_for_all_questions_of_an_image(dump: Callable[..., Path]) -> None:
    images = [{"id": 1, "width": 40, "height": 30}]
    trials = [{"image_id": 1, "fixations": [[1, 1], [15, 20]]}, {"image_id": 1, "fixations": [[16, 21]]}]
    hints = SaliconHints.read([dump({"images": images, "annotations": trials})], sigma=1e-3)
    s = hints.importance(Question(1000, 1, CAT), IMAGE)
    other = hints.importance(Question(1001, 1, DOG), IMAGE)
    assert s is not None
    assert other is not None
    # Two of three points are in the first quarter of the image, and one in the last: row and column count from 1.
    torch.testing.assert_close(s, torch.tensor([(2 / 1) / (2 / 1 + 1 / 3), (1 / 1) / (1 / 1 + 2 / 3), 0.5]))
    assert torch.equal(s, other)
    assert hints.importance(Question(2000, 2, CAT), IMAGE) is None
    assert "NOT question-driven" in hints.record()["about"]
    with pytest.raises(InputError) as error:
        hints.importance(Question(1000, 1, CAT), Geometry(BOXES, 40, 30))
    assert str(error.value) == (
        f"{hints.files[0]}: the fixations in image 1 are on 40 x 30 pixels, but the proposals on 30 x 40."
    )


def test_real_fixations_agree_with_the_official_map(shared_data: Path) -> None:
    """Importance is high where the official map is brightest, and low in its darkest corner."""
    import json

    golden = json.loads((shared_data / "attention/salicon_fixmap_golden.json").read_text())["images"]
    hints = SaliconHints.read([shared_data / "attention/fixations_train2014examples.json"])
    assert len(hints.fixations) == 10
    for image_id, values in golden.items():
        row, column = values["argmax_rc"]
        blocks = np.array(values["block14"])
        r, c = np.unravel_index(blocks.argmin(), blocks.shape)
        boxes = torch.tensor(
            [
                [max(column - 20, 0), max(row - 20, 0), min(column + 20, 640), min(row + 20, 480)],
                [c * 45, r * 34, c * 45 + 45, r * 34 + 34],
            ],
            dtype=torch.float32,
        )
        s = hints.importance(Question(0, int(image_id), CAT), Geometry(boxes, 480, 640))
        assert s is not None
        assert s[0] > 0.75
        assert s[1] < 0.25
