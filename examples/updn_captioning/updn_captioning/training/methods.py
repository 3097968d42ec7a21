"""What can be trained: each method is one row of a results table, each scale a set of sizes and a schedule.

Beside the paper's systems there are the controls of Shrestha et al. (ACL 2020), whose hints have no information. Gains
that a control has too are not due to human hints.
"""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

import tyro

from updn_captioning.networks.updn import NetworkSizes
from updn_common.runs.importance import HintOptions
from updn_common.runs.options import Schedule

Task = Literal["cross-entropy", "self-critical"]
Supervision = Literal["none", "importance", "attention"]
Words = Literal["all", "sampled"]


@dataclass(frozen=True)
class Method(HintOptions):
    """How captions are learned, and what is learned from hints beside them."""

    weight: float = 3.0
    margin: float = 1.6
    task: Task = "cross-entropy"
    """Learn to say the reference, or what scores more CIDEr than the network's own greedy caption (SCST)."""
    supervision: Supervision = "none"
    """Loss on visual words with hints: rank importance (HINT) or attention weights as people do."""
    words: Words = "sampled"
    """Visual words of a caption in each step: one drawn at random, which estimates the mean loss over all, or all."""


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
    "permuted": "Control: hint, with hints reassigned at random.",
    "random-per-epoch": "Control: hint, random hints drawn anew each epoch.",
    "attn-align": "Attention weights, not importance, rank so.",
    "irrelevant": "Hint, with inverted hints, 1 - s.",
    "hint-paper": "Hint, with the paper's loss to the letter.",
    "random": "Control: hint, with random hints.",
    "scst": "Without hints: self-critical training on CIDEr.",
    "hint-scst": "The same with hints, in their signed form.",
}


@dataclass(frozen=True)
class Scale(Schedule):
    """Sizes of the network and the training schedule."""

    learning_rate: float = 5e-5
    clip: float = 1.0
    steps: int = 20_000
    evaluate_every: int = 1000
    batch_size: int = 100
    model: NetworkSizes = field(default_factory=NetworkSizes)

    def check(self) -> None:
        """Check the ranges of the options; see `Schedule.check`."""
        super().check()
        self.model.check()


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
    "coco-finetune": "Full size, small steps, for a trained network.",
}

# On the command line, methods and scales are subcommands, and their values are the defaults of flags.
if TYPE_CHECKING:
    MethodChoice: TypeAlias = Method
    ScaleChoice: TypeAlias = Scale
else:
    MethodChoice = tyro.extras.subcommand_type_from_defaults(METHODS, METHOD_HELP, prefix_names=False)
    ScaleChoice = tyro.extras.subcommand_type_from_defaults(SCALES, SCALE_HELP, prefix_names=False)
