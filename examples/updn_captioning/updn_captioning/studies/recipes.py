"""What a run's directory says of how it was trained: which runs are repetitions of one another, and of what."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from updn_captioning.data.prepared import PreparedData
from updn_captioning.networks.updn import NetworkSizes
from updn_captioning.studies.published import ROWS, published_data_set
from updn_captioning.training.methods import METHODS, Method, Scale
from updn_common.reports.comparison import OpenedRun, check_distinct, open_runs, split_to_compare
from updn_common.runs.lineage import Config, recipe_of_start, seeds


@dataclass(frozen=True)
class ComparedRun:
    """A run and the split that it is evaluated on.

    Attributes:
        path: Its directory.
        recipe: Its options but seed and data, and those of the run that it started from. An option that its revision of
            this code did not know had its default.
        seeds: Its seed, that of the run that it started from, and so on.
        data: The prepared directory.
        split: One of its splits.
        world: A number for the data among those that are compared.
        data_set: The test set of the paper that the split is; None for another.
        preset: The name of its method among the presets; empty if it is none of them.
        share: The share of the train images whose hints it used; 0 if it used none.
        all_hints: Whether its data have no more hints, or it uses none.
    """

    path: Path
    recipe: dict[str, Any]
    seeds: tuple[int, ...]
    data: PreparedData
    split: str
    world: int
    data_set: str | None
    preset: str
    share: float
    all_hints: bool

    @property
    def name(self) -> str:
        """What to call it where its directory's name will not do."""
        method = self.preset or self.path.name
        return f"{method} {100 * self.share:.3g} %" if 0 < self.share < 1 else method

    @property
    def published_row(self) -> str | None:
        """The result of the paper that it reproduces, if it is one."""
        return ROWS.get(self.preset) if self.all_hints else None


def read_runs(paths: Sequence[Path], data: Path | None, split: str | None) -> list[ComparedRun]:
    """Read what runs say of themselves.

    Args:
        paths: Their directories.
        data: The prepared directory; None for the one that each was trained on.
        split: The split to evaluate on; None for test, or val where there is none.

    Raises:
        InputError: A run, its data or the split does not exist, or two runs differ in nothing.
    """
    runs = [_read(opened, split) for opened in open_runs(paths, data, PreparedData.open)]
    check_distinct(runs)
    return runs


def _read(opened: OpenedRun[PreparedData], split: str | None) -> ComparedRun:
    path, config, data, world = opened
    split = split_to_compare(data, split)
    recipe = _recipe(config)
    share = recipe["hint_share"]
    return ComparedRun(
        path=path,
        recipe=recipe,
        seeds=seeds(config),
        data=data,
        split=split,
        world=world,
        data_set=published_data_set(data.record, split),
        preset=next((name for name, preset in METHODS.items() if asdict(preset) == recipe["method"]), ""),
        share=share,
        all_hints=share in (0, 1),
    )


def _recipe(config: Config) -> dict[str, Any]:
    method = asdict(Method()) | config["method"]
    scale = asdict(Scale()) | config["scale"]
    scale["model"] = asdict(NetworkSizes()) | scale["model"]
    uses_hints = method["supervision"] != "none"
    return {
        "method": method,
        "scale": scale,
        "hint_share": config["hint_share"] if uses_hints else 0.0,
        "start": recipe_of_start(config, _recipe),
    }
