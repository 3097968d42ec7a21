"""Many runs side by side, and beside the paper's results: ``updn-captioning compare``."""

from dataclasses import dataclass, field
from pathlib import Path

from accelerate import Accelerator

from updn_captioning.data.prepared import PreparedData
from updn_captioning.evaluation.measures import evaluate_run
from updn_captioning.networks.generate import Decoding
from updn_captioning.studies.compare_report import notes, tables
from updn_captioning.studies.compared_run import ComparedRun
from updn_captioning.studies.published import PUBLISHED
from updn_common.reports.bootstrap import Estimates, estimate
from updn_common.studies.compare import GUIDE, CompareOptions, report_comparison, run_comparison
from updn_common.studies.compared_runs import Rows


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
        introduction = GUIDE.format(samples="captions")
        return report_comparison(config.out, rows, tables(rows), PUBLISHED, introduction, notes(rows))

    run_comparison(config, PreparedData.open, ComparedRun, measure, report)
