"""Which runs a study consists of: for each world and seed, all arms start from the same base network."""

from dataclasses import dataclass, replace
from pathlib import Path

from updn_vqa.presets import METHODS, SCALES, Method, Scale

HINT_SHARE = 0.06
"""The share of VQA v2 questions that have a VQA-HAT map."""


@dataclass(frozen=True)
class Arm:
    """One row of a study's table."""

    name: str
    method: Method
    hint_share: float = HINT_SHARE
    scale: Scale = SCALES["shapes"]

    def directory(self, study: Path, world: str, seed: int) -> Path:
        """Where its run in a world, with a model seed, is in a study's directory."""
        return study / world / f"seed{seed}" / self.name.replace(" %", "").replace(",", "").replace(" ", "-")


@dataclass(frozen=True)
class Study:
    """Arms to be run for each world and each model seed, all from the network that ``start`` trains.

    All are evaluated on ``splits``. What is told of one split alone, such as gains, is of the last.
    """

    arms: tuple[Arm, ...]
    model_seeds: int
    splits: tuple[str, ...] = ("val", "dev", "test")
    start: Arm = Arm("start", METHODS["base"], scale=SCALES["shapes-base"])

    @property
    def rows(self) -> tuple[Arm, ...]:
        """All that its table shows."""
        return (self.start, *self.arms)


def arms(*methods: str) -> tuple[Arm, ...]:
    """Arms of the named presets."""
    return tuple(Arm(name, METHODS[name]) for name in methods)


def shares(*percentages: float) -> tuple[Arm, ...]:
    """HINT with hints for other shares of the questions."""
    return tuple(Arm(f"hint {percentage:g} %", HINT, percentage / 100) for percentage in percentages)


HINT, PAPER = METHODS["hint"], METHODS["hint-paper"]
STUDIES: dict[str, Study] = {
    "demo": Study(arms("base", "hint", "permuted", "attn-align") + shares(1.5, 25), model_seeds=2),
    "results": Study(arms(*METHODS) + shares(1.5, 3, 25, 100), model_seeds=3),
    "prior": Study(arms("base", "hint", "permuted", "attn-align"), model_seeds=3),
    "selection": Study(
        (
            *arms("base", "hint", "hint-paper"),
            *(Arm(f"hint, weight {weight:g}", replace(HINT, weight=weight)) for weight in (10.0, 100.0)),
            *(Arm(f"hint, margin {margin:g}", replace(HINT, margin=margin)) for margin in (0.2, 0.8)),
            Arm("hint, no gap", replace(HINT, min_gap=0.0)),
            *(Arm(f"hint-paper, weight {w:g}", replace(PAPER, weight=w)) for w in (1e-4, 1e-3, 0.1, 1.0)),
        ),
        model_seeds=2,
        splits=("dev",),
    ),
}
"""``selection`` is how the presets of ``hint`` and ``hint-paper`` were chosen: on the development split alone, the test
unseen. ``zero-out`` has a weight of its own, untuned; all other methods take the margin, gap and weight of ``hint``,
which were not tuned for them."""
