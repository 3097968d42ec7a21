"""From feature files to a proposal store: one pass over them, in constant memory, which a kill does not undo."""

import hashlib
import shutil
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from updn_common.console import plain_console
from updn_common.errors import InputError
from updn_common.files.reading import read_json
from updn_common.files.writing import json_text
from updn_common.progress import track
from updn_common.proposals.entries import Entry
from updn_common.proposals.image_proposals import ImageProposals
from updn_common.proposals.npz import npz_files
from updn_common.proposals.readers import proposal_sources, read_entries
from updn_common.proposals.store import ProposalStore
from updn_common.proposals.store_writer import Dtype, Position, StoreWriter, remove_unfinished, source_record
from updn_common.proposals.tsv import is_tsv


@dataclass(frozen=True)
class FeatureOptions:
    """How features are read and stored.

    Attributes:
        dtype: How they are stored, unless they are stored already.
        size: How many numbers a proposal has; None takes the first image's.
        skip_damaged: Leave out wanted images that cannot be read, and all but the first of those that come again.
    """

    dtype: Dtype = "float32"
    size: int | None = None
    skip_damaged: bool = False


DEFAULT = FeatureOptions()


def store_proposals(
    directory: Path, features: Sequence[Path], wanted: Collection[int], options: FeatureOptions = DEFAULT
) -> ProposalStore:
    """Stores the proposals of the wanted images, or shares those of another prepared directory.

    Args:
        directory: Where the store will be; see `convert`.
        features: Feature files, or folders of them; or one directory that holds a store.
        wanted: The images to store.
        options: How.

    Raises:
        InputError: As `convert` does; or if a store is given together with something else, is damaged, or of another
            size.
    """
    stores = [store for path in features if (store := find_store(path))]
    if not stores:
        return convert(directory, features, wanted, options)
    if len(features) > 1:
        raise InputError(f"--features {stores[0]} holds proposals that are prepared: give them alone, or files.")
    directory.mkdir(exist_ok=True)
    shared = share_store(stores[0], directory)
    if options.size not in (None, shared.feature_size):
        raise InputError(f"{stores[0]} holds features of {shared.feature_size} numbers, not of {options.size}.")
    return shared


def convert(
    directory: Path, paths: Sequence[Path], wanted: Collection[int], options: FeatureOptions = DEFAULT
) -> ProposalStore:
    """Stores the proposals of the wanted images. Of other images, nothing but the name is looked at.

    Args:
        directory: Where the store will be. One that another process began or finished here, from the same files and
            of the same images, is gone on with.
        paths: Feature files, or folders of them, as `updn_common.proposals.readers.read_entries` reads them.
        wanted: The images to store.
        options: How.

    Raises:
        InputError: If a wanted image is malformed, occurs twice or has another feature size, or if none is there.
    """
    directory.mkdir(exist_ok=True)
    files = [_fingerprint(source) for path in paths for source in proposal_sources(path)]
    decisive = files, sorted(wanted), asdict(options)
    made_from = hashlib.sha256(json_text(decisive).encode()).hexdigest()
    finished = directory / "store.json"
    if finished.exists() and read_json(finished).get("made_from") == made_from:
        remove_unfinished(directory)
        return ProposalStore.open(directory)

    checksums: dict[Path, str] = {}
    others: list[str] = []
    damaged: list[str] = []
    console = plain_console(stderr=True, soft_wrap=True)
    with StoreWriter(directory, options.dtype, made_from) as writer:
        if len(writer):
            console.print(f"Going on after {len(writer):,} images of an interrupted conversion.")
        entries = _wanted(_entries(paths, writer.position, checksums), wanted, others)
        for position, entry in track(entries, "proposals", len(wanted) - len(writer)):
            try:
                image = entry.read()
                _check_size(image, entry.where, options.size)
                writer.append(image, position, entry.where)
            except InputError as error:
                if not options.skip_damaged:
                    raise InputError(f"{error} Or leave such images out with --skip-damaged-features.") from None
                damaged.append(str(error))
    if damaged:
        console.print(f"warning: left out {len(damaged):,} damaged or repeated images, the first: {damaged[0]}")
    if not len(writer):
        such = f" It holds others, such as {others[0]!r}." if others else ""
        raise InputError(
            f"{', '.join(map(str, paths))}: none of the images is among the {len(wanted)} wanted ones.{such} "
            "Give the features of the right data set with --features."
        )
    sources = [source for path in paths for source in proposal_sources(path)]
    writer.finish([source_record(source, checksums.get(source)) for source in sources])
    return ProposalStore.open(directory)


def _check_size(image: ImageProposals, where: str, size: int | None) -> None:
    found = image.features.shape[1]
    if size not in (None, found):
        raise InputError(f"{where}: features of {found} numbers, not of --feature-size {size}.")


def find_store(path: Path) -> Path | None:
    """The store in a directory, if it is one or was prepared with one."""
    return next((store for store in (path, path / "proposals") if (store / "store.json").exists()), None)


def share_store(store: Path, directory: Path) -> ProposalStore:
    """Makes a store's files appear in another directory too, as hard links: they take no disk, and outlive the first.

    On another disk they are copied.

    Raises:
        InputError: If the store is damaged.
    """
    for old in directory.iterdir():
        old.unlink()
    for name in ("store.json", *ProposalStore.open(store).description["files"]):
        try:
            (directory / name).hardlink_to(store / name)
        except OSError:
            shutil.copyfile(store / name, directory / name)
    return ProposalStore.open(directory)


def _entries(paths: Sequence[Path], begin: Position, checksums: dict[Path, str]) -> Iterator[tuple[Position, Entry]]:
    """All images from a position on; notes the checksums of TSV, which are read whole anyway."""
    for number, path in enumerate(paths):
        skip = begin.images if number == begin.source else 0
        digest = hashlib.sha256()
        if number >= begin.source:
            entries = read_entries(path, skip=skip, on_bytes=digest.update)
            for read, entry in enumerate(entries, start=skip + 1):
                yield Position(number, read), entry
            if is_tsv(path):
                checksums[path] = digest.hexdigest()


def _wanted(
    entries: Iterable[tuple[Position, Entry]], wanted: Collection[int], others: list[str]
) -> Iterator[tuple[Position, Entry]]:
    """The entries of wanted images; notes the first name that is none."""
    for position, entry in entries:
        if entry.image_id in wanted:
            yield position, entry
        elif not others:
            others.append(entry.name[:60])


def _fingerprint(path: Path) -> list[tuple[str, int, int]]:
    """Name, size and time of change of a file, or of all npz in a folder: cheaper than a checksum of 50 GB."""
    files = npz_files(path) if path.is_dir() else [path] if path.exists() else []
    return [(str(file.absolute()), (stat := file.stat()).st_size, stat.st_mtime_ns) for file in files]
