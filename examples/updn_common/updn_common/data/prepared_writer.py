"""Write what prepared directories of both pipelines have in common, and print a summary of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt
from rich.table import Table
from safetensors.numpy import save

from updn_common.console import plain_console
from updn_common.data.prepared import ARRAYS_FILE, RECORD_FILE
from updn_common.files.writing import write_json
from updn_common.proposals.store import ProposalStore
from updn_common.proposals.store_writer import source_record

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

NumpyArrays = dict[str, npt.NDArray[Any]]
SplitCounts = Mapping[str, int]
"""How much of everything a split has, such as ``{"images": 3, "words": 120}``."""


def write_arrays(directory: Path, arrays: NumpyArrays) -> None:
    """Write the arrays of a split."""
    (directory / ARRAYS_FILE).write_bytes(save(arrays))


def write_record(
    out: Path,
    format_version: int,
    options: DataclassInstance,
    sources: Iterable[Path],
    store: ProposalStore,
    details: Mapping[str, Any],
    splits: Mapping[str, SplitCounts],
) -> dict[str, Any]:
    """Write ``prepared.json`` and return its content.

    Args:
        out: The prepared directory.
        format_version: Version of its format.
        options: Options of the command.
        sources: Files that were read, besides those of the proposals; their checksums are recorded.
        store: The proposals.
        details: Other entries, by name.
        splits: The counts of each split.
    """
    record = {
        "format_version": format_version,
        "options": asdict(options),
        "sources": [source_record(path) for path in dict.fromkeys(sources)] + store.description["sources"],
        **details,
        "splits": splits,
    }
    write_json(out / RECORD_FILE, record, indent=1)
    return record


def print_summary(
    title: str, columns: Mapping[str, str | tuple[str, str]], splits: Mapping[str, SplitCounts], notes: Iterable[str]
) -> None:
    """Print a table with a row for each split, and sentences below it.

    A column is the name of a count, or of two of which the first is printed in percent of the second, by its heading.
    """
    table = Table("split", title=title)
    for heading in columns:
        table.add_column(heading, justify="right")
    for name, counts in splits.items():
        cells = (
            f"{counts[shown]:,}" if isinstance(shown, str) else f"{counts[shown[0]] / max(counts[shown[1]], 1):.1%}"
            for shown in columns.values()
        )
        table.add_row(name, *cells)
    console = plain_console()
    console.print(table)
    for note in notes:
        console.print(note)
