"""What can be trained: each method is one row of a results table, each scale a set of sizes and a schedule.

Beside the paper's systems stand the controls of Shrestha et al. (ACL 2020): hints without information. Whatever a
control gains, the hints did not.
"""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

import tyro

from updn_common.data.control_hints import Hints
from updn_common.runs.importance import Importance
from updn_vqa.networks import NetworkSizes

Supervision = Literal["none", "importance", "attention", "self-critical", "visfis", "zero-out"]
TaskOn = Literal["all", "hinted"]
Score = Literal["ground-truth", "annotated"]


@dataclass(frozen=True)
class VisFis:
    """Weights of the four VisFIS objectives among each other: its authors' numbers for UpDn and VQA-HAT.

    They do not weigh quite the same: `visfis.py` says why.
    """

    sufficiency: float = 1.0
    """Answer from the important proposals alone."""
    uncertainty: float = 1.0
    """All answers as likely without them."""
    invariance: float = 0.1
    """No importance of the unimportant ones."""
    alignment: float = 0.1
    """Importance proportional to the human score."""


@dataclass(frozen=True)
class Method:
    """What is learned beside answering questions: from hinted questions, or against an adversary."""

    supervision: Supervision = "none"
    """Rank importance (HINT) or attention weights as the hints do, criticise wrong answers (SCR), the four objectives
    of VisFIS, or ask for no answer at all (zero-out)."""
    hints: Hints = "human"
    """Which hints to train with: human ones, another question's (permuted), random ones, or 1 - s (irrelevant)."""
    importance: Importance = "sum"
    """The gradient's sum over features (the paper), in which they may cancel, or its norm."""
    probes: int = 16
    """Random directions that estimate the norm, drawn anew in each step; 0 takes it exactly, at twice the price."""
    weight: float = 30.0
    """Weight of the loss on hinted questions; the answers' loss has weight 1."""
    margin: float = 0.4
    """How far apart importances should be for each unit of human gap."""
    min_gap: float = 0.5
    """Leave out pairs whose human scores differ by no more than this."""
    relative: bool = False
    """Take a question's human scores relative to their own range, so that margin and gap fit every kind of hint."""
    scale_free: bool = True
    """Divide a question's importances by the sum of their absolute values."""
    pair_reduction: Literal["sum", "mean"] = "mean"
    """Over a question's pairs of proposals."""
    score: Score = "ground-truth"
    """Importance is its gradient: the annotated answer's logit (the paper), or the sum over all answers given."""
    task_on: TaskOn = "all"
    """Answer all questions, or fine-tune on the hinted ones only."""
    threshold: float = 0.55
    """Proposals of a higher human score are important (SCR and VisFIS)."""
    critical: float = 75.0
    """SCR: weight of the self-critical loss, where influence strengthening has 1; 1,500 to 20 in its authors' code."""
    visfis: VisFis = field(default_factory=VisFis)
    adversary: float = 0.0
    """AdvReg's lambda_Q: weight of the reversed gradient of a question-only adversary."""
    entropy_gap: float = 0.0
    """AdvReg's lambda_H: weight of how much surer the network should be than the adversary."""

    @property
    def adversarial(self) -> bool:
        """Whether there is an adversary."""
        return self.adversary > 0 or self.entropy_gap > 0


UNSIGNED = Method(supervision="importance", importance="norm", weight=10.0, margin=0.8, min_gap=0.0, relative=True)
METHODS: dict[str, Method] = {
    "base": Method(supervision="none"),
    "hint": Method(supervision="importance"),
    "unsigned": UNSIGNED,
    "unsigned-exact": replace(UNSIGNED, probes=0),
    "permuted": Method(supervision="importance", hints="permuted"),
    "random-per-epoch": Method(supervision="importance", hints="random-per-epoch"),
    "attn-align": Method(supervision="attention"),
    "irrelevant": Method(supervision="importance", hints="irrelevant"),
    "hint-paper": Method(
        supervision="importance", weight=0.01, margin=0.0, min_gap=0.0, scale_free=False, pair_reduction="sum"
    ),
    "random": Method(supervision="importance", hints="random"),
    "zero-out": Method(supervision="zero-out", weight=1.0),
    "adv-reg": Method(supervision="none", adversary=0.01, entropy_gap=0.1),
    "scr": Method(supervision="self-critical", weight=20.0),
    "visfis": Method(supervision="visfis", weight=5.0),
    "hint-on-hinted": Method(supervision="importance", task_on="hinted"),
    "base-on-hinted": Method(supervision="none", task_on="hinted"),
}


