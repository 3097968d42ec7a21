"""What can be trained: each method is one row of a results table, each scale a set of sizes and a schedule.

Beside the paper's systems there are the controls of Shrestha et al. (ACL 2020), whose hints have no information. Gains
that a control has too are not due to human hints.
"""

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

import tyro

from updn_common.errors import check_range
from updn_common.runs.importance import HintOptions
from updn_common.runs.options import Schedule
from updn_vqa.networks import NetworkSizes

Supervision = Literal["none", "importance", "attention", "self-critical", "visfis", "zero-out"]
TaskOn = Literal["all", "hinted"]
Score = Literal["ground-truth", "annotated"]


@dataclass(frozen=True)
class VisFis:
    """Relative weights of the four VisFIS objectives; the defaults are its authors' for UpDn and VQA-HAT.

    The same weights do not give quite the same balance here: `visfis.py` says why.
    """

    sufficiency: float = 1.0
    """Weight of answering from the important proposals alone."""
    uncertainty: float = 1.0
    """Weight of finding all answers equally likely without the important proposals."""
    invariance: float = 0.1
    """Weight of giving the unimportant proposals no importance."""
    alignment: float = 0.1
    """Weight of importance that is proportional to the human score."""


@dataclass(frozen=True)
class Method(HintOptions):
    """What is learned beside answering questions: from hinted questions, or against an adversary."""

    supervision: Supervision = "none"
    """Loss on hinted questions. importance: importance should rank as people do (HINT); attention: attention weights
    should; self-critical: wrong answers should not rely on hinted proposals (SCR); visfis: the four objectives of
    VisFIS; zero-out: no answer should be given."""
    score: Score = "ground-truth"
    """Score whose gradient is the importance: the annotated answer's logit (the paper), or the sum of the logits of all
    annotators' answers."""
    task_on: TaskOn = "all"
    """Answer all questions, or fine-tune on the hinted ones only."""
    threshold: float = 0.55
    """Proposals with a higher human score are important (SCR and VisFIS)."""
    critical: float = 75.0
    """SCR: weight of the self-critical loss relative to influence strengthening; its authors' code has 1,500 / 20."""
    visfis: VisFis = field(default_factory=VisFis)
    adversary: float = 0.0
    """AdvReg's lambda_Q: weight of the reversed gradient of a question-only adversary."""
    entropy_gap: float = 0.0
    """AdvReg's lambda_H: weight of how much surer the network should be than the adversary."""

    @property
    def adversarial(self) -> bool:
        """Whether there is an adversary."""
        return self.adversary > 0 or self.entropy_gap > 0

    def check(self) -> None:
        """Check the ranges of the options; see `HintOptions.check`."""
        super().check()
        check_range(0, 1, threshold=self.threshold)
        check_range(0, critical=self.critical, adversary=self.adversary, entropy_gap=self.entropy_gap)
        check_range(0, **{f"visfis.{name}": weight for name, weight in asdict(self.visfis).items()})


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
    "scr": "Wrong answers should not rely on what matters.",
    "visfis": "Right from important proposals, unsure without.",
    "hint-on-hinted": "Hint, fine-tuned on the hinted questions only.",
    "base-on-hinted": "Its control: the same questions, without hints.",
}


@dataclass(frozen=True)
class Scale(Schedule):
    """Sizes of the network and the training schedule."""

    learning_rate: float = 2e-5
    clip: float = 0.25
    steps: int = 10_000
    evaluate_every: int = 500
    batch_size: int = 512
    hint_batch_size: int = 64
    """Hinted questions in a step, over all processes, beside those of --batch-size."""
    optimizer: Literal["adam", "adamax"] = "adam"
    """Optimiser."""
    kept: float = 1.0
    """Share of the weights of --start-from to begin with; new random weights have the rest: shrink and perturb (Ash
    and Adams, NeurIPS 2020)."""
    model: NetworkSizes = field(default_factory=NetworkSizes)

    def check(self) -> None:
        """Check the ranges of the options; see `Schedule.check`."""
        super().check()
        self.model.check()
        check_range(1, hint_batch_size=self.hint_batch_size)
        check_range(0, 1, kept=self.kept)


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
    "shapes-finetune": "The other half, for a trained network.",
    "vqa": "Full size, for a base network on VQA or VQA-CP.",
    "vqa-finetune": "Full size, small steps, for a trained network.",
}

# On the command line, methods and scales are subcommands, and their values are the defaults of flags.
if TYPE_CHECKING:
    MethodChoice: TypeAlias = Method
    ScaleChoice: TypeAlias = Scale
else:
    MethodChoice = tyro.extras.subcommand_type_from_defaults(METHODS, METHOD_HELP, prefix_names=False)
    ScaleChoice = tyro.extras.subcommand_type_from_defaults(SCALES, SCALE_HELP, prefix_names=False)
