"""What a run's directory says of how it was trained: which runs are repetitions of one another, and of what."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from updn_common.reports.comparison import OpenedRun, check_distinct, open_runs, split_to_compare
from updn_common.runs.lineage import Config, recipe_of_start, seeds
from updn_vqa.data.prepared import PreparedData
from updn_vqa.networks import NetworkSizes
from updn_vqa.studies.published import ROWS, published_data_set
from updn_vqa.training.methods import METHODS, Method, Scale


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
        data_set: The data set of the paper's table that the split is; None for another.
        preset: The name of its method among the presets; empty if it is none of them.
        share: The share of the train questions whose hints it used; 0 if it used none.
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
    def method(self) -> str:
        """Such as ``"hint"`` or ``"san base"``; empty if its method is none of the presets."""
        network = self.recipe["scale"]["model"]["network"]
        return self.preset if not self.preset or network == "updn" else f"{network} {self.preset}"

    @property
    def name(self) -> str:
        """What to call it where its directory's name will not do."""
        return (
            f"{self.method or self.path.name} {100 * self.share:.3g} %" if self.share else self.method or self.path.name
        )

    @property
    def published_row(self) -> str | None:
        """The row of the paper's table that it reproduces, if it is one."""
        return ROWS.get((self.recipe["scale"]["model"]["network"], self.preset)) if self.all_hints else None


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
    train = data.record["splits"]["train"]
    hint_share = recipe["hint_share"]
    return ComparedRun(
        path=path,
        recipe=recipe,
        seeds=seeds(config),
        data=data,
        split=split,
        world=world,
        data_set=published_data_set(data.record, split),
        preset=next((name for name, preset in METHODS.items() if asdict(preset) == recipe["method"]), ""),
        share=min(hint_share, train["hinted"] / train["questions"]),
        all_hints=not hint_share or round(hint_share * train["questions"]) >= train["hinted"],
    )


def _recipe(config: Config) -> dict[str, Any]:
    method = asdict(Method()) | config["method"]
    scale = asdict(Scale()) | config["scale"]
    scale["model"] = asdict(NetworkSizes()) | scale["model"]
    uses_hints = method["supervision"] != "none" or method["task_on"] == "hinted"
    return {
        "method": method,
        "scale": scale,
        "hint_share": config["hint_share"] if uses_hints else 0.0,
        "start": recipe_of_start(config, _recipe),
    }
