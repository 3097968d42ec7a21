"""``evaluate`` on files, on a prepared split and on runs: what it finds, keeps, writes, and refuses."""

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from updn_captioning.data.prepare import prepare
from updn_captioning.data.prepare_config import PrepareConfig
from updn_captioning.data.prepared import PreparedData
from updn_captioning.evaluation.evaluate import EvaluateConfig, evaluate
from updn_captioning.evaluation.evaluate_report import GROUNDING, NAMES
from updn_captioning.evaluation.measures import Evaluation, evaluate_run
from updn_captioning.networks.generate import Decoding, generate, load_model
from updn_captioning.scores.java import JavaScores
from updn_common.errors import InputError
from updn_common.reports.bootstrap import estimate

Tiny = tuple[Path, Path]
Untrained = Callable[..., Path]
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
    """Without spaces and line breaks: a narrow terminal breaks lines within paths."""
    return "".join(text.split())


# Official files


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


def test_captions_are_tokenised_and_empty_ones_told(files: EvaluateConfig, capsys: pytest.CaptureFixture[str]) -> None:
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
    told = "CHAIR: an object is there if it is annotated or named by a reference. Words: {}."
    assert unbroken(capsys.readouterr().out).count(unbroken(told.format("coco_visual_words.txt"))) == 2
    words = tmp_path / "synonyms.txt"
    words.write_text("cat\nfeline, dog\n")
    with pytest.raises(InputError, match="has no words for categories of the instances: cat"):
        evaluate(replace(files, instances=(path,), chair_words=words.with_name("instances.json")))
    words.write_text("cat, dog, grass\ndog\n")  # nothing else is named, and what is named is named by references
    dump({"images": images, "categories": categories[:1], "annotations": []}, "instances.json")
    evaluate(replace(files, instances=(path,), chair_words=words, out=tmp_path / "scores.json"))
    found = json.loads((tmp_path / "scores.json").read_text())
    assert found["chair_words"] == f"{words}, as CHAIR's authors count"
    assert unbroken(told.format(found["chair_words"])) in unbroken(capsys.readouterr().out)


def test_chair_needs_the_instances_of_all_images(files: EvaluateConfig, dump: Dump) -> None:
    """An image that the file lists may have no objects; of one that it does not list, nothing is known."""
    listed = {"images": [{"id": 3, "width": 4, "height": 4}], "categories": [{"id": 1, "name": "cat"}]}
    path = dump(listed | {"annotations": []}, "instances.json")
    assert fails(replace(files, instances=(path,))) == (
        f"2 of the 3 images with captions are not listed in {path}: 1, 2. Add their file to --instances, or leave "
        "--instances out: then there is no CHAIR."
    )
    more = dump({**listed, "images": [{"id": i, "width": 4, "height": 4} for i in (1, 2)], "annotations": []}, "m.json")
    evaluate(replace(files, instances=(path, more)))


def test_images_have_to_be_the_same(files: EvaluateConfig, dump: Dump) -> None:
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
            "--out is for --results: what is found of a run goes into its directory.",
        ),
        (
            {"data": Path("data"), "references": (), "subset": True},
            "--subset is for --references: a prepared directory knows its own.",
        ),
        ({"decoding": Decoding(beam_size=0)}, "--beam-size should be at least 1, found 0."),
        ({"decoding": Decoding(length_penalty=-1)}, "--length-penalty should be at least 0, found -1."),
    ],
)
def test_options_that_do_not_go_together(changes: dict[str, Any], message: str) -> None:
    config = EvaluateConfig(results=Path("results.json"), references=(Path("captions.json"),))
    assert fails(replace(config, **changes)) == message


