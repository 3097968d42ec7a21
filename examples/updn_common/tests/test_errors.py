import math
import re

import pytest

from updn_common.errors import InputError, check_range


def test_numbers_in_range_are_accepted() -> None:
    check_range(0, 1, share=0, other=1.0)
    check_range(1, steps=1, batch_size=math.inf)


@pytest.mark.parametrize(
    ("limits", "value", "message"),
    [
        ((1,), 0, "--batch-size should be at least 1, found 0."),
        ((0,), math.nan, "--batch-size should be at least 0, found nan."),
        ((0, 1), 1.5, "--batch-size should be from 0 to 1, found 1.5."),
        ((0, 1), -0.5, "--batch-size should be from 0 to 1, found -0.5."),
    ],
)
def test_first_number_out_of_range_is_named(limits: tuple[float, ...], value: float, message: str) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        check_range(*limits, steps=1, batch_size=value, workers=-7)
