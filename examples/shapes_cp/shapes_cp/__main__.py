"""The command: ``python -m shapes_cp --out DIR --size medium --seed 0``."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console
from rich.table import Table

from shapes_cp.world import Size, SplitName, World
from shapes_cp.write import Drawn, write_world
from updn_common.errors import InputError


@dataclass(frozen=True)
class Arguments:
    """Render a small world under changing priors and write it in the official VQA and COCO formats."""

    out: Path
    """The directory to make."""
    size: Size = "medium"
    """Images in train / val / dev / test: tiny 24/16/16/16, small 300/200/200/200,
    medium 3,000/1,000/1,000/1,000, large 30,000/5,000/5,000/5,000."""
    seed: int = 0
    """Decides everything random, which answers are frequent included."""
    world: Literal["cue", "prior"] = "cue"
    """cue: a rendered sign often agrees with the answer in train and val. prior: no sign; only priors shift."""
    workers: int = os.cpu_count() or 1
    """Processes that draw; the files do not depend on it."""


def main() -> None:
    arguments = tyro.cli(Arguments)
    try:
        world = World(arguments.seed, arguments.world)
        splits = write_world(arguments.out, world, arguments.size, arguments.workers)
    except InputError as error:
        sys.exit(f"error: {error}")
    Console().print(_summary(arguments.out, splits))


def _summary(out: Path, splits: Mapping[SplitName, list[Drawn]]) -> Table:
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    table = Table("split", "images", "questions", "sign agrees", caption=f"{out}: {size / 1e6:,.1f} MB")
    for name, drawn in splits.items():
        agrees = sum(one.scene.sign_agrees for one in drawn) / len(drawn)
        has_sign = drawn[0].scene.sign is not None
        table.add_row(name, f"{len(drawn):,}", f"{len(drawn):,}", f"{agrees:.0%}" if has_sign else "no sign")
    return table


if __name__ == "__main__":
    main()
