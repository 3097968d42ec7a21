"""Bottom-up features in whichever of their public formats, one image at a time."""

from collections.abc import Callable, Iterator
from pathlib import Path

from updn_common.errors import InputError
from updn_common.files.reading import check_is_itself
from updn_common.proposals.entries import Entry, read_all
from updn_common.proposals.hdf5 import HDF5_SUFFIXES, hdf5_entries, ids_path, needs_ids
from updn_common.proposals.image_proposals import ImageProposals
from updn_common.proposals.npz import npz_entries
from updn_common.proposals.tsv import is_tsv, tsv_entries


def read_entries(path: Path, *, skip: int = 0, on_bytes: Callable[[bytes], object] | None = None) -> Iterator[Entry]:
    """What is in `path`: a TSV (also `.tsv.0`), an HDF5 file (`.hdf5`, `.h5`), a folder of npz files.

    Beside the UpDn reference code's HDF5 file, `<name>.ids.json` lists the image id of each row.

    Args:
        path: The file or folder.
        skip: Leave out so many images at the beginning, without a look at what they hold.
        on_bytes: For a TSV, is called with every piece of it, skipped or not: to compute a checksum on the way.

    Raises:
        InputError: If `path` is missing or none of these; and by `Entry.read` for what is wrong with an image.
    """
    if path.is_dir():
        return npz_entries(path, skip=skip)
    if not path.exists():
        raise InputError(f"{path} does not exist; expected a TSV or HDF5 file, or a folder of npz files.")
    if path.suffix not in HDF5_SUFFIXES and not is_tsv(path):
        raise InputError(f"{path} has an unknown kind; expected .tsv, .hdf5 or .h5, or a folder of npz files.")
    check_is_itself(path)
    if path.suffix in HDF5_SUFFIXES:
        return hdf5_entries(path, skip=skip)
    return tsv_entries(path, skip=skip, on_bytes=on_bytes)


def read_proposals(path: Path) -> Iterator[ImageProposals]:
    """All images of `path`, which have one feature size.

    Raises:
        InputError: As `read_entries` does, or for the first image that is wrong.
    """
    return read_all(read_entries(path))


def proposal_sources(path: Path) -> list[Path]:
    """What `read_entries` reads: `path` and, for HDF5 without ids, the file of image ids beside it."""
    return [path, ids_path(path)] if path.suffix in HDF5_SUFFIXES and needs_ids(path) else [path]
