"""Options of a training run that make no sense are refused before anything is made."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from updn_captioning.data.prepare import prepare
from updn_captioning.data.prepare_config import PrepareConfig
from updn_captioning.training.config import TrainConfig
from updn_captioning.training.methods import METHODS, SHAPES
from updn_captioning.training.train import train
from updn_common.errors import InputError


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": -1}, "--seed should be at least 0, found -1."),
        ({"scale": replace(SHAPES, steps=0)}, "--steps should be at least 1, found 0."),
        *(
            (
                {"scale": replace(SHAPES, model=replace(SHAPES.model, **{name: 0}))},
                f"--model.{name} should be at least 1, found 0.",
            )
            for name in ("embedding", "hidden", "attention")
        ),
        (
            {"scale": replace(SHAPES, model=replace(SHAPES.model, dropout=1.5))},
            "--model.dropout should be from 0 to 1, found 1.5.",
        ),
        ({"method": replace(METHODS["hint"], weight=-1.0)}, "--weight should be at least 0, found -1.0."),
        ({"hint_share": 0.001}, "--hint-share 0.001 of 24 train images is none: choose a larger share."),
        (
            {"micro_batches": 3},
            "--batch-size 64 cannot be cut evenly into 1 process(es) x 3 micro-batch(es): choose a multiple of 3.",
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
    options = PrepareConfig(data=tiny[0], out=tmp_path / "prepared", hints="none", min_word_occurrences=1)
    prepare(options)
    with pytest.raises(InputError) as error:
        train(TrainConfig(tmp_path / "prepared", tmp_path / "run", METHODS["hint"], SHAPES, cpu=True))
    assert str(error.value) == "None of the 24 train images has a hint: prepare the data with --hints instances."


def test_data_without_a_validation_split(tiny: tuple[Path, Path], tmp_path: Path) -> None:
    data = tmp_path / "prepared"
    shutil.copytree(tiny[1], data)
    record = json.loads((data / "prepared.json").read_text())
    del record["splits"]["val"]
    (data / "prepared.json").write_text(json.dumps(record))
    with pytest.raises(InputError) as error:
        train(TrainConfig(data, tmp_path / "run", METHODS["base"], SHAPES, cpu=True))
    assert str(error.value) == (
        f"{data} has no split 'val'; it has {', '.join(record['splits'])}. Prepare it again with --development-share "
        "above 0: that holds one out of train."
    )


def test_without_hints_only_options_that_matter_are_compared(tiny: tuple[Path, Path], tmp_path: Path) -> None:
    base = TrainConfig(tiny[1], tmp_path, METHODS["base"], SHAPES)
    (tmp_path / "config.json").write_text(json.dumps({"config": base.record(processes=1)}))
    assert replace(base, cpu=True, workers=3, hint_share=0.1).differences() == []
    assert replace(base, method=replace(METHODS["base"], weight=1.0, words="all")).differences() == []
    assert replace(base, method=METHODS["scst"], seed=1).differences() == [
        "method.task = cross-entropy, not self-critical",
        "seed = 0, not 1",
    ]
    assert replace(base, method=METHODS["hint"], hint_share=0.5).differences(processes=2) == [
        "method.supervision = none, not importance",
        "hint_share = 1.0, not 0.5",
        "processes = 1, not 2",
    ]
