"""Real COCO photos, bottom-up features, questions, fixations and result files, from disk to accuracies and pictures."""

import base64
import gzip
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from updn_common.data.attention_maps import read_salicon
from updn_common.proposals.image_proposals import ImageProposals
from updn_vqa.data.accuracy import normalise_answer
from updn_vqa.data.prepare import PrepareConfig, prepare
from updn_vqa.data.prepared import PreparedData
from updn_vqa.data.questions import read_annotations, read_results
from updn_vqa.evaluation.evaluate import EvaluateConfig, evaluate
from updn_vqa.evaluation.explain import ExplainConfig, explain
from updn_vqa.training.config import TrainConfig
from updn_vqa.training.methods import METHODS, SCALES, SMALL
from updn_vqa.training.train import train

DRAWN = {
    "494628003": [[20, 20, 610, 480]],
    "132417002": [[133, 106, 362, 228]],
    "84002003": [[121, 84, 565, 460]],
    "578174002": [[515, 157, 560, 221], [250, 182, 329, 237]],
    "131486002": [[123, 115, 263, 470]],
}
"""Boxes drawn by hand around what five of the six questions about photos with features ask about."""
DRAW = 2
TINY = replace(
    SCALES["shapes"],
    model=replace(SMALL, embedding=4, hidden=8),
    learning_rate=1e-2,
    steps=40,
    evaluate_every=40,
    batch_size=4,
    hint_batch_size=2,
)


@pytest.fixture
def real(shared_data: Path, tmp_path: Path) -> Callable[..., PrepareConfig]:
    """Options to prepare the real questions; arguments choose features and hints."""

    def make(**options: object) -> PrepareConfig:
        return PrepareConfig(
            out=tmp_path / "prepared",
            questions=shared_data / "vqa_v2/v2_OpenEnded_mscoco_train2014_questions.sub.json",
            annotations=shared_data / "vqa_v2/v2_mscoco_train2014_annotations.sub.json",
            answers=shared_data / "vqa_v2/trainval_label2ans.json",
            drop_questions_without_proposals=True,
            **options,  # type: ignore[arg-type]
        )

    return make


def write_six_columns(path: Path, images: list[ImageProposals]) -> Path:
    """Write proposals in the original column order."""
    rows = []
    for image in images:
        payloads = [base64.b64encode(x.astype("<f4").tobytes()).decode() for x in (image.boxes, image.features)]
        rows.append([str(x) for x in (image.image_id, image.width, image.height, len(image.boxes))] + payloads)
    path.write_text("".join("\t".join(row) + "\n" for row in rows))
    return path


def run_all(prepared: PrepareConfig, photos: Path, out: Path) -> PreparedData:
    """Prepare, train a base and HINT after it, evaluate, and explain the first questions of each split."""
    prepare(prepared)
    base = TrainConfig(data=prepared.out, out=out / "base", method=METHODS["base"], scale=TINY, cpu=True)
    hint = replace(base, out=out / "hint", method=METHODS["hint"], start_from=base.out)
    train(base)
    train(hint)
    data = PreparedData.open(prepared.out)
    for name in data.split_names:
        evaluate(EvaluateConfig(data=data.directory, run=hint.out, split=name, cpu=True))
        ids = tuple(question.question_id for question in data.split(name).questions[:DRAW])
        explain(ExplainConfig(data.directory, base.out, hint.out, photos, out / f"page-{name}", name, questions=ids))
    return data


def accuracy_as_published(result: str, answers: list[str]) -> float:
    """The official evaluator of 2016, line by line, apart from the normalisation, which has a test of its own."""
    marks = [";", "/", "[", "]", '"', "{", "}", "(", ")", "=", "+", "\\", "_", "-", ">", "<", "@", "`", ",", "?", "!"]
    if len(set(answers)) > 1:
        for i, given in enumerate(answers):
            text = given
            for mark in marks:
                beside_space = mark + " " in given or " " + mark in given
                text = text.replace(mark, "" if beside_space or re.search(r"(\d)(\,)(\d)", given) else " ")
            answers[i] = re.sub(r"(?!<=\d)(\.)(?!\d)", "", text, count=32)
    accuracies = []
    for i in range(len(answers)):
        others = answers[:i] + answers[i + 1 :]
        accuracies.append(min(1.0, float(others.count(normalise_answer(result))) / 3))
    return sum(accuracies) / len(accuracies)


