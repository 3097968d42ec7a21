import errno
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from safetensors import SafetensorError
from torch import distributed

from updn_common.command import Command, run_command, run_command_line
from updn_common.errors import InputError


@dataclass(frozen=True)
class One:
    value: int


@dataclass(frozen=True)
class Two:
    value: int


@pytest.mark.parametrize(("name", "config"), [("one", One(7)), ("second", Two(7))])
def test_the_named_command_runs_with_its_options(name: str, config: object, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[str, object]] = []
    monkeypatch.setattr("sys.argv", ["program", name, "--value", "7"])
    commands: dict[str, Command] = {
        "one": (One, lambda config: ran.append(("one", config))),
        "second": (Two, lambda config: ran.append(("second", config))),
    }
    run_command_line("program", None, commands)
    assert ran == [(name, config)]


def test_a_wrong_input_ends_in_one_line_without_a_traceback() -> None:
    def refuse(config: object) -> None:
        raise InputError(f"{config} is wrong.")

    with pytest.raises(SystemExit, match=r"^error: 7 is wrong\.$"):
        run_command(refuse, 7)


def test_full_disk_ends_with_one_line(tmp_path: Path) -> None:
    """Also if a library writes the file, whether in Python or in Rust."""
    errors = {
        OSError(errno.ENOSPC, "No space left on device", "a.png"): "a.png",
        OSError(errno.EDQUOT, "Disk quota exceeded"): "a file",
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"): "a file",
    }
    for error, name in errors.items():
        with pytest.raises(SystemExit) as stopped:
            run_command(_raises(error), 7)
        assert stopped.value.code == (
            f"error: {name} could not be written: the disk is full. Free some space or choose another disk."
        )
    for other in (OSError(errno.EIO, "Input/output error"), SafetensorError("InvalidHeader")):
        with pytest.raises(type(other)):
            run_command(_raises(other), 7)


def test_interrupted_command_says_how_to_continue(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Training:
        resume = False

        def __init__(self, out: Path) -> None:
            self.out = out

    (tmp_path / "last.safetensors").touch()
    resumed = " with --resume: it continues from the last checkpoint"
    for config, remedy in ((7, ""), (Training(tmp_path / "absent"), ""), (Training(tmp_path), resumed)):
        with pytest.raises(SystemExit) as stopped:
            run_command(_raises(KeyboardInterrupt()), config)
        assert stopped.value.code == 130
        assert capsys.readouterr().err == f"interrupted; run the same command again{remedy}.\n"


def _raises(error: BaseException) -> Callable[[object], None]:
    def command(_: object) -> None:
        raise error

    return command


def test_the_process_group_is_destroyed_before_python_ends(tmp_path: Path) -> None:
    def meet(_: object) -> None:
        distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)

    run_command(meet, 7)
    assert not distributed.is_initialized()
