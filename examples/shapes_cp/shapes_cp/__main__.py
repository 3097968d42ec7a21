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

from shapes_cp.pairs import PairPicture, PairWorld, Strength
from shapes_cp.scene import Scene
from shapes_cp.world import Size, SplitName, World
from shapes_cp.write import write_world
from shapes_cp.write_coco import Drawn
from shapes_cp.write_pairs import write_pair_world
from updn_common.errors import InputError


@dataclass(frozen=True)
class Arguments:
    """Render a small world under changing priors and write it in the official VQA and COCO formats."""

    out: Path
    """Path of the new directory."""
    size: Size = "medium"
    """Images in train / val / dev / test: tiny 24/16/16/16, small 300/200/200/200,
    medium 3,000/1,000/1,000/1,000, large 30,000/5,000/5,000/5,000."""
    seed: int = 0
    """Seed of everything random, including which answers are frequent and which shapes occur together."""
    world: Literal["cue", "light", "prior", "pairs"] = "cue"
    """Kind of world. cue: in train and val, a rendered sign often agrees with the answer. light: the light of the
    background does, and there is no sign. prior: neither; only priors shift. pairs: a world for captioning, in which
    some shapes occur together in train and val."""
    strength: Strength | None = None
    """How often shapes occur together in the world pairs. Default: strong."""
    workers: int = os.cpu_count() or 1
    """Number of processes; the files do not depend on it."""


def main() -> None:
    arguments = tyro.cli(Arguments)
    try:
        table = _make(arguments)
    except InputError as error:
        sys.exit(f"error: {error}")
    Console().print(table)


def _make(arguments: Arguments) -> Table:
    """Write the world and return a summary."""
    out, kind = arguments.out, arguments.world
    if kind == "pairs":
        world = PairWorld(arguments.seed, arguments.strength or "strong")
        return _pair_summary(out, world, write_pair_world(out, world, arguments.size, arguments.workers))
    if arguments.strength:
        raise InputError(f"--strength {arguments.strength} is an option of --world pairs, found --world {kind}.")
    return _summary(out, write_world(out, World(arguments.seed, kind), arguments.size, arguments.workers))


def _summary(out: Path, splits: Mapping[SplitName, list[Drawn[Scene]]]) -> Table:
    table = Table("split", "images", "questions", "cue agrees", caption=_bytes_in(out))
    for name, drawn in splits.items():
        agrees = sum(one.picture.cue_agrees for one in drawn) / len(drawn)
        has_cue = drawn[0].picture.shown is not None
        table.add_row(name, f"{len(drawn):,}", f"{len(drawn):,}", f"{agrees:.0%}" if has_cue else "no cue")
    return table


def _pair_summary(out: Path, world: PairWorld, splits: Mapping[SplitName, list[Drawn[PairPicture]]]) -> Table:
    table = Table("robust split", "images", "captions", "pairs of partners", caption=_bytes_in(out))
    for name, drawn in splits.items():
        partners = sum(world.partners_are(one.picture) for one in drawn) / len(drawn)
        captions = sum(len(one.captions) for one in drawn)
        table.add_row(name, f"{len(drawn):,}", f"{captions:,}", f"{partners:.1%}")
    return table


def _bytes_in(out: Path) -> str:
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    return f"{out}: {size / 1e6:,.1f} MB"


if __name__ == "__main__":
    main()
