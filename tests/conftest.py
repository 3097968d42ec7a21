"""Fixtures and settings of all tests: repeatable random numbers, one thread, whole error messages."""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
import torch.distributed as dist
from hypothesis import settings

settings.register_profile("local", deadline=None, max_examples=50)
settings.register_profile("ci", deadline=None, max_examples=50, derandomize=True, database=None)
settings.register_profile("fuzz", deadline=None, max_examples=1500)  # pytest --hypothesis-profile=fuzz
settings.load_profile("ci" if os.environ.get("CI") else "local")

torch.set_num_threads(1)

if DEVICE := os.environ.get("HINT_LOSS_TEST_DEVICE"):  # such as cuda: see benchmarks/on_gpu.sh
    torch.set_default_device(DEVICE)

    class DeviceGenerator(torch.Generator):
        """A generator on the default device, which PyTorch's own ignores."""

        def __new__(cls, device: str = DEVICE) -> "DeviceGenerator":
            return super().__new__(cls, device)

    torch.Generator = DeviceGenerator  # type: ignore[misc]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "cpu: the test needs the kernels or the random numbers of a CPU")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if DEVICE:
        for item in items:
            if item.get_closest_marker("cpu"):
                item.add_marker(pytest.mark.skip(reason="runs on a CPU only"))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def raises() -> Callable[[type[Exception], str], AbstractContextManager[Any]]:
    """``pytest.raises`` that compares the whole message."""
    return lambda error, message: pytest.raises(error, match=rf"\A{re.escape(message)}\Z")


@pytest.fixture
def process_group() -> Iterator[None]:
    """A distributed process group that consists of this process."""
    dist.init_process_group("gloo", store=torch._C._distributed_c10d.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()
