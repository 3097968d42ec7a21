"""The captioning results of the paper, and which of our runs stand below which of them."""

from collections.abc import Mapping
from typing import Any

from updn_common.studies.compare import HINT_ROW, Published

STANDARD, ROBUST = "COCO standard test", "COCO robust test"

PUBLISHED: Published = {
    "UpDn": {STANDARD: {"CIDEr": 1.06}, ROBUST: {"CIDEr": 0.90}},
    HINT_ROW: {ROBUST: {"CIDEr": 0.92}},
}
"""CIDEr in Selvaraju et al., ICCV 2019, the only score reported there. For HINT on the standard split the paper only
says, without a number, that it loses a little."""

ROWS: dict[str, str] = {"base": "UpDn", "hint": HINT_ROW, "hint-paper": HINT_ROW, "unsigned": HINT_ROW}
"""The result that a run with this preset stands below, if it uses all hints or none. `FORMS_GUIDE` says which form of
HINT is the paper's."""

KARPATHY_TEST_CAPTIONS, ROBUST_TEST_IMAGES = 25_010, 9_138


def published_data_set(record: Mapping[str, Any], split: str) -> str | None:
    """The test set of the paper that a split is, by its record in ``prepared.json``; None if it is none of them.

    A split with another number of images or captions is another test set, whatever its name: the files of ``shapes_cp``
    have the official names.
    """
    found = record["splits"][split]
    if split == "test" and record["options"]["split"] == "karpathy" and found["captions"] == KARPATHY_TEST_CAPTIONS:
        return STANDARD
    if split == "test" and record["options"]["split"] == "robust" and found["images"] == ROBUST_TEST_IMAGES:
        return ROBUST
    return None
