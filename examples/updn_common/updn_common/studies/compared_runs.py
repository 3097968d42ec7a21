"""Runs to compare: how each was trained, which of them repeat one another, and the rows that they make."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from updn_common.console import plain_console
from updn_common.errors import InputError, first_few
from updn_common.reports.bootstrap import Estimates
from updn_common.reports.rows import Row, make_row
from updn_common.runs.directory import read_config
from updn_common.runs.importance import trained_importance

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Config = Mapping[str, Any]
Description = dict[str, Any]
"""How a run was trained: its method, its scale, its share of hints, and the description of the run it started from."""


class PreparedDirectory(Protocol):
    """Prepared data."""

    directory: Path

    @property
    def split_names(self) -> Sequence[str]:
        """Names of the splits."""

    @property
    def record(self) -> dict[str, Any]:
        """The content of ``prepared.json``."""

    def check_split(self, name: str) -> None:
        """Raise an InputError if there is no such split."""


Data = TypeVar("Data", bound=PreparedDirectory)


@dataclass(frozen=True)
class ComparedRun(ABC, Generic[Data]):
    """A run, and the split that it is measured on.

    Attributes:
        path: The run's directory.
        config: The options that the run was trained with.
        data: The prepared data that the run is measured on.
        split: Name of one of their splits.
        world: Number of the data among the data of all runs.
    """

    path: Path
    config: Config
    data: Data
    split: str
    world: int

    @cached_property
    def description(self) -> Description:
        """How the run was trained, except for seed and data."""
        return self.describe(self.config)

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        """The run's seed, the seed of the run that it started from, and so on."""
        return _seeds(self.config)

    @abstractmethod
    def describe(self, config: Config) -> Description:
        """How a run with this configuration was trained."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Name of the run by its method, for rows whose runs have directories of different names."""

    @property
    @abstractmethod
    def data_set(self) -> str | None:
        """The data set of the paper that the split is; None for any other."""

    @property
    @abstractmethod
    def published_row(self) -> str | None:
        """The result of the paper that the run reproduces; None if it reproduces none."""


Run = TypeVar("Run", bound=ComparedRun[Any])
Rows = Mapping[str | None, Sequence[Row[Run]]]
"""The rows for each data set of the paper, and for None the rows on all other data."""


def describe_run(
    config: Config, method: "DataclassInstance", scale: "DataclassInstance", uses_hints: Callable[[Config], bool]
) -> Description:
    """Describe how a run was trained.

    Args:
        config: The run's configuration; options that it lacks are newer than the run, and had their defaults.
        method: The default method.
        scale: The default scale.
        uses_hints: Whether a method uses hints; otherwise the share of hints is 0.
    """
    methods, scales = asdict(method) | config["method"], asdict(scale)
    model = scales["model"] | config["scale"]["model"]
    start = config["start_from"]
    if _is_run(start):  # a start that is gone is described by its path
        start = describe_run(read_config(Path(start)), method, scale, uses_hints)
    return {
        "method": methods,
        "scale": scales | config["scale"] | {"model": model},
        "hint_share": config["hint_share"] if uses_hints(methods) else 0.0,
        "start": start,
    }


def preset_name(presets: Mapping[str, "DataclassInstance"], description: Description) -> str:
    """The name of the preset that a run's method is; empty if it is none of them."""
    return next((name for name, preset in presets.items() if asdict(preset) == description["method"]), "")


def _seeds(config: Config) -> tuple[int, ...]:
    start = config["start_from"]
    return config["seed"], *(_seeds(read_config(Path(start))) if _is_run(start) else ())


def _is_run(start: str | None) -> bool:
    return start is not None and (Path(start) / "config.json").is_file()


