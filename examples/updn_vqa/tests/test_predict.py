"""Answers to questions without annotations, in the format of VQA's server."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from updn_common.errors import InputError
from updn_common.files.finding import find_features
from updn_common.proposals.store import ProposalStore
from updn_vqa.data.prepared import PreparedData
from updn_vqa.evaluation.evaluate import EvaluateConfig, evaluate
from updn_vqa.evaluation.predict import PredictConfig, predict

Tiny = tuple[Path, Path]
Untrained = Callable[..., Path]


@pytest.fixture
def asked(tiny: Tiny, dump: Callable[..., Path]) -> Path:
    """The test questions with other ids and the official header, like questions with unpublished answers."""
    questions = json.loads((tiny[1] / "test" / "questions.json").read_text())["questions"]
    for question in questions:
        question["question_id"] += 5_000_000
    return dump({"data_subtype": "test2015", "questions": questions[::-1]}, "test2015_questions.json")


def results(path: Path) -> dict[int, str]:
    return {record["question_id"]: record["answer"] for record in json.loads(path.read_text())}


def test_answers_are_the_same_as_in_evaluate(tiny: Tiny, untrained: Untrained, asked: Path, tmp_path: Path) -> None:
    """With one question at a time or many, and proposals of the prepared directory or of feature files."""
    run = untrained("run")
    evaluate(EvaluateConfig(tiny[1], run, cpu=True))
    expected = results(run / "evaluation" / "test" / "results.json")
    for name, options in {"own": {}, "one": {"batch_size": 1}, "given": {"features": (tiny[1],)}}.items():
        predict(PredictConfig(tiny[1], run, asked, tmp_path / name, cpu=True, **options))  # type: ignore[arg-type]
        found = results(tmp_path / name / "results.json")
        assert {question_id - 5_000_000: answer for question_id, answer in found.items()} == expected
        assert list(found) == [record["question_id"] for record in json.loads(asked.read_text())["questions"]]


def test_features_from_files(tiny: Tiny, untrained: Untrained, asked: Path, tmp_path: Path) -> None:
    """Features of new images are converted for these questions."""
    run = untrained("run")
    predict(PredictConfig(tiny[1], run, asked, tmp_path / "a", cpu=True))
    predict(PredictConfig(tiny[1], run, asked, tmp_path / "b", tuple(find_features(tiny[0])), cpu=True))
    assert results(tmp_path / "b" / "results.json") == results(tmp_path / "a" / "results.json")
    images = {question["image_id"] for question in json.loads(asked.read_text())["questions"]}
    assert set(ProposalStore.open(tmp_path / "b" / "proposals").image_ids.tolist()) == images


def test_what_is_printed(
    tiny: Tiny, untrained: Untrained, asked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predict(PredictConfig(tiny[1], untrained("run"), asked, tmp_path / "out", cpu=True))
    count = len(json.loads(asked.read_text())["questions"])
    images = len({q["image_id"] for q in json.loads(asked.read_text())["questions"]})
    assert capsys.readouterr().out.startswith(
        f"{tmp_path / 'out' / 'results.json'}: {count:,} answers about {images:,} images; "
    )


def test_a_batch_size_of_zero_is_refused(tiny: Tiny, untrained: Untrained, asked: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^--batch-size should be at least 1, found 0"):
        predict(PredictConfig(tiny[1], untrained("run"), asked, tmp_path / "out", batch_size=0, cpu=True))


def test_images_without_proposals(tiny: Tiny, untrained: Untrained, asked: Path, tmp_path: Path) -> None:
    document: dict[str, Any] = json.loads(asked.read_text())
    document["questions"][0]["image_id"] = 77_777
    asked.write_text(json.dumps(document))
    images = len({question["image_id"] for question in document["questions"]})
    with pytest.raises(InputError) as error:
        predict(PredictConfig(tiny[1], untrained("run"), asked, tmp_path / "out", cpu=True))
    assert str(error.value) == (
        f"1 of the {images} images have no proposals in {tiny[1]}: 77777. Give the features of all images with "
        "--features."
    )
    assert not (tmp_path / "out").exists()
    assert PreparedData.open(tiny[1])
