from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from updn_common.arrays import load_arrays
from updn_common.errors import InputError


def test_arrays(tmp_path: Path) -> None:
    path = tmp_path / "arrays.safetensors"
    save_file({"a": torch.arange(3)}, path)
    assert load_arrays(path)["a"].tolist() == [0, 1, 2]


def test_damage(tmp_path: Path) -> None:
    path = tmp_path / "arrays.safetensors"
    for damage in (None, b"", b"123456789"):
        if damage is not None:
            path.write_bytes(damage)
        with pytest.raises(InputError) as error:
            load_arrays(path)
        assert str(error.value).startswith(f"{path} cannot be read (")
        assert str(error.value).endswith("). Prepare it again.")