def open_runs(
    paths: Sequence[Path],
    data: Path | None,
    split: str | None,
    open_data: Callable[[Path], Data],
    make_run: Callable[[Path, Config, Data, str, int], Run],
) -> list[Run]:
    """Read how runs were trained, and open their data, each once.

    Args:
        paths: Directories of the runs.
        data: The prepared directory; None for the one that each run was trained on.
        split: The split to measure the runs on; None for test, or val if there is no test.
        open_data: Opens a prepared directory.
        make_run: The constructor of a run, which takes the attributes of `ComparedRun`.

    Raises:
        InputError: A run, its data or the split does not exist, or two runs have the same options, seed and data.
    """
    opened: dict[Path, Data] = {}
    runs: list[Run] = []
    for path in paths:
        config = read_config(path)
        directory = data or Path(config["data"])
        if not directory.exists():
            raise InputError(
                f"{path} was trained on {directory}, which does not exist. Give the directory with --data."
            )
        key = directory.resolve()
        if key not in opened:
            opened[key] = open_data(directory)
        found = opened[key]
        runs.append(make_run(path, config, found, split_to_compare(found, split), list(opened).index(key)))
    starts = {run.config["start_from"] for run in runs} - {None}
    if missing := sorted(start for start in starts if not _is_run(start)):
        plain_console(stderr=True, soft_wrap=True).print(
            f"note: {first_few(missing)} no longer exist. Runs that started from one of these are distinguished by its "
            "path, not by how it was trained."
        )
    for i, run in enumerate(runs):
        for other in runs[:i]:
            if (other.description, other.seeds, other.world) == (run.description, run.seeds, run.world):
                raise InputError(f"{other.path} and {run.path} have the same options, seed and data: give one of them.")
    return runs


def split_to_compare(data: PreparedDirectory, split: str | None) -> str:
    """The split to measure runs on: the given one, or else test, or val if there is no test.

    Raises:
        InputError: There is no such split.
    """
    if split is None:
        split = next((name for name in ("test", "val") if name in data.split_names), None)
    if split is None:
        names = ", ".join(data.split_names)
        raise InputError(f"{data.directory} has no split test or val; it has {names}. Give --split one of these.")
    data.check_split(split)
    return split


def by_data_set(runs: Sequence[Run], estimates: Mapping[Path, Estimates]) -> dict[str | None, list[Row[Run]]]:
    """The rows for each data set of the paper, and for None the rows on all other data."""
    data_sets = dict.fromkeys(run.data_set for run in runs)
    return {name: make_rows([run for run in runs if run.data_set == name], estimates) for name in data_sets}


def make_rows(runs: Sequence[Run], estimates: Mapping[Path, Estimates]) -> list[Row[Run]]:
    """Group runs that differ in seed or data only, in the order of their first runs.

    Each run is compared with a run of the first row that has the same data and the same seed: the same seeds of all
    starts too, if there is such a run.

    Args:
        runs: The runs.
        estimates: The numbers of each run, by its directory. Runs on the same data should have the same resamples.
    """
    groups: list[list[Run]] = []
    for run in runs:
        group = next((group for group in groups if group[0].description == run.description), None)
        if group is None:
            groups.append([run])
        else:
            group.append(run)
    partners: dict[tuple[int, ...], Estimates] = {
        (run.world, run.seeds[0]): estimates[run.path] for run in reversed(groups[0])
    }
    partners |= {(run.world, *run.seeds): estimates[run.path] for run in groups[0]}

    def partner(run: Run) -> Estimates | None:
        return partners.get((run.world, *run.seeds), partners.get((run.world, run.seeds[0])))

    return [
        make_row(
            name,
            group,
            [estimates[run.path] for run in group],
            [None if group is groups[0] else partner(run) for run in group],
        )
        for name, group in zip(_names(groups), groups, strict=True)
    ]


def _names(groups: Sequence[Sequence[ComparedRun[Any]]]) -> list[str]:
    """Name each row by the directory if its runs share its name, else by the method; number names that occur twice."""
    names: list[str] = []
    for group in groups:
        directories = {run.path.name for run in group}
        name = directories.pop() if len(directories) == 1 else group[0].name
        same = sum(other == name or other.startswith(f"{name} (") for other in names)
        names.append(f"{name} ({same + 1})" if same else name)
    return names


def describe_data(rows: Sequence[Row[Run]]) -> str:
    """The splits and data that rows are measured on, such as ``"test of cue0, cue1"``."""
    found = [(run.split, run.data.directory.resolve().name) for row in rows for run in row.runs]
    splits, names = (dict.fromkeys(column) for column in zip(*found, strict=True))
    return f"{' and '.join(splits)} of {', '.join(names)}"


def describe_importance(rows: Sequence[Row[Run]]) -> str:
    """The importances that runs were trained with and are measured by, such as ``"norm and sum"``."""
    return " and ".join(sorted({trained_importance(run.path) for row in rows for run in row.runs}))
