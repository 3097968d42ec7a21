"""Many runs side by side, and beside the paper's results: ``updn-captioning compare``."""

from dataclasses import dataclass, field
from pathlib import Path

import tyro

from updn_captioning.evaluation.measures import evaluate_run
from updn_captioning.networks.generate import Decoding
from updn_captioning.studies.compare_report import print_tables, write_tables
from updn_captioning.studies.recipes import read_runs
from updn_common.console import plain_console
from updn_common.errors import InputError
from updn_common.progress import track
from updn_common.reports.bootstrap import estimate
from updn_common.reports.comparison import by_data_set
from updn_common.runs.measurements import CheckpointName
from updn_common.runs.processes import make_accelerator


@dataclass(frozen=True)
class CompareConfig:
    """Which runs to compare. Those that differ in their seeds or data alone make one row.

    Attributes:
        runs: Their directories; differences are to the row of the first.
        data: The prepared directory; default: the one that each run was trained on.
        split: The split to caption; default: test, or val where there is none.
        out: Where the tables go.
        decoding: How captions are made.
        checkpoint: The best on the development split, or the last.
        cpu: Evaluate on the CPU even where there is a GPU.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    data: Path | None = None
    split: str | None = None
    out: Path = Path("comparison")
    decoding: Decoding = field(default_factory=Decoding)
    checkpoint: CheckpointName = "best"
    cpu: bool = False


def compare(config: CompareConfig) -> None:
    """Print how runs compare; write ``table.md`` and ``table.csv``.

    A run captions the images once: what was measured of it is kept in its directory.

    Raises:
        InputError: There is no run, one of them or its data does not exist, or two of them differ in nothing.
    """
    config.decoding.check()
    if not config.runs:
        raise InputError("Give the directories of the runs to compare.")
    runs = read_runs(config.runs, config.data, config.split)
    accelerator = make_accelerator(cpu=config.cpu)
    estimates = {}
    for run in track(runs, "runs"):
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
        # All runs of a world are resampled alike.
        estimates[run.path] = estimate(found.statistics, seed=(0, run.world))
    if accelerator.is_main_process:
        rows = by_data_set(runs, estimates)
        written = write_tables(config.out, rows)
        print_tables(rows)
        plain_console(soft_wrap=True).print(f"written: {', '.join(map(str, written))}")
