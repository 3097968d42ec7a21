"""Tries to tell the networks apart by everything that a study's files tell beside their pixels.

A linear classifier learns on nine tenths of the items which of two pictures is whose, and guesses the others. It sees
sizes, names, headers, times, and the order in which folders and requests list the pictures. Its share of right guesses
stands beside those of classifiers that learned from networks exchanged at random. Two rows show that it can learn: the
sizes that the files would have if they were compressed, and the pixels, which participants are to see.
"""

import argparse
import io
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from harness import write_result
from numpy.typing import NDArray
from PIL import Image

from human_study.server.static_site import StaticConfig, write_static
from human_study.server.study import Study

Features = dict[Path, list[float]]
FOLDS, REPEATS = 10, 5


def guessed_right(x: NDArray[np.float64], folds: NDArray[np.int64]) -> float:
    """Share of right guesses of ridge regression, which learns to give each row of differences the value 1."""
    right = 0.0
    for fold in range(FOLDS):
        others, held = x[folds != fold], x[folds == fold]
        weights = np.linalg.solve(others.T @ others + len(others) * np.eye(x.shape[1]), others.sum(0))
        guess = held @ weights
        right += (guess > 0).sum() + (guess == 0).sum() / 2
    return float(right / len(x))


def compare(differences: list[Any], exchanges: int, groups: list[int] | None = None) -> dict[str, float]:
    """How well differences between the first network's pictures and the second's tell which is which.

    Args:
        differences: Features of the first minus those of the second, one row for each pair of pictures.
        exchanges: Number of comparisons with networks that are exchanged at random.
        groups: Rows of one group are learned from, or guessed, together. Default: each on its own.
    """
    rng = np.random.default_rng(0)
    x = np.array(differences, dtype=float)
    scale = np.sqrt((x**2).mean(0))
    x = x[:, scale > 0] / scale[scale > 0]
    group = np.array(groups if groups is not None else range(len(x)))
    folds = [rng.permutation(group.max() + 1)[group] % FOLDS for _ in range(REPEATS)]
    observed = np.mean([guessed_right(x, fold) for fold in folds])
    exchanged = []
    for _ in range(exchanges):
        signs = rng.choice([-1.0, 1.0], size=group.max() + 1)[group]
        exchanged.append(np.mean([guessed_right(x * signs[:, None], fold) for fold in folds]))
    p = float(1 + sum(share >= observed for share in exchanged)) / (1 + exchanges)
    return {"pairs": len(x), "guessed right %": round(100 * float(observed), 1), "p (above chance)": round(p, 3)}


def file_features(paths: list[Path]) -> Features:
    """What a file tells without its pixels."""
    listed = {entry.name: place for place, entry in enumerate(os.scandir(paths[0].parent))}
    features = {}
    for path in paths:
        status, data = path.stat(), path.read_bytes()
        name = [int(digit, 16) for digit in path.stem]
        head, tail = list(data[:41]), list(data[-12:])  # up to the first pixels, and after the last
        features[path] = [status.st_size, status.st_mtime, status.st_mode, listed[path.name], *name, *head, *tail]
    return features


def order(study: Study, first: str) -> tuple[list[list[float]], list[int]]:
    """Where the first network's picture is in what browsers are told, against the second's: side, position, row."""
    differences, groups = [], []
    numbers = {item: number for number, item in enumerate(study.items)}
    for row in range(study.design.rows):
        for position, placement in enumerate(study.design.sequence(row)):
            if first in placement:
                side = 1.0 if placement.left == first else -1.0
                shift = position - study.design.length / 2
                differences.append([side, side * shift, side * (-1) ** position, side * (-1) ** row])
                groups.append(numbers[placement.item])
    return differences, [sorted({*groups}).index(group) for group in groups]


def compressed_size(path: Path) -> list[float]:
    """Size of the file if it were compressed."""
    out = io.BytesIO()
    with Image.open(path) as image:
        image.save(out, format="PNG", compress_level=9)
    return [float(out.tell())]


def pixels(path: Path) -> list[float]:
    """Mean brightness, its spread, and a small version of the picture."""
    with Image.open(path) as image:
        values = np.asarray(image.convert("L"), dtype=float)
        return [values.mean(), values.std(), *np.asarray(image.convert("L").resize((4, 4)), dtype=float).ravel()]


def main() -> None:
    """Run it on a study of two networks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path)
    parser.add_argument("--exchanges", type=int, default=500)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    study = Study.open(options.study)
    first, second = sorted(study.settings.arms)
    main = [item for item in study.items.values() if item.kind == "main"]
    pairs = [(study.folder / item.explanations[first], study.folder / item.explanations[second]) for item in main]
    paths = [path for pair in pairs for path in pair]
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder) / "site"
        write_static(StaticConfig(study.folder, site))
        copies = [(site / "pictures" / a.name, site / "pictures" / b.name) for a, b in pairs]

        def by(features: Callable[[Path], list[float]], pairs: list[tuple[Path, Path]] = pairs) -> dict[str, float]:
            return compare([np.subtract(features(a), features(b)) for a, b in pairs], options.exchanges)

        differences, groups = order(study, first)
        rows: dict[str, Any] = {
            "files of the study folder": by(file_features(paths).__getitem__),
            "files of the page": by(file_features([path for pair in copies for path in pair]).__getitem__, copies),
            "order in what browsers are told": compare(differences, options.exchanges, groups),
            "size, if the files were compressed": by(compressed_size),
            "the pixels, which are to be seen": by(pixels),
        }
    write_result(options.out, "telling the networks apart without looking at the pictures", rows)


if __name__ == "__main__":
    main()
