"""Bottom-up features in any of their public formats, one image at a time."""

from collections.abc import Callable, Iterator
from pathlib import Path

from updn_common.errors import InputError
from updn_common.files.reading import check_not_stand_in
from updn_common.proposals.feature_entry import FeatureEntry, read_all
from updn_common.proposals.hdf5 import HDF5_SUFFIXES, hdf5_entries, ids_path, needs_ids
from updn_common.proposals.image_proposals import ImageProposals
from updn_common.proposals.npz import npz_entries
from updn_common.proposals.tsv import is_tsv, tsv_entries


def read_entries(path: Path, *, on_bytes: Callable[[bytes], object] | None = None) -> Iterator[FeatureEntry]:
    """The images of a TSV (also `.tsv.0`), an HDF5 file (`.hdf5`, `.h5`) or a folder of npz files.

    An HDF5 file of the UpDn reference code needs `<name>.ids.json` beside it, a list of the image id of each row.

    Args:
        path: The file or folder.
        on_bytes: Called with every piece of a TSV, to compute a checksum during reading.

    Raises:
        InputError: `path` is missing or none of these; `FeatureEntry.read` reports malformed images.
    """
    if path.is_dir():
        return npz_entries(path)
    if not path.exists():
        raise InputError(f"{path} does not exist; expected a TSV or HDF5 file, or a folder of npz files.")
    if path.suffix not in HDF5_SUFFIXES and not is_tsv(path):
        raise InputError(f"{path} is of an unknown format; expected .tsv, .hdf5 or .h5, or a folder of npz files.")
    check_not_stand_in(path)
    if path.suffix in HDF5_SUFFIXES:
        return hdf5_entries(path)
    return tsv_entries(path, on_bytes=on_bytes)


def read_proposals(path: Path) -> Iterator[ImageProposals]:
    """The proposals of all images of `path`.

    Raises:
        InputError: See `read_entries`; or an image is malformed or has another feature size than those before it.
    """
    return read_all(read_entries(path))


def proposal_sources(path: Path) -> list[Path]:
    """The files that `read_entries` reads: `path` and, for HDF5 without image ids, the file of ids beside it."""
    return [path, ids_path(path)] if path.suffix in HDF5_SUFFIXES and needs_ids(path) else [path]
