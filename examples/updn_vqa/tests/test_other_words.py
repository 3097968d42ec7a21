"""A network's indices stand for answers and words, so data with other words are refused, even if as many."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from updn_common.errors import InputError
from updn_common.studies.study import check_same_options
from updn_vqa.evaluation.evaluate import EvaluateConfig, evaluate
from updn_vqa.evaluation.explain import ExplainConfig, explain
from updn_vqa.networks.layers import Network
from updn_vqa.studies.compare import CompareConfig, compare
from updn_vqa.training.config import TrainConfig
from updn_vqa.training.methods import METHODS, SCALES, SMALL
from updn_vqa.training.train import train

Tiny = tuple[Path, Path]
SIZES = replace(SMALL, embedding=8, hidden=16)
SCALE = replace(SCALES["shapes"], model=SIZES, steps=1, evaluate_every=1, batch_size=8, hint_batch_size=4)


def reverse(file: Path) -> None:
    """Put the words of a file into another order."""
    words = json.loads(file.read_text())
    file.unlink()  # it may be a link
    file.write_text(json.dumps(words[::-1]))


@pytest.fixture(params=["answers", "words"])
def other(request: pytest.FixtureRequest, tiny: Tiny, tmp_path: Path) -> Path:
    shutil.copytree(tiny[1], tmp_path / "other")
    reverse(tmp_path / "other" / f"{request.param}.json")
    return tmp_path / "other"


def refused(what: Callable[[], None]) -> str:
    with pytest.raises(InputError) as error:
        what()
    return str(error.value)


@pytest.mark.parametrize("network", ["updn", "gvqa"])
def test_a_run_is_refused_on_data_with_other_words(
    tiny: Tiny, tmp_path: Path, untrained: Callable[..., Path], other: Path, network: Network
) -> None:
    run = untrained("run", scale=replace(SCALE, model=replace(SIZES, network=network)))
    message = (
        f"was trained with another vocabulary than that of {other}. Give --data {tiny[1]}, which it was trained on."
    )
    assert refused(lambda: evaluate(EvaluateConfig(data=other, run=run, cpu=True))) == f"--run {run} {message}"
    comparison = CompareConfig((run,), data=other, out=tmp_path / "table", cpu=True)
    assert refused(lambda: compare(comparison)) == f"RUN {run} {message}"
    page = ExplainConfig(other, run, run, tiny[0], tmp_path / "page")
    assert refused(lambda: explain(page)) == f"--before {run} {message}"
    tuned = TrainConfig(other, tmp_path / "tuned", METHODS["hint"], SCALE, start_from=run, cpu=True)
    assert refused(lambda: train(tuned)) == f"--start-from {run} {message}"
    assert not any((tmp_path / name).exists() for name in ("table", "page", "tuned"))
    assert not (run / "evaluation").exists()


@pytest.mark.parametrize("file", ["answers", "words"])
def test_a_run_is_refused_after_its_data_were_prepared_with_other_words(tiny: Tiny, tmp_path: Path, file: str) -> None:
    """The directory is the same, so all options are the same: resuming and studies are refused anyway."""
    data = tmp_path / "data"
    shutil.copytree(tiny[1], data)
    run = TrainConfig(data, tmp_path / "run", METHODS["base"], SCALE, cpu=True)
    train(run)
    check_same_options(run)
    reverse(data / f"{file}.json")
    message = (
        f"{run.out} was trained with another vocabulary than that of {data}. It was prepared anew after that: prepare "
        "it as it was, or train from the beginning."
    )
    assert refused(lambda: train(replace(run, resume=True))) == message
    assert refused(lambda: check_same_options(run)) == message


def test_runs_without_a_recorded_checksum_are_accepted(tiny: Tiny, tmp_path: Path) -> None:
    run = TrainConfig(tiny[1], tmp_path / "run", METHODS["base"], SCALE, cpu=True)
    train(run)
    record = json.loads((run.out / "config.json").read_text())
    assert len(record["config"].pop("vocabulary")) == 64
    (run.out / "config.json").write_text(json.dumps(record))
    check_same_options(run)
    train(replace(run, resume=True))
    train(replace(run, out=tmp_path / "tuned", start_from=run.out))
    evaluate(EvaluateConfig(data=tiny[1], run=run.out, cpu=True))
