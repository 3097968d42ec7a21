"""The captioning results of the paper, and which of our runs may stand beside which of them."""

from collections.abc import Mapping
from typing import Any

from updn_common.studies.compare import HINT_ROW, Published

STANDARD, ROBUST = "COCO standard test", "COCO robust test"

PUBLISHED: Published = {
    "UpDn": {STANDARD: {"CIDEr": 1.06}, ROBUST: {"CIDEr": 0.90}},
    HINT_ROW: {ROBUST: {"CIDEr": 0.92}},
}
"""CIDEr in Selvaraju et al., ICCV 2019, the only score that it reports. On the standard split it says of HINT that it
loses a little, without a number."""

ROWS: dict[str, str] = {"base": "UpDn", "hint": HINT_ROW, "hint-paper": HINT_ROW}
"""The result that a network trained by a preset reproduces; with all the hints there are, where it uses any."""

KARPATHY_TEST_CAPTIONS, ROBUST_TEST_IMAGES = 25_010, 9_138


def published_data_set(record: Mapping[str, Any], split: str) -> str | None:
    """Which of the paper's test sets a split is, by what ``prepared.json`` records; None for another.

    The published numbers are over all of its images. A split of another number is another split, whatever its name:
    the files of ``shapes_cp`` have the official names.
    """
    found = record["splits"][split]
    if split == "test" and record["options"]["split"] == "karpathy" and found["captions"] == KARPATHY_TEST_CAPTIONS:
        return STANDARD
    if split == "test" and record["options"]["split"] == "robust" and found["images"] == ROBUST_TEST_IMAGES:
        return ROBUST
    return None
