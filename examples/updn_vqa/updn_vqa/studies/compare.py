"""Many runs side by side, and beside the paper's Table 1: ``updn-vqa compare``."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from updn_common.console import plain_console
from updn_common.errors import InputError
from updn_common.progress import track
from updn_common.reports.bootstrap import estimate_means
from updn_common.reports.comparison import by_data_set
from updn_common.runs.measurements import CheckpointName
from updn_common.runs.processes import make_accelerator
from updn_vqa.data.accuracy import AccuracyVersion
from updn_vqa.evaluation.measures import evaluate_run
from updn_vqa.studies.compare_report import print_tables, write_tables
from updn_vqa.studies.recipes import read_runs


@dataclass(frozen=True)
class CompareConfig:
    """Which runs to compare. Those that differ in their seeds or data alone make one row.

    Attributes:
        runs: Their directories; differences are to the row of the first.
        data: The prepared directory; default: the one that each run was trained on.
        split: The split to answer; default: test, or val where there is none.
        out: Where the tables and the curve go.
        version: The official rules of accuracy.
        checkpoint: The best on the development split, or the last.
        cpu: Evaluate on the CPU even where there is a GPU.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    data: Path | None = None
    split: str | None = None
    out: Path = Path("comparison")
    version: AccuracyVersion = "2016"
    checkpoint: CheckpointName = "best"
    cpu: bool = False


def compare(config: CompareConfig) -> None:
    """Print how runs compare; write ``table.md``, ``table.csv`` and, if shares of hints differ, ``supervision.png``.

    A run answers the questions once: what was measured of it is kept in its directory.

    Raises:
        InputError: There is no run, one of them or its data does not exist, or two of them differ in nothing.
    """
    if not config.runs:
        raise InputError("Give the directories of the runs to compare.")
    runs = read_runs(config.runs, config.data, config.split)
    accelerator = make_accelerator(cpu=config.cpu)
    measured = {}
    for run in track(runs, "runs"):
        found = evaluate_run(
            run.path,
            run.data,
            run.data.split(run.split),
            accelerator,
            checkpoint=config.checkpoint,
            option="RUN",
            reuse=True,
        )
        columns = found.accuracy(config.version) | found.grounding()
        # All runs of a world are resampled alike.
        measured[run.path] = estimate_means(columns, found.images, seed=(0, run.world))
    if accelerator.is_main_process:
        rows = by_data_set(runs, measured)
        written = write_tables(config.out, rows, config.version)
        print_tables(rows)
        plain_console(soft_wrap=True).print(f"written: {', '.join(map(str, written))}")
