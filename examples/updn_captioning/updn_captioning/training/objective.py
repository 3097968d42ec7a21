"""Everything that one training step differentiates, in one forward pass.

The importance is a gradient, and a data-parallel wrapper synchronises only what happens inside of its forward. So the
*whole* loss, importance included, is computed in here, and the trainer wraps this module, not the network.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from hint_loss import hint_ranking_loss, proposal_importance
from updn_captioning.data.prepared import CaptionBatch
from updn_captioning.data.vocabulary import PAD
from updn_captioning.networks.updn import CaptionOutput, UpDnCaptioner
from updn_captioning.training.methods import Method
from updn_common.runs.importance import Importance, follow


class Losses(NamedTuple):
    """The loss to back-propagate, and its parts for the record."""

    total: Float[Tensor, ""]
    task: Float[Tensor, ""]
    hint: Float[Tensor, ""]


class Spoken(NamedTuple):
    """Captions that the network has said about the images of a batch."""

    tokens: Int[Tensor, "B T+1"]
    """BEGIN, words, END (unless cut), PAD."""
    advantage: Float[Tensor, " B"]
    """How much better each scores than it had to."""


class Objective(nn.Module):
    """The loss of a batch's captions, plus that of the hints for their visual words."""

    def __init__(self, model: UpDnCaptioner, method: Method) -> None:
        super().__init__()
        self.model = model
        self.method = method

    def forward(
        self,
        batch: CaptionBatch,
        spoken: Spoken | None = None,
        *,
        task_scale: float | Tensor = 1.0,
        hint_scale: float | Tensor = 1.0,
    ) -> Losses:
        r"""Compute the losses of one process's share of a step.

        With cross entropy, the captions' loss is the mean over all words of the step (END is one):
        :math:`-\frac{1}{N} \sum_b \sum_t \log p(w_{bt})`. In self-critical training it is the mean over captions that
        were said, with advantage A: :math:`-\frac{1}{B} \sum_b A_b \sum_t \log p(w_{bt})`. That of the hints is the
        mean over captions with hinted words of the mean over these.

        Args:
            batch: captions, ``human`` is NaN where it does not know.
            spoken: what to learn from in place of the captions, in self-critical training.
            task_scale: turns this batch's sum over words (captions, if spoken) into its part of the step's mean.
            hint_scale: turns this batch's sum over captions with hinted words into its part of the step's mean.
        """
        if spoken is not None:
            words = word_log_probs(self.model(spoken.tokens[:, :-1], batch.features, batch.mask), spoken.tokens)
            task = -(spoken.advantage @ words.sum(1)) * task_scale
        supervised = self.method.supervision != "none"
        hint = batch.features.new_zeros(())
        if spoken is None or supervised:
            features = batch.features
            if self.method.supervision == "importance":
                features = follow(features, self.method.importance, self.method.probes)
            output = self.model(batch.tokens[:, :-1], features, batch.mask)
            if spoken is None:
                task = -word_log_probs(output, batch.tokens).sum() * task_scale
            if supervised:
                hint = self.hint_losses(output, features, batch).sum() * hint_scale
        return Losses(task + self.method.weight * hint, task.detach(), hint.detach())

    def hint_losses(
        self, output: CaptionOutput, features: Float[Tensor, "B K D"], batch: CaptionBatch
    ) -> Float[Tensor, " B"]:
        """The mean over each caption's hinted words of what the method charges for; 0 for one without."""
        if self.method.supervision == "attention":
            looks = word_attention(output.attention, batch.word_spans)
        else:
            looks = word_importance(word_scores(self.model, output, batch), features, self.method.importance)
        losses = hint_ranking_loss(
            looks,
            batch.human,
            mask=batch.mask[:, None] & ~batch.human.isnan(),
            margin=self.method.margin,
            min_gap=self.method.min_gap,
            relative=self.method.relative,
            scale_free=self.method.scale_free,
            pair_reduction=self.method.pair_reduction,
            reduction="none",
        )
        return losses.sum(1) / batch.hinted.sum(1).clamp(min=1)


def word_log_probs(output: CaptionOutput, tokens: Int[Tensor, "B T+1"]) -> Float[Tensor, "B T"]:
    """Log-probability of each word after the first, 0 for padding."""
    targets = tokens[:, 1:]
    found = output.log_probs.gather(-1, targets[..., None]).squeeze(-1)
    return torch.where(targets == PAD, 0.0, found)


def span_steps(spans: Int[Tensor, "B W 2"], steps: int) -> Bool[Tensor, "B W T"]:
    """The steps at which each visual word is said."""
    step = torch.arange(steps, device=spans.device)
    return (spans[..., :1] <= step) & (step < spans[..., 1:])


def word_scores(model: UpDnCaptioner, output: CaptionOutput, batch: CaptionBatch) -> Float[Tensor, "B W"]:
    """The score whose gradient is a visual word's importance: its log-probability, 0 where there is none.

    A word of several tokens ("hot dog") has the sum of theirs, which is that of saying all of them.
    """
    targets = batch.tokens[:, 1:]
    caption, word, step = span_steps(batch.word_spans, targets.shape[1]).nonzero(as_tuple=True)
    # Not read off `output.log_probs`: through that the importance would differentiate all steps' whole vocabularies.
    log_probs = model.log_probs(output.hidden[caption, step])
    said = log_probs.gather(-1, targets[caption, step][:, None]).squeeze(-1)
    return said.new_zeros(batch.word_spans.shape[:2]).index_put((caption, word), said, accumulate=True)


def word_importance(
    scores: Float[Tensor, "B W"],
    features: Float[Tensor, "B K D"],
    importance: Importance = "sum",
    *,
    differentiable: bool = True,
) -> Float[Tensor, "B W K"]:
    """The importance of each proposal for each visual word: for all words at once, and for a single one cheaper."""
    if scores.shape[1] == 0:
        return scores[..., None].expand(-1, -1, features.shape[1])
    score = scores.squeeze(1) if scores.shape[1] == 1 else scores
    alpha = proposal_importance(score, features, reduction=importance, differentiable=differentiable)
    return alpha.view(*scores.shape, -1)


def word_attention(attention: Float[Tensor, "B T K"], spans: Int[Tensor, "B W 2"]) -> Float[Tensor, "B W K"]:
    """The mean over its steps of the attention of each visual word; 0 where there is none."""
    said = span_steps(spans, attention.shape[1]).to(attention.dtype)
    return said @ attention / said.sum(-1, keepdim=True).clamp(min=1)


def one_word(batch: CaptionBatch, chance: Float[Tensor, " B"]) -> CaptionBatch:
    """The batch with one visual word a caption, drawn among those that have a hint.

    The mean over many draws of any function of a word is its mean over the caption's hinted words.

    Args:
        batch: captions with all of their visual words.
        chance: decides which; even in [0, 1).
    """
    if batch.word_spans.shape[1] == 0:
        return batch
    number = batch.hinted.sum(1)
    drawn = torch.minimum((chance * number).long(), number - 1)  # the product may be rounded up to the number
    is_drawn = batch.hinted & (batch.hinted.cumsum(1) == drawn[:, None] + 1)
    rows, chosen = torch.arange(len(chance)), is_drawn.int().argmax(1)
    return batch._replace(
        word_spans=batch.word_spans[rows, chosen][:, None],
        word_categories=batch.word_categories[rows, chosen][:, None],
        human=batch.human[rows, chosen][:, None],
        relevant=batch.relevant[rows, chosen][:, None],
    )
