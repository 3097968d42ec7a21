"""``evaluate`` on official files, and options that do not go together."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from updn_captioning.evaluation.evaluate import EvaluateConfig, evaluate
from updn_captioning.networks.generate import Decoding
from updn_captioning.scores.java import JavaScores
from updn_common.errors import InputError

Dump = Callable[..., Path]
WIDE = "120"


def fails(config: EvaluateConfig) -> str:
    with pytest.raises(InputError) as error:
        evaluate(config)
    return str(error.value)


def references(captions: dict[int, list[str]]) -> dict[str, Any]:
    texts = [(image_id, text) for image_id, of_image in captions.items() for text in of_image]
    records = [{"image_id": image_id, "id": i, "caption": text} for i, (image_id, text) in enumerate(texts)]
    return {"images": [{"id": image_id} for image_id in captions], "annotations": records}


def results(captions: dict[int, str]) -> list[dict[str, Any]]:
    return [{"image_id": image_id, "caption": text} for image_id, text in captions.items()]


def unbroken(text: str) -> str:
    """Remove spaces and line breaks, which a narrow terminal adds within paths."""
    return "".join(text.split())


@pytest.fixture
def files(dump: Dump) -> EvaluateConfig:
    """Three captions, one of them empty, and their references."""
    captions = {1: "A cat's bowl.", 2: "", 3: "Two dogs, and a cat"}
    people = {3: ["Two dogs."], 1: ["a cat 's bowl", "A bowl!"], 2: ["A cat, and two dogs"]}
    return EvaluateConfig(
        results=dump(results(captions), "results.json"), references=(dump(references(people), "captions.json"),)
    )


def test_the_published_scores(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", WIDE)
    folder = shared_data / "captions"
    config = EvaluateConfig(
        results=folder / "captions_val2014_fakecap_results.json",
        references=(folder / "captions_val2014_fakecap_refs_derived.json",),
        tokenised=True,
        out=tmp_path / "scores.json",
    )
    evaluate(config)
    found = json.loads((tmp_path / "scores.json").read_text())
    published = json.loads((folder / "expected_scores.json").read_text())["published"]
    assert {name: round(value, 3) for name, value in found["scores"].items()} == {
        name: published[name] for name in ("Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "ROUGE_L", "CIDEr")
    }
    golden = json.loads((folder / "expected_per_image_fakecap_1000.json").read_text())
    assert found["by_image"].keys() == golden.keys()
    for image_id, scores in golden.items():
        assert found["by_image"][image_id]["CIDEr"] == pytest.approx(scores["CIDEr"], abs=1e-9)
    low, high = found["intervals"]["CIDEr"]
    printed = capsys.readouterr().out
    assert f"CIDEr-D │ 0.600 [{low:.3f}, {high:.3f}]" in " ".join(printed.split())
    assert "CHAIR" not in printed


def test_captions_are_tokenised_and_empty_ones_counted(
    files: EvaluateConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(files)
    printed = capsys.readouterr().out
    assert printed.startswith(f"{files.results}: 3 captions\n")
    assert "1 captions have no words, and score 0.\n" in printed


def test_chair_needs_instances(
    files: EvaluateConfig, tmp_path: Path, dump: Dump, capsys: pytest.CaptureFixture[str]
) -> None:
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    box = {"bbox": [0, 0, 2, 2], "segmentation": [[0, 0, 2, 0, 2, 2]], "iscrowd": 0, "area": 2}
    annotations = [{"image_id": 3, "category_id": 1, "id": 1, **box}]
    images = [{"id": image_id, "width": 4, "height": 4} for image_id in (1, 2, 3)]
    path = dump({"images": images, "categories": categories, "annotations": annotations}, "instances.json")
    evaluate(replace(files, instances=(path,), out=tmp_path / "scores.json"))
    found = json.loads((tmp_path / "scores.json").read_text())
    assert (found["scores"]["CHAIRi"], found["scores"]["CHAIRs"]) == (0, 0)  # all are annotated or in a reference
    dump({"images": images, "categories": categories, "annotations": []}, "instances.json")
    evaluate(replace(files, instances=(path,), out=tmp_path / "scores.json"))
    found = json.loads((tmp_path / "scores.json").read_text())
    assert found["scores"]["CHAIRi"] == pytest.approx(100 / 3)
    assert found["chair_objects"] == "annotated or named by a reference"
    note = "CHAIR: an object is there if it is annotated or named by a reference. Words: {}."
    assert unbroken(capsys.readouterr().out).count(unbroken(note.format("coco_visual_words.txt"))) == 2
    words = tmp_path / "synonyms.txt"
    words.write_text("cat\nfeline, dog\n")
    with pytest.raises(InputError, match="has no words for categories of the instances: cat"):
        evaluate(replace(files, instances=(path,), chair_words=words.with_name("instances.json")))
    words.write_text("cat, dog, grass\ndog\n")  # all words that are named are named by references too
    dump({"images": images, "categories": categories[:1], "annotations": []}, "instances.json")
    evaluate(replace(files, instances=(path,), chair_words=words, out=tmp_path / "scores.json"))
    found = json.loads((tmp_path / "scores.json").read_text())
    assert found["chair_words"] == f"{words}, as CHAIR's authors count"
    assert unbroken(note.format(found["chair_words"])) in unbroken(capsys.readouterr().out)


def test_chair_needs_the_instances_of_all_images(files: EvaluateConfig, dump: Dump) -> None:
    """A listed image may have no objects, but the objects of an image that is not listed are unknown."""
    listed = {"images": [{"id": 3, "width": 4, "height": 4}], "categories": [{"id": 1, "name": "cat"}]}
    path = dump(listed | {"annotations": []}, "instances.json")
    assert fails(replace(files, instances=(path,))) == (
        f"2 of the 3 images with captions are not listed in {path}: 1, 2. Add their file to --instances, or leave "
        "--instances out: then there is no CHAIR."
    )
    more = dump({**listed, "images": [{"id": i, "width": 4, "height": 4} for i in (1, 2)], "annotations": []}, "m.json")
    evaluate(replace(files, instances=(path, more)))


def test_results_and_references_should_have_the_same_images(files: EvaluateConfig, dump: Dump) -> None:
    other = dump(references({1: ["a cat"], 2: ["a dog"], 3: ["a"], 4: ["a"], 5: ["a"]}), "more.json")
    more = replace(files, references=(other,))
    assert fails(more) == (
        f"{files.results}: 2 of the 5 images of {other} have no caption: 4, 5. Caption them, or leave them out with "
        "--subset."
    )
    evaluate(replace(more, subset=True))
    fewer = dump(references({1: ["a cat"], 3: ["a"]}), "fewer.json")
    for config in (replace(files, references=(fewer,)), replace(files, references=(fewer,), subset=True)):
        assert fails(config) == (
            f"{files.results}: 1 of its 3 images have no references in {fewer}: 2. Take the results and the references "
            "of the same images."
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"results": None}, "Give either --run, to caption a split, or --results, to score captions."),
        ({"run": Path("run")}, "Give either --run, to caption a split, or --results, to score captions."),
        ({"references": ()}, "Give either --data, a prepared directory, or --references, official caption files."),
        ({"data": Path("data")}, "Give either --data, a prepared directory, or --references, official caption files."),
        (
            {"run": Path("run"), "results": None},
            "--run needs --data, the directory that was prepared for it, instead of --references.",
        ),
        (
            {"run": Path("run"), "results": None, "data": Path("data"), "references": (), "out": Path("out")},
            "--out is for --results: the scores of a run are written to its own directory.",
        ),
        (
            {"data": Path("data"), "references": (), "subset": True},
            "--subset is for --references: a prepared directory needs no such option.",
        ),
        ({"decoding": Decoding(beam_size=0)}, "--beam-size should be at least 1, found 0."),
        ({"decoding": Decoding(length_penalty=-1)}, "--length-penalty should be at least 0, found -1."),
    ],
)
def test_options_that_do_not_go_together(changes: dict[str, Any], message: str) -> None:
    config = EvaluateConfig(results=Path("results.json"), references=(Path("captions.json"),))
    assert fails(replace(config, **changes)) == message


def test_java_scores_are_added(
    files: EvaluateConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def meteor(candidates: dict[int, str], references: dict[int, list[str]]) -> JavaScores:
        assert candidates == {3: "two dogs and a cat", 1: "a cat 's bowl", 2: ""}
        assert references[1] == ["a cat 's bowl", "a bowl"]
        return JavaScores(0.25, torch.tensor([0.1, 0.2, 0.3]).double().numpy())

    monkeypatch.setitem(evaluate.__globals__["_JAVA"], "METEOR", meteor)
    evaluate(replace(files, java=("METEOR",), out=tmp_path / "scores.json"))
    found = json.loads((tmp_path / "scores.json").read_text())
    assert found["scores"]["METEOR"] == 0.25
    assert "METEOR" not in found["intervals"]  # its corpus score is not a mean over images
    assert found["by_image"]["2"]["METEOR"] == pytest.approx(0.3)
    assert "METEOR" in capsys.readouterr().out
