"""Where a training run starts: resuming, starting from another run, and what is refused."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from updn_common.errors import InputError
from updn_common.runs.directory import read_metrics
from updn_vqa.evaluation.evaluate import EvaluateConfig, evaluate
from updn_vqa.training.config import TrainConfig
from updn_vqa.training.train import train

Tiny = tuple[Path, Path]
Make = Callable[..., TrainConfig]


def whole(message: str) -> str:
    return f"^{re.escape(message)}$"


def weights(run: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return load_file(run / f"{name}.safetensors")


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize("method", ["hint", "unsigned", "adv-reg"])
def test_a_resumed_run_ends_bitwise_where_an_uninterrupted_one_does(tiny_run: Make, method: str) -> None:
    whole, parts = tiny_run("whole", method), tiny_run("parts", method)
    train(whole)
    train(replace(parts, scale=replace(tiny_run().scale, steps=2)))
    # A run is the first part of a longer one: the schedule is constant, so only the number of steps differs.
    record = json.loads((parts.out / "config.json").read_text())
    record["config"]["scale"]["steps"] = 4
    (parts.out / "config.json").write_text(json.dumps(record))
    train(replace(parts, resume=True))
    assert_same(weights(whole.out), weights(parts.out))
    assert_same(weights(whole.out, "best"), weights(parts.out, "best"))
    assert read_metrics(whole.out) == read_metrics(parts.out)


def test_a_run_that_was_killed_before_its_first_evaluation_is_resumed(
    tiny_run: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, whole = tiny_run("base", "base"), tiny_run("whole")
    train(base)
    train(replace(whole, start_from=base.out))
    killed = tiny_run("killed", start_from=base.out)
    with monkeypatch.context() as patch:
        patch.setattr("updn_vqa.training.train.measure", lambda *_: pytest.exit("killed"))
        with pytest.raises(pytest.exit.Exception):
            train(killed)
    train(replace(killed, resume=True))
    assert_same(weights(whole.out), weights(killed.out))


def test_runs_that_cannot_be_started_or_resumed(tiny_run: Make, tmp_path: Path) -> None:
    run, folder, file = tiny_run(), tiny_run("folder"), tiny_run("file")
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
        (tiny_run("absent"), "does not exist"),
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


def test_a_run_is_resumed_though_its_start_is_gone(tiny_run: Make, tmp_path: Path) -> None:
    base = tiny_run("base", "base")
    train(base)
    tuned = tiny_run("tuned", start_from=base.out)
    train(tuned)
    base.out.rename(tmp_path / "moved")
    train(replace(tuned, resume=True))
    with pytest.raises(InputError, match="trained with start_from"):
        train(replace(tuned, resume=True, start_from=tmp_path / "moved"))


def test_only_a_resumed_run_reads_the_adversary(tiny_run: Make, tiny: Tiny) -> None:
    """Evaluating its network, or starting from it, does not need the adversary."""
    run, after = tiny_run(method="adv-reg"), tiny_run("after")
    train(run)
    others = {name for name in weights(run.out) if not name.startswith(("model.", "optimizer."))}
    assert {name.split(".")[0] for name in others} == {"auxiliary"}
    assert not any(name.startswith("auxiliary.") for name in weights(run.out, "best"))
    evaluate(EvaluateConfig(data=tiny[1], run=run.out, split="dev", checkpoint="last", cpu=True))
    train(replace(after, start_from=run.out, scale=replace(tiny_run().scale, steps=1)))


def test_fine_tuning_starts_from_the_best_checkpoint(tiny_run: Make) -> None:
    base = tiny_run("base", "base")
    train(base)
    tuned = tiny_run("tuned", start_from=base.out, scale=replace(tiny_run().scale, steps=1, learning_rate=0.0))
    train(tuned)
    tuned_weights = weights(tuned.out)
    for name, tensor in weights(base.out, "best").items():
        assert torch.equal(tuned_weights[name], tensor), name


def test_start_weights_are_mixed_with_random_ones(tiny_run: Make) -> None:
    """They differ from the random weights that the start itself began with."""
    frozen = replace(tiny_run().scale, steps=1, learning_rate=0.0)
    base = tiny_run("base", "base", scale=replace(tiny_run().scale, steps=1))
    train(base)
    found = []
    for kept in (1.0, 0.25, 0.0):
        tuned = tiny_run(f"kept {kept}", start_from=base.out, scale=replace(frozen, kept=kept))
        train(tuned)
        found.append(weights(tuned.out))
    first = tiny_run("first", "base", scale=frozen)
    train(first)
    names = [name for name in found[0] if name.startswith("model.")]
    assert names
    for name in names:
        torch.testing.assert_close(found[1][name], 0.25 * found[0][name] + 0.75 * found[2][name])
    began = weights(first.out)
    assert any(not torch.equal(began[name], found[2][name]) for name in names)


def test_runs_that_cannot_be_started_from(tiny_run: Make, tmp_path: Path) -> None:
    base = tiny_run("base", "base")
    train(base)
    remedy = "Give the directory of a run that has been evaluated, or leave out --start-from for random weights."
    file = base.out / "best.safetensors"
    for start, found in (
        (tmp_path / "absent", "does not exist"),
        (file, "is a file, not the directory of a run"),
        (tmp_path, "holds no run"),
    ):
        with pytest.raises(InputError, match=whole(f"--start-from {start} {found}. {remedy}")):
            train(tiny_run("tuned", start_from=start))
    larger = replace(tiny_run().scale, model=replace(tiny_run().scale.model, embedding=9))
    message = (
        f"{file} belongs to another model: embedding.weight is float32 [20, 8], not float32 [20, 9]; gru.weight_ih_l0 "
        "is float32 [48, 8], not float32 [48, 9]. Take the data and the network's sizes that it was trained with."
    )
    with pytest.raises(InputError, match=whole(message)):
        train(tiny_run("tuned", start_from=base.out, scale=larger))
    file.unlink()
    message = f"--start-from {base.out} holds a run without best.safetensors. {remedy}"
    with pytest.raises(InputError, match=whole(message)):
        train(tiny_run("tuned", start_from=base.out))
    assert not (tmp_path / "tuned").exists()


WARNING = (
    "warning: this run starts from random weights, but this scale is for fine-tuning a trained network: give a base "
    "run with --start-from.\n"
)


def test_warning_if_a_fine_tuning_schedule_starts_from_random_weights(
    tiny_run: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    def printed(options: TrainConfig) -> str:
        train(options)
        return capsys.readouterr().err

    base, hint = tiny_run("base", "base"), tiny_run("hint", scale=replace(tiny_run().scale, continues=True))
    assert printed(base) == ""
    assert printed(tiny_run("from the start")) == ""
    assert printed(hint) == WARNING
    assert printed(replace(hint, resume=True)) == ""
    with pytest.raises(InputError, match="already holds a run"):
        train(hint)
    assert capsys.readouterr().err == ""  # a run that does not start is not warned of
    assert printed(replace(hint, out=base.out.with_name("tuned"), start_from=base.out)) == ""
