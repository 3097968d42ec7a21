"""From feature files to a proposal store: one pass over them, in constant memory, which a kill does not undo."""

import hashlib
import shutil
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from rich.console import Console

from updn_common.errors import InputError
from updn_common.files import json_text, read_json
from updn_common.progress import track
from updn_common.proposals import ImageProposals
from updn_common.readers import is_tsv, proposal_sources, read_proposals
from updn_common.store import ProposalStore
from updn_common.store_writer import Dtype, Position, StoreWriter, remove_unfinished, source_record


def store_proposals(
    directory: Path, features: Sequence[Path], wanted: Collection[int], *, dtype: Dtype = "float32"
) -> ProposalStore:
    """Stores the proposals of the wanted images, or shares those of another prepared directory.

    Args:
        directory: Where the store will be; see `convert`.
        features: Feature files, or folders of them; or one directory that holds a store.
        wanted: The images to store.
        dtype: How features are stored, unless they are stored already.

    Raises:
        InputError: As `convert` does; or if a store is given together with something else, or is damaged.
    """
    stores = [store for path in features if (store := find_store(path))]
    if not stores:
        return convert(directory, features, wanted, dtype=dtype)
    if len(features) > 1:
        raise InputError(f"--features {stores[0]} holds proposals that are prepared: give them alone, or files.")
    directory.mkdir(exist_ok=True)
    return share_store(stores[0], directory)


def convert(directory: Path, paths: Sequence[Path], wanted: Collection[int], *, dtype: Dtype) -> ProposalStore:
    """Stores the proposals of the wanted images.

    Args:
        directory: Where the store will be. One that another process began or finished here, from the same files and
            of the same images, is gone on with.
        paths: Feature files, or folders of them, as `updn_common.readers.read_proposals` reads them.
        wanted: The images to store.
        dtype: How features are stored.

    Raises:
        InputError: If a file is malformed, an image occurs twice, or none of the wanted ones is there.
    """
    directory.mkdir(exist_ok=True)
    decisive = [_fingerprint(source) for path in paths for source in proposal_sources(path)], sorted(wanted), dtype
    made_from = hashlib.sha256(json_text(decisive).encode()).hexdigest()
    finished = directory / "store.json"
    if finished.exists() and read_json(finished).get("made_from") == made_from:
        remove_unfinished(directory)
        return ProposalStore.open(directory)

    checksums: dict[Path, str] = {}
    with StoreWriter(directory, dtype, made_from) as writer:
        begin = writer.position
        if len(writer):
            Console(stderr=True).print(f"Going on after {len(writer):,} images of an interrupted conversion.")
        images = _images(paths, begin, checksums)
        total = len(wanted) - len(writer)
        for position, image in track(((p, i) for p, i in images if i.image_id in wanted), "proposals", total):
            writer.append(image, position)
    if not len(writer):
        raise InputError(
            f"{', '.join(map(str, paths))}: none of the images is among the {len(wanted)} wanted ones. "
            "Give the features of the right data set with --features."
        )
    sources = [source for path in paths for source in proposal_sources(path)]
    writer.finish([source_record(source, checksums.get(source)) for source in sources])
    return ProposalStore.open(directory)


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


def _images(
    paths: Sequence[Path], begin: Position, checksums: dict[Path, str]
) -> Iterator[tuple[Position, ImageProposals]]:
    """All images from a position on; notes the checksums of TSV, which are read whole anyway."""
    for number, path in enumerate(paths):
        skip = begin.images if number == begin.source else 0
        digest = hashlib.sha256()
        if number >= begin.source:
            images = read_proposals(path, skip=skip, on_bytes=digest.update)
            for read, image in enumerate(images, start=skip + 1):
                yield Position(number, read), image
            if is_tsv(path):
                checksums[path] = digest.hexdigest()


def _fingerprint(path: Path) -> list[tuple[str, int, int]]:
    """Name, size and time of change of a file, or of all npz in a folder: cheaper than a checksum of 50 GB."""
    files = sorted(path.glob("*.npz")) if path.is_dir() else [path] if path.exists() else []
    return [(str(file.absolute()), (stat := file.stat()).st_size, stat.st_mtime_ns) for file in files]
