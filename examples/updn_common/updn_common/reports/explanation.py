"""What the commands ``explain`` of both pipelines share: options, the choice of samples, and facts about changes."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import matplotlib.pyplot as plt
import torch
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from updn_common.data.stream import generator
from updn_common.errors import check_range
from updn_common.reports.gallery import Fact

Choice = Literal["most-improved", "most-harmed", "random"]


@dataclass(frozen=True)
class ExplainOptions:
    """Which samples to explain, by which two runs.

    Attributes:
        data: The prepared directory.
        before: Path of the run to compare with, such as the base model's.
        after: Path of the run after it, such as HINT's.
        images: A folder with the images, named by their COCO ids, which is searched with all folders below it.
        out: A new folder for the page and its figures.
        split: Name of the split to choose from.
        choose: Choose what improved most or was harmed most, or choose at random.
        count: Number of samples to choose; the page stays fast with hundreds.
        seed: Seed of the random choice.
    """

    data: Path
    before: Path
    after: Path
    images: Path
    out: Path
    split: str = "test"
    choose: Choice = "most-improved"
    count: int = 12
    seed: int = 0

    def check(self) -> None:
        """Check the ranges of the options.

        Raises:
            InputError: An option is out of range.
        """
        check_range(1, count=self.count)
        check_range(0, seed=self.seed)

    def introduction(self, chosen: str) -> str:
        """What the page shows, given how its samples were chosen."""
        return f"{chosen}. Split: {self.split}. Before: {self.before}. After: {self.after}."


def choose_samples(
    choose: Choice, count: int, seed: int, total: int, changes: Callable[[], Float[Tensor, " N"]]
) -> Int[Tensor, " M"]:
    """Choose positions of samples.

    Args:
        choose: What to choose.
        count: Number of samples to choose.
        seed: Seed of the random choice.
        total: Number of all samples.
        changes: Computes the change of each sample, where higher is better; not called for a random choice.
    """
    if choose == "random":
        return torch.randperm(total, generator=generator(seed))[:count]
    return changes().argsort(descending=choose == "most-improved", stable=True)[:count]


def change_fact(label: str, before: float, after: float, digits: int = 2) -> Fact:
    """A measure before and after, good if it rose; NaN is shown as a dash."""
    texts = ("-" if math.isnan(value) else f"{value:.{digits}f}" for value in (before, after))
    return Fact(label, " → ".join(texts), "good" if after > before else "bad" if after < before else "")


def orders(measure: str, before: float, after: float) -> dict[str, float]:
    """By what a page sorts its cards if they have a measure before and after."""
    return {f"change of {measure}": after - before, f"{measure} before": before, f"{measure} after": after}


def save_figure(figure: Figure, path: Path) -> tuple[int, int]:
    """Write a figure as PNG and close it; returns the width and height in pixels."""
    figure.savefig(path, dpi=110, bbox_inches="tight")
    plt.close(figure)
    with Image.open(path) as picture:
        return picture.size