def check(data: PreparedData, out: Path) -> None:
    """Check the accuracy against the official evaluator, and that there is a picture of each question."""
    for name in data.split_names:
        split = data.split(name)
        folder = out / "hint" / "evaluation" / name
        results = read_results(folder / "results.json")
        scores = [accuracy_as_published(results[given.question_id], [*given.answers]) for given in split.annotations]
        accuracy = json.loads((folder / "accuracy.json").read_text())["accuracy"]
        assert accuracy["2016"]["overall"] == round(100 * sum(scores) / len(scores), 2)
        pictures = {int(path.stem): path for path in (out / f"page-{name}").glob("*.png")}
        assert pictures.keys() == {question.question_id for question in split.questions[:DRAW]}
        for path in pictures.values():
            with Image.open(path) as picture:
                assert picture.width > 2 * picture.height  # three or four photos side by side


def test_photos_with_bottom_up_features_and_drawn_boxes(
    real: Callable[..., PrepareConfig], shared_data: Path, dump: Callable[..., Path], tmp_path: Path
) -> None:
    features = shared_data / "bottom_up" / "train2014_obj36.tsv"
    options = real(features=(features,), hints="boxes", hint_paths=(dump(DRAWN),), development_share=0.3)
    data = run_all(options, shared_data / "bottom_up" / "images", tmp_path)
    check(data, tmp_path)
    assert {name: len(data.split(name)) for name in data.split_names} == {"train": 4, "dev": 2}
    accuracy = json.loads((tmp_path / "hint" / "evaluation" / "train" / "accuracy.json").read_text())
    assert accuracy["accuracy"]["2016"]["overall"] > 70  # four questions can be learnt by heart
    hinted, untouched = set(), 0
    for name in data.split_names:
        batch = data.split(name).batch(range(len(data.split(name))))
        for row in batch.hinted.nonzero().flatten().tolist():
            question_id = str(int(batch.question_ids[row]))
            hinted.add(question_id)
            drawn, boxes = torch.tensor(DRAWN[question_id]), batch.boxes[row][:, None]
            sides = torch.minimum(boxes[..., 2:], drawn[:, 2:]) - torch.maximum(boxes[..., :2], drawn[:, :2])
            touches = (sides > 0).all(-1).any(-1)  # proposals that overlap a drawn box
            assert torch.equal(batch.human[row] > 0, touches)
            untouched += int((~touches).sum())
    assert hinted == DRAWN.keys()
    assert untouched > 10


def test_both_column_orders_prepare_the_same(
    real: Callable[..., PrepareConfig], shared_data: Path, dump: Callable[..., Path], tmp_path: Path
) -> None:
    """LXMERT's ten columns and the original six, with the first three photos."""
    splits = []
    for name in ("train2014_obj36.tsv", "trainval_resnet101_faster_rcnn_genome_36.first3.DERIVED.tsv"):
        features = (shared_data / "bottom_up" / name,)
        options = real(features=features, hints="boxes", hint_paths=(dump(DRAWN),), development_share=0)
        prepare(replace(options, out=tmp_path / name))
        splits.append(PreparedData.open(tmp_path / name).split("train"))
    ids = [question.question_id for question in splits[1].questions]
    assert 0 < len(ids) < 6
    ten, six = (split.batch(split.positions(ids))._asdict() for split in splits)
    del ten["tokens"], six["tokens"]  # vocabularies are of other questions
    torch.testing.assert_close(six, ten, rtol=0, atol=0, equal_nan=True)


def test_photos_with_salicon_fixations_and_synthetic_features(
    real: Callable[..., PrepareConfig], shared_data: Path, tmp_path: Path
) -> None:
    """Photos, questions and fixations are real, but no image with fixations has features: proposals are made up.

    They are a grid of boxes with random features.
    """
    fixations = shared_data / "attention" / "fixations_train2014examples.json"
    rng = np.random.default_rng(0)
    images = []
    gazes = read_salicon(fixations)
    for image_id, gaze in gazes.items():
        corners = [(x, y) for y in np.linspace(0, gaze.height, 4)[:-1] for x in np.linspace(0, gaze.width, 5)[:-1]]
        boxes = np.array([(x, y, x + gaze.width / 4, y + gaze.height / 3) for x, y in corners], dtype=np.float32)
        images.append(ImageProposals(image_id, gaze.width, gaze.height, boxes, rng.random((12, 8), dtype=np.float32)))
    options = real(
        features=(write_six_columns(tmp_path / "grid.tsv", images),),
        hints="salicon",
        hint_paths=(fixations,),
        development_share=0.3,
    )
    data = run_all(options, shared_data / "attention" / "images", tmp_path)
    check(data, tmp_path)

    record = json.loads((data.directory / "prepared.json").read_text())
    assert record["hints"]["about"].startswith("SALICON fixations: free viewing, NOT question-driven")
    assert sum(split["hinted"] for split in record["splits"].values()) == 22
    for name in data.split_names:
        batch = data.split(name).batch(range(len(data.split(name))))
        by_image = {}
        for question, boxes, human in zip(data.split(name).questions, batch.boxes, batch.human, strict=True):
            assert torch.equal(by_image.setdefault(question.image_id, human), human)  # the hint is the image's
            points = torch.from_numpy(gazes[question.image_id].points + 0.5)
            inside = (points[:, None] >= boxes[:, :2]) & (points[:, None] < boxes[:, 2:])
            counts = inside.all(-1).sum(0)
            assert human[counts.argmax()] > 0.5 > human[counts.argmin()]


