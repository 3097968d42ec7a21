"""What can be trained: each method is one row of a results table, each scale a set of sizes and a schedule.

Beside the paper's systems stand the controls of Shrestha et al. (ACL 2020): hints without information. Whatever a
control gains, the hints did not.
"""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

import tyro

from updn_captioning.networks.updn import NetworkSizes
from updn_common.data.control_hints import Hints
from updn_common.runs.importance import Importance

Task = Literal["cross-entropy", "self-critical"]
Supervision = Literal["none", "importance", "attention"]
Words = Literal["all", "sampled"]


@dataclass(frozen=True)
class Method:
    """How captions are learned, and what is learned from hints beside them."""

    task: Task = "cross-entropy"
    """Say the reference, or whatever scores more CIDEr than one's own greedy caption (SCST)."""
    supervision: Supervision = "none"
    """Rank importance (HINT) or attention weights as the hints do."""
    hints: Hints = "human"
    """permuted deals them anew among all images and categories (some keep their category), irrelevant is 1 - s."""
    words: Words = "sampled"
    """Of a caption's visual words, one drawn at random in each step, or all: their mean is estimated, or computed."""
    importance: Importance = "sum"
    """The gradient's sum over features (the paper), in which they may cancel, or its norm."""
    probes: int = 16
    """Random directions that estimate the norm, drawn anew in each step; 0 takes it exactly, at a higher price."""
    weight: float = 3.0
    """Of the loss on visual words; that of captions, a mean over words or, if self-critical, over captions, has 1."""
    margin: float = 1.6
    """How far apart importances should be for each unit of human gap."""
    min_gap: float = 0.5
    """Leave out pairs whose human scores differ by no more than this."""
    relative: bool = False
    """Take a word's human scores relative to their own range, so that margin and gap fit every kind of hint."""
    scale_free: bool = True
    """Divide a word's importances by the sum of their absolute values."""
    pair_reduction: Literal["sum", "mean"] = "mean"
    """Over a word's pairs of proposals."""


UNSIGNED = Method(supervision="importance", importance="norm", weight=10.0, margin=0.8, min_gap=0.0, relative=True)
METHODS: dict[str, Method] = {
    "base": Method(),
    "hint": Method(supervision="importance"),
    "unsigned": UNSIGNED,
    "unsigned-exact": replace(UNSIGNED, probes=0),
    "permuted": Method(supervision="importance", hints="permuted"),
    "random-per-epoch": Method(supervision="importance", hints="random-per-epoch"),
    "attn-align": Method(supervision="attention"),
    "irrelevant": Method(supervision="importance", hints="irrelevant"),
    "hint-paper": Method(
        supervision="importance",
        words="all",
        weight=0.01,
        margin=0.0,
        min_gap=0.0,
        scale_free=False,
        pair_reduction="sum",
    ),
    "random": Method(supervision="importance", hints="random"),
    "scst": Method(task="self-critical"),
    "hint-scst": Method(task="self-critical", supervision="importance", weight=30.0),
}

METHOD_HELP = {
    "base": "Without hints: the control of equal budget.",
    "hint": "Importance ranks as people do: signed form.",
    "unsigned": "Hint, recommended form: on the gradient's norm.",
    "unsigned-exact": "The same, without random directions.",
    "permuted": "Control: hint, with hints dealt anew at random.",
    "random-per-epoch": "Control: hint, random hints drawn anew each epoch.",
    "attn-align": "Attention weights, not importance, rank so.",
    "irrelevant": "Hint, with inverted hints, 1 - s.",
    "hint-paper": "Hint, with the paper's loss to the letter.",
    "random": "Control: hint, with random hints.",
    "scst": "Without hints: self-critical training on CIDEr.",
    "hint-scst": "The same with hints, in their signed form.",
}


@dataclass(frozen=True)
class Scale:
    """Sizes of the network and the training schedule."""

    model: NetworkSizes = field(default_factory=NetworkSizes)
    learning_rate: float = 5e-5
    """Adam's, the same in every step."""
    clip: float = 1.0
    """Largest norm of the gradient; inf leaves it as it is."""
    steps: int = 20_000
    evaluate_every: int = 1000
    """Steps between evaluations on the split val; a checkpoint is written with each."""
    batch_size: int = 100
    """Captions in a step, over all processes."""
    continues: bool = False
    """It is for going on from a trained network: without --start-from, there is a warning."""


SMALL = NetworkSizes(embedding=32, hidden=128, attention=64)
SHAPES = Scale(model=SMALL, learning_rate=1e-3, steps=1200, evaluate_every=100, batch_size=64)
SCALES: dict[str, Scale] = {
    "shapes": SHAPES,
    "shapes-base": replace(SHAPES, learning_rate=2e-3, steps=1200),
    "coco": Scale(learning_rate=5e-4, steps=60_000, evaluate_every=5000),
    "coco-finetune": Scale(continues=True),
}
SCALE_HELP = {
    "shapes": "Small network, for worlds of shapes_cp.",
    "shapes-base": "The same, for a base network there.",
    "coco": "Full size, for a base network on COCO.",
    "coco-finetune": "Full size, small steps, to go on from that.",
}

# On the command line, a method and a scale are subcommands whose values are defaults of flags.
if TYPE_CHECKING:
    MethodChoice: TypeAlias = Method
    ScaleChoice: TypeAlias = Scale
else:
    MethodChoice = tyro.extras.subcommand_type_from_defaults(METHODS, METHOD_HELP, prefix_names=False)
    ScaleChoice = tyro.extras.subcommand_type_from_defaults(SCALES, SCALE_HELP, prefix_names=False)
