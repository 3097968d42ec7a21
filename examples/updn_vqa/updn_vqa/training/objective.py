"""The whole loss of a training step, computed in one forward pass.

The importance is a gradient, and a data-parallel wrapper synchronises only what happens inside its forward pass. So the
*whole* loss, importance included, is computed here, and the trainer wraps this module, not the network.
"""

from typing import NamedTuple, assert_never

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from hint_loss import proposal_importance
from updn_common.runs.importance import require_importance
from updn_vqa.data.prepared import VqaBatch
from updn_vqa.networks import VqaNetwork, VqaOutput
from updn_vqa.training.adversary import QuestionOnlyAdversary, entropy, reverse_gradient
from updn_vqa.training.methods import Method, Score
from updn_vqa.training.self_critical import critical_loss, find_rivals, influence_loss, influential_proposals
from updn_vqa.training.visfis import alignment_loss, invariance_loss, remove, uncertainty_loss

BY_IMPORTANCE = ("importance", "self-critical", "visfis")
"""Kinds of supervision whose loss depends on importance."""
BY_TRUE_ANSWER = ("importance", "self-critical")
"""Kinds whose whole loss is about the true answer's score; VisFIS also trains answers without some proposals."""


class Losses(NamedTuple):
    """The loss to back-propagate, and its detached parts, which are logged."""

    total: Float[Tensor, ""]
    task: Float[Tensor, ""]
    """Loss on the answers, and losses of the network's parts if these are trained separately."""
    hint: Float[Tensor, ""]
    adversary: Float[Tensor, ""]
    """Loss of the question-only adversary; 0 without one."""


