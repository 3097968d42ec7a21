"""The pipeline end to end on a tiny world: train, resume, evaluate, explain, study, and two processes."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from updn_common.data.control_hints import Hints, control_hints
from updn_common.errors import InputError
from updn_common.runs.directory import read_metrics
from updn_vqa.data.prepared import PreparedData, VqaSplit
from updn_vqa.evaluation.evaluate import EvaluateConfig, evaluate
from updn_vqa.evaluation.explain import ExplainConfig, explain
from updn_vqa.networks.layers import Network
from updn_vqa.training.config import TrainConfig
from updn_vqa.training.methods import METHODS, SCALES, SMALL, Scale
from updn_vqa.training.train import TrainingSteps, choose_hints, train

Tiny = tuple[Path, Path]
SCALE: Scale = replace(
    SCALES["shapes"],
    model=replace(SMALL, embedding=8, hidden=16, attention_dropout=0.3),
    steps=4,
    evaluate_every=2,
    batch_size=8,
    hint_batch_size=4,
)


@pytest.fixture
def config(tiny: Tiny, tmp_path: Path) -> Callable[..., TrainConfig]:
    def make(out: str = "run", method: str = "hint", **changes: object) -> TrainConfig:
        options = {"data": tiny[1], "out": tmp_path / out, "method": METHODS[method], "scale": SCALE, "cpu": True}
        return TrainConfig(**(options | changes))

    return make


def whole(message: str) -> str:
    return f"^{re.escape(message)}$"


def weights(run: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return load_file(run / f"{name}.safetensors")


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains(config: Callable[..., TrainConfig], method: str) -> None:
    options = config(method=method)
    train(options)
    metrics = read_metrics(options.out)
    assert [line["step"] for line in metrics] == [2, 4]
    assert all((line["train/hint_loss"] > 0) == (options.method.supervision != "none") for line in metrics)
    assert all(("train/adversary_loss" in line) == options.method.adversarial for line in metrics)
    assert all(line["development/accuracy"] >= 0 for line in metrics)


@pytest.mark.parametrize("network", ["updn-bypass", "updn-mean", "updn-concat", "san", "transformer", "gvqa"])
def test_every_network_trains_and_is_read_again(
    config: Callable[..., TrainConfig], tiny: Tiny, network: Network
) -> None:
    options = config(method="base", scale=replace(SCALE, model=replace(SCALE.model, network=network)))
    train(options)
    after = replace(options, out=options.out.with_name("after"), method=METHODS["hint"], start_from=options.out)
    train(after)
    assert read_metrics(after.out)[-1]["train/hint_loss"] > 0
    evaluate(EvaluateConfig(data=tiny[1], run=after.out, cpu=True))


@pytest.mark.parametrize("method", ["hint", "unsigned", "adv-reg"])
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


def test_an_adversary_stays_beside_the_network(config: Callable[..., TrainConfig], tiny: Tiny) -> None:
    """The network is read as any other's, to be evaluated or to start from; only a resumed run needs its adversary."""
    run, after = config(method="adv-reg"), config("after")
    train(run)
    others = {name for name in weights(run.out) if not name.startswith(("model.", "optimizer."))}
    assert {name.split(".")[0] for name in others} == {"auxiliary"}
    assert not any(name.startswith("auxiliary.") for name in weights(run.out, "best"))
    evaluate(EvaluateConfig(data=tiny[1], run=run.out, split="dev", checkpoint="last", cpu=True))
    train(replace(after, start_from=run.out, scale=replace(SCALE, steps=1)))


def test_the_answers_loss_may_be_on_hinted_questions_only(config: Callable[..., TrainConfig], tiny: Tiny) -> None:
    """On those whose hints are used: with hints or, for comparison, without."""
    split = PreparedData.open(tiny[1]).split("train")
    split.hinted_indices = split.hinted_indices.flip(0)  # all have hints here, in their own order
    ids = torch.tensor(split.question_ids)
    chosen = set(ids[split.hinted_indices[choose_hints(split, 0.25, seed=0)]].tolist())
    assert len(chosen) == 6

    def seen(method: str) -> tuple[set[int], set[int]]:
        """The questions of three steps, and those of the hints."""
        steps = TrainingSteps(split, config(method=method, hint_share=0.25), Accelerator(cpu=True))
        batches = [pair for step in range(3) for pair in steps[step]]
        questions = {i for batch, _ in batches for i in batch.question_ids.tolist()}
        return questions, {i for _, hinted in batches if hinted for i in hinted.question_ids.tolist()}

    assert seen("hint-on-hinted") == (chosen, chosen)
    assert seen("base-on-hinted") == (chosen, set())
    assert seen("hint") == (set(split.question_ids), chosen)
    assert seen("base") == (set(split.question_ids), set())


