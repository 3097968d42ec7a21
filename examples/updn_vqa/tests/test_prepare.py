"""Preparation of official files, which is either complete or leaves nothing."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from safetensors.numpy import load_file

from updn_common.errors import InputError
from updn_common.files.reading import sha256_of_all
from updn_common.proposals.readers import read_proposals
from updn_common.proposals.store import ProposalStore
from updn_vqa.data.prepare import PrepareConfig, prepare
from updn_vqa.data.questions import read_annotations, read_questions
from updn_vqa.data.vocabulary import AnswerVocabulary

Configure = Callable[..., PrepareConfig]


def split_arrays(out: Path, split: str) -> dict[str, np.ndarray[Any, Any]]:
    return load_file(out / split / "arrays.safetensors")


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def fails(config: PrepareConfig) -> str:
    """Prepare, check that nothing is left behind, and return the error message."""
    with pytest.raises(InputError) as error:
        prepare(config)
    assert not list(config.out.parent.glob(f"{config.out.name}*"))
    return str(error.value)


def test_content(config: Configure, world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = config()
    prepare(options)
    out = options.out
    assert {path.name for path in out.iterdir()} == {
        *("prepared.json", "proposals", "answers.json", "words.json", "train", "dev", "test")
    }
    record = json.loads((out / "prepared.json").read_text())
    assert record["format_version"] == 3
    assert record["splits"]["train"] == {
        **{"questions": 6, "images": 3, "hinted": 0, "grounded": 2, "answerable": 6},
        **{"with_ground_truth": 6, "hinted_without_ground_truth": 0},
        **{"words": 33, "unknown_words": 0},
    }
    assert [record["splits"][name]["questions"] for name in ("dev", "test")] == [2, 4]
    checksum = hashlib.sha256((world / "features.tsv").read_bytes()).hexdigest()
    assert {"name": "features.tsv", "sha256": checksum} in record["sources"]
    assert {source["name"] for source in record["sources"]} == {
        *(f"vqacp_v2_{split}_{kind}.json" for split in ("train", "test") for kind in ("questions", "annotations")),
        *("vqacp_v2_train_boxes.json", "features.tsv"),
    }
    assert len(ProposalStore.open(out / "proposals")) == 6  # image 99 is asked nothing
    assert json.loads((out / "answers.json").read_text()) == ["red", "yes"]
    summary = capsys.readouterr().out
    assert "train" in summary
    assert "100.0%" in summary


def test_checksums_of_all_features(config: Configure, world: Path, tmp_path: Path) -> None:
    """Including the npz files of a folder, and the image ids beside an HDF5 file."""
    first, *others = read_proposals(world / "features.tsv")
    (world / "features.tsv").unlink()
    folder, hdf5, ids = tmp_path / "npz", tmp_path / "b.hdf5", tmp_path / "b.ids.json"
    folder.mkdir()
    entries = {"x": first.features, "bbox": first.boxes, "num_bbox": 4, "image_h": first.height, "image_w": first.width}
    np.savez(folder / f"{first.image_id}.npz", **entries)  # type: ignore[arg-type]
    ends = np.cumsum([len(image.boxes) for image in others])
    with h5py.File(hdf5, "w") as file:
        boxes = np.concatenate([image.boxes for image in others])
        file["image_features"] = np.concatenate([image.features for image in others])
        file["image_bb"] = boxes
        file["spatial_features"] = np.tile(boxes / [40, 30, 40, 30], (1, 2))[:, :6]
        file["pos_boxes"] = np.stack([np.r_[0, ends[:-1]], ends], axis=1)
    ids.write_text(json.dumps([image.image_id for image in others]))
    options = config(features=(folder, hdf5))
    prepare(options)
    sources = json.loads((options.out / "prepared.json").read_text())["sources"]
    assert sources[-3:] == [
        {"name": "npz", "sha256": sha256_of_all(folder.iterdir())},
        {"name": "b.hdf5", "sha256": hashlib.sha256(hdf5.read_bytes()).hexdigest()},
        {"name": "b.ids.json", "sha256": hashlib.sha256(ids.read_bytes()).hexdigest()},
    ]


def test_arrays(config: Configure) -> None:
    options = config()
    prepare(options)
    arrays = split_arrays(options.out, "test")
    questions = read_questions(options.out / "test" / "questions.json")
    assert [item.question_id for item in questions] == [11000, 11001, 12000, 12001]
    annotations = read_annotations(options.out / "test" / "annotations.json")
    assert [item.question_id for item in annotations] == [11000, 11001, 12000, 12001]  # reversed in the source
    store = ProposalStore.open(options.out / "proposals")
    assert arrays["question_ids"].tolist() == [11000, 11001, 12000, 12001]
    assert store.image_ids[arrays["image_rows"]].tolist() == [11, 11, 12, 12]
    assert arrays["tokens"].shape == (4, 6)  # the longest train question
    assert arrays["answer_indices"].tolist() == [[0] + [-1] * 9, [1] + [-1] * 9] * 2
    np.testing.assert_array_equal(arrays["answer_scores"], np.float32([[1] + [0] * 9] * 4))
    assert arrays["hint_rows"].shape == (0,)
    assert arrays["hints"].shape == (0, 4)


def test_relevant_proposals(config: Configure) -> None:
    options = config(development_share=0)
    prepare(options)
    arrays = split_arrays(options.out, "train")
    assert arrays["question_ids"][arrays["relevant_rows"]].tolist() == [1000, 2001]
    assert arrays["relevant"].tolist() == [[True, False, False, False], [False] * 4]
    assert arrays["relevant"].dtype == np.bool_
    assert not (options.out / "dev").exists()


def test_development_split_shares_no_image_with_train(config: Configure, tmp_path: Path) -> None:
    def images(name: str, **changes: Any) -> dict[str, set[int]]:
        options = config(out=tmp_path / name, **changes)
        prepare(options)
        return {
            split: {item.image_id for item in read_questions(options.out / split / "questions.json")}
            for split in ("train", "dev", "test")
        }

    found = images("a", development_share=0.5)
    assert len(found["dev"]) == 2
    assert found["dev"] | found["train"] == {1, 2, 3, 4}
    assert not found["dev"] & found["train"]
    assert found["test"] == {11, 12}
    assert images("b", development_share=0.5) == found
    assert any(images(f"seed{seed}", development_share=0.5, seed=seed) != found for seed in range(1, 4))
    assert len(images("c", development_share=0.01)["dev"]) == 1
    assert len(images("d", development_share=0.99)["train"]) == 1


def test_given_development_split_is_kept(config: Configure, world: Path) -> None:
    for kind in ("questions", "annotations"):
        (world / f"vqacp_v2_test_{kind}.json").rename(world / f"vqacp_v2_dev_{kind}.json")
    options = config()
    prepare(options)
    assert len(read_questions(options.out / "train" / "questions.json")) == 8
    assert [item.image_id for item in read_questions(options.out / "dev" / "questions.json")] == [11, 11, 12, 12]


def test_vocabularies_come_from_train_alone(config: Configure, world: Path) -> None:
    edit(world / "vqacp_v2_test_questions.json", lambda records: records[0].update(question="Which zebra?"))
    edit(world / "vqacp_v2_test_annotations.json", lambda records: records[-1].update(multiple_choice_answer="stripes"))
    options = config()
    prepare(options)
    assert "stripes" not in (options.out / "answers.json").read_text()
    assert "zebra" not in (options.out / "words.json").read_text()
    record = json.loads((options.out / "prepared.json").read_text())
    assert record["splits"]["test"]["unknown_words"] == 2


def test_fixed_answers(config: Configure, dump: Callable[..., Path]) -> None:
    options = config(answers=dump(["dark red", "no", "red"], "answers.json"))
    prepare(options)
    assert split_arrays(options.out, "test")["answer_indices"][:2, :2].tolist() == [[2, 0], [1, -1]]
    assert AnswerVocabulary.read(options.out / "answers.json").answers == ("dark red", "no", "red")
    answers = dump(["blue", "green"], "answers.json")
    assert fails(config(answers=answers, out=options.out.parent / "other")) == (
        f"Nobody gave any of the 2 answers in {answers} to a train question, so there is nothing to learn. Check "
        "--answers."
    )


def test_missing_word_vectors(config: Configure, tmp_path: Path) -> None:
    for name, found in (("folder", "is a directory"), ("absent", "does not exist")):
        path = tmp_path / name
        if name == "folder":
            path.mkdir()
        assert fails(config(glove=path)) == f"{path} {found}; expected word vectors as text. Check --glove."


def test_questions_without_proposals(config: Configure, world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = (world / "features.tsv").read_text().splitlines(keepends=True)
    (world / "features.tsv").write_text("".join(lines[2:5] + lines[6:]))  # without the images 1, 2 and 12
    assert fails(config()) == (
        f"6 questions are about 3 images without proposals in {world / 'features.tsv'}: 1, 2, 12. Add their features, "
        "or leave such questions out with --drop-questions-without-proposals."
    )
    options = config(drop_questions_without_proposals=True)
    prepare(options)
    assert len(read_questions(options.out / "test" / "questions.json")) == 2
    assert json.loads((options.out / "prepared.json").read_text())["dropped_questions"] == 6
    assert "6 questions were dropped: their images have no proposals." in capsys.readouterr().out


def test_split_without_any_proposals(config: Configure, world: Path) -> None:
    lines = (world / "features.tsv").read_text().splitlines(keepends=True)
    (world / "features.tsv").write_text("".join(lines[:4]))
    assert fails(config(drop_questions_without_proposals=True)) == (
        f"No image of the split 'test' has proposals in {world / 'features.tsv'}. Check that --features belong to it."
    )
    (world / "features.tsv").write_text(lines[-1])
    assert fails(config()) == (
        f"{world / 'features.tsv'}: none of the images is among the 6 wanted ones. "
        "It holds others, such as '99'. Give the features of the right data set with --features."
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": None}, "There is nothing to prepare. Give --data, or --questions and --annotations."),
        ({"questions": Path("q.json")}, "--questions and --annotations belong together: give both or none."),
        ({"development_share": 1.0}, "--development-share should be at least 0 and below 1, found 1.0."),
        ({"min_answer_occurrences": 0}, "--min-answer-occurrences should be at least 1, found 0."),
        ({"question_length": -1}, "--question-length should be at least 1, found -1."),
        ({"seed": -1}, "--seed should be at least 0, found -1."),
        ({"salicon_sigma": float("nan")}, "--salicon-sigma should be above 0, found nan."),
        (
            {"data": Path("absent")},
            "absent is not a directory. Give the one that holds the question files with --data.",
        ),
        (
            {"min_answer_occurrences": 5},
            "No answer belongs to 5 or more train questions; the most frequent belongs to 3. Give a lower "
            "--min-answer-occurrences (1 keeps every answer), or a fixed list with --answers.",
        ),
    ],
)
def test_wrong_options(config: Configure, changes: dict[str, Any], message: str) -> None:
    assert fails(config(**changes)) == message


def test_missing_files(config: Configure, world: Path, tmp_path: Path) -> None:
    assert fails(config(dataset="vqacp_v1")) == (
        f"{world} holds no question files of vqacp_v1, such as vqacp_v1_train_questions.json. "
        "Check --data, or name the files with --questions and --annotations."
    )
    assert fails(config(hints="salicon")) == ("--hints salicon found no fixations_*.json in --data. Give --hint-paths.")
    (world / "OpenEnded_mscoco_train2014_questions.json").unlink()
    assert fails(config(hints="hat")) == (
        "--hints hat needs VQA v1 question files, and --data has no OpenEnded_mscoco_*2014_questions.json. "
        "Give --questions-v1."
    )
    shutil.copy(world / "features.tsv", world / "more.tsv")
    assert fails(config()) == (
        f"{world} should hold one file (.tsv, .hdf5, .h5) or folder (of .npz) of features, found features.tsv, "
        "more.tsv. Name it with --features."
    )
    for path in world.glob("*.tsv"):
        path.unlink()
    assert fails(config()) == (
        f"{world} should hold one file (.tsv, .hdf5, .h5) or folder (of .npz) of features, found none. "
        "Name it with --features."
    )
    (world / "vqacp_v2_test_annotations.json").unlink()
    assert fails(config()) == (
        f"{world / 'vqacp_v2_test_questions.json'} is there, but vqacp_v2_test_annotations.json is missing. Add it."
    )
    (world / "vqacp_v2_train_questions.json").unlink()
    assert fails(config()) == f"{world} lacks vqacp_v2_train_questions.json: there is nothing to train on."
    files = {kind: world / f"vqacp_v2_train_{kind}.json" for kind in ("questions", "annotations")}
    assert fails(config(data=None, **files)) == (f"{files['questions']} does not exist; expected a VQA questions file.")


def test_malformed_inputs_leave_nothing(config: Configure, world: Path) -> None:
    features = world / "features.tsv"
    original = features.read_bytes()
    *wanted, _ = original.splitlines(keepends=True)
    features.write_bytes(b"".join(wanted)[:-150])
    assert f"{features}, line 6" in fails(config())
    features.write_bytes(original)

    questions = world / "vqacp_v2_test_questions.json"
    text = questions.read_text()
    questions.write_text(text[:-20])
    assert "malformed JSON" in fails(config())
    questions.write_text(text)

    edit(questions, lambda records: records.pop())
    assert fails(config()) == (
        f"{questions}: 1 of the 4 annotated questions are missing, the first is 12001. "
        "There should be one record for each annotation."
    )
    shutil.copy(world / "vqacp_v2_train_questions.json", questions)
    shutil.copy(world / "vqacp_v2_train_annotations.json", world / "vqacp_v2_test_annotations.json")
    assert fails(config()) == (
        f"{questions}: question 1000 is in the split 'train' too. Every question belongs to one split."
    )


def test_one_image_cannot_be_split(config: Configure, world: Path) -> None:
    for kind in ("questions", "annotations"):
        path = world / f"vqacp_v2_train_{kind}.json"
        path.write_text(json.dumps([item for item in json.loads(path.read_text()) if item["image_id"] == 1]))
    assert fails(config()) == (
        "All of the train split is about image 1, so no image can be held out for development. "
        "Give more images, or --development-share 0."
    )


def test_output_in_use(config: Configure) -> None:
    options = config()
    prepare(options)
    before = sorted(options.out.rglob("*"))
    with pytest.raises(InputError, match=f"{options.out} already holds files: choose another directory or delete it"):
        prepare(options)
    assert sorted(options.out.rglob("*")) == before


def test_real_questions_on_real_features(shared_data: Path, tmp_path: Path) -> None:
    options = PrepareConfig(
        out=tmp_path / "out",
        questions=shared_data / "vqa_v2/v2_OpenEnded_mscoco_train2014_questions.sub.json",
        annotations=shared_data / "vqa_v2/v2_mscoco_train2014_annotations.sub.json",
        features=(shared_data / "bottom_up/train2014_obj36.tsv",),
        answers=shared_data / "vqa_v2/trainval_label2ans.json",
    )
    assert fails(options) == (
        f"522 questions are about 503 images without proposals in {options.features[0]}: 431, 1350, 2114, 4426, 7623 "
        "and so on. Add their features, or leave such questions out with --drop-questions-without-proposals."
    )
    options = PrepareConfig(**{**vars(options), "drop_questions_without_proposals": True})
    prepare(options)
    splits = json.loads((options.out / "prepared.json").read_text())["splits"]
    assert sum(split["questions"] for split in splits.values()) == 6
    assert sum(split["answerable"] for split in splits.values()) == 6
    assert len(ProposalStore.open(options.out / "proposals")) == 5


def test_rendered_world(tiny: tuple[Path, Path]) -> None:
    """In the rendered world, human importance is high for proposals of the asked object."""
    _, out = tiny
    record = json.loads((out / "prepared.json").read_text())
    assert set(record["splits"]) == {"train", "val", "dev", "test"}
    assert record["hints"]["unmatched_v1_questions"] == 0
    for name, split in record["splits"].items():
        assert split["hinted"] == split["grounded"] == split["questions"]
        arrays = split_arrays(out, name)
        assert arrays["hints"][arrays["relevant"]].mean() > arrays["hints"][~arrays["relevant"]].mean() + 0.3
