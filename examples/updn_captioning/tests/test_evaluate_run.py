"""``evaluate`` on prepared splits and on runs: what it measures, keeps, writes, and refuses."""

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from accelerate import Accelerator

from updn_captioning.data.prepare import prepare
from updn_captioning.data.prepare_config import PrepareConfig
from updn_captioning.data.prepared import PreparedData
from updn_captioning.evaluation.evaluate import EvaluateConfig, evaluate
from updn_captioning.evaluation.evaluate_report import GROUNDING, NAMES
from updn_captioning.evaluation.measures import Evaluation, evaluate_run
from updn_captioning.networks.generate import Decoding, generate, load_model
from updn_common.errors import InputError
from updn_common.reports.bootstrap import estimate

Tiny = tuple[Path, Path]
Untrained = Callable[..., Path]
Dump = Callable[..., Path]


def fails(config: EvaluateConfig) -> str:
    with pytest.raises(InputError) as error:
        evaluate(config)
    return str(error.value)


def results(image_ids: list[int]) -> list[dict[str, Any]]:
    return [{"image_id": image_id, "caption": "a circle"} for image_id in image_ids]


def evaluated(run: Path, data: Path, *, reuse: bool = False, decoding: Decoding | None = None) -> Evaluation:
    prepared = PreparedData.open(data)
    return evaluate_run(run, prepared, prepared.split("test"), Accelerator(cpu=True), reuse=reuse, decoding=decoding)


def kept(run: Path) -> Path:
    return run / "evaluation" / "test" / "words.safetensors"


def numbers(evaluation: Evaluation) -> dict[str, float]:
    return estimate(evaluation.statistics).values


def test_kept_measurements_are_reused(tiny: Tiny, untrained: Untrained, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_outdated_measurements_are_not_reused(
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


def test_results_of_a_run_are_printed_and_written(
    tiny: Tiny, untrained: Untrained, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
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
    assert pointing["reference"] < found["words"]["reference"]  # no proposal is as thin as the shape bar
    for row, counts in {"words": found["words"], "words with pointing": pointing}.items():
        assert f"│ {row} │ {counts['reference']:,} │ {counts['generated']:,} │" in printed
    assert "Pointing is measured on words whose category some proposal shows" in printed
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


def test_captions_have_the_same_scores_from_a_results_file(tiny: Tiny, untrained: Untrained, tmp_path: Path) -> None:
    """Also with official files instead of the prepared split."""
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


def test_captions_are_decoded_as_asked_for(tiny: Tiny, untrained: Untrained) -> None:
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
    path = dump(results(data.split("val").image_ids))
    config = EvaluateConfig(data=tiny[1], results=path)
    assert fails(config) == f"{path} captions images of the split 'val', none of 'test'. Give --split val."
    evaluate(replace(config, split="val"))


def test_results_of_too_few_images(tiny: Tiny, dump: Dump) -> None:
    images = PreparedData.open(tiny[1]).split("test").image_ids
    path = dump(results(images[1:]))
    assert fails(EvaluateConfig(data=tiny[1], results=path)) == (
        f"{path}: 1 of the 16 images of {tiny[1] / 'test'} have no caption: {images[0]}. Caption all images of the "
        "split."
    )


def test_runs_that_cannot_be_evaluated(tiny: Tiny, tmp_path: Path, untrained: Untrained) -> None:
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


def test_a_run_is_refused_on_data_with_another_vocabulary(tiny: Tiny, tmp_path: Path, untrained: Untrained) -> None:
    """It has the same size, so that the weights would fit."""
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
    """Without categories there are no visual words and no objects."""
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
    """CHAIR then only has the objects that references name."""
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
    note = f"CHAIR: an object is there if it is named by a reference. Words: {words}."
    assert "".join(note.split()) in "".join(printed.split())  # a narrow terminal breaks lines
    assert "visual words" not in printed
