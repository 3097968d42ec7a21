"""Find files in a data directory."""

from pathlib import Path

from updn_common.errors import InputError

MACOS = "._"
"""Beginning of the names of companion files that macOS writes on disks of other systems."""
FEATURES = ("*.tsv", "*.tsv.*", "*.hdf5", "*.h5")


def find_features(data: Path) -> list[Path]:
    """Find the one file (TSV, HDF5) or folder (npz) of bottom-up features in a directory."""
    found = feature_candidates(data)
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise InputError(
            f"{data} should hold one file (.tsv, .hdf5, .h5) or folder (of .npz) of features, found {names}. "
            "Name it with --features."
        )
    return found


def feature_candidates(data: Path) -> list[Path]:
    """All files and folders in a directory that may hold bottom-up features."""
    files = [path for pattern in FEATURES for path in data.glob(pattern) if not path.name.startswith(MACOS)]
    folders = [path for path in data.iterdir() if path.is_dir() and next(path.glob("*.npz"), None)]
    return sorted(files + folders)


def existing(data: Path | None, *names: str) -> list[Path]:
    """The files in `data` that match file names or glob patterns; none without `data`."""
    if data is None:
        return []
    return [path for name in names for path in sorted(data.glob(name)) if not path.name.startswith(MACOS)]
