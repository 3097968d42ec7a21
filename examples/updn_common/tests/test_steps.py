"""Shares of processes, hints by epoch, and the choice of hints."""

import pytest
import torch
from accelerate import Accelerator
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from updn_common.data.control_hints import Hints, control_hints
from updn_common.errors import InputError
from updn_common.runs.steps import EpochHints, Share, draw_hinted

NAN = float("nan")


@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 5))
def test_shares_have_equal_sizes_and_hold_every_sample_once(ranks: int, micro_batches: int, each: int) -> None:
    indices = torch.randperm(ranks * micro_batches * each)
    parts = [part for rank in range(ranks) for part in Share(rank, ranks, micro_batches).cut(indices)]
    assert [len(part) for part in parts] == [each] * (ranks * micro_batches)
    assert sorted(torch.cat(parts).tolist()) == list(range(len(indices)))


def test_batches_that_cannot_be_cut_evenly() -> None:
    accelerator = Accelerator(cpu=True)
    assert Share.of(accelerator, 4, batch_size=8, hint_batch_size=4) == Share(0, 1, 4)
    with pytest.raises(InputError) as error:
        Share.of(accelerator, 4, batch_size=8, hint_batch_size=6)
    assert str(error.value) == (
        "--hint-batch-size 6 cannot be cut evenly into 1 process(es) x 4 micro-batch(es): choose a multiple of 4."
    )


HUMAN = torch.rand(5, 3).masked_fill(torch.arange(3) == 2, NAN)
CHOSEN = torch.tensor([0, 4, 3])


@pytest.mark.parametrize(
    ("kind", "draws"), [("random-per-epoch", [0, 1, 2]), ("random", [0]), ("permuted", [0]), ("human", [0])]
)
def test_hints_are_drawn_once_an_epoch(monkeypatch: pytest.MonkeyPatch, kind: Hints, draws: list[int]) -> None:
    drawn: list[int] = []

    def counted(human: Tensor, kind: Hints, *, seed: int, epoch: int) -> Tensor:
        drawn.append(epoch)
        return control_hints(human, kind, seed=seed, epoch=epoch)

    monkeypatch.setattr("updn_common.runs.steps.control_hints", counted)
    hints = EpochHints(HUMAN, CHOSEN, kind, seed=7)
    found = [hints.of(epoch) for epoch in (0, 0, 1, 1, 2)]
    assert drawn == draws
    for epoch, human in zip((0, 0, 1, 1, 2), found, strict=True):
        expected = control_hints(HUMAN[CHOSEN], kind, seed=7, epoch=epoch)
        torch.testing.assert_close(human[CHOSEN], expected, rtol=0, atol=0, equal_nan=True)
        assert human[[1, 2]].isnan().all()


def test_too_few_hints_are_refused_at_once() -> None:
    with pytest.raises(InputError, match="Permuted hints need two samples with hints, found 1"):
        EpochHints(HUMAN, CHOSEN[:1], "permuted", seed=0)


def draw(available: int, share: float, seed: int = 3) -> list[int]:
    chosen: list[int] = draw_hinted(available, 24, share, seed, samples="images", remedy="--hints boxes").tolist()
    return chosen


def test_hints_of_a_smaller_share_are_among_those_of_a_larger() -> None:
    assert len(draw(20, 0.25)) == 6
    assert draw(20, 0.5)[:6] == draw(20, 0.25) != draw(20, 0.25, seed=4)
    assert sorted(draw(20, 1.0)) == list(range(20))


@pytest.mark.parametrize(
    ("available", "share", "message"),
    [
        (0, 1.0, "None of the 24 train images has a hint: prepare the data with --hints boxes."),
        (9, 0.001, "--hint-share 0.001 of 24 train images is none: choose a larger share."),
    ],
)
def test_no_hints_to_choose(available: int, share: float, message: str) -> None:
    with pytest.raises(InputError) as error:
        draw(available, share)
    assert str(error.value) == message
