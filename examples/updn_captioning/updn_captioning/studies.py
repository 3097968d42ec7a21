"""Which runs a study consists of: for each world and seed, all arms start from the same base network."""

from dataclasses import dataclass, replace

from updn_captioning.layout import SplitKind
from updn_captioning.presets import METHODS, SCALES, SHAPES, Method, Scale
from updn_common import study


@dataclass(frozen=True)
class Arm(study.Arm[Method, Scale]):
    """One row of a study's table, with defaults for worlds of shapes_cp."""

    hint_share: float = 1.0
    scale: Scale = SHAPES


@dataclass(frozen=True)
class Study(study.Study[Method, Scale]):
    """Arms to be run in worlds of shapes_cp, prepared with one of their splits."""

    splits: tuple[str, ...] = ("val", "dev", "test")
    start: study.Arm[Method, Scale] = Arm("start", METHODS["base"], scale=SCALES["shapes-base"])
    kind: SplitKind = "robust"


def arms(*methods: str) -> tuple[Arm, ...]:
    """Arms of the named presets."""
    return tuple(Arm(name, METHODS[name]) for name in methods)


def hint(weight: float, margin: float) -> Arm:
    """HINT with these options."""
    return Arm(f"hint, weight {weight:g}, margin {margin:g}", replace(HINT, weight=weight, margin=margin))


HINT, PAPER = METHODS["hint"], METHODS["hint-paper"]
ROWS = arms("base", "hint", "permuted", "random-per-epoch", "attn-align", "hint-paper")
STUDIES: dict[str, Study] = {
    "robust": Study(ROWS, model_seeds=3),
    "standard": Study(ROWS, model_seeds=3, splits=("val", "test"), kind="karpathy"),
    "selection": Study(
        (
            *arms("base"),
            *(hint(weight, margin) for margin in (0.4, 0.8, 1.6) for weight in (0.3, 1.0, 3.0, 10.0)),
            *(Arm(f"hint-paper, weight {weight:g}", replace(PAPER, weight=weight)) for weight in (0.001, 0.01, 0.1)),
        ),
        model_seeds=2,
        splits=("dev",),
    ),
}
"""``robust`` is the experiment: base against HINT, its controls and attention alignment, where pairs of objects are
shifted. ``standard`` is the same where they are not. ``selection`` is how weights and margins were chosen: on the split
``dev`` alone, the test unseen. The controls and ``attn-align`` take what ``hint`` takes: it was not chosen for them."""
