"""The README's training loop runs as printed, and its numbers stand in committed results."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from .networks import UpDn

README = Path(__file__).parents[1] / "README.md"


def numbers(row: str) -> set[str]:
    return set(re.findall(r"\d+\.\d+ ± \d+\.\d+", row))


@pytest.mark.parametrize("readme", [README, README.parent / "examples" / "decoy_digits" / "README.md"])
def test_each_row_of_numbers_stands_in_a_linked_table(readme: Path) -> None:
    text = readme.read_text(encoding="utf-8")
    linked = [readme.parent / path for path in re.findall(r"\]\((\S*results/\S+\.md)\)", text)]
    committed = [numbers(row) for path in linked for row in path.read_text(encoding="utf-8").splitlines()]
    rows = [numbers(row) for row in text.splitlines() if row.startswith("|") and numbers(row)]
    assert rows
    for row in rows:
        assert any(row <= found for found in committed), row
    assert numbers(text) <= set.union(*committed)


def test_the_training_loop_trains_every_parameter() -> None:
    """One of the samples has no hint."""
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    corners = torch.rand(3, 4, 2) * 8
    attention_maps = torch.rand(3, 16, 16)
    attention_maps[1] = 0.0  # nobody looked: this sample has no hint
    batch = (
        torch.rand(3, 4, 6),
        torch.cat([corners, corners + 1 + torch.rand(3, 4, 2) * 6], -1),
        torch.tensor([[0, 1], [1, 2], [2, 3]]),
        torch.tensor([4, 0, 2]),
        attention_maps,
        torch.tensor([True, False, True]),
    )
    model = UpDn(6, answers=5)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    namespace: dict[str, Any] = {
        "torch": torch,
        "loader": [batch],
        "model": model,
        "optimizer": torch.optim.SGD(model.parameters(), lr=1.0),
        "task_loss": cross_entropy,
    }
    exec(compile(code, str(README), "exec"), namespace)
    assert namespace["loss"].isfinite()
    assert all(not torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())
