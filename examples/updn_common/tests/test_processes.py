"""Items shared among processes come back in their order."""

import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

from updn_common.processes import make_accelerator, over_processes


def squares(positions: Tensor) -> list[int]:
    squared: list[int] = positions.square().tolist()
    return squared


@pytest.mark.parametrize("total", [0, 1, 7])
@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_one_process_does_all(total: int, batch_size: int) -> None:
    assert over_processes(squares, total, Accelerator(cpu=True), batch_size) == [i * i for i in range(total)]


@pytest.mark.parametrize("total", [1, 2, 7])
def test_several_share(total: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each does its share, also where there are fewer items than processes; all get everything in order."""
    shares: list[list[Any]] = []

    def run(index: int) -> list[int]:
        process = SimpleNamespace(process_index=index, num_processes=3, is_main_process=index == 0)
        return over_processes(squares, total, cast(Accelerator, process), 2)

    monkeypatch.setattr("updn_common.processes.gather_object", lambda found: shares.append(found) or found)
    for index in range(3):
        run(index)
    assert sorted(position for share in shares for position, _ in share) == list(range(total))
    everything = [pair for share in reversed(shares) for pair in share]
    monkeypatch.setattr("updn_common.processes.gather_object", lambda found: everything)
    assert run(1) == [i * i for i in range(total)]


def test_processes_know_of_each_other_without_an_accelerator(unused_tcp_port: int) -> None:
    """Whether or not they were told to compute on the CPU: one of them is the main one."""
    code = (
        "import os\n"
        "from torch import distributed\n"
        "from updn_common.processes import make_accelerator\n"
        "accelerator = make_accelerator(cpu=False)\n"
        "line = f'{accelerator.num_processes} {accelerator.is_main_process}'\n"
        "os.write(1, line.encode() + bytes([10]))\n"  # in one piece: both write here
        "distributed.destroy_process_group()\n"
    )
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={unused_tcp_port}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    arguments = [*launch, "--no-python", sys.executable, "-c", code]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)
    assert sorted(done.stdout.splitlines()) == ["2 False", "2 True"], done.stderr


@pytest.mark.parametrize("cpu", [True, False])
def test_a_process_alone_takes_what_there_is(cpu: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr("updn_common.processes.Accelerator", lambda **options: asked.append(options))
    for world_size, available in (("1", True), ("1", False), ("2", True), ("2", False)):
        monkeypatch.setenv("WORLD_SIZE", world_size)
        monkeypatch.setattr(torch.accelerator, "is_available", lambda found=available: found)
        make_accelerator(cpu=cpu, precision="bf16")
    assert [options["cpu"] for options in asked] == [cpu, cpu, cpu, True]
    assert {options["mixed_precision"] for options in asked} == {"bf16"}