class Objective(nn.Module):
    """The loss on the answers to a batch of questions, plus the loss on hints of a batch of hinted questions."""

    def __init__(self, model: VqaNetwork, method: Method, example: VqaBatch | None = None) -> None:
        """Create the adversary if the method has one; its sizes follow from an ``example`` of a batch."""
        super().__init__()
        self.model = model
        self.method = method
        self.adversary: QuestionOnlyAdversary | None = None
        if method.adversarial:
            if example is None:
                raise ValueError("A method with an adversary needs an example of the questions.")
            with torch.no_grad():
                output = model(example.tokens, example.features, example.mask)
            self.adversary = QuestionOnlyAdversary(output.question.shape[1], output.logits.shape[1])

    def forward(
        self, batch: VqaBatch, hinted: VqaBatch | None, *, task_scale: float = 1.0, hint_scale: float | Tensor = 1.0
    ) -> Losses:
        """Compute the losses of one process's share of a step.

        Args:
            batch: Questions to answer.
            hinted: Questions with hints; None to train without.
            task_scale: Factor that turns this batch's mean into its part of the step's mean.
            hint_scale: Factor that turns this batch's sum over hinted questions into its part of the step's mean.
        """
        output, part_losses = self.model.training_output(batch.tokens, batch.features, batch.mask, batch.ground_truth)
        total = task = (answer_loss(output.logits, batch.answer_scores) + part_losses).mean() * task_scale
        hint = adversary = torch.zeros_like(task)
        if hinted is not None:
            hint = self.hint_losses(hinted).sum() * hint_scale
            total = total + self.method.weight * hint
        if self.adversary is not None:
            question_only = self.adversary(reverse_gradient(output.question, self.method.adversary))
            adversary = answer_loss(question_only, batch.answer_scores).mean() * task_scale
            gap = entropy(self.adversary.frozen(output.question)) - entropy(output.logits)
            total = total + adversary - self.method.entropy_gap * gap.mean() * task_scale
        return Losses(total, task.detach(), hint.detach(), adversary.detach())

    def hint_losses(self, hinted: VqaBatch) -> Float[Tensor, " B"]:
        """The loss on the hint of each question, 0 where `trained_hints` is false."""
        return torch.where(trained_hints(self.method, hinted), self._hint_losses(hinted), 0.0)

    def _hint_losses(self, hinted: VqaBatch) -> Float[Tensor, " B"]:
        method, features = self.method, hinted.features
        if method.supervision in BY_IMPORTANCE:
            features = require_importance(features, method.importance, method.probes)
        output = self.model(hinted.tokens, features, hinted.mask)
        match method.supervision:
            case "importance":
                alpha = self._importance(output, features, hinted)
                return method.ranking_losses(alpha, hinted.human, hinted.mask)
            case "attention":
                return method.ranking_losses(output.attention, hinted.human, hinted.mask)
            case "self-critical":
                return self._self_critical(output, features, hinted)
            case "visfis":
                return self._visfis(self._importance(output, features, hinted), hinted)
            case "zero-out":
                return answer_loss(output.logits, torch.zeros_like(output.logits))
            case "none":
                raise ValueError("A method without supervision has no loss on hints.")
            case other:
                assert_never(other)

    def _importance(
        self, output: VqaOutput, features: Float[Tensor, "B K D"], hinted: VqaBatch
    ) -> Float[Tensor, "B K"]:
        score = decision_score(output.logits, hinted, self.method.score)
        return proposal_importance(score, features, reduction=self.method.importance)

    def _self_critical(
        self, output: VqaOutput, features: Float[Tensor, "B K D"], hinted: VqaBatch
    ) -> Float[Tensor, " B"]:
        """SCR: see :mod:`updn_vqa.training.self_critical`."""
        rivals = find_rivals(output.logits.detach(), hinted.answer_scores, hinted.ground_truth)
        truth = decision_score(output.logits, hinted, self.method.score)
        scores = torch.cat([truth[:, None], output.logits.gather(1, rivals.answers)], 1)
        alpha = proposal_importance(scores, features, reduction=self.method.importance)  # (B, 1 + T, K)
        influential = influential_proposals(hinted.human, self.method.threshold)
        influence, most = influence_loss(alpha[:, 0], influential, hinted.mask & ~influential)
        critical = critical_loss(alpha[:, 0], alpha[:, 1:], most, rivals.criticised)
        return influence + self.method.critical * critical * influential.any(-1)

    def _visfis(self, alpha: Float[Tensor, "B K"], hinted: VqaBatch) -> Float[Tensor, " B"]:
        """VisFIS: see :mod:`updn_vqa.training.visfis`."""
        weights, known = self.method.visfis, hinted.mask & ~hinted.human.isnan()
        important = known & (hinted.human > self.method.threshold)
        unimportant = known & ~important
        views = torch.cat([remove(hinted.features, unimportant), remove(hinted.features, important)])
        logits = self.model(hinted.tokens.repeat(2, 1), views, hinted.mask.repeat(2, 1)).logits
        with_important, without_important = logits.chunk(2)
        sufficiency = answer_loss(with_important, hinted.answer_scores) * important.any(-1)
        uncertainty = uncertainty_loss(without_important) * unimportant.any(-1)
        return (
            weights.sufficiency * sufficiency
            + weights.uncertainty * uncertainty
            + weights.invariance * invariance_loss(alpha, unimportant, hinted.mask)
            + weights.alignment * alignment_loss(alpha, hinted.human, known)
        )


def answer_loss(logits: Float[Tensor, "B A"], answer_scores: Float[Tensor, "B A"]) -> Float[Tensor, " B"]:
    """Binary cross entropy with the soft scores, summed over answers."""
    return F.binary_cross_entropy_with_logits(logits, answer_scores, reduction="none").sum(-1)


def trained_hints(method: Method, hinted: VqaBatch) -> Bool[Tensor, " B"]:
    """Whether each question's hint is trained: it exists and, in losses about the true answer, that answer is known."""
    if method.supervision not in BY_TRUE_ANSWER:
        return hinted.hinted
    known = hinted.ground_truth >= 0 if method.score == "ground-truth" else (hinted.answer_scores > 0).any(-1)
    return hinted.hinted & known


def decision_score(logits: Float[Tensor, "B A"], batch: VqaBatch, score: Score = "ground-truth") -> Float[Tensor, " B"]:
    """The score whose gradient is the importance.

    ``ground-truth`` is the logit of the annotated answer, the paper's choice and our default. ``annotated`` is the sum
    of the logits of all annotators' answers, as in public re-implementations. If the annotated answer is not in the
    vocabulary, score and importance are 0, and `trained_hints` is false.
    """
    if score == "annotated":
        return torch.where(batch.answer_scores > 0, logits, 0.0).sum(-1)
    truth = logits.gather(1, batch.ground_truth.clamp(min=0)[:, None]).squeeze(1)
    return torch.where(batch.ground_truth >= 0, truth, 0.0)
