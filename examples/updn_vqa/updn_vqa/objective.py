"""Everything that one training step differentiates, in one forward pass.

The importance is a gradient, and a data-parallel wrapper synchronises only what happens inside of its forward. So the
*whole* loss, importance included, is computed in here, and the trainer wraps this module, not the network.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from hint_loss import hint_ranking_loss, proposal_importance, track_proposals
from updn_vqa.data import VqaBatch
from updn_vqa.networks import VqaNetwork
from updn_vqa.presets import Method, Score


class Losses(NamedTuple):
    """The loss to back-propagate, and its parts for the record."""

    total: Float[Tensor, ""]
    task: Float[Tensor, ""]
    hint: Float[Tensor, ""]


class Objective(nn.Module):
    """The answers' loss on a batch of questions, plus the hints' loss on a batch of hinted ones."""

    def __init__(self, model: VqaNetwork, method: Method) -> None:
        super().__init__()
        self.model = model
        self.method = method

    def forward(
        self, batch: VqaBatch, hinted: VqaBatch | None, *, task_scale: float = 1.0, hint_scale: float | Tensor = 1.0
    ) -> Losses:
        """Compute the losses of one process's share of a step.

        Args:
            batch: questions to answer.
            hinted: questions with a hint; ``human`` is NaN where it does not know. None for no hints.
            task_scale: turns this batch's mean into its part of the step's mean.
            hint_scale: turns this batch's sum over hinted questions into its part of the step's mean.
        """
        logits = self.model(batch.tokens, batch.features, batch.mask).logits
        task = answer_loss(logits, batch.answer_scores).mean() * task_scale
        if hinted is None:
            return Losses(task, task.detach(), torch.zeros_like(task))
        hint = self.hint_losses(hinted).sum() * hint_scale
        return Losses(task + self.method.weight * hint, task.detach(), hint.detach())

    def hint_losses(self, hinted: VqaBatch) -> Float[Tensor, " B"]:
        """What the method charges each hinted question for."""
        method = self.method
        features = track_proposals(hinted.features) if method.supervision == "importance" else hinted.features
        output = self.model(hinted.tokens, features, hinted.mask)
        if method.supervision == "zero-out":
            return answer_loss(output.logits, torch.zeros_like(output.logits))
        if method.supervision == "importance":
            alpha = proposal_importance(decision_score(output.logits, hinted, method.score), features)
        else:
            alpha = output.attention
        return hint_ranking_loss(
            alpha,
            hinted.human,
            mask=hinted.mask & ~hinted.human.isnan(),
            margin=method.margin,
            min_gap=method.min_gap,
            scale_free=method.scale_free,
            pair_reduction=method.pair_reduction,
            reduction="none",
        )


def answer_loss(logits: Float[Tensor, "B A"], answer_scores: Float[Tensor, "B A"]) -> Float[Tensor, " B"]:
    """Binary cross entropy with the soft scores, summed over answers."""
    return F.binary_cross_entropy_with_logits(logits, answer_scores, reduction="none").sum(-1)


def decision_score(logits: Float[Tensor, "B A"], batch: VqaBatch, score: Score = "ground-truth") -> Float[Tensor, " B"]:
    """The score whose gradient is the importance.

    ``ground-truth`` is the logit of the annotated answer, the paper's choice and our default; ``annotated`` the sum of
    the logits of all answers that any annotator gave, as in public re-implementations. A question without such an
    answer in the vocabulary has the score 0, and so has its importance.
    """
    if score == "annotated":
        return torch.where(batch.answer_scores > 0, logits, 0.0).sum(-1)
    truth = logits.gather(1, batch.ground_truth.clamp(min=0)[:, None]).squeeze(1)
    return torch.where(batch.ground_truth >= 0, truth, 0.0)
