import errno
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors import SafetensorError
from torch import distributed

from updn_common.command import run_command
from updn_common.errors import InputError


def test_command_is_chosen_by_the_type_of_its_options() -> None:
    ran: list[object] = []
    run_command({int: ran.append, str: lambda _: pytest.fail("another command's options")}, 7)
    assert ran == [7]


def test_wrong_input_ends_without_a_traceback() -> None:
    def refuse(config: object) -> None:
        raise InputError(f"{config} is wrong.")

    with pytest.raises(SystemExit, match=r"^error: 7 is wrong\.$"):
        run_command({int: refuse}, 7)


def test_full_disk_ends_with_one_line(tmp_path: Path) -> None:
    """Also if a library writes the file, whether in Python or in Rust."""
    errors = {
        OSError(errno.ENOSPC, "No space left on device", "a.png"): "a.png",
        OSError(errno.EDQUOT, "Disk quota exceeded"): "a file",
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"): "a file",
    }
    for error, name in errors.items():
        with pytest.raises(SystemExit) as stopped:
            run_command({int: _raises(error)}, 7)
        assert stopped.value.code == (
            f"error: {name} could not be written: the disk is full. Free some space or choose another disk."
        )
    for other in (OSError(errno.EIO, "Input/output error"), SafetensorError("InvalidHeader")):
        with pytest.raises(type(other)):
            run_command({int: _raises(other)}, 7)


def test_interrupted_command_says_how_to_continue(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Training:
        resume = False

        def __init__(self, out: Path) -> None:
            self.out = out

    (tmp_path / "last.safetensors").touch()
    resumed = " with --resume: it continues from the last checkpoint"
    for config, remedy in ((7, ""), (Training(tmp_path / "absent"), ""), (Training(tmp_path), resumed)):
        with pytest.raises(SystemExit) as stopped:
            run_command({type(config): _raises(KeyboardInterrupt())}, config)
        assert stopped.value.code == 130
        assert capsys.readouterr().err == f"interrupted; run the same command again{remedy}.\n"


def _raises(error: BaseException) -> Callable[[object], None]:
    def command(_: object) -> None:
        raise error

    return command


def test_process_group_is_destroyed(tmp_path: Path) -> None:
    def meet(_: object) -> None:
        distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)

    run_command({int: meet}, 7)
    assert not distributed.is_initialized()
