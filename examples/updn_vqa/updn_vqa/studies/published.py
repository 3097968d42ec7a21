"""Table 1 of the paper, and which of our runs stand below which of its rows."""

from collections.abc import Mapping
from typing import Any

from updn_common.studies.compare import HINT_ROW, Published

ANSWER_TYPES = ("all", "yes/no", "number", "other")
"""The columns of the table for each data set: official accuracies in percent."""

VQACP, VQA = "VQA-CP v2 test", "VQA v2 val"
QUESTIONS = {219_928: VQACP, 214_354: VQA}
"""Number of questions in each data set. A split with another number is another data set, whatever its name:
the files of ``shapes_cp`` have the official names."""

_ACCURACIES = {
    "SAN": ((24.96, 38.35, 11.14, 21.74), (52.41, 70.06, 39.28, 47.84)),
    "UpDn": ((39.49, 45.21, 11.96, 42.98), (62.85, 80.89, 42.78, 54.44)),
    "GVQA": ((31.30, 57.99, 13.68, 22.14), (48.24, 72.03, 31.17, 34.65)),
    "UpDn + Attn. Align": ((39.37, 43.02, 11.89, 45.00), (63.24, 80.99, 42.55, 55.22)),
    "UpDn + AdvReg": ((41.17, 65.49, 15.48, 35.48), (62.75, 79.84, 42.35, 55.16)),
    HINT_ROW: ((46.73, 67.27, 10.61, 45.88), (63.38, 81.18, 42.99, 55.56)),
}
TABLE_1: Published = {
    row: {
        data_set: dict(zip(ANSWER_TYPES, values, strict=True))
        for data_set, values in zip((VQACP, VQA), accuracies, strict=True)
    }
    for row, accuracies in _ACCURACIES.items()
}
"""Selvaraju et al., ICCV 2019; the rows of GVQA and AdvReg are from the papers that proposed them."""

ROWS: dict[tuple[str, str], str] = {
    ("san", "base"): "SAN",
    ("updn", "base"): "UpDn",
    ("gvqa", "base"): "GVQA",
    ("updn", "attn-align"): "UpDn + Attn. Align",
    ("updn", "adv-reg"): "UpDn + AdvReg",
    ("updn", "hint"): HINT_ROW,
    ("updn", "hint-paper"): HINT_ROW,
    ("updn", "unsigned"): HINT_ROW,
}
"""The row that a run with this network and preset stands below, if it uses all hints or none. `FORMS_GUIDE` says which
form of HINT is the paper's."""


def published_data_set(record: Mapping[str, Any], split: str) -> str | None:
    """The data set of the table that a split is, by its record in ``prepared.json``; None if it is none of them."""
    return QUESTIONS.get(record["splits"][split]["questions"])
