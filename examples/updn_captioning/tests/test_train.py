"""Training on a tiny world: every method, resuming, the best checkpoint, hints, and two processes."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from updn_captioning.data.prepared import CaptionBatch, PreparedData
from updn_captioning.networks.updn import NetworkSizes
from updn_captioning.training.config import TrainConfig
from updn_captioning.training.methods import METHODS, SCALES, Scale
from updn_captioning.training.train import TrainingSteps, Validation, choose_hints, train
from updn_common.data.control_hints import Hints
from updn_common.errors import InputError
from updn_common.runs.directory import read_metrics

Tiny = tuple[Path, Path]
SCALE: Scale = replace(
    SCALES["shapes"],
    model=NetworkSizes(embedding=8, hidden=16, attention=8, dropout=0.3),
    steps=4,
    evaluate_every=2,
    batch_size=8,
)


@pytest.fixture
def config(tiny: Tiny, tmp_path: Path) -> Callable[..., TrainConfig]:
    def make(out: str = "run", method: str = "hint", **changes: object) -> TrainConfig:
        options = {"data": tiny[1], "out": tmp_path / out, "method": METHODS[method], "scale": SCALE, "cpu": True}
        return TrainConfig(**(options | changes))

    return make


def weights(run: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return load_file(run / f"{name}.safetensors")


def model_weights(run: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return {key: tensor for key, tensor in weights(run, name).items() if key.startswith("model.")}


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    torch.testing.assert_close(one, other, rtol=0, atol=0)


def assert_same_first_moments(one: Path, other: Path) -> None:
    """Adam's first moment after one step is a tenth of the gradient."""
    moments = [{name: x for name, x in weights(run).items() if name.endswith("exp_avg")} for run in (one, other)]
    assert moments[0]
    torch.testing.assert_close(moments[0], moments[1], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains(config: Callable[..., TrainConfig], method: str) -> None:
    options = config(method=method)
    train(options)
    metrics = read_metrics(options.out)
    assert [line["step"] for line in metrics] == [2, 4]
    assert all((line["train/hint_loss"] > 0) == (options.method.supervision != "none") for line in metrics)
    assert all(line["val/cider"] >= 0 for line in metrics)


@pytest.mark.parametrize("method", ["hint", "unsigned", "hint-scst"])
def test_a_resumed_run_ends_bitwise_where_an_uninterrupted_one_does(
    config: Callable[..., TrainConfig], method: str
) -> None:
    whole, parts = config("whole", method), config("parts", method)
    train(whole)
    train(replace(parts, scale=replace(SCALE, steps=2)))
    # A run is the first part of a longer one: the schedule is constant, so only the number of steps differs.
    record = json.loads((parts.out / "config.json").read_text())
    record["config"]["scale"]["steps"] = 4
    (parts.out / "config.json").write_text(json.dumps(record))
    train(replace(parts, resume=True))
    assert_same(weights(whole.out), weights(parts.out))
    assert_same(weights(whole.out, "best"), weights(parts.out, "best"))
    assert read_metrics(whole.out) == read_metrics(parts.out)


def test_the_best_checkpoint_has_the_highest_cider_on_val(
    config: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    ciders, measured = iter([0.1, 0.4, 0.2, 0.4]), []  # the first of equal ones is the best

    def fixed(validation: Validation, model: object, accelerator: object) -> float:
        measured.append(validation.split.name)
        return next(ciders)

    options, after_four = config(scale=replace(SCALE, steps=8)), config("four")
    with monkeypatch.context() as patch:
        patch.setattr(Validation, "cider", fixed)
        train(options)
    assert measured == ["val"] * 4
    train(after_four)
    assert_same(model_weights(options.out, "best"), model_weights(after_four.out))


@pytest.mark.parametrize("method", ["base", "hint", "hint-paper", "attn-align", "hint-scst"])
def test_micro_batches_do_not_change_the_gradient(config: Callable[..., TrainConfig], method: str) -> None:
    """They differ in their numbers of words and of captions with hints, but have the same random numbers."""
    scale = replace(SCALE, model=replace(SCALE.model, dropout=0.0), steps=1)
    one, four = (config(f"{n}", method, scale=scale, micro_batches=n, hint_share=0.5) for n in (1, 4))
    train(one)
    train(four)
    assert_same_first_moments(one.out, four.out)


@pytest.mark.parametrize("method", ["hint", "unsigned", "hint-scst"])
def test_two_processes_train_as_one(config: Callable[..., TrainConfig], unused_tcp_port: int, method: str) -> None:
    one, two = config("one"), config("two")
    scale = ["--model.hidden", "16", "--steps", "1", "--batch-size", "8", "--hint-share", "0.5"]
    # Processes draw different random directions, so that only the exact norm is the same in one and two.
    exact = ["--probes", "0"] if method == "unsigned" else []
    options = ["--data", str(one.data), "--cpu", *scale, *exact]
    arguments = ["updn_captioning.cli", "train", method, "shapes", *options, "--out"]
    launch = ["-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={unused_tcp_port}"]
    for prefix, out in (([], one.out), (launch, two.out)):
        command = [sys.executable, *prefix, "-m", *arguments, str(out)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert_same_first_moments(one.out, two.out)
    assert read_metrics(two.out)[0]["val/cider"] == read_metrics(one.out)[0]["val/cider"]


def test_fine_tuning_starts_from_the_best_checkpoint(config: Callable[..., TrainConfig]) -> None:
    base = config("base", "base")
    train(base)
    tuned = config("tuned", start_from=base.out, scale=replace(SCALE, steps=1, learning_rate=0.0))
    train(tuned)
    assert_same(model_weights(tuned.out), model_weights(base.out, "best"))


def test_a_run_is_refused_on_data_with_another_vocabulary(
    config: Callable[..., TrainConfig], tiny: Tiny, tmp_path: Path
) -> None:
    """Even if it is as large."""
    base, other = config("base", "base"), tmp_path / "other"
    train(base)
    shutil.copytree(tiny[1], other)
    words = json.loads((other / "vocabulary.json").read_text())
    (other / "vocabulary.json").write_text(json.dumps(words[::-1]))
    with pytest.raises(InputError) as error:
        train(config("tuned", start_from=base.out, data=other))
    assert str(error.value) == (
        f"--start-from {base.out} was trained with another vocabulary than that of {other}. Give --data {tiny[1]}, "
        "which it was trained on."
    )
    with pytest.raises(InputError) as error:
        train(replace(base, resume=True, data=other))
    assert str(error.value) == f"{base.out} was trained with data = {tiny[1]}, not {other}: resume with the same."
    assert not (tmp_path / "tuned").exists()


@pytest.mark.parametrize(
    ("method", "continues", "meant"),
    [("hint", False, None), ("hint", True, "this scale is"), ("scst", False, "this method is")],
)
def test_warning_if_fine_tuning_starts_from_random_weights(
    config: Callable[..., TrainConfig],
    capsys: pytest.CaptureFixture[str],
    method: str,
    continues: bool,
    meant: str | None,
) -> None:
    train(config(method=method, scale=replace(SCALE, steps=1, continues=continues)))
    warning = (
        f"warning: this run starts from random weights, but {meant} for fine-tuning a trained network: give a base run "
        "with --start-from.\n"
    )
    assert capsys.readouterr().err == ("" if meant is None else warning)


def test_a_share_of_hints_are_all_hints_of_some_images(tiny: Tiny) -> None:
    """The images of a smaller share are among those of a larger one."""
    split = PreparedData.open(tiny[1]).split("train")
    small, large = (choose_hints(split, share, seed=3) for share in (0.25, 0.5))
    images = [set(split.pairs[rows, 0].tolist()) for rows in (small, large)]
    assert [len(chosen) for chosen in images] == [6, 12]
    assert images[0] < images[1]
    assert sum(int(pair) in images[0] for pair in split.pairs[:, 0]) == len(small)
    assert set(choose_hints(split, 0.25, seed=4).tolist()) != set(small.tolist())
    split.hints[small] = torch.nan
    assert not set(choose_hints(split, 1.0, seed=3).tolist()) & set(small.tolist())


@pytest.mark.parametrize("hints", ["random-per-epoch", "permuted"])
def test_hints_depend_on_the_step_alone(config: Callable[..., TrainConfig], tiny: Tiny, hints: Hints) -> None:
    """120 captions in batches of 40 are three steps an epoch. A run that is resumed at a step sees the same hints."""
    split = PreparedData.open(tiny[1]).split("train")
    method = replace(METHODS["hint"], hints=hints)
    options = replace(config(hint_share=0.5), method=method, scale=replace(SCALE, batch_size=40))
    steps = TrainingSteps(split, options, Accelerator(cpu=True))
    seen = [steps[step][0] for step in range(9)]
    assert all(0 < batch.hinted.sum() < 40 for batch in seen)
    for step, batch in reversed(list(enumerate(seen))):
        again = TrainingSteps(split, options, Accelerator(cpu=True))[step][0]
        for name, one, other in zip(CaptionBatch._fields, batch, again, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True, msg=name)


def test_one_visual_word_is_drawn_anew_in_each_step(config: Callable[..., TrainConfig], tiny: Tiny) -> None:
    """Each caption has two, and the paper's form uses both."""
    split = PreparedData.open(tiny[1]).split("train")
    scale = replace(SCALE, batch_size=120)

    def spans(method: str, step: int) -> torch.Tensor:
        (batch,) = TrainingSteps(split, config(method=method, scale=scale), Accelerator(cpu=True))[step]
        return batch.word_spans

    drawn, every = ([spans(method, step) for step in range(2)] for method in ("hint", "hint-paper"))
    assert drawn[0].shape == (120, 1, 2)
    assert every[0].shape == (120, 2, 2)
    is_first = [(one == both).all(-1)[:, 0] for one, both in zip(drawn, (e[:, :1] for e in every), strict=True)]
    is_second = [(one == both).all(-1)[:, 0] for one, both in zip(drawn, (e[:, 1:] for e in every), strict=True)]
    for first, second in zip(is_first, is_second, strict=True):
        assert torch.equal(first, ~second)
        assert 0.3 < first.double().mean() < 0.7
    assert 0.3 < (is_first[0] != is_first[1]).double().mean() < 0.7


def test_gradients_are_clipped(config: Callable[..., TrainConfig]) -> None:
    """Adam ignores the scale of all gradients together, but not the scale of one step relative to another."""
    options = [config(str(clip), scale=replace(SCALE, clip=clip)) for clip in (float("inf"), 1e-3)]
    for option in options:
        train(option)
    assert all(line["gradient_norm"] > 1e-2 for option in options for line in read_metrics(option.out))  # unclipped
    free, clipped = (model_weights(option.out) for option in options)
    assert any(not torch.equal(free[name], clipped[name]) for name in free)
    first_moments = [x.norm() for name, x in weights(options[1].out).items() if name.endswith("exp_avg")]
    assert torch.stack(first_moments).norm() <= 1e-3
