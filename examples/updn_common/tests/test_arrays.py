import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from updn_common.errors import InputError
from updn_common.files.arrays import load_arrays


def test_arrays(tmp_path: Path) -> None:
    path = tmp_path / "arrays.safetensors"
    save_file({"a": torch.arange(3)}, path)
    assert load_arrays(path, (("a",),), {})["a"].tolist() == [0, 1, 2]


def test_damage(tmp_path: Path) -> None:
    path = tmp_path / "arrays.safetensors"
    for damage in (None, b"", b"123456789"):
        if damage is not None:
            path.write_bytes(damage)
        with pytest.raises(InputError) as error:
            load_arrays(path, (), {})
        assert str(error.value).startswith(f"{path} cannot be read (")
        assert str(error.value).endswith("). Prepare it again.")


@pytest.mark.parametrize(
    ("name", "values", "told"),
    [
        ("rows", torch.tensor([0, 3]), "'rows' holds numbers that are not from 0 to 2."),
        ("rows", torch.tensor([-1, 0]), "'rows' holds numbers that are not from 0 to 2."),
        ("rows", torch.tensor([0.0, 1.0]), "'rows' is of torch.float32, not of whole numbers."),
        ("rows", torch.tensor([1]), "arrays of unlike lengths: rows, words."),
        ("words", torch.tensor([9, 10]), "'words' holds numbers that are not from -1 to 9."),
        ("hints", None, "has no 'hints'."),
    ],
)
def test_arrays_that_point_to_nothing(tmp_path: Path, name: str, values: torch.Tensor | None, told: str) -> None:
    arrays = {"rows": torch.tensor([2, 0]), "words": torch.tensor([-1, 9]), "hints": torch.rand(3, 4)}
    path, together = tmp_path / "arrays.safetensors", (("rows", "words"), ("hints",))
    limits: dict[str, tuple[int, str | int]] = {"rows": (0, "hints"), "words": (-1, 10)}
    save_file(arrays, path)
    assert load_arrays(path, together, limits).keys() == arrays.keys()
    changed = {key: x for key, x in (arrays | {name: values}).items() if x is not None}
    save_file(changed, path)
    with pytest.raises(InputError, match=f"{re.escape(told)} Prepare it again"):
        load_arrays(path, together, limits)
