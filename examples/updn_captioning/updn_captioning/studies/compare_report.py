"""The tables of a comparison, and how to read them."""

from collections.abc import Sequence

from updn_captioning.studies.compared_run import ComparedRun
from updn_captioning.studies.published import PUBLISHED
from updn_common.reports.rows import Column, Row
from updn_common.reports.tables import Block
from updn_common.studies.compare import HINT_ROW, Part, comparison_blocks
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
GUIDE = (
    "Means over runs of different seeds or data ± their standard deviation. In brackets: 95 % confidence intervals of "
    "the means, by the percentile bootstrap over images, each with all of its captions; they know nothing of other "
    "seeds. Differences are paired: of runs with the same seed and data, over the same images."
)
GROUNDING_GUIDE = (
    "Gradient: the importance that HINT trains, of a visual word's log-probability; attention: its attention weights. "
    "Pointing: the most important proposal overlaps an object of the category by more than half, of words where any "
    "proposal does; rank correlation is Spearman's, with human importance. CHAIR (Rohrbach et al., 2018): hallucinated "
    "objects, of all mentions and of captions, by the words that the data were prepared with."
)

FORMS_GUIDE = (
    "UpDn + HINT: hint is the signed form with a margin, hint-paper the paper's to the letter; both stand beside "
    "the paper's result."
)


def tables(rows: Rows[ComparedRun]) -> list[Block]:
    """The tables: beside the paper's on its test sets, and apart from them on other data."""
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
    beside = {row.runs[0].published_row for data_set, mine in rows.items() if data_set for row in mine}
    return [GROUNDING_GUIDE, *([FORMS_GUIDE] if HINT_ROW in beside else [])]