METHOD_HELP = {
    "base": "Without hints: the control of equal budget.",
    "hint": "Importance ranks as people do: signed form.",
    "unsigned": "Hint, recommended form: on the gradient's norm.",
    "unsigned-exact": "The same, without random directions.",
    "permuted": "Control: hint, with another question's hints.",
    "random-per-epoch": "Control: hint, random hints drawn anew each epoch.",
    "attn-align": "Attention weights, not importance, rank so.",
    "irrelevant": "Hint, with inverted hints, 1 - s.",
    "hint-paper": "Hint, with the paper's loss to the letter.",
    "random": "Control: hint, with random hints.",
    "zero-out": "Control: no answer at all to hinted questions.",
    "adv-reg": "Without hints: against a question-only adversary.",
    "scr": "Wrong answers should not lean on what matters.",
    "visfis": "Right from important proposals, unsure without.",
    "hint-on-hinted": "Hint, fine-tuned on the hinted questions only.",
    "base-on-hinted": "Its control: the same questions, without hints.",
}


@dataclass(frozen=True)
class Scale:
    """Sizes of the network and the training schedule."""

    model: NetworkSizes = field(default_factory=NetworkSizes)
    optimizer: Literal["adam", "adamax"] = "adam"
    learning_rate: float = 2e-5
    """The same in every step."""
    clip: float = 0.25
    """Largest norm of the gradient; inf leaves it as it is."""
    steps: int = 10_000
    evaluate_every: int = 500
    """Steps between evaluations on the development split; a checkpoint is written with each."""
    batch_size: int = 512
    """Questions in a step, over all processes."""
    hint_batch_size: int = 64
    """Hinted questions in a step, over all processes, beside those of --batch-size."""
    continues: bool = False
    """It is for going on from a trained network: without --start-from, there is a warning."""
    kept: float = 1.0
    """Share of that network's weights to begin with; other random ones have the rest: shrink and perturb (Ash and
    Adams, NeurIPS 2020)."""


SMALL = NetworkSizes(embedding=32, hidden=128, attention_dropout=0.0, classifier_dropout=0.0)
SHAPES = Scale(model=SMALL, learning_rate=2e-3, clip=1.0, steps=1400, evaluate_every=100, batch_size=128)
SCALES: dict[str, Scale] = {
    "shapes": SHAPES,
    "shapes-base": replace(SHAPES, steps=700),
    "shapes-finetune": replace(SHAPES, steps=700, continues=True),
    "vqa": Scale(optimizer="adamax", learning_rate=2e-3, steps=25_000, evaluate_every=850),
    "vqa-finetune": Scale(continues=True),
}
SCALE_HELP = {
    "shapes": "Small network, for worlds of shapes_cp.",
    "shapes-base": "Half of its steps, for a base network there.",
    "shapes-finetune": "The other half, to go on from that.",
    "vqa": "Full size, for a base network on VQA or VQA-CP.",
    "vqa-finetune": "Full size, small steps, to go on from that.",
}

# On the command line, a method and a scale are subcommands whose values are defaults of flags.
if TYPE_CHECKING:
    MethodChoice: TypeAlias = Method
    ScaleChoice: TypeAlias = Scale
else:
    MethodChoice = tyro.extras.subcommand_type_from_defaults(METHODS, METHOD_HELP, prefix_names=False)
    ScaleChoice = tyro.extras.subcommand_type_from_defaults(SCALES, SCALE_HELP, prefix_names=False)
