"""The command `data` of a pipeline: which data files a directory holds and lacks. It writes nothing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from updn_common.console import plain_console
from updn_common.data.published_files import FEATURES_NAME, FileGroup, FileKind
from updn_common.errors import InputError
from updn_common.files.reading import sha256, sha256_of_all
from updn_common.progress import track
from updn_common.proposals.readers import proposal_sources

CHECKSUM_DIGITS = 12


@dataclass(frozen=True)
class DataConfig:
    """Show which data files are there, which are missing, and where to find them.

    Attributes:
        data: Directory with the official files, as for `prepare --data`.
        checksums: Compute checksums, and count the entries of large files; this reads all of a TSV of 50 GB.
    """

    data: Path
    checksums: bool = True


@dataclass(frozen=True)
class FoundFile:
    """A data file in the directory.

    Attributes:
        kind: Kind of the file.
        path: Path of the file or folder.
        entries: Number of entries; None if the file is damaged or was not counted.
        size: Number of bytes in total.
        checksum: The first digits of the SHA-256; for a folder, see `sha256_of_all`.
        fault: What is wrong with the file; empty if nothing is.
    """

    kind: FileKind
    path: Path
    entries: int | None
    size: int
    checksum: str
    fault: str = ""


def show_data_files(
    config: DataConfig,
    groups: Sequence[FileGroup],
    verdict: Callable[[Path], Sequence[Text]],
    console: Console | None = None,
) -> None:
    """Print which files are there, which are missing and where they are published, and what can be prepared.

    Args:
        config: Options of the command.
        groups: All files that the pipeline can use.
        verdict: Returns lines that say what can be prepared from a directory, and what cannot.
        console: Where to print instead of on stdout.

    Raises:
        InputError: There is no such directory.
    """
    data = config.data
    if not data.is_dir():
        raise InputError(f"{data} is not a directory. Give the one that holds the data with --data.")
    console = console or plain_console()
    to_inspect = [(group, kind, path) for group in groups for kind in group.kinds for path in kind.found(data)]
    found: dict[str, list[FoundFile]] = {group.name: [] for group in groups}
    for group, kind, path in track(to_inspect, "files"):
        found[group.name].append(_inspect(kind, path, checksums=config.checksums))
    if to_inspect:
        console.print(_found_table(data, found))
    for file in (file for files in found.values() for file in files if file.fault):
        console.print(Text(f"damaged: {file.fault}", style="red"))
    console.print(_missing_table(data, groups, found[FEATURES_NAME]))
    for line in verdict(data):
        console.print(line, soft_wrap=True)


def _inspect(kind: FileKind, path: Path, *, checksums: bool) -> FoundFile:
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    size = sum(file.stat().st_size for file in files)
    checksum = ""
    if checksums and kind.hashed:
        checksum = (sha256_of_all(files) if path.is_dir() else sha256(path))[:CHECKSUM_DIGITS]
    try:
        entries = kind.count(path) if checksums or not kind.large else None
    except InputError as error:
        return FoundFile(kind, path, None, size, checksum, str(error))
    return FoundFile(kind, path, entries, size, checksum)


def _found_table(data: Path, found: Mapping[str, Sequence[FoundFile]]) -> Table:
    table = Table(title=f"Found in {data}", title_justify="left")
    table.add_column("file and content", overflow="fold")  # one below the other, to leave room for long names
    table.add_column("size", justify="right")
    table.add_column("SHA-256", no_wrap=True)
    for group, files in found.items():
        if files:
            table.add_section()
            table.add_row(Text(group, style="bold"))
        for file in files:
            name = f"  {file.path.name}/" if file.path.is_dir() else f"  {file.path.name}"
            table.add_row(Text.assemble(f"{name}\n    ", _format_entries(file)), _format_size(file.size), file.checksum)
    return table


def _format_entries(file: FoundFile) -> Text:
    if file.fault:
        return Text("damaged", style="red")
    if file.entries is None:
        return Text("not counted")
    published = file.kind.published
    if published is None or published == file.entries:
        return Text(f"{file.entries:,} {file.kind.units}", style="green" if published else "")
    return Text(f"{file.entries:,} of {published:,} {file.kind.units}", style="yellow")


def _missing_table(data: Path, groups: Sequence[FileGroup], features: Sequence[FoundFile]) -> Table:
    table = Table(title="Missing", title_justify="left", show_lines=True)
    table.add_column("files and purpose", max_width=28)
    table.add_column("file names and source", overflow="fold")
    for group in groups:
        missing = [name for kind in group.kinds if not kind.found(data) for name in kind.names]
        if missing:
            purpose = Text.assemble((group.name, "bold"), "\n", group.purpose)
            table.add_row(purpose, Text.assemble("\n".join(missing), "\n", (group.site, "cyan")))
    for file in features:
        for path in proposal_sources(file.path):
            if not path.exists():
                purpose = Text.assemble(("image ids", "bold"), f"\nof the rows of {file.path.name}")
                table.add_row(purpose, f"{path.name}\na JSON list, in the order of the TSV that it was made from")
    return table


def _format_size(size: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
