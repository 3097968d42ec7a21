"""The README's training loop is run as it stands, and its numbers are those of committed results."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

README = Path(__file__).parents[1] / "README.md"


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attend, self.ask, self.answer = nn.Linear(6, 1, bias=False), nn.Embedding(4, 6), nn.Linear(6, 5)

    def forward(self, regions: Tensor, questions: Tensor) -> Tensor:
        weights = self.attend(torch.tanh(regions * self.ask(questions)[:, None])).softmax(1)
        return self.answer(torch.tanh((weights * regions).sum(1)))


def numbers(row: str) -> set[str]:
    return set(re.findall(r"\d+\.\d+ ± \d+\.\d+", row))


@pytest.mark.parametrize("readme", [README, README.parent / "examples" / "decoy_digits" / "README.md"])
def test_each_row_of_numbers_is_one_of_a_committed_table_that_is_linked(readme: Path) -> None:
    text = readme.read_text(encoding="utf-8")
    linked = [readme.parent / path for path in re.findall(r"\]\((\S*results/\S+\.md)\)", text)]
    committed = [numbers(row) for path in linked for row in path.read_text(encoding="utf-8").splitlines()]
    rows = [numbers(row) for row in text.splitlines() if row.startswith("|") and numbers(row)]
    assert rows
    for row in rows:
        assert any(row <= found for found in committed), row
    assert numbers(text) <= set.union(*committed)


def test_the_training_loop() -> None:
    """With a sample without a hint among the others."""
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    corners = torch.rand(3, 4, 2) * 8
    attention_maps = torch.rand(3, 16, 16)
    attention_maps[1] = 0.0  # nobody looked: this sample has no hint
    batch = (
        torch.rand(3, 4, 6),
        torch.cat([corners, corners + 1 + torch.rand(3, 4, 2) * 6], -1),
        torch.tensor([0, 1, 2]),
        torch.tensor([4, 0, 2]),
        attention_maps,
        torch.tensor([True, False, True]),
    )
    model = Attention()
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
