"""The installed package: public names, documentation, types, version, import time, wheel."""

import importlib
import importlib.metadata
import inspect
import re
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


def test_all_lists_exactly_the_public_names() -> None:
    folders = {"plot", *(name.partition(".")[0] for name in MODULES)}
    public = {name for name in vars(hint_loss) if not name.startswith("_") and name not in folders}
    assert sorted(public) == sorted(hint_loss.__all__)
    assert {getattr(hint_loss, name).__module__.removeprefix("hint_loss.") for name in public} == set(MODULES)


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


def test_every_option_is_keyword_only() -> None:
    for name in hint_loss.__all__:
        public = getattr(hint_loss, name)
        takes_options = inspect.isfunction(public) or issubclass(public, torch.nn.Module)
        for parameter in parameters(public) if takes_options else []:
            assert parameter.default is parameter.empty or parameter.kind is parameter.KEYWORD_ONLY, (name, parameter)


def test_modules_are_documented() -> None:
    for module in ("hint_loss", *(f"hint_loss.{name}" for name in MODULES)):
        assert importlib.import_module(module).__doc__


def test_the_version_equals_the_one_of_the_distribution() -> None:
    assert hint_loss.__version__ == importlib.metadata.version("hint-loss")


def test_types_are_shipped() -> None:
    assert (files(hint_loss) / "py.typed").is_file()


def test_the_wheel_holds_only_the_library(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    modules = {f"hint_loss/{name.replace('.', '/')}.py" for name in (*INTERNAL, *MODULES)}
    assert modules | {"hint_loss/py.typed"} == {name for name in names if ".dist-info/" not in name}


def test_only_torch_is_required() -> None:
    needed = [x for x in importlib.metadata.requires("hint-loss") or [] if "extra ==" not in x]
    assert [x.partition(">")[0] for x in needed] == ["torch"]


IMPORT = """
import sys, time, torch
before = set(sys.modules)
start = time.process_time()
import hint_loss
print(time.process_time() - start, *{name.partition(".")[0] for name in set(sys.modules) - before})
"""


def test_the_import_loads_only_torch_and_takes_less_than_300_ms() -> None:
    """300 ms of the processor's time, besides the import of torch."""
    run = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, check=True, text=True)
    seconds, *packages = run.stdout.split()
    assert float(seconds) < 0.3
    assert set(packages) <= {"hint_loss", "torch", *sys.stdlib_module_names}
