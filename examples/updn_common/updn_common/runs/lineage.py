"""What a run was fine-tuned from: part of its recipe."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from updn_common.runs.directory import read_config

Config = Mapping[str, Any]


def recipe_of_start(config: Config, recipe: Callable[[Config], dict[str, Any]]) -> dict[str, Any] | str | None:
    """The recipe of the run that a run started from; None for random weights.

    Its directory, if that is not there any more: then runs are told apart by it.

    Args:
        config: The run's configuration.
        recipe: The recipe in a configuration.
    """
    start = config["start_from"]
    return recipe(read_config(Path(start))) if _is_run(start) else start


def seeds(config: Config) -> tuple[int, ...]:
    """A run's seed, that of the run that it started from, and so on."""
    start = config["start_from"]
    return config["seed"], *(seeds(read_config(Path(start))) if _is_run(start) else ())


def _is_run(start: str | None) -> bool:
    return start is not None and (Path(start) / "config.json").is_file()
