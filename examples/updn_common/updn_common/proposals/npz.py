"""Bottom-up features in a folder with one npz file for each image."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from updn_common.errors import InputError
from updn_common.files.finding import MACOS
from updn_common.files.reading import stand_in, unpacked_limit
from updn_common.proposals.feature_entry import FeatureEntry
from updn_common.proposals.image_proposals import ImageProposals
from updn_common.proposals.tsv import is_tsv

_NPZ_ENTRIES = ("x", "bbox", "num_bbox", "image_h", "image_w")


def npz_entries(folder: Path) -> Iterator[FeatureEntry]:
    """The images of a folder of `<image name>.npz`, in the order of the names.

    OpenVQA and the usual extraction scripts write such files. Each holds `x` (features, (n, D) or transposed), `bbox`
    (n, 4), `num_bbox`, `image_h` and `image_w`; other entries (`info` is often a pickle) are never read.

    Raises:
        InputError: The folder holds no npz file; `FeatureEntry.read` reports malformed files.
    """
    paths = npz_files(folder)
    if not paths:
        others = sorted(path for path in folder.iterdir() if is_tsv(path) or path.suffix in (".h5", ".hdf5"))
        remedy = f"; give {others[0]} instead" if others else ""
        raise InputError(f"{folder} holds no .npz file; expected one for each image{remedy}.")
    return (FeatureEntry(str(path), path.stem, partial(_npz_image, path)) for path in paths)


def npz_files(folder: Path) -> list[Path]:
    """The npz files of a folder, without the companion files of macOS."""
    return sorted(path for path in folder.glob("*.npz") if not path.name.startswith(MACOS))


def _npz_image(path: Path, image_id: int) -> ImageProposals:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as entries:
            if missing := [name for name in _NPZ_ENTRIES if name not in entries]:
                raise KeyError(*missing)
            members = [entries.zip.getinfo(f"{name}.npy") for name in _NPZ_ENTRIES]
            if any(member.file_size > unpacked_limit(member.compress_size) for member in members):
                raise ValueError("it unpacks to more than 100 times its size, which features do not")
            x, boxes = (_real(entries[name]) for name in ("x", "bbox"))
            n, height, width = (_whole(entries[name], name) for name in ("num_bbox", "image_h", "image_w"))
    except KeyError as error:
        raise InputError(f"has no {', '.join(error.args)}; expected {', '.join(_NPZ_ENTRIES)}.") from None
    except Exception as error:  # numpy and zipfile raise many kinds for a damaged archive
        raise InputError(f"{stand_in(path) or f'not a readable npz of plain arrays ({error})'}.") from None
    if boxes.shape != (n, 4) or x.ndim != 2 or n not in x.shape:
        shapes = f"x {x.shape} and bbox {boxes.shape}"
        raise InputError(f"{shapes} do not fit num_bbox {n}; expected (n, D) or (D, n), and (n, 4).")
    if x.shape == (n, n):
        raise InputError(f"x {x.shape} is square, so it may or may not be transposed.")
    features = np.ascontiguousarray(x if x.shape[0] == n else x.T)
    return ImageProposals(image_id, width, height, boxes, features)


def _whole(array: npt.NDArray[Any], name: str) -> int:
    number = array.item()
    if not float(number).is_integer():
        raise ValueError(f"{name} should be a whole number, found {number}")
    return int(number)


def _real(array: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    if array.dtype.kind != "f":
        raise TypeError(f"expected floating-point values, found {array.dtype}")
    return array.astype(np.float32, copy=False)
