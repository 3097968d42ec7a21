"""How a run learns from hints: options that both pipelines share, importance of proposals, and the ranking loss."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jaxtyping import Bool, Float
from torch import Tensor

from hint_loss import hint_ranking_loss, track_proposals
from updn_common.data.control_hints import Hints
from updn_common.errors import check_range
from updn_common.runs.directory import read_config

Importance = Literal["sum", "norm"]
"""The gradient's sum over features (signed), or its norm (unsigned), in which nothing cancels."""


@dataclass(frozen=True)
class HintOptions:
    """Options of the loss on hints."""

    hints: Hints = "human"
    """Which hints to train with: human; or a control: permuted (another sample's; for captions, dealt among all images
    and categories, so that some keep their category), random, random-per-epoch (drawn anew in each epoch), or
    irrelevant (1 - s)."""
    importance: Importance = "sum"
    """The gradient's sum over features (the paper), in which they may cancel, or its norm."""
    probes: int = 16
    """Random directions that estimate the norm, drawn anew in each step; 0 computes it exactly, at a higher price."""
    weight: float = 30.0
    """Weight of the loss on hints; the loss on answers or captions has weight 1."""
    margin: float = 0.4
    """How far apart importances should be for each unit of human gap."""
    min_gap: float = 0.5
    """Leave out pairs whose human scores differ by no more than this."""
    relative: bool = False
    """Rescale each sample's human scores to 0 to 1, so that margin and gap fit every kind of hint."""
    scale_free: bool = True
    """Divide importances by the sum of their absolute values within the sample."""
    pair_reduction: Literal["sum", "mean"] = "mean"
    """Reduction over a sample's pairs of proposals."""

    def check(self) -> None:
        """Check the ranges of the options.

        Raises:
            InputError: An option is out of range.
        """
        check_range(0, weight=self.weight, margin=self.margin, min_gap=self.min_gap, probes=self.probes)

    def ranking_losses(
        self, ranked: Float[Tensor, "*B K"], human: Float[Tensor, "*B K"], mask: Bool[Tensor, "*#B K"]
    ) -> Float[Tensor, "*B"]:
        """Loss of each sample that does not rank its proposals as people do.

        Args:
            ranked: Importance of the proposals, or their attention weights.
            human: Human importance, NaN where it is unknown.
            mask: True for existing proposals.
        """
        return hint_ranking_loss(
            ranked,
            human,
            mask=mask & ~human.isnan(),
            margin=self.margin,
            min_gap=self.min_gap,
            relative=self.relative,
            scale_free=self.scale_free,
            pair_reduction=self.pair_reduction,
            reduction="none",
        )


def require_importance(features: Float[Tensor, "B K D"], importance: Importance, probes: int) -> Float[Tensor, "B K D"]:
    """Make proposals such that their importance for a score can be computed, and differentiated again.

    Args:
        features: The proposals.
        importance: Kind of importance.
        probes: Number of random directions that estimate the norm. PyTorch's global generator draws them: trainers seed
            it in each step, so that directions are a function of (seed, step, rank). With 0 the norm is exact, by plain
            double backward.
    """
    if importance == "norm" and probes == 0:
        return features.detach().requires_grad_()
    return track_proposals(features, reduction=importance, probes=max(probes, 1))


def trained_importance(run: Path) -> Importance:
    """Read which importance a run was trained with; older runs did not record it, and used the paper's."""
    importance: Importance = read_config(run)["method"].get("importance", "sum")
    return importance
