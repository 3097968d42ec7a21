"""The proposals of one image, checked on construction."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64

from updn_common.errors import InputError
from updn_common.proposals.boxes import box_fault

LARGEST_OBJECT = 2**31 - 1
"""Largest object class, which is stored as int32."""
LARGEST_SIDE = 1_000_000
"""Pixels; readers of JPEG and PNG accept only far smaller images."""
LARGEST_FEATURE = 1e6
"""Largest plausible feature: larger ones come from numbers of another type that were read as float32."""


@dataclass(frozen=True, eq=False)
class ImageProposals:
    """The proposals of one image.

    Attributes:
        image_id: COCO image id.
        width: Image width in pixels.
        height: Image height in pixels.
        boxes: Corners x1, y1, x2, y2 in pixels.
        features: Feature vector of each box.
        objects: Class that the detector assigned to each box, as an index into its list of names; None if unknown.

    Raises:
        InputError: There are no proposals, a feature is not finite or above `LARGEST_FEATURE`, `box_fault` finds a
            fault, or there is not one object class for each box.
    """

    image_id: int
    width: int
    height: int
    boxes: Float32[np.ndarray, "n 4"]
    features: Float32[np.ndarray, "n D"]
    objects: Int64[np.ndarray, " n"] | None = None

    def __post_init__(self) -> None:
        boxes, features, n = self.boxes, self.features, len(self.boxes)
        if n == 0 or boxes.shape != (n, 4) or features.ndim != 2 or len(features) != n:
            shapes = f"boxes {boxes.shape} and features {features.shape}"
            raise InputError(f"{shapes}; expected (n, 4) and (n, D), n at least 1.")
        if self.objects is not None and (self.objects.shape != (n,) or self.objects.min() < 0):
            raise InputError(f"objects are {self.objects.shape}; expected one index from 0 for each of {n} boxes.")
        if self.objects is not None and self.objects.max() > LARGEST_OBJECT:
            raise InputError(f"object {self.objects.max()} is in no detector's list of names; extract them again.")
        if not (1 <= self.width <= LARGEST_SIDE and 1 <= self.height <= LARGEST_SIDE):
            size = f"the image has {self.width} x {self.height} pixels"
            raise InputError(f"{size}; expected sizes from 1 to {LARGEST_SIDE}.")
        finite = np.isfinite(features).all(axis=1)
        if not finite.all():
            raise InputError(f"the features of proposal {finite.argmin()} are not finite; extract them again.")
        if (largest := np.abs(features).max(initial=0)) > LARGEST_FEATURE:
            raise InputError(
                f"a feature is {largest:g}, with {features.shape[1]} numbers per proposal: no detector gives that. "
                "Were they written as float16 or float64, where float32 is expected?"
            )
        if fault := box_fault(boxes, self.width, self.height):
            raise InputError(f"{fault}.")
