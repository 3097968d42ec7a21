"""The tables of a comparison, and how to read them."""

from collections.abc import Sequence

from updn_captioning.studies.compared_run import ComparedRun
from updn_captioning.studies.published import PUBLISHED
from updn_common.reports.rows import Column, Row
from updn_common.reports.tables import Block
from updn_common.studies.compare import Part, comparison_blocks, forms_note
from updn_common.studies.compared_runs import Rows, describe_importance

SCORES = (
    Column("CIDEr", "CIDEr-D", 3),
    Column("Bleu_4", "BLEU-4", 3),
    Column("Bleu_1", "BLEU-1", 3),
    Column("ROUGE_L", "ROUGE-L", 3),
    Column("CHAIRi", "CHAIRi %", 2),
    Column("CHAIRs", "CHAIRs %", 2),
)
MEASURES = (
    Column("gradient_pointing", "gradient: pointing %", 2),
    Column("gradient_rank_correlation", "gradient: rank corr.", 3),
    Column("attention_pointing", "attention: pointing %", 2),
    Column("attention_rank_correlation", "attention: rank corr.", 3),
)
GROUNDING = {
    title: [column._replace(measure=f"{kind}_{column.measure}") for column in MEASURES]
    for kind, title in (
        ("reference", "visual words of the references"),
        ("generated", "visual words of own captions"),
    )
}
GROUNDING_GUIDE = (
    "Gradient: the importance that HINT trains, of a visual word's log-probability. Attention: its attention weights. "
    "Pointing: the most important proposal overlaps an object of the category by more than half, over the words where "
    "any proposal does. Rank correlation (Spearman's) is with human importance. CHAIR (Rohrbach et al., 2018): the "
    "mentions (CHAIRi) and the captions (CHAIRs) with hallucinated objects, found by the words that the data were "
    "prepared with."
)


def tables(rows: Rows[ComparedRun]) -> list[Block]:
    """The tables; the paper's results stand beside ours on its test sets, and apart on other data."""
    return comparison_blocks(rows, _parts, PUBLISHED, published_title="published")


def _parts(rows: Sequence[Row[ComparedRun]]) -> list[Part]:
    importance = describe_importance(rows)
    return [
        Part("official scores", SCORES),
        *(Part(f"{title}, importance: the gradient's {importance}", columns) for title, columns in GROUNDING.items()),
        Part("scores", SCORES, differences=True),
        *(Part(title, columns, differences=True) for title, columns in GROUNDING.items()),
    ]


def notes(rows: Rows[ComparedRun]) -> list[str]:
    """How to read the tables."""
    return [GROUNDING_GUIDE, *forms_note(rows)]
