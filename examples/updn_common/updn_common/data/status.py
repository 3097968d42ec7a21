"""What is there of the data, and what is not: the command `data` of a pipeline. It reads, and writes nothing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from updn_common.console import plain_console
from updn_common.data.catalogue import FEATURES_NAME, Group, Item
from updn_common.errors import InputError
from updn_common.files.reading import sha256, sha256_of_all
from updn_common.progress import track
from updn_common.proposals.readers import proposal_sources

CHECKSUM_DIGITS = 12


@dataclass(frozen=True)
class DataConfig:
    """What there is of the data, what is missing, and where that is published.

    Attributes:
        data: The directory with the official files, as `prepare --data` takes it.
        checksums: Compute checksums, and count what large files hold; a TSV of 50 GB is read for that.
    """

    data: Path
    checksums: bool = True


@dataclass(frozen=True)
class Found:
    """What a file turned out to be.

    Attributes:
        item: What it should be.
        path: Where it is.
        holds: How many things it holds; None if it is damaged or was not read.
        size: Its size in bytes, or that of all files in it.
        checksum: The beginning of its SHA-256, or of one of all (`updn_common.files.reading.sha256_of_all`).
        fault: What is wrong with it.
    """

    item: Item
    path: Path
    holds: int | None
    size: int
    checksum: str
    fault: str = ""


def show_status(
    config: DataConfig,
    catalogue: Sequence[Group],
    verdict: Callable[[Path], Sequence[Text]],
    console: Console | None = None,
) -> None:
    """Prints what was found, what is missing and where that is published, and what can be prepared.

    Args:
        config: Where to look.
        catalogue: What there may be.
        verdict: What the pipeline says to a directory: lines about what can be prepared from it, and what can not.
        console: Where to print, by default on stdout.

    Raises:
        InputError: If there is no such directory.
    """
    if not config.data.is_dir():
        raise InputError(f"{config.data} is not a directory. Give the one that holds the data with --data.")
    console = console or plain_console()
    there = [(group, item, path) for group in catalogue for item in group.items for path in item.found(config.data)]
    found: dict[str, list[Found]] = {group.name: [] for group in catalogue}
    for group, item, path in track(there, "files"):
        found[group.name].append(_inspect(item, path, checksums=config.checksums))
    if there:
        console.print(_found_table(config.data, catalogue, found))
    for result in (result for results in found.values() for result in results if result.fault):
        console.print(Text(f"damaged: {result.fault}", style="red"))
    console.print(_missing_table(config.data, catalogue, found))
    for line in verdict(config.data):
        console.print(line, soft_wrap=True)


def _inspect(item: Item, path: Path, *, checksums: bool) -> Found:
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    size = sum(file.stat().st_size for file in files)
    checksum = ""
    if checksums and item.hashed:
        checksum = (sha256_of_all(files) if path.is_dir() else sha256(path))[:CHECKSUM_DIGITS]
    try:
        count = item.count(path) if checksums or not item.large else None
    except InputError as error:
        return Found(item, path, None, size, checksum, str(error))
    return Found(item, path, count, size, checksum)


def _found_table(data: Path, catalogue: Sequence[Group], found: Mapping[str, Sequence[Found]]) -> Table:
    table = Table(title=f"Found in {data}", title_justify="left")
    table.add_column("file, and what it holds", overflow="fold")  # side by side, they leave no room for long names
    table.add_column("size", justify="right")
    table.add_column("SHA-256", no_wrap=True)
    for group in catalogue:
        if not found[group.name]:
            continue
        table.add_section()
        table.add_row(Text(group.name, style="bold"))
        for result in found[group.name]:
            name = f"  {result.path.name}/" if result.path.is_dir() else f"  {result.path.name}"
            table.add_row(Text.assemble(f"{name}\n    ", _holds(result)), _size(result.size), result.checksum)
    return table


def _holds(result: Found) -> Text:
    if result.fault:
        return Text("damaged", style="red")
    if result.holds is None:
        return Text("not counted")
    published = result.item.published
    if published is None or published == result.holds:
        return Text(f"{result.holds:,} {result.item.units}", style="green" if published else "")
    return Text(f"{result.holds:,} of {published:,} {result.item.units}", style="yellow")


def _missing_table(data: Path, catalogue: Sequence[Group], found: Mapping[str, Sequence[Found]]) -> Table:
    table = Table(title="Not there", title_justify="left", show_lines=True)
    table.add_column("what, and what for", max_width=28)
    table.add_column("expected as, and published at", overflow="fold")
    for group in catalogue:
        missing = [name for item in group.items if not item.found(data) for name in item.names]
        if missing:
            what = Text.assemble((group.name, "bold"), "\n", group.purpose)
            table.add_row(what, Text.assemble("\n".join(missing), "\n", (group.site, "cyan")))
    for features in found[FEATURES_NAME]:
        for path in proposal_sources(features.path):
            if not path.exists():
                what = Text.assemble(("image ids", "bold"), f"\nof the rows of {features.path.name}")
                table.add_row(what, f"{path.name}\na JSON list, in the order of the TSV that it was made from")
    return table


def _size(size: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    raise AssertionError
