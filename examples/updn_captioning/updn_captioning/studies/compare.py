"""Many runs side by side, and beside the paper's results: ``updn-captioning compare``."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from accelerate import Accelerator

from updn_captioning.data.prepared import PreparedData
from updn_captioning.evaluation.measures import evaluate_run
from updn_captioning.networks.generate import Decoding
from updn_captioning.studies.compared_run import ComparedRun
from updn_captioning.studies.published import PUBLISHED
from updn_common.reports.bootstrap import Estimates, estimate
from updn_common.reports.rows import Column, Row
from updn_common.studies.compare import GUIDE, CompareOptions, Layout, Part, report_comparison, run_comparison
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


def _parts(rows: Sequence[Row[ComparedRun]]) -> list[Part]:
    importance = describe_importance(rows)
    return [
        Part("official scores", SCORES),
        *(Part(f"{title}, importance: the gradient's {importance}", columns) for title, columns in GROUNDING.items()),
        Part("scores", SCORES, differences=True),
        *(Part(title, columns, differences=True) for title, columns in GROUNDING.items()),
    ]


LAYOUT = Layout(
    introduction=GUIDE.format(samples="captions"),
    guide=GROUNDING_GUIDE,
    parts=_parts,
    published=PUBLISHED,
    published_title="published",
)


@dataclass(frozen=True)
class CompareConfig(CompareOptions):
    """Which runs to compare. Runs that differ in seed or data only make one row.

    Attributes:
        decoding: How captions are made.
    """

    decoding: Decoding = field(default_factory=Decoding)


def compare(config: CompareConfig) -> None:
    """Print how runs compare; write ``table.md`` and ``table.csv``.

    A run captions the images once: its measurements are kept in its directory.

    Raises:
        InputError: No runs are given, one of them or its data does not exist, or two of them do not differ.
    """
    config.decoding.check()

    def measure(run: ComparedRun, accelerator: Accelerator) -> Estimates:
        found = evaluate_run(
            run.path,
            run.data,
            run.data.split(run.split),
            accelerator,
            checkpoint=config.checkpoint,
            decoding=config.decoding,
            option="RUN",
            reuse=True,
        )
        return estimate(found.statistics, seed=(0, run.world))

    def report(rows: Rows[ComparedRun]) -> list[Path]:
        return report_comparison(config.out, rows, LAYOUT)

    run_comparison(config, PreparedData.open, ComparedRun, measure, report)
