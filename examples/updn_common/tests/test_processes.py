"""The device and the processes of a command, and results in order from several processes."""

import os
import re
import subprocess
import sys
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

from updn_common.errors import InputError
from updn_common.runs.processes import make_accelerator, over_processes


def squares(positions: Tensor) -> list[int]:
    squared: list[int] = positions.square().tolist()
    return squared


@pytest.mark.parametrize("total", [0, 1, 7])
@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_a_single_process_computes_all_results(total: int, batch_size: int) -> None:
    assert over_processes(squares, total, Accelerator(cpu=True), batch_size) == [i * i for i in range(total)]


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("ACCELERATE_USE_FSDP", "true", "configured for FSDP, which is not supported. Start with `torchrun`"),
        ("ACCELERATE_USE_DEEPSPEED", "True", "configured for DeepSpeed, which is not supported"),
        ("ACCELERATE_USE_MEGATRON_LM", "1", "configured for Megatron-LM, which is not supported"),
        ("ACCELERATE_MIXED_PRECISION", "bf16", "mixed precision bf16, and --precision is no. Give --precision bf16"),
        ("ACCELERATE_MIXED_PRECISION", "fp16", "mixed precision fp16, and --precision is no. These trainers know no"),
        (
            "ACCELERATE_GRADIENT_ACCUMULATION_STEPS",
            "4",
            "4 steps of gradient accumulation. Set it to 1 there, and give --micro",
        ),
    ],
)
def test_unsupported_configurations_of_the_launcher(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(InputError, match=re.escape(message)):
        make_accelerator(cpu=True)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ACCELERATE_USE_FSDP", "false"),
        ("ACCELERATE_MIXED_PRECISION", "no"),
        ("ACCELERATE_MIXED_PRECISION", "bf16"),
        ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1"),
    ],
)
def test_supported_configurations_of_the_launcher(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    # A process can only create one.
    monkeypatch.setattr("updn_common.runs.processes.Accelerator", lambda **options: options)
    precision: Any = "bf16" if value == "bf16" else "no"
    assert cast(Any, make_accelerator(cpu=True, precision=precision)) == {"cpu": True, "mixed_precision": precision}


@pytest.mark.parametrize("total", [1, 2, 7])
def test_several_processes_share_the_items(total: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if there are fewer items than processes; all get all results in order."""
    shares: list[list[Any]] = []

    def run(index: int) -> list[int]:
        process = SimpleNamespace(process_index=index, num_processes=3, is_main_process=index == 0)
        return over_processes(squares, total, cast(Accelerator, process), 2)

    monkeypatch.setattr("updn_common.runs.processes.gather_object", lambda found: shares.append(found) or found)
    for index in range(3):
        run(index)
    assert sorted(position for share in shares for position, _ in share) == list(range(total))
    everything = [pair for share in reversed(shares) for pair in share]
    monkeypatch.setattr("updn_common.runs.processes.gather_object", lambda found: everything)
    assert run(1) == [i * i for i in range(total)]


def test_processes_know_each_other_without_an_accelerator(unused_tcp_port: int) -> None:
    """One of them is the main process, even without --cpu."""
    code = (
        "import os\n"
        "from torch import distributed\n"
        "from updn_common.runs.processes import make_accelerator\n"
        "accelerator = make_accelerator(cpu=False)\n"
        "line = f'{accelerator.num_processes} {accelerator.is_main_process}'\n"
        "os.write(1, line.encode() + bytes([10]))\n"  # in one piece, as both processes write to this file
        "distributed.destroy_process_group()\n"
    )
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={unused_tcp_port}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    arguments = [*launch, "--no-python", sys.executable, "-c", code]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)
    assert sorted(done.stdout.splitlines()) == ["2 False", "2 True"], done.stderr


@pytest.mark.parametrize("cpu", [True, False])
def test_only_several_processes_without_an_accelerator_are_put_on_the_cpu(
    cpu: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr("updn_common.runs.processes.Accelerator", lambda **options: asked.append(options))
    for world_size, available in (("1", True), ("1", False), ("2", True), ("2", False)):
        monkeypatch.setenv("WORLD_SIZE", world_size)
        monkeypatch.setattr(torch.accelerator, "is_available", lambda found=available: found)
        make_accelerator(cpu=cpu, precision="bf16")
    assert [options["cpu"] for options in asked] == [cpu, cpu, cpu, True]
    assert {options["mixed_precision"] for options in asked} == {"bf16"}
