"""The studies: for each world and seed, all arms fine-tune the same base network or start from random weights."""

from dataclasses import dataclass, replace

from updn_captioning.data.official_files import SplitKind
from updn_captioning.training.methods import METHODS, SCALES, SHAPES, UNSIGNED, Method, Scale
from updn_common.studies import study

START = SCALES["shapes-base"]
FROM_SCRATCH = replace(START, steps=START.steps + SHAPES.steps)
"""Takes as many steps as the base network and its fine-tuning together."""


@dataclass(frozen=True)
class Arm(study.Arm[Method, Scale]):
    """One row of a study's table, with defaults for worlds of shapes_cp."""

    hint_share: float = 1.0
    scale: Scale = SHAPES


@dataclass(frozen=True)
class Study(study.Study[Method, Scale]):
    """Arms that are run in worlds of shapes_cp, prepared with a kind of split."""

    splits: tuple[str, ...] = ("val", "dev", "test")
    start: study.Arm[Method, Scale] | None = Arm("start", METHODS["base"], scale=START)
    kind: SplitKind = "robust"


def arms(*methods: str) -> tuple[Arm, ...]:
    """Arms of the named presets."""
    return tuple(Arm(name, METHODS[name]) for name in methods)


def variant(name: str, weight: float, margin: float) -> Arm:
    """A preset with another weight and margin."""
    return Arm(f"{name}, weight {weight:g}, margin {margin:g}", replace(METHODS[name], weight=weight, margin=margin))


def from_random_weights(*rows: Arm) -> tuple[Arm, ...]:
    """The same rows from random weights: hints from the start of training."""
    return tuple(replace(arm, scale=FROM_SCRATCH, from_start=False) for arm in rows)


PAPER = METHODS["hint-paper"]
PERMUTED, REDRAWN = (replace(UNSIGNED, hints="permuted"), replace(UNSIGNED, hints="random-per-epoch"))
ROWS = (
    *arms("base", "unsigned", "hint", "attn-align", "hint-paper"),
    *(Arm("unsigned, permuted", PERMUTED), Arm("unsigned, redrawn", REDRAWN)),
    *arms("permuted", "random-per-epoch"),
)
STUDIES: dict[str, Study] = {
    "robust": Study(ROWS, model_seeds=3),
    "standard": Study(ROWS, model_seeds=3, splits=("val", "test"), kind="karpathy"),
    "from-start": Study(
        from_random_weights(*arms("base", "unsigned", "hint", "attn-align"), Arm("unsigned, permuted", PERMUTED)),
        model_seeds=3,
        start=None,
    ),
    "selection": Study(
        (
            *arms("base"),
            *(variant("hint", weight, margin) for margin in (0.4, 0.8, 1.6) for weight in (0.3, 1.0, 3.0, 10.0)),
            *(Arm(f"hint-paper, weight {weight:g}", replace(PAPER, weight=weight)) for weight in (0.001, 0.01, 0.1)),
        ),
        model_seeds=2,
        splits=("dev",),
    ),
    "selection-unsigned": Study(
        (
            *arms("base"),
            *(variant("unsigned", weight, 1.6) for weight in (1.0, 3.0, 10.0, 30.0)),
            *(variant("unsigned", weight, 0.8) for weight in (3.0, 10.0, 30.0)),
        ),
        model_seeds=2,
        splits=("dev",),
    ),
}
"""``robust`` compares HINT in both forms with base, with its controls and with attention alignment, where pairs of
objects are shifted; ``standard`` does the same where they are not. ``from-start`` gives hints from the start of
training, on the robust split, in as many steps in all.

``selection`` chose the weights and margins of the signed form, and ``selection-unsigned`` those of the unsigned form:
on the split ``dev`` alone, the test is not looked at. Controls take the options of what they control. ``attn-align``
has the options of ``hint``, and was not tuned."""
