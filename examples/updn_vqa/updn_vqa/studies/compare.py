"""Many runs side by side, and beside the paper's Table 1: ``updn-vqa compare``."""

from dataclasses import dataclass
from pathlib import Path

from accelerate import Accelerator

from updn_common.reports.bootstrap import Estimates, estimate_means
from updn_common.studies.compare import GUIDE, CompareOptions, report_comparison, run_comparison
from updn_common.studies.compared_runs import Rows
from updn_vqa.data.accuracy import AccuracyVersion
from updn_vqa.data.prepared import PreparedData
from updn_vqa.evaluation.measures import evaluate_run
from updn_vqa.studies.compare_report import notes, tables
from updn_vqa.studies.compared_run import ComparedRun
from updn_vqa.studies.published import TABLE_1
from updn_vqa.studies.supervision import draw_supervision


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
        introduction = f"{GUIDE.format(samples='questions')} {rules}"
        written = report_comparison(config.out, rows, tables(rows), TABLE_1, introduction, notes(rows))
        return written + draw_supervision(config.out, rows)

    run_comparison(config, PreparedData.open, ComparedRun, measure, report)
