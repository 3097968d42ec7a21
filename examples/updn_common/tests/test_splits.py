import pytest
from hypothesis import given
from hypothesis import strategies as st

from updn_common.data.splits import hold_out
from updn_common.errors import InputError


@given(st.sets(st.integers(0, 999), min_size=2, max_size=50), st.floats(0.001, 0.999), st.integers(0, 9))
def test_share_is_held_out(images: set[int], share: float, seed: int) -> None:
    held_out = hold_out([*images, *images], share, seed)
    assert held_out < images
    assert held_out
    assert abs(len(held_out) - share * len(images)) <= 1
    assert held_out == hold_out(sorted(images, reverse=True), share, seed)


def test_choice_depends_on_the_seed() -> None:
    assert len({frozenset(hold_out(range(100), 0.5, seed)) for seed in range(5)}) == 5


def test_one_image_cannot_be_split() -> None:
    with pytest.raises(InputError) as error:
        hold_out([7, 7], 0.5, 0)
    assert str(error.value) == (
        "All of the train split is about image 7, so no image can be held out for development. Give more images, or "
        "--development-share 0."
    )