def test_all_real_questions_without_images(shared_data: Path, tmp_path: Path) -> None:
    """Question-only training on 48,061 questions, from files that are gzipped under official names."""
    data, out = tmp_path / "data", tmp_path / "prepared"
    data.mkdir()
    for split, part in {"train": "train", "val": "valid", "test": "test"}.items():
        for kind, name, theirs in (("questions", "OpenEnded_", "questions"), ("annotations", "", "annotatons")):
            source = shared_data / "vqa_v2" / f"vqa_{theirs}_{part}.gzip"
            (data / f"v2_{name}mscoco_{split}2014_{kind}.json").symlink_to(source)
    prepare(PrepareConfig(out=out, data=data, question_only=True))
    splits = PreparedData.open(out).record["splits"]
    assert {name: split["questions"] for name, split in splits.items()} == {
        **{"train": 45_667, "dev": 2_394, "val": 8_977, "test": 2_962}
    }
    assert splits["train"]["questions"] + splits["dev"]["questions"] == 48_061
    epochs, batch_size = 3, 512
    steps = epochs * splits["train"]["questions"] // batch_size
    small = replace(SMALL, embedding=8, hidden=16)
    scale = replace(TINY, model=small, batch_size=batch_size, steps=steps, evaluate_every=steps)
    run = TrainConfig(data=out, out=tmp_path / "run", method=METHODS["base"], scale=scale, cpu=True)
    train(run)
    for name, part in (("val", "valid"), ("test", "test")):
        evaluate(EvaluateConfig(data=out, run=run.out, split=name, cpu=True))
        folder = run.out / "evaluation" / name
        results = {
            result["question_id"]: result["answer"] for result in json.loads((folder / "results.json").read_text())
        }
        with gzip.open(shared_data / "vqa_v2" / f"vqa_annotatons_{part}.gzip") as file:
            annotations = json.load(file)["annotations"]
        scores: dict[str, list[float]] = {}
        for annotation in annotations:
            given = [answer["answer"] for answer in annotation["answers"]]
            score = accuracy_as_published(results.pop(annotation["question_id"]), given)
            for kind in ("all", annotation["answer_type"]):
                scores.setdefault(kind, []).append(score)
        assert not results
        means = {kind: round(100 * sum(of_kind) / len(of_kind), 2) for kind, of_kind in scores.items()}
        found = json.loads((folder / "accuracy.json").read_text())["accuracy"]["2016"]
        assert {"all": found["overall"], **found["by_answer_type"]} == means
        assert means["all"] > 20


@pytest.mark.parametrize("name", ["prior_yes", "per_qtype_prior", "mc_answer", "first_annotator_raw"])
def test_result_files_have_their_official_accuracies(
    real: Callable[..., PrepareConfig],
    shared_data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    """`evaluate --results` prints the accuracies of the official evaluators; the proposals are made up."""
    monkeypatch.setenv("COLUMNS", "120")
    folder = shared_data / "vqa_v2"
    annotations = read_annotations(folder / "v2_mscoco_train2014_annotations.sub.json")
    box, feature = np.array([[0, 0, 9, 9]], dtype=np.float32), np.ones((1, 1), dtype=np.float32)
    ids = sorted({annotation.image_id for annotation in annotations})
    features = write_six_columns(tmp_path / "a.tsv", [ImageProposals(i, 9, 9, box, feature) for i in ids])
    options = real(features=(features,), development_share=0)
    prepare(options)
    capsys.readouterr()
    results = folder / "expected" / f"{name}_results.json"
    evaluate(EvaluateConfig(data=options.out, results=results, split="train"))

    printed = capsys.readouterr().out
    rows = {
        name: values for name, *values in re.findall(r'│ "?([^"│]+?)"? +│ +([\d.]+) \[.+?\] │ +([\d.]+) \[', printed)
    }
    golden = json.loads((folder / "expected" / "expected_accuracy_sub.json").read_text())[name]
    versions = [next(golden[key] for key in golden if key.startswith(version)) for version in ("2016", "2021")]
    expected = {"all": [version["overall"] for version in versions]}
    for kind in ("perAnswerType", "perQuestionType"):
        expected |= {key: [version[kind][key] for version in versions] for key in versions[0][kind]}
    assert {key: [float(x) for x in values] for key, values in rows.items()} == expected
