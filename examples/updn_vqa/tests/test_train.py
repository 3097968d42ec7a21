"""Training on a tiny world: every method and network, the best checkpoint, micro-batches and processes."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from updn_common.data.control_hints import Hints
from updn_common.errors import InputError
from updn_common.runs.directory import read_metrics
from updn_vqa.data.prepared import PreparedData, VqaSplit
from updn_vqa.evaluation.evaluate import EvaluateConfig, evaluate
from updn_vqa.networks.layers import Network
from updn_vqa.training.config import TrainConfig
from updn_vqa.training.methods import METHODS, SMALL
from updn_vqa.training.train import TrainingSteps, choose_hints, train

Tiny = tuple[Path, Path]
Make = Callable[..., TrainConfig]


def weights(run: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return load_file(run / f"{name}.safetensors")


def model_weights(run: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return {key: tensor for key, tensor in weights(run, name).items() if key.startswith("model.")}


def assert_same_first_moments(one: Path, other: Path) -> None:
    """Adam's first moment after one step is a tenth of the gradient."""
    moments = [{name: x for name, x in weights(run).items() if name.endswith("exp_avg")} for run in (one, other)]
    assert moments[0]
    torch.testing.assert_close(moments[0], moments[1], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains(tiny_run: Make, method: str) -> None:
    options = tiny_run(method=method)
    train(options)
    metrics = read_metrics(options.out)
    assert [line["step"] for line in metrics] == [2, 4]
    assert all((line["train/hint_loss"] > 0) == (options.method.supervision != "none") for line in metrics)
    assert all(("train/adversary_loss" in line) == options.method.adversarial for line in metrics)
    assert all(line["development/accuracy"] >= 0 for line in metrics)


@pytest.mark.parametrize("network", ["updn-bypass", "updn-mean", "updn-concat", "san", "transformer", "gvqa"])
def test_every_network_trains_and_is_loaded_again(tiny_run: Make, tiny: Tiny, network: Network) -> None:
    scale = tiny_run().scale
    options = tiny_run(method="base", scale=replace(scale, model=replace(scale.model, network=network)))
    train(options)
    after = replace(options, out=options.out.with_name("after"), method=METHODS["hint"], start_from=options.out)
    train(after)
    assert read_metrics(after.out)[-1]["train/hint_loss"] > 0
    evaluate(EvaluateConfig(data=tiny[1], run=after.out, cpu=True))


def test_the_answers_loss_may_be_on_hinted_questions_only(tiny_run: Make, tiny: Tiny) -> None:
    """These are the questions whose hints are used, even if the method ignores the hints."""
    split = PreparedData.open(tiny[1]).split("train")
    split.hinted_indices = split.hinted_indices.flip(0)  # else position and question are the same: all have hints here
    ids = torch.tensor(split.question_ids)
    chosen = set(ids[split.hinted_indices[choose_hints(split, 0.25, seed=0)]].tolist())
    assert len(chosen) == 6

    def seen(method: str) -> tuple[set[int], set[int]]:
        """The questions of three steps, and those with hints."""
        steps = TrainingSteps(split, tiny_run(method=method, hint_share=0.25), Accelerator(cpu=True))
        batches = [pair for step in range(3) for pair in steps[step]]
        questions = {i for batch, _ in batches for i in batch.question_ids.tolist()}
        return questions, {i for _, hinted in batches if hinted for i in hinted.question_ids.tolist()}

    assert seen("hint-on-hinted") == (chosen, chosen)
    assert seen("base-on-hinted") == (chosen, set())
    assert seen("hint") == (set(split.question_ids), chosen)
    assert seen("base") == (set(split.question_ids), set())


def test_the_best_checkpoint_has_the_highest_accuracy_on_dev(tiny_run: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    accuracies, measured = iter([-3.0, -1.0, -2.0, -1.0]), []

    class Fixed:
        def summary(self) -> dict[str, float]:
            return {"accuracy": next(accuracies)}

    def fake_measure(model: object, split: VqaSplit, accelerator: object) -> Fixed:
        measured.append(split.name)
        return Fixed()

    options, after_four = tiny_run(scale=replace(tiny_run().scale, steps=8)), tiny_run("four")
    with monkeypatch.context() as patch:
        patch.setattr("updn_vqa.training.train.measure", fake_measure)
        train(options)
    assert measured == ["dev"] * 4
    train(after_four)
    torch.testing.assert_close(model_weights(options.out, "best"), model_weights(after_four.out), rtol=0, atol=0)


def test_micro_batches_do_not_change_the_gradient(tiny_run: Make) -> None:
    scale = replace(tiny_run().scale, model=SMALL, steps=1)
    one, four = tiny_run("one", scale=scale), tiny_run("four", scale=scale, micro_batches=4)
    train(one)
    train(four)
    assert_same_first_moments(one.out, four.out)


@pytest.mark.parametrize("method", ["hint", "unsigned", "adv-reg"])
def test_two_processes_train_as_one(tiny_run: Make, unused_tcp_port: int, method: str) -> None:
    """Even without --cpu on a machine that has no GPU."""
    scale = ["--model.attention-dropout", "0", "--steps", "1", "--batch-size", "8", "--hint-batch-size", "4"]
    # Processes draw different random directions, so that only the exact norm is the same in one and two.
    exact = ["--probes", "0"] if method == "unsigned" else []
    one, two = tiny_run("one"), tiny_run("two")
    trainer = ["-m", "updn_vqa.cli", "train", method, "shapes", "--data", str(one.data), *scale, *exact]
    launch = ["-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={unused_tcp_port}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    for prefix, out in (([], one.out), (launch, two.out)):
        command = [sys.executable, *prefix, *trainer, "--out", str(out)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert_same_first_moments(one.out, two.out)
    assert read_metrics(two.out)[0]["development/accuracy"] == read_metrics(one.out)[0]["development/accuracy"]


@pytest.mark.parametrize("hints", ["random-per-epoch", "permuted"])
def test_hints_depend_on_the_step_alone(tiny_run: Make, tiny: Tiny, hints: Hints) -> None:
    """12 hints in batches of 4 are three steps an epoch. A run that is resumed at a step sees the same hints."""
    split = PreparedData.open(tiny[1]).split("train")
    options = replace(tiny_run(hint_share=0.5), method=replace(METHODS["hint"], hints=hints))
    steps = TrainingSteps(split, options, Accelerator(cpu=True))

    def human(steps: TrainingSteps, step: int) -> torch.Tensor:
        ((_, hinted),) = steps[step]
        assert hinted is not None
        return hinted.human

    seen = [human(steps, step) for step in range(9)]
    for step, found in reversed(list(enumerate(seen))):
        assert torch.equal(human(TrainingSteps(split, options, Accelerator(cpu=True)), step), found)
        assert torch.equal(human(steps, step), found)


def test_divergence_is_an_error(tiny_run: Make) -> None:
    options = tiny_run(scale=replace(tiny_run().scale, learning_rate=1e30))
    with pytest.raises(InputError, match=r"run diverged by step 2: .*Lower --learning-rate or --weight"):
        train(options)
    assert not (options.out / "best.safetensors").exists()


def test_gradients_are_clipped(tiny_run: Make) -> None:
    """Adam ignores the scale of all gradients together, but not the scale of one step relative to another."""
    options = [tiny_run(str(clip), scale=replace(tiny_run().scale, clip=clip)) for clip in (float("inf"), 1e-3)]
    for option in options:
        train(option)
    assert all(line["gradient_norm"] > 1e-2 for option in options for line in read_metrics(option.out))  # unclipped
    free, clipped = (model_weights(option.out) for option in options)
    assert any(not torch.equal(free[name], clipped[name]) for name in free)
    first_moments = [x.norm() for name, x in weights(options[1].out).items() if name.endswith("exp_avg")]
    assert torch.stack(first_moments).norm() <= 1e-3
