from pathlib import Path

import pytest
from torch import distributed

from updn_common.command import run_command
from updn_common.errors import InputError


def test_the_command_of_these_options_runs() -> None:
    ran: list[object] = []
    run_command({int: ran.append, str: lambda _: pytest.fail("another command's options")}, 7)
    assert ran == [7]


def test_a_wrong_input_is_told_without_a_traceback() -> None:
    def refuse(config: object) -> None:
        raise InputError(f"{config} is wrong.")

    with pytest.raises(SystemExit, match=r"^error: 7 is wrong\.$"):
        run_command({int: refuse}, 7)


def test_processes_part_before_python_ends(tmp_path: Path) -> None:
    def meet(_: object) -> None:
        distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)

    run_command({int: meet}, 7)
    assert not distributed.is_initialized()
