"""Items shared among processes come back in their order."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from accelerate import Accelerator
from torch import Tensor

from updn_common.processes import over_processes


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
