"""The package as its users get it: names, documentation, types, version, import time, wheel."""

import importlib
import importlib.metadata
import inspect
import re
import statistics
import subprocess
import sys
import zipfile
from importlib.resources import files
from pathlib import Path

import pytest
import torch

import hint_loss

ROOT = Path(__file__).parents[1]
SECOND_ORDER = [f"second_order.{name}" for name in ("functional", "hinted", "hooks", "kernels", "tracking")]
MODULES = ["diagnostics", "human", "importance", "metrics", "ranking", "reliance", *SECOND_ORDER]
INTERNAL = ["__init__", "_checks", "_slopes", "plot", "second_order/__init__", "second_order/low_rank"]


def test_public_names_are_those_that_the_package_shows() -> None:
    folders = {"plot", *(name.partition(".")[0] for name in MODULES)}
    shown = {name for name in vars(hint_loss) if not name.startswith("_") and name not in folders}
    assert sorted(shown) == sorted(hint_loss.__all__)
    assert {getattr(hint_loss, name).__module__.removeprefix("hint_loss.") for name in shown} == set(MODULES)


@pytest.mark.parametrize("name", hint_loss.__all__)
def test_public_names_are_documented(name: str) -> None:
    public = getattr(hint_loss, name)
    documentation = inspect.getdoc(public)
    assert documentation is not None
    if inspect.isfunction(public):
        expected = {"Args:", "Returns:", "Raises:", "Example:"} if parameters(public) else {"Example:"}
        documentation = documentation.replace("\nYields:", "\nReturns:")
        assert expected <= set(re.findall(r"^[A-Z]\w+:$", documentation, re.MULTILINE))
        for parameter in inspect.signature(public).parameters:
            assert re.search(rf"^    \**{parameter}: ", documentation, re.MULTILINE)
        assert all(parameter.annotation is not parameter.empty for parameter in parameters(public))


def parameters(function: object) -> list[inspect.Parameter]:
    return list(inspect.signature(function).parameters.values())  # type: ignore[arg-type]


def test_every_option_is_given_by_name() -> None:
    for name in hint_loss.__all__:
        public = getattr(hint_loss, name)
        called = inspect.isfunction(public) or issubclass(public, torch.nn.Module)
        for parameter in parameters(public) if called else []:
            assert parameter.default is parameter.empty or parameter.kind is parameter.KEYWORD_ONLY, (name, parameter)


def test_modules_are_documented() -> None:
    for module in ("hint_loss", *(f"hint_loss.{name}" for name in MODULES)):
        assert importlib.import_module(module).__doc__


def test_version_is_that_of_the_distribution() -> None:
    assert hint_loss.__version__ == importlib.metadata.version("hint-loss")


def test_types_are_shipped() -> None:
    assert (files(hint_loss) / "py.typed").is_file()


def test_the_wheel_holds_the_library_alone(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    modules = {f"hint_loss/{name.replace('.', '/')}.py" for name in (*INTERNAL, *MODULES)}
    assert modules | {"hint_loss/py.typed"} == {name for name in names if ".dist-info/" not in name}


def test_needs_torch_alone() -> None:
    needed = [x for x in importlib.metadata.requires("hint-loss") or [] if "extra ==" not in x]
    assert [x.partition(">")[0] for x in needed] == ["torch"]


IMPORT = """
import sys, time, torch
before = set(sys.modules)
start = time.perf_counter()
import hint_loss
print(time.perf_counter() - start, *{name.partition(".")[0] for name in set(sys.modules) - before})
"""


def test_imports_torch_alone_and_within_300_ms_of_it() -> None:
    runs = [
        subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, check=True, text=True) for _ in range(3)
    ]
    seconds, packages = zip(*((float(x), names) for x, *names in (run.stdout.split() for run in runs)), strict=True)
    assert statistics.median(seconds) < 0.3
    assert set(packages[0]) <= {"hint_loss", "torch", *sys.stdlib_module_names}