def test_the_best_checkpoint_is_that_of_the_development_split(
    config: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where every score is negative: best starts below all of them. No other split is ever looked at."""
    accuracies = iter([-3.0, -1.0, -2.0, -1.0])  # of equal ones the first
    measured: list[str] = []

    class Fixed:
        def summary(self) -> dict[str, float]:
            return {"accuracy": next(accuracies)}

    def fake_measure(model: object, split: VqaSplit, accelerator: object) -> Fixed:
        measured.append(split.directory.name)
        return Fixed()

    with monkeypatch.context() as patch:
        patch.setattr("updn_vqa.training.train.measure", fake_measure)
        options = config(scale=replace(SCALE, steps=8))
        train(options)
    assert measured == ["dev"] * 4
    after_four = config("four")
    train(after_four)
    best = {name: tensor for name, tensor in weights(options.out, "best").items() if name.startswith("model.")}
    last = {name: tensor for name, tensor in weights(after_four.out).items() if name.startswith("model.")}
    assert_same(best, last)


def test_micro_batches_change_nothing(config: Callable[..., TrainConfig]) -> None:
    scale = replace(SCALE, model=SMALL, steps=1)
    one, four = config("one", scale=scale), config("four", scale=scale, micro_batches=4)
    train(one)
    train(four)
    for name, tensor in weights(one.out).items():
        if name.endswith("exp_avg"):  # Adam's first moment after one step is a tenth of the gradient
            torch.testing.assert_close(weights(four.out)[name], tensor, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("method", ["hint", "unsigned", "adv-reg"])
def test_two_processes_train_as_one(config: Callable[..., TrainConfig], unused_tcp_port: int, method: str) -> None:
    """Also where nobody says --cpu, but there is nothing else."""
    scale = ["--model.attention-dropout", "0", "--steps", "1", "--batch-size", "8", "--hint-batch-size", "4"]
    # Each process draws random directions of its own, so that only the exact norm is the same in one and two.
    exact = ["--probes", "0"] if method == "unsigned" else []
    one, two = config("one"), config("two")
    trainer = ["-m", "updn_vqa.cli", "train", method, "shapes", "--data", str(one.data), *scale, *exact]
    launch = ["-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={unused_tcp_port}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    for prefix, out in (([], one.out), (launch, two.out)):
        command = [sys.executable, *prefix, *trainer, "--out", str(out)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    for name, tensor in weights(one.out).items():
        if name.endswith("exp_avg"):
            torch.testing.assert_close(weights(two.out)[name], tensor, rtol=1e-3, atol=1e-6)
    assert read_metrics(two.out)[0]["development/accuracy"] == read_metrics(one.out)[0]["development/accuracy"]


def test_fine_tuning_starts_from_the_best_checkpoint(config: Callable[..., TrainConfig]) -> None:
    base = config("base", "base")
    train(base)
    tuned = config("tuned", start_from=base.out, scale=replace(SCALE, steps=1, learning_rate=0.0))
    train(tuned)
    for name, tensor in weights(base.out, "best").items():
        assert torch.equal(weights(tuned.out)[name], tensor), name


def test_evaluate_and_explain(
    config: Callable[..., TrainConfig], tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, after = config("before", "base"), config("after")
    train(before)
    train(after)
    evaluate(EvaluateConfig(data=tiny[1], run=after.out))
    printed = capsys.readouterr().out
    assert re.search(r"rank correlation +│ +-?\d\.\d{3} \[-?\d\.\d{3}, -?\d\.\d{3}\] │\n", printed)
    folder = after.out / "evaluation" / "test"
    results = json.loads((folder / "results.json").read_text())
    assert {record["question_id"] for record in results} == {
        question.question_id for question in PreparedData.open(tiny[1]).split("test").questions
    }
    accuracy = json.loads((folder / "accuracy.json").read_text())
    assert accuracy["accuracy"].keys() == {"2016", "2021"}
    assert -1 <= accuracy["rank_correlation"] <= 1
    assert 0 <= accuracy["pointing"] <= 100

    options = ExplainConfig(tiny[1], before.out, after.out, tiny[0], tmp_path / "page", count=2)
    explain(options)
    html = (options.out / "index.html").read_text()
    figures = sorted(path.name for path in options.out.glob("*.png"))
    assert len(figures) == 2
    assert all(f'src="{name}"' in html for name in figures)
    chosen = int(figures[0].removesuffix(".png"))
    explain(replace(options, out=tmp_path / "one", questions=(chosen,)))
    assert [path.name for path in (tmp_path / "one").glob("*.png")] == figures[:1]
    none = replace(options, out=tmp_path / "none")
    with pytest.raises(InputError, match="7"):
        explain(replace(none, questions=(7,)))
    for option in ("before", "after"):
        message = f"--{option} {tmp_path / 'absent'} does not exist. Give the --out of a training run."
        with pytest.raises(InputError, match=whole(message)):
            explain(replace(none, **{option: tmp_path / "absent"}))
    assert not none.out.exists()
    (after.out / "best.safetensors").unlink()
    message = f"--run {after.out} holds a run without best.safetensors. Give the --out of a training run."
    with pytest.raises(InputError, match=whole(message)):
        evaluate(EvaluateConfig(data=tiny[1], run=after.out))
    evaluate(EvaluateConfig(data=tiny[1], run=after.out, checkpoint="last"))


def test_hints_of_a_smaller_share_are_among_those_of_a_larger(tiny: Tiny) -> None:
    split = PreparedData.open(tiny[1]).split("train")
    small, large = (set(choose_hints(split, share, seed=3).tolist()) for share in (0.25, 0.5))
    assert (len(small), len(large)) == (6, 12)
    assert small < large
    assert set(choose_hints(split, 0.25, seed=4).tolist()) != small


def test_a_run_starts_from_a_run_that_fits(config: Callable[..., TrainConfig], tmp_path: Path) -> None:
    base = config("base", "base")
    train(base)
    remedy = "Give the directory of a run that has been evaluated, or leave out --start-from for random weights."
    file = base.out / "best.safetensors"
    for start, found in (
        (tmp_path / "absent", "does not exist"),
        (file, "is a file, not the directory of a run"),
        (tmp_path, "holds no run"),
    ):
        with pytest.raises(InputError, match=whole(f"--start-from {start} {found}. {remedy}")):
            train(config("tuned", start_from=start))
    larger = replace(SCALE, model=replace(SCALE.model, embedding=9))
    message = (
        f"{file} belongs to another model: embedding.weight is float32 [20, 8], not float32 [20, 9]; gru.weight_ih_l0 "
        "is float32 [48, 8], not float32 [48, 9]. Take the data and the network's sizes that it was trained with."
    )
    with pytest.raises(InputError, match=whole(message)):
        train(config("tuned", start_from=base.out, scale=larger))
    file.unlink()
    message = f"--start-from {base.out} holds a run without best.safetensors. {remedy}"
    with pytest.raises(InputError, match=whole(message)):
        train(config("tuned", start_from=base.out))
    assert not (tmp_path / "tuned").exists()


def test_a_run_is_resumed_where_there_is_one(config: Callable[..., TrainConfig], tmp_path: Path) -> None:
    run, folder, file = config(), config("folder"), config("file")
    train(run)
    message = f"{run.out} already holds a run: go on with it by --resume, choose another directory or delete it."
    with pytest.raises(InputError, match=whole(message)):
        train(run)
    with pytest.raises(InputError, match=whole(f"{run.out} was trained with seed = 0, not 1: resume with the same.")):
        train(replace(run, resume=True, seed=1))

    folder.out.mkdir()
    (folder.out / "notes.txt").touch()
    file.out.touch()
    for options, found in (
        (config("absent"), "does not exist"),
        (folder, "holds no run"),
        (file, "is a file, not the directory of a run"),
    ):
        message = (
            f"There is nothing to resume: --out {options.out} {found}. Leave out --resume to start a run, or give the "
            "--out of the run to go on with."
        )
        with pytest.raises(InputError, match=whole(message)):
            train(replace(options, resume=True))
    message = f"{folder.out} already holds files: choose another directory or delete it."
    with pytest.raises(InputError, match=whole(message)):
        train(folder)
    message = f"{file.out} cannot be created (File exists): choose another directory."
    with pytest.raises(InputError, match=whole(message)):
        train(file)
    assert not (tmp_path / "absent").exists()


WARNING = (
    "warning: this run starts from random weights, but this scale is for fine-tuning a trained network: give a base "
    "run with --start-from.\n"
)


def test_fine_tuning_of_random_weights_is_warned_of(
    config: Callable[..., TrainConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    def printed(options: TrainConfig) -> str:
        train(options)
        return capsys.readouterr().err

    base, hint = config("base", "base"), config("hint", scale=replace(SCALE, continues=True))
    assert printed(base) == ""
    assert printed(config("from the start")) == ""
    assert printed(hint) == WARNING
    assert printed(replace(hint, resume=True)) == ""
    with pytest.raises(InputError, match="already holds a run"):
        train(hint)
    assert capsys.readouterr().err == ""  # a run that does not start is not warned of
    assert printed(replace(hint, out=base.out.with_name("tuned"), start_from=base.out)) == ""


def test_a_share_of_the_start_s_weights_is_kept(config: Callable[..., TrainConfig]) -> None:
    """The rest is of other random weights than the start began with."""
    frozen = replace(SCALE, steps=1, learning_rate=0.0)
    base = config("base", "base", scale=replace(SCALE, steps=1))
    train(base)
    found = []
    for kept in (1.0, 0.25, 0.0):
        tuned = config(f"kept {kept}", start_from=base.out, scale=replace(frozen, kept=kept))
        train(tuned)
        found.append(weights(tuned.out))
    first = config("first", "base", scale=frozen)
    train(first)
    names = [name for name in found[0] if name.startswith("model.")]
    assert names
    for name in names:
        torch.testing.assert_close(found[1][name], 0.25 * found[0][name] + 0.75 * found[2][name])
    began = weights(first.out)
    assert any(not torch.equal(began[name], found[2][name]) for name in names)


@pytest.mark.parametrize(("hints", "draws"), [("random-per-epoch", [0, 1, 2]), ("permuted", [0]), ("human", [0])])
def test_hints_are_drawn_once_an_epoch_and_are_those_of_any_other_order(
    config: Callable[..., TrainConfig], tiny: Tiny, monkeypatch: pytest.MonkeyPatch, hints: Hints, draws: list[int]
) -> None:
    """12 hints in batches of 4: three steps an epoch. A run that is resumed at a step sees what this one saw."""
    drawn: list[int] = []

    def counted(human: torch.Tensor, kind: Hints, *, seed: int, epoch: int) -> torch.Tensor:
        drawn.append(epoch)
        return control_hints(human, kind, seed=seed, epoch=epoch)

    split = PreparedData.open(tiny[1]).split("train")
    options = replace(config(hint_share=0.5), method=replace(METHODS["hint"], hints=hints))

    def human_at(steps: TrainingSteps, step: int) -> torch.Tensor:
        ((_, hinted),) = steps[step]
        assert hinted is not None
        return hinted.human

    with monkeypatch.context() as patch:
        patch.setattr("updn_vqa.training.train.control_hints", counted)
        steps = TrainingSteps(split, options, Accelerator(cpu=True))
        seen = [human_at(steps, step) for step in range(9)]
    assert drawn == draws
    for step, human in reversed(list(enumerate(seen))):
        fresh = TrainingSteps(split, options, Accelerator(cpu=True))
        assert torch.equal(human_at(fresh, step), human)
        assert torch.equal(human_at(steps, step), human)


def test_divergence_is_an_error(config: Callable[..., TrainConfig]) -> None:
    options = config(scale=replace(SCALE, learning_rate=1e30))
    with pytest.raises(InputError, match=r"run diverged by step 2: .*Lower --learning-rate or --weight"):
        train(options)
    assert not (options.out / "best.safetensors").exists()


def test_a_run_killed_before_its_first_evaluation_is_resumed(
    config: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    base, whole = config("base", "base"), config("whole")
    train(base)
    train(replace(whole, start_from=base.out))
    killed = config("killed", start_from=base.out)
    with monkeypatch.context() as patch:
        patch.setattr("updn_vqa.training.train.measure", lambda *_: pytest.exit("killed"))
        with pytest.raises(pytest.exit.Exception):
            train(killed)
    train(replace(killed, resume=True))
    assert_same(weights(whole.out), weights(killed.out))


def test_a_run_is_resumed_without_what_it_started_from(config: Callable[..., TrainConfig], tmp_path: Path) -> None:
    base = config("base", "base")
    train(base)
    tuned = config("tuned", start_from=base.out)
    train(tuned)
    base.out.rename(tmp_path / "moved")
    train(replace(tuned, resume=True))
    with pytest.raises(InputError, match="trained with start_from"):
        train(replace(tuned, resume=True, start_from=tmp_path / "moved"))


def test_gradients_are_clipped(config: Callable[..., TrainConfig]) -> None:
    """Adam forgets the scale of all gradients alike, but not that of one step beside another's."""
    options = [config(str(clip), scale=replace(SCALE, clip=clip)) for clip in (float("inf"), 1e-3)]
    for option in options:
        train(option)
    free, clipped = (weights(option.out) for option in options)
    assert all(line["gradient_norm"] > 1e-2 for option in options for line in read_metrics(option.out))  # before it
    assert any(not torch.equal(free[name], clipped[name]) for name in free if name.startswith("model."))
    first_moments = [tensor.norm() for name, tensor in clipped.items() if name.endswith("exp_avg")]
    assert torch.stack(first_moments).norm() <= 1e-3
