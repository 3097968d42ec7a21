"""Convert feature files to a proposal store in one pass and constant memory, and continue after an interruption."""

import hashlib
import shutil
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

from updn_common.console import plain_console
from updn_common.errors import InputError
from updn_common.files.reading import read_json
from updn_common.files.writing import json_text
from updn_common.progress import track
from updn_common.proposals.feature_entry import FeatureEntry
from updn_common.proposals.image_proposals import ImageProposals
from updn_common.proposals.npz import npz_files
from updn_common.proposals.readers import proposal_sources, read_entries
from updn_common.proposals.store import ProposalStore
from updn_common.proposals.store_writer import Dtype, StoreWriter, remove_unfinished, source_record
from updn_common.proposals.tsv import is_tsv


@dataclass(frozen=True)
class FeatureOptions:
    """How features are read and stored.

    Attributes:
        dtype: Type of stored features; ignored if the features are in a store already.
        size: Expected number of features of a proposal; None takes that of the first image.
        skip_damaged: Leave out wanted images that cannot be read, and repetitions of an image.
    """

    dtype: Dtype = "float32"
    size: int | None = None
    skip_damaged: bool = False


DEFAULT = FeatureOptions()


def store_proposals(
    directory: Path, features: Sequence[Path], wanted: Collection[int], options: FeatureOptions = DEFAULT
) -> ProposalStore:
    """Convert feature files (see `convert`), or share the store of another prepared directory if one is given.

    Raises:
        InputError: See `convert`; or a store is given together with something else, is damaged, or has features of
            another size.
    """
    stores = [store for path in features if (store := find_store(path))]
    if not stores:
        return convert(directory, features, wanted, options)
    if len(features) > 1:
        raise InputError(f"--features {stores[0]} holds prepared proposals: give either them alone, or feature files.")
    directory.mkdir(exist_ok=True)
    shared = share_store(stores[0], directory)
    if options.size not in (None, shared.feature_size):
        raise InputError(f"{stores[0]} holds features of {shared.feature_size} numbers, not of {options.size}.")
    return shared


def convert(
    directory: Path, paths: Sequence[Path], wanted: Collection[int], options: FeatureOptions = DEFAULT
) -> ProposalStore:
    """Store the proposals of the wanted images. Only the names of other images are read.

    Args:
        directory: Directory of the new store. A store that an earlier process began or finished there, with the same
            arguments and unchanged files, is continued or reused.
        paths: Feature files, or folders of them, as `updn_common.proposals.readers.read_entries` reads them.
        wanted: The images to store.
        options: How features are read and stored.

    Raises:
        InputError: A wanted image is malformed, occurs twice or has another feature size; or there is none.
    """
    directory.mkdir(exist_ok=True)
    files = [_fingerprint(source) for path in paths for source in proposal_sources(path)]
    made_from = hashlib.sha256(json_text((files, sorted(wanted), asdict(options))).encode()).hexdigest()
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
            console.print(f"Continuing after {len(writer):,} images of an interrupted conversion.")
        entries = islice(enumerate(_entries(paths, checksums), start=1), writer.entries_read, None)
        for entries_read, entry in track(_wanted(entries, wanted, others), "proposals", len(wanted) - len(writer)):
            try:
                image = entry.read()
                _check_size(image, entry.where, options.size)
                writer.append(image, entries_read, entry.where)
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
    """The directory itself if it is a store, or the store inside it if it is a prepared directory."""
    return next((store for store in (path, path / "proposals") if (store / "store.json").exists()), None)


def share_store(store: Path, directory: Path) -> ProposalStore:
    """Link the files of a store into another directory, or copy them if it is on another disk.

    Hard links take no disk space, and stay valid when the first store is deleted.

    Raises:
        InputError: The store is damaged.
    """
    for old in directory.iterdir():
        old.unlink()
    for name in ("store.json", *ProposalStore.open(store).description["files"]):
        try:
            (directory / name).hardlink_to(store / name)
        except OSError:
            shutil.copyfile(store / name, directory / name)
    return ProposalStore.open(directory)


def _entries(paths: Sequence[Path], checksums: dict[Path, str]) -> Iterator[FeatureEntry]:
    """The entries of all files; adds checksums of TSV files, which are read completely anyway, to `checksums`."""
    for path in paths:
        digest = hashlib.sha256()
        yield from read_entries(path, on_bytes=digest.update)
        if is_tsv(path):
            checksums[path] = digest.hexdigest()


def _wanted(
    entries: Iterable[tuple[int, FeatureEntry]], wanted: Collection[int], others: list[str]
) -> Iterator[tuple[int, FeatureEntry]]:
    """The entries of wanted images; adds the name of the first other image to `others`."""
    for number, entry in entries:
        if entry.image_id in wanted:
            yield number, entry
        elif not others:
            others.append(entry.name[:60])


def _fingerprint(path: Path) -> list[tuple[str, int, int]]:
    """Name, size and modification time of a file, or of all npz files in a folder: faster than a checksum of 50 GB."""
    files = npz_files(path) if path.is_dir() else [path] if path.exists() else []
    return [(str(file.absolute()), (stat := file.stat()).st_size, stat.st_mtime_ns) for file in files]
