"""Runs to compare: how each was trained, which of them repeat one another, and the rows that they make."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

from updn_common.console import plain_console
from updn_common.errors import InputError, first_few
from updn_common.reports.bootstrap import Estimates
from updn_common.reports.rows import Row, make_row
from updn_common.runs.directory import read_config
from updn_common.runs.importance import trained_importance

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Config = Mapping[str, Any]


class PreparedDirectory(Protocol):
    """Prepared data."""

    directory: Path

    @property
    def split_names(self) -> Sequence[str]: ...
    @property
    def record(self) -> dict[str, Any]: ...
    def check_split(self, name: str) -> None: ...


Data = TypeVar("Data", bound=PreparedDirectory)


@dataclass(frozen=True)
class ComparedRun(ABC, Generic[Data]):
    """A run, and the split that it is measured on."""

    path: Path
    config: Config
    """The options that the run was trained with."""
    data: Data
    split: str
    world: int
    """Number of the data among the data of all runs."""

    presets: ClassVar[Mapping[str, "DataclassInstance"]]
    """The pipeline's methods."""
    default_method: ClassVar["DataclassInstance"]
    default_scale: ClassVar["DataclassInstance"]
    """Options that a run did not record are newer than it, and had their defaults."""

    @cached_property
    def description(self) -> dict[str, Any]:
        """How the run was trained, except for seed and data; the start is described in the same way."""
        return self._describe(self.config)

    def _describe(self, config: Config) -> dict[str, Any]:
        method, scale = asdict(self.default_method) | config["method"], asdict(self.default_scale)
        model = scale["model"] | config["scale"]["model"]
        start = config["start_from"]
        return {
            "method": method,
            "scale": scale | config["scale"] | {"model": model},
            "hint_share": config["hint_share"] if self.uses_hints(method) else 0.0,
            # a start that no longer exists is described by its path
            "start": self._describe(read_config(Path(start))) if _is_run(start) else start,
        }

    def uses_hints(self, method: Config) -> bool:
        return bool(method["supervision"] != "none")

    @property
    def preset(self) -> str:
        """The name of the preset that the method is; empty if it is none of them."""
        method = self.description["method"]
        return next((name for name, preset in self.presets.items() if asdict(preset) == method), "")

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        """The run's seed, the seed of the run that it started from, and so on."""
        return _seeds(self.config)

    @property
    @abstractmethod
    def name(self) -> str:
        """Name of the run by its method, for rows of runs in directories of different names."""

    @property
    @abstractmethod
    def data_set(self) -> str | None:
        """The data set of the paper that the split is; None if it is none of them."""

    @property
    @abstractmethod
    def published_row(self) -> str | None:
        """The row of the paper that the run stands below; None if it stands below none."""


Run = TypeVar("Run", bound=ComparedRun[Any])
Rows = Mapping[str | None, Sequence[Row[Run]]]
"""The rows for each data set of the paper, and for None the rows on all other data."""


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
        make_run: The pipeline's subclass of `ComparedRun`.

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
        runs.append(make_run(path, config, found, _split_to_compare(found, split), list(opened).index(key)))
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


def _split_to_compare(data: PreparedDirectory, split: str | None) -> str:
    if split is None:
        split = next((name for name in ("test", "val") if name in data.split_names), None)
    if split is None:
        names = ", ".join(data.split_names)
        raise InputError(f"{data.directory} has no split test or val; it has {names}. Give --split one of these.")
    data.check_split(split)
    return split


def by_data_set(runs: Sequence[Run], estimates: Mapping[Path, Estimates]) -> dict[str | None, list[Row[Run]]]:
    data_sets = dict.fromkeys(run.data_set for run in runs)
    return {name: make_rows([run for run in runs if run.data_set == name], estimates) for name in data_sets}


def make_rows(runs: Sequence[Run], estimates: Mapping[Path, Estimates]) -> list[Row[Run]]:
    """Group runs that differ in seed or data only, in the order of their first runs.

    The partner of a run is the run of the first row that has the same data and seed; if there are several, the one
    whose start has the same seed too. Runs on the same data should have the same resamples: differences are paired.
    """
    groups: list[list[Run]] = []
    for run in runs:
        group = next((group for group in groups if group[0].description == run.description), None)
        if group is None:
            groups.append([run])
        else:
            group.append(run)
    partners = {(run.world, *run.seeds[:1]): estimates[run.path] for run in reversed(groups[0])}
    partners |= {(run.world, *run.seeds): estimates[run.path] for run in groups[0]}

    def partner(run: Run) -> Estimates | None:
        return partners.get((run.world, *run.seeds), partners.get((run.world, *run.seeds[:1])))

    rows = []
    for name, group in zip(_names(groups), groups, strict=True):
        others = [None if group is groups[0] else partner(run) for run in group]
        rows.append(make_row(name, group, [estimates[run.path] for run in group], others))
    return rows


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
