"""Controls: hints without information, of the same form as the human ones."""

import pytest
import torch

from updn_common.data.control_hints import control_hints
from updn_common.errors import InputError

HINTS = torch.rand(60, 5, generator=torch.Generator().manual_seed(0))
HINTS[::3, 3:] = torch.nan  # a third of the images have three proposals


def test_human_hints_are_unchanged() -> None:
    assert control_hints(HINTS, "human", seed=0, epoch=3) is HINTS


def test_irrelevant_hints_are_inverted() -> None:
    torch.testing.assert_close(control_hints(HINTS, "irrelevant", seed=0, epoch=0), 1 - HINTS, equal_nan=True)


def test_permuted_hints_come_from_another_sample() -> None:
    permuted = control_hints(HINTS, "permuted", seed=1, epoch=0)
    assert sorted(permuted.nan_to_num(-1).tolist()) == sorted(HINTS.nan_to_num(-1).tolist())
    assert not (permuted[:, 0] == HINTS[:, 0]).any()
    torch.testing.assert_close(control_hints(HINTS, "permuted", seed=1, epoch=9), permuted, equal_nan=True)
    assert not torch.equal(control_hints(HINTS, "permuted", seed=2, epoch=0)[:, 0], permuted[:, 0])


def test_one_sample_cannot_be_permuted() -> None:
    with pytest.raises(InputError) as error:
        control_hints(HINTS[:1], "permuted", seed=1, epoch=0)
    assert str(error.value) == "Permuted hints need two samples with hints, found 1: use more of them."


@pytest.mark.parametrize("kind", ["random", "random-per-epoch"])
def test_random_hints_keep_padding_only(kind: str) -> None:
    drawn = control_hints(HINTS, kind, seed=1, epoch=0)
    assert torch.equal(drawn.isnan(), HINTS.isnan())
    assert torch.equal(control_hints(1 - HINTS, kind, seed=1, epoch=0)[:, 0], drawn[:, 0])
    again = control_hints(HINTS, kind, seed=1, epoch=1)
    assert torch.equal(drawn[:, 0], again[:, 0]) == (kind == "random")