def test_scores_in_java_stand_beside_the_others(
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
    assert "METEOR" not in found["intervals"]  # it is no mean over images
    assert found["by_image"]["2"]["METEOR"] == pytest.approx(0.3)
    assert "METEOR" in capsys.readouterr().out


# Prepared splits and runs


def evaluated(run: Path, data: Path, *, reuse: bool = False, decoding: Decoding | None = None) -> Evaluation:
    prepared = PreparedData.open(data)
    return evaluate_run(run, prepared, prepared.split("test"), Accelerator(cpu=True), reuse=reuse, decoding=decoding)


def kept(run: Path) -> Path:
    return run / "evaluation" / "test" / "words.safetensors"


def numbers(evaluation: Evaluation) -> dict[str, float]:
    return estimate(evaluation.statistics).values


def test_what_was_measured_is_not_measured_again(
    tiny: Tiny, untrained: Untrained, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = untrained("run")
    first = evaluated(run, tiny[1])
    monkeypatch.setattr("updn_captioning.evaluation.measures.generate", lambda *_: pytest.fail("measured"))
    again = evaluated(run, tiny[1], reuse=True)
    assert again.captions == first.captions
    assert numbers(again) == numbers(first)
    assert {name for name in numbers(first) if "_pointing" in name} == {
        f"{kind}_{by}_pointing" for kind in ("reference", "generated") for by in ("gradient", "attention")
    }


@pytest.mark.parametrize("change", ["trained on", "damaged", "another format", "asked to", "other decoding"])
def test_what_no_longer_holds_is_measured_again(
    tiny: Tiny, untrained: Untrained, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    run, other, data = untrained("run"), untrained("other", seed=1), tiny[1]
    evaluated(run, data)
    decoding = Decoding(max_length=3) if change == "other decoding" else None
    expected = evaluated(other if change == "trained on" else run, data, decoding=decoding)
    if change == "trained on":
        (run / "best.safetensors").write_bytes((other / "best.safetensors").read_bytes())
    elif change == "damaged":
        kept(run).write_bytes(kept(run).read_bytes()[:-10])
    elif change == "another format":
        monkeypatch.setattr("updn_captioning.evaluation.measures._FORMAT", "0")
    elif change == "other decoding":
        evaluated(run, data)
    written = kept(run).stat().st_mtime_ns
    found = evaluated(run, data, reuse=change != "asked to", decoding=decoding)
    assert found.captions == expected.captions
    assert numbers(found) == numbers(expected)
    assert kept(run).stat().st_mtime_ns > written


def test_a_run_is_told_and_written(
    tiny: Tiny, untrained: Untrained, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", WIDE)
    run = untrained("run")
    evaluate(EvaluateConfig(data=tiny[1], run=run, cpu=True, decoding=Decoding(beam_size=2)))
    printed = " ".join(capsys.readouterr().out.split())
    evaluation = evaluated(run, tiny[1], reuse=True, decoding=Decoding(beam_size=2))
    found = json.loads((run / "evaluation" / "test" / "scores.json").read_text())
    assert found["scores"] == numbers(evaluation)
    assert found["decoding"] == {"beam_size": 2, "max_length": 20, "length_penalty": 0.0, "repeats": True}
    assert found["chair_objects"] == "annotated or named by a reference"
    assert found["chair_words"] == "the names of the categories"
    assert found["words"] == {kind: len(words.images) for kind, words in evaluation.words.items()}
    pointing = {kind: int((~words.measures[:, 1].isnan()).sum()) for kind, words in evaluation.words.items()}
    assert all(found["words_by_measure"][kind]["gradient_pointing"] == count for kind, count in pointing.items())
    assert pointing["reference"] < found["words"]["reference"]  # no proposal is as thin as a bar
    for row, counts in {"words": found["words"], "words with pointing": pointing}.items():
        assert f"│ {row} │ {counts['reference']:,} │ {counts['generated']:,} │" in printed
    assert "Pointing is of words whose category some proposal shows" in printed
    by_category = found["by_category"]["reference"]
    assert sum(category["words"] for category in by_category.values()) == found["words"]["reference"]
    for name, number in estimate(evaluation.statistics).numbers().items():
        assert found["intervals"][name] == list(number.interval)
        label = NAMES.get(name) or GROUNDING[name.split("_", 1)[1]]
        digits = 2 if "%" in label else 3
        low, high = number.interval
        assert f"{number.value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]" in printed
    written = json.loads((run / "evaluation" / "test" / "results.json").read_text())
    assert {record["image_id"]: record["caption"] for record in written} == evaluation.captions


def test_a_runs_results_score_the_same_as_any_models(tiny: Tiny, untrained: Untrained, tmp_path: Path) -> None:
    """Through --results on the prepared split, and through official files."""
    world, data = tiny
    run = untrained("run")
    evaluate(EvaluateConfig(data=data, run=run, cpu=True))
    folder = run / "evaluation" / "test"
    expected = json.loads((folder / "scores.json").read_text())["scores"]
    expected = {name: value for name, value in expected.items() if name in NAMES}
    config = EvaluateConfig(results=folder / "results.json", out=tmp_path / "scores.json")
    instances = tuple(world.glob("instances_*.json"))
    for changes in ({"data": data}, {"references": (data / "test" / "captions.json",), "instances": instances}):
        evaluate(replace(config, **changes))
        found = json.loads((tmp_path / "scores.json").read_text())["scores"]
        assert found == pytest.approx(expected)


def test_greedy_and_beam_search_are_the_decoders(tiny: Tiny, untrained: Untrained) -> None:
    run, data = untrained("run"), PreparedData.open(tiny[1])
    model, split = load_model(run, data), data.split("test")
    decoding = Decoding(beam_size=3, max_length=6, length_penalty=1.0, repeats=False)
    captions = generate(model.train(), split, Accelerator(cpu=True), decoding, batch_size=5)
    assert model.training
    assert max(map(len, captions)) <= 6
    assert all(one != other for caption in captions for one, other in pairwise(caption))
    texts = {i: data.vocabulary.decode(caption) for i, caption in zip(split.image_ids, captions, strict=True)}
    assert texts == evaluated(run, tiny[1], decoding=decoding).captions


def test_results_of_another_split(tiny: Tiny, dump: Dump) -> None:
    data = PreparedData.open(tiny[1])
    path = dump(results(dict.fromkeys(data.split("val").image_ids, "a circle")))
    config = EvaluateConfig(data=tiny[1], results=path)
    assert fails(config) == f"{path} captions images of the split 'val', none of 'test'. Give --split val."
    evaluate(replace(config, split="val"))


def test_results_of_too_few_images(tiny: Tiny, dump: Dump) -> None:
    images = PreparedData.open(tiny[1]).split("test").image_ids
    path = dump(results(dict.fromkeys(images[1:], "a circle")))
    assert fails(EvaluateConfig(data=tiny[1], results=path)) == (
        f"{path}: 1 of the 16 images of {tiny[1] / 'test'} have no caption: {images[0]}. Caption all images of the "
        "split."
    )


def test_a_run_that_is_not_there(tiny: Tiny, tmp_path: Path, untrained: Untrained) -> None:
    absent = tmp_path / "absent"
    config = EvaluateConfig(data=tiny[1], run=absent, cpu=True)
    assert fails(config) == f"--run {absent} does not exist. Give the --out of a training run."
    run = untrained("run")
    (run / "best.safetensors").unlink()
    expected = f"--run {run} holds a run without best.safetensors. Give the --out of a training run."
    assert fails(replace(config, run=run)) == expected
    assert fails(replace(config, split="tset")) == (
        f"{tiny[1]} has no split 'tset'; it has train, val, dev, test. Give --split one of these."
    )


def test_a_vocabulary_of_another_run(tiny: Tiny, tmp_path: Path, untrained: Untrained) -> None:
    """Of the same size, so that the weights would fit."""
    other = tmp_path / "other"
    other.mkdir()
    for path in tiny[1].iterdir():
        (other / path.name).symlink_to(path)
    words = json.loads((other / "vocabulary.json").read_text())
    (other / "vocabulary.json").unlink()
    (other / "vocabulary.json").write_text(json.dumps(words[::-1]))
    run = untrained("run")
    assert fails(EvaluateConfig(data=other, run=run, cpu=True)) == (
        f"--run {run} was trained with another vocabulary than that of {other}. Give --data {tiny[1]}, which it was "
        "trained on."
    )
    assert not (run / "evaluation").exists()


def test_data_without_hints(
    tiny: Tiny, tmp_path: Path, untrained: Untrained, capsys: pytest.CaptureFixture[str]
) -> None:
    """There are no categories, so no word is visual, and nothing is an object."""
    data = tmp_path / "prepared"
    prepare(PrepareConfig(data, tiny[0], "robust", "none", features=(tiny[1],), min_word_occurrences=1))
    run = untrained("run", data=data)
    evaluate(EvaluateConfig(data=data, run=run, cpu=True))
    found = json.loads((run / "evaluation" / "test" / "scores.json").read_text())
    printed = capsys.readouterr().out
    assert found["words"] == {"reference": 0, "generated": 0}
    assert not any("pointing" in name or "CHAIR" in name for name in found["scores"])
    assert "chair_objects" not in found
    assert "CIDEr" in printed
    assert not any(word in printed for word in ("CHAIR", "visual words", "Pointing"))


def test_visual_words_without_hints(
    tiny: Tiny, tmp_path: Path, untrained: Untrained, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a list: CHAIR then knows what references name alone."""
    data, words = tmp_path / "prepared", tmp_path / "words.txt"
    words.write_text("circle\nstar\n")
    prepare(
        PrepareConfig(data, tiny[0], "robust", "none", features=(tiny[1],), visual_words=words, min_word_occurrences=1)
    )
    run = untrained("run", data=data)
    evaluate(EvaluateConfig(data=data, run=run, cpu=True))
    found = json.loads((run / "evaluation" / "test" / "scores.json").read_text())
    printed = capsys.readouterr().out
    assert found["chair_objects"] == "named by a reference"
    told = f"CHAIR: an object is there if it is named by a reference. Words: {words}."
    assert unbroken(told) in unbroken(printed)
    assert "visual words" not in printed
