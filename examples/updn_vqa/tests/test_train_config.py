"""Options of a training run that make no sense are refused before anything is made."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from updn_common.errors import InputError
from updn_common.runs.directory import read_metrics
from updn_vqa.data.prepare import PrepareConfig, prepare
from updn_vqa.training.config import TrainConfig
from updn_vqa.training.methods import METHODS, SHAPES, VisFis
from updn_vqa.training.train import train

NAN = float("nan")
SIZES = SHAPES.model


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": -1}, "--seed should be at least 0, found -1."),
        ({"scale": replace(SHAPES, steps=0)}, "--steps should be at least 1, found 0."),
        ({"scale": replace(SHAPES, hint_batch_size=-4)}, "--hint-batch-size should be at least 1, found -4."),
        ({"scale": replace(SHAPES, kept=1.5)}, "--kept should be from 0 to 1, found 1.5."),
        ({"scale": replace(SHAPES, model=replace(SIZES, hidden=0))}, "--model.hidden should be at least 1, found 0."),
        (
            {"scale": replace(SHAPES, model=replace(SIZES, embedding=0))},
            "--model.embedding should be at least 1, found 0.",
        ),
        (
            {"scale": replace(SHAPES, model=replace(SIZES, attention_dropout=1.5))},
            "--model.attention-dropout should be from 0 to 1, found 1.5.",
        ),
        (
            {"scale": replace(SHAPES, model=replace(SIZES, classifier_dropout=-0.5))},
            "--model.classifier-dropout should be from 0 to 1, found -0.5.",
        ),
        ({"method": replace(METHODS["hint"], weight=-1.0)}, "--weight should be at least 0, found -1.0."),
        ({"method": replace(METHODS["scr"], critical=-1.0)}, "--critical should be at least 0, found -1.0."),
        ({"method": replace(METHODS["scr"], threshold=1.5)}, "--threshold should be from 0 to 1, found 1.5."),
        ({"method": replace(METHODS["adv-reg"], adversary=-1.0)}, "--adversary should be at least 0, found -1.0."),
        ({"method": replace(METHODS["adv-reg"], entropy_gap=NAN)}, "--entropy-gap should be at least 0, found nan."),
        (
            {"method": replace(METHODS["visfis"], visfis=VisFis(invariance=-1.0))},
            "--visfis.invariance should be at least 0, found -1.0.",
        ),
        ({"hint_share": 0.001}, "--hint-share 0.001 of 24 train questions is none: choose a larger share."),
        (
            {"micro_batches": 3},
            "--batch-size 128 cannot be cut evenly into 1 process(es) x 3 micro-batch(es): choose a multiple of 3.",
        ),
        (
            {"micro_batches": 128},
            "--hint-batch-size 64 cannot be cut evenly into 1 process(es) x 128 micro-batch(es): choose a multiple of "
            "128.",
        ),
        (
            {"method": replace(METHODS["permuted"]), "hint_share": 0.04},
            "Permuted hints need two samples with hints, found 1: use more of them.",
        ),
        (
            {"method": replace(METHODS["scr"], hints="permuted"), "hint_share": 0.04},
            "Permuted hints need two samples with hints, found 1: use more of them.",
        ),
    ],
)
def test_options_that_make_no_sense(
    tiny: tuple[Path, Path], tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    options = TrainConfig(tiny[1], tmp_path / "run", METHODS["hint"], SHAPES, cpu=True)
    with pytest.raises(InputError) as error:
        train(replace(options, **changes))
    assert str(error.value) == message
    assert not options.out.exists()


def test_data_without_hints(tiny: tuple[Path, Path], tmp_path: Path) -> None:
    prepare(PrepareConfig(data=tiny[0], out=tmp_path / "prepared", min_answer_occurrences=1))
    with pytest.raises(InputError) as error:
        train(TrainConfig(tmp_path / "prepared", tmp_path / "run", METHODS["hint"], SHAPES, cpu=True))
    assert str(error.value) == "None of the 24 train questions has a hint: prepare the data with --hints."


def test_data_without_a_development_split(tiny: tuple[Path, Path], tmp_path: Path) -> None:
    prepared = tmp_path / "prepared"
    shutil.copytree(tiny[1], prepared)
    record = json.loads((prepared / "prepared.json").read_text())
    del record["splits"]["dev"]
    (prepared / "prepared.json").write_text(json.dumps(record))
    with pytest.raises(InputError) as error:
        train(TrainConfig(prepared, tmp_path / "run", METHODS["base"], SHAPES, cpu=True))
    assert str(error.value) == (
        f"{prepared} has no split 'dev', on which the best checkpoint is chosen: prepare it again with a "
        "--development-share above 0."
    )


def test_gradients_are_not_clipped_with_inf(tiny: tuple[Path, Path], tmp_path: Path) -> None:
    """Such a run can be resumed, although its record has null in place of inf."""
    scale = replace(SHAPES, clip=math.inf, steps=1, evaluate_every=1)
    options = TrainConfig(tiny[1], tmp_path / "run", METHODS["base"], scale, cpu=True)
    train(options)
    train(replace(options, resume=True))
    assert read_metrics(options.out)[0]["gradient_norm"] > 1


def test_without_hints_only_options_that_matter_are_compared(tiny: tuple[Path, Path], tmp_path: Path) -> None:
    """These are the options of the adversary, and the share of hints where it chooses questions."""

    def differences(was: str, **now: Any) -> list[str]:
        run = TrainConfig(tiny[1], tmp_path, METHODS[was], SHAPES)
        (tmp_path / "config.json").write_text(json.dumps({"config": run.record(processes=1)}))
        return replace(run, **now).differences()

    adversary = METHODS["adv-reg"]
    assert differences("adv-reg", method=replace(adversary, visfis=VisFis(0.0), margin=3.0), hint_share=0.5) == []
    assert differences("adv-reg", method=replace(adversary, adversary=0.5, entropy_gap=7.0)) == [
        f"method.adversary = {adversary.adversary}, not 0.5",
        f"method.entropy_gap = {adversary.entropy_gap}, not 7.0",
    ]
    assert differences("base-on-hinted", hint_share=0.5) == ["hint_share = 1.0, not 0.5"]
    assert differences("base", method=METHODS["base-on-hinted"]) == ["method.task_on = all, not hinted"]
