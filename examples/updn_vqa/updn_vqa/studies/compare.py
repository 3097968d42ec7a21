"""Many runs side by side, and beside the paper's Table 1: ``updn-vqa compare``."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from accelerate import Accelerator

from updn_common.reports.bootstrap import Estimates, estimate_means
from updn_common.reports.rows import Column, Row
from updn_common.studies.compare import GUIDE, CompareOptions, Layout, Part, report_comparison, run_comparison
from updn_common.studies.compared_runs import Rows, describe_importance
from updn_vqa.data.accuracy import AccuracyVersion
from updn_vqa.data.prepared import PreparedData
from updn_vqa.evaluation.evaluate import NAMES
from updn_vqa.evaluation.measures import evaluate_run, relevant_by
from updn_vqa.studies.compared_run import ComparedRun
from updn_vqa.studies.published import ANSWER_TYPES, TABLE_1
from updn_vqa.studies.supervision import draw_supervision

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


@dataclass(frozen=True)
class CompareConfig(CompareOptions):
    """Which runs to compare. Runs that differ in seed or data only make one row.

    Attributes:
        version: The official rules of accuracy.
    """

    version: AccuracyVersion = "2016"


def compare(config: CompareConfig) -> None:
    """Print how runs compare; write ``table.md``, ``table.csv`` and, if shares of hints differ, ``supervision.png``.

    A run answers the questions once: its measurements are kept in its directory.

    Raises:
        InputError: No runs are given, one of them or its data does not exist, or two of them do not differ.
    """

    def measure(run: ComparedRun, accelerator: Accelerator) -> Estimates:
        split = run.data.split(run.split)
        found = evaluate_run(
            run.path, run.data, split, accelerator, checkpoint=config.checkpoint, option="RUN", reuse=True
        )
        columns = found.accuracy(config.version) | found.grounding()
        return estimate_means(columns, found.images, seed=(0, run.world))

    def report(rows: Rows[ComparedRun]) -> list[Path]:
        rules = f"The official rules of accuracy are those of {config.version}."
        layout = Layout(
            introduction=f"{GUIDE.format(samples='questions')} {rules}",
            guide=GROUNDING_GUIDE,
            parts=_parts,
            published=TABLE_1,
            published_title="published accuracy (%)",
        )
        return report_comparison(config.out, rows, layout) + draw_supervision(config.out, rows)

    run_comparison(config, PreparedData.open, ComparedRun, measure, report)


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
