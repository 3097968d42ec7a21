import builtins
import json
import re
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from updn_common.errors import InputError
from updn_common.runs.directory import RunDirectory, read_checkpoint, read_config, read_metrics


def whole(message: str) -> str:
    return f"^{re.escape(message)}$"


def test_config_json_records_configuration_and_environment(tmp_path: Path) -> None:
    with RunDirectory.create(tmp_path / "run", {"seed": 3, "data": Path("world")}):
        pass
    found = json.loads((tmp_path / "run" / "config.json").read_text())
    assert found["config"] == {"seed": 3, "data": "world"} == read_config(tmp_path / "run")
    assert found["command"] == sys.argv
    assert found["packages"]["torch"] == torch.__version__
    assert found["python"].startswith("3.")
    assert found["git"] is None or re.fullmatch(r"[0-9a-f]{40}(-dirty)?", found["git"])


@pytest.mark.parametrize("content", ["[]", '{"hidden_size": 768}', '{"config": 1}'])
def test_a_config_json_of_another_program_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    message = f"{tmp_path / 'config.json'} is not the configuration of a run. Give the --out of a training run."
    with pytest.raises(InputError, match=whole(message)):
        read_config(tmp_path)


def test_a_directory_with_files_or_in_use_is_refused(tmp_path: Path) -> None:
    with (
        RunDirectory.create(tmp_path, {}),
        pytest.raises(InputError, match="is in use by process"),
        RunDirectory.resume(tmp_path, 0),
    ):
        raise AssertionError
    (tmp_path / "last.safetensors").touch()
    message = f"{tmp_path} already holds a run: go on with it by --resume, choose another directory or delete it."
    with pytest.raises(InputError, match=whole(message)), RunDirectory.create(tmp_path, {}):
        raise AssertionError
    (tmp_path / "config.json").unlink()
    (tmp_path / "notes.txt").touch()
    message = f"{tmp_path} already holds files: choose another directory or delete it."
    with pytest.raises(InputError, match=whole(message)), RunDirectory.create(tmp_path, {}):
        raise AssertionError
    empty = tmp_path / "empty"
    message = f"{empty} holds no run to resume (no config.json)."
    with pytest.raises(InputError, match=whole(message)), RunDirectory.resume(empty, 0):
        raise AssertionError
    assert not empty.exists()


def test_a_run_that_was_killed_before_its_first_checkpoint_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with RunDirectory.create(path, {"seed": 0}):
        (path / f"last.safetensors.partial-{2**22 + 1}").touch()  # killed while it was written
    with RunDirectory.create(path, {"seed": 1}) as run:
        assert read_config(path) == {"seed": 1}
        run.save_checkpoint("last", {"a": torch.zeros(1)}, None, {})
    assert not list(path.glob("*.partial-*"))
    with pytest.raises(InputError, match="already holds a run"), RunDirectory.create(path, {"seed": 2}):
        pass
    assert read_config(path) == {"seed": 1}


def test_metrics_can_be_read_while_a_run_is_open(tmp_path: Path) -> None:
    with RunDirectory.create(tmp_path, {}) as run:
        run.log(1, loss=0.5, split="dev")
        run.log(2, loss=float("nan"))
        assert (tmp_path / "metrics.jsonl").read_text() == (
            '{"step": 1, "loss": 0.5, "split": "dev"}\n{"step": 2, "loss": null}\n'
        )
        assert read_metrics(tmp_path)[1] == {"step": 2, "loss": None}


def test_resume_gives_the_metrics_of_an_uninterrupted_run(tmp_path: Path) -> None:
    for name, steps in {"whole": range(1, 9), "cut": range(1, 7)}.items():
        with RunDirectory.create(tmp_path / name, {}) as run:
            for step in steps:
                run.log(step, loss=1 / step)
    with (tmp_path / "cut" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 7, "lo')  # killed while writing
    with RunDirectory.resume(tmp_path / "cut", step=4) as run:
        assert [line["step"] for line in read_metrics(run.path)] == [1, 2, 3, 4]
        for step in range(5, 9):
            run.log(step, loss=1 / step)
    assert (tmp_path / "cut" / "metrics.jsonl").read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()


def test_resume_before_the_first_metric(tmp_path: Path) -> None:
    with RunDirectory.create(tmp_path, {}):
        pass
    with RunDirectory.resume(tmp_path, step=0) as run:
        assert read_metrics(run.path) == []


def test_checkpoints_are_read_by_name(tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    optimizer = torch.optim.Adam(model.parameters())
    with RunDirectory.create(tmp_path, {}) as run:
        run.save_checkpoint("last", model.state_dict(), optimizer, {"step": 3})
    checkpoint = read_checkpoint(tmp_path, "last", option="--run")
    assert checkpoint.progress == {"step": 3}
    assert torch.equal(checkpoint.model["weight"], model.weight)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("absent", "does not exist"),
        ("file", "is a file, not the directory of a run"),
        ("file/below", "does not exist"),
        ("folder", "holds no run"),
        ("run", "holds a run without best.safetensors"),
    ],
)
def test_a_missing_checkpoint(tmp_path: Path, name: str, found: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with RunDirectory.create(tmp_path / "run", {}) as run:
        run.save_checkpoint("last", {}, None, {})
    message = f"--before {tmp_path / name} {found}. Give the --out of a training run."
    with pytest.raises(InputError, match=whole(message)):
        read_checkpoint(tmp_path / name, "best", option="--before")
    message = f"--before {tmp_path / name} {found}. Look elsewhere."
    with pytest.raises(InputError, match=whole(message)):
        read_checkpoint(tmp_path / name, "best", option="--before", remedy="Look elsewhere.")


def test_numbers_are_logged_to_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with RunDirectory.create(tmp_path, {}) as run:
        for step in (1, 2, 3):
            run.log(step, loss=step / 2, split="dev", missing=None)
    time.sleep(1.1)  # TensorBoard orders files by the second in their names
    with RunDirectory.resume(tmp_path, step=2) as run:
        run.log(3, loss=9.0)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert events.Tags()["scalars"] == ["loss"]
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(1, 0.5), (2, 1.0), (3, 9.0)]


def test_metrics_are_logged_without_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def without(name: str, *args: object, **kwargs: object) -> object:
        if name == "torch.utils.tensorboard":
            raise ImportError(name)
        return imported(name, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    with RunDirectory.create(tmp_path, {}) as run:
        run.log(1, loss=0.5)
    assert not (tmp_path / "tensorboard").exists()
    assert read_metrics(tmp_path) == [{"step": 1, "loss": 0.5}]


@pytest.mark.parametrize(
    "line", [b"{", b"[]", b'{"a": 1}', b'{"step": "1"}', b"\xff", b'{"step": 1, "x": "\0"}', b"[" * 100_000]
)
def test_a_damaged_line_of_metrics(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1}\n' + line + b"\n")
    with pytest.raises(
        InputError, match=r"metrics.jsonl, line 2 is damaged: delete the line, or train the run again\."
    ):
        read_metrics(tmp_path)
