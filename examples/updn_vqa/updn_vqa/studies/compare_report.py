"""The tables of a comparison, and how to read them."""

from collections.abc import Sequence

from updn_common.reports.rows import Column, Row
from updn_common.reports.tables import Block
from updn_common.studies.compare import Part, comparison_blocks, forms_note
from updn_common.studies.compared_runs import Rows, describe_importance
from updn_vqa.evaluation.evaluate import NAMES
from updn_vqa.evaluation.measures import relevant_by
from updn_vqa.studies.compared_run import ComparedRun
from updn_vqa.studies.published import ANSWER_TYPES, TABLE_1

GROUNDING = (
    Column("rank_correlation", "rank corr.", 3),
    Column("pointing", "pointing %", 2),
    Column("sufficiency", "sufficiency", 3),
    Column("comprehensiveness", "comprehens.", 3),
)
FLIPS = (Column("flips_irrelevant", "irrelevant swapped"), Column("flips_relevant", "relevant swapped"))
FPVG = tuple(Column(name, name.upper()) for name in ("fpvg", "ggc", "ggw", "bgc", "bgw"))
GROUNDING_GUIDE = (
    "Rank correlation (Spearman's) is of importance and human importance. Pointing: the most important proposal shows "
    "the asked object. Low sufficiency and high comprehensiveness mean that the importance is faithful (DeYoung et "
    "al., 2020). FPVG (Reich et al., 2023) = GGC + GGW: the answer stays with the relevant proposals alone and "
    "changes with the irrelevant ones alone; G or B stands for good or bad grounding, C or W for a correct or wrong "
    "answer. Importance is taken as each run was trained: the sum of the gradient, or its norm."
)


def tables(rows: Rows[ComparedRun]) -> list[Block]:
    """The tables; the rows of the paper's Table 1 stand beside ours on its data sets, and apart on other data."""
    return comparison_blocks(rows, _parts, TABLE_1, published_title="published accuracy (%)")


def _parts(rows: Sequence[Row[ComparedRun]]) -> list[Part]:
    measured = dict.fromkeys(name for row in rows for name in row.cells)
    answer_types = [name for name in measured if not name.startswith('"') and name not in NAMES]
    accuracy = [Column(name, name, 2) for name in dict.fromkeys([*ANSWER_TYPES, *answer_types])]
    relevant = " and ".join(sorted({relevant_by(run.data, run.split) for row in rows for run in row.runs}))
    return [
        Part("official accuracy (%)", accuracy),
        Part("accuracy (%)", accuracy, differences=True),
        Part("grounding", GROUNDING, differences=True),
        Part(f"grounding, importance: {describe_importance(rows)}", GROUNDING),
        Part(f"faithful and plausible grounding (%), relevant by {relevant}", FPVG),
        Part(f"answers that change with another image's proposals (%), relevant by {relevant}", FLIPS),
    ]


def notes(rows: Rows[ComparedRun]) -> list[str]:
    """How to read the tables."""
    return [GROUNDING_GUIDE, *forms_note(rows)]
