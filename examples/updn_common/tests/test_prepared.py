"""Arrays of a prepared split, and what reading a prepared directory imports."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from updn_common.data.prepared import Limits, load_arrays
from updn_common.errors import InputError


@pytest.mark.parametrize("content", [None, b"", b"123456789"])
def test_missing_or_damaged_arrays(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "arrays.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as error:
        load_arrays(path, (), {})
    assert str(error.value).startswith(f"{path} cannot be read (")
    assert str(error.value).endswith("). Prepare it again.")


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("rows", torch.tensor([0, 3]), "'rows' holds numbers outside 0 to 2."),
        ("rows", torch.tensor([-1, 0]), "'rows' holds numbers outside 0 to 2."),
        ("rows", torch.tensor([0.0, 1.0]), "'rows' is of torch.float32, not of integers."),
        ("rows", torch.tensor([1]), "arrays of different lengths: rows, words."),
        ("words", torch.tensor([9, 10]), "'words' holds numbers outside -1 to 9."),
        ("hints", None, "has no 'hints'."),
    ],
)
def test_arrays_are_checked(tmp_path: Path, name: str, values: torch.Tensor | None, message: str) -> None:
    arrays = {"rows": torch.tensor([2, 0]), "words": torch.tensor([-1, 9]), "hints": torch.rand(3, 4)}
    path, same_length = tmp_path / "arrays.safetensors", (("rows", "words"), ("hints",))
    limits: Limits = {"rows": (0, "hints"), "words": (-1, 10)}
    save_file(arrays, path)
    loaded = load_arrays(path, same_length, limits)
    assert all(torch.equal(loaded[key], x) for key, x in arrays.items())
    changed = {key: x for key, x in (arrays | {name: values}).items() if x is not None}
    save_file(changed, path)
    with pytest.raises(InputError, match=f"{re.escape(message)} Prepare it again"):
        load_arrays(path, same_length, limits)


def test_reading_does_not_import_what_prepares() -> None:
    code = "import sys, updn_vqa.data.prepared, updn_captioning.data.prepared; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout.split()
    assert "updn_common.data.prepared" in loaded
    writing = re.compile(r"updn_\w+\..*(prepare|prepare_config|_writers?|conversion|split_arrays|hint_sources)")
    assert not list(filter(writing.fullmatch, loaded))
