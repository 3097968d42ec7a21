"""Hold images out of the training data."""

from collections.abc import Iterable

import numpy as np

from updn_common.errors import InputError


def hold_out(images: Iterable[int], share: float, seed: int) -> set[int]:
    """Choose a random share, in (0, 1), of the train images for development: at least one image, and not all.

    Raises:
        InputError: There is only one image.
    """
    images = sorted(set(images))
    if len(images) < 2:
        raise InputError(
            f"All of the train split is about image {images[0]}, so no image can be held out for development. "
            "Give more images, or --development-share 0."
        )
    count = min(max(round(share * len(images)), 1), len(images) - 1)
    return set(np.random.default_rng(seed).permutation(images)[:count].tolist())
