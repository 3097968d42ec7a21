"""Batches are a pure function of seed and step."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from updn_common.data.stream import Stream, fold, generator


@given(st.integers(1, 30), st.integers(1, 40), st.integers(0, 2**31))
def test_every_epoch_has_every_sample_once(pool_size: int, batch_size: int, seed: int) -> None:
    stream = Stream(torch.arange(pool_size) * 10, batch_size, seed)
    drawn = torch.cat([stream.batch(step) for step in range(3 * pool_size // batch_size + 2)])
    for epoch in drawn[: 3 * pool_size].split(pool_size):
        assert sorted(epoch.tolist()) == [10 * i for i in range(pool_size)]


def test_batch_does_not_depend_on_earlier_batches() -> None:
    forwards = Stream(torch.arange(7), 3, seed=5)
    in_order = [forwards.batch(step) for step in range(20)]
    backwards = Stream(torch.arange(7), 3, seed=5)
    for step in reversed(range(20)):
        assert torch.equal(backwards.batch(step), in_order[step])


def test_epochs_and_seeds_differ() -> None:
    stream = Stream(torch.arange(50), 50, seed=1)
    assert not torch.equal(stream.batch(0), stream.batch(1))
    assert not torch.equal(stream.batch(0), Stream(torch.arange(50), 50, seed=2).batch(0))
    assert [stream.epoch(step) for step in (0, 1, 7)] == [0, 1, 7]
    assert Stream(torch.arange(8), 3, seed=0).epoch(5) == 1


def test_global_generator_is_not_used() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    Stream(torch.arange(9), 4, seed=1).batch(3)
    generator(1, 2)
    assert torch.equal(torch.rand(1), expected)


def test_fold_depends_on_every_number() -> None:
    seeds = {fold(a, b) for a in range(40) for b in range(40)}
    assert len(seeds) == 1600
    assert fold(1, 2) != fold(2, 1)
    assert len({fold(5), fold(5, 0), fold(5, 0, 0)}) == 3


def test_empty_pool_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^A stream needs samples\. Found 0 and `batch_size = 4`\.$"):
        Stream(torch.arange(0), 4, seed=0)
