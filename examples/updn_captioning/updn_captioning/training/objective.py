"""The whole loss of a training step, computed in one forward pass.

The importance is a gradient, and a data-parallel wrapper synchronises only what happens inside its forward pass. So the
*whole* loss, importance included, is computed here, and the trainer wraps this module, not the network.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from hint_loss import proposal_importance
from updn_captioning.data.prepared import CaptionBatch
from updn_captioning.data.vocabulary import PAD
from updn_captioning.networks.updn import CaptionOutput, UpDnCaptioner
from updn_captioning.training.methods import Method
from updn_common.runs.importance import Importance, require_importance


class Losses(NamedTuple):
    """The loss to back-propagate, and its detached parts, which are logged."""

    total: Float[Tensor, ""]
    task: Float[Tensor, ""]
    hint: Float[Tensor, ""]


class SampledCaptions(NamedTuple):
    """Captions that the network sampled for the images of a batch."""

    tokens: Int[Tensor, "B T+1"]
    """BEGIN, words, END (unless the caption was cut), PAD."""
    advantage: Float[Tensor, " B"]
    """Reward of each caption minus that of the greedy caption of the image."""


class Objective(nn.Module):
    """The loss on a batch of captions, plus the loss on hints for their visual words."""

    def __init__(self, model: UpDnCaptioner, method: Method) -> None:
        super().__init__()
        self.model = model
        self.method = method

    def forward(
        self,
        batch: CaptionBatch,
        sampled: SampledCaptions | None = None,
        *,
        task_scale: float | Tensor = 1.0,
        hint_scale: float | Tensor = 1.0,
    ) -> Losses:
        r"""Compute the losses of one process's share of a step.

        With cross entropy, the loss on captions is the mean over all words of the step, END included:
        :math:`-\frac{1}{N} \sum_b \sum_t \log p(w_{bt})`. In self-critical training it is the mean over sampled
        captions with advantage A: :math:`-\frac{1}{B} \sum_b A_b \sum_t \log p(w_{bt})`. The loss on hints is the
        mean over captions with hinted words, for each of which it is the mean over these words.

        Args:
            batch: Captions of people.
            sampled: In self-critical training, sampled captions to learn from instead.
            task_scale: Factor that turns this batch's sum over words (sampled captions) into its part of the mean.
            hint_scale: Factor that turns this batch's sum over captions with hinted words into its part of the mean.
        """
        if sampled is not None:
            words = word_log_probs(self.model(sampled.tokens[:, :-1], batch.features, batch.mask), sampled.tokens)
            task = -(sampled.advantage @ words.sum(1)) * task_scale
        supervised = self.method.supervision != "none"
        hint = batch.features.new_zeros(())
        if sampled is None or supervised:
            features = batch.features
            if self.method.supervision == "importance":
                features = require_importance(features, self.method.importance, self.method.probes)
            output = self.model(batch.tokens[:, :-1], features, batch.mask)
            if sampled is None:
                task = -word_log_probs(output, batch.tokens).sum() * task_scale
            if supervised:
                hint = self.hint_losses(output, features, batch).sum() * hint_scale
        return Losses(task + self.method.weight * hint, task.detach(), hint.detach())

    def hint_losses(
        self, output: CaptionOutput, features: Float[Tensor, "B K D"], batch: CaptionBatch
    ) -> Float[Tensor, " B"]:
        """The mean loss over each caption's hinted words; 0 for a caption without any."""
        if self.method.supervision == "attention":
            ranked = word_attention(output.attention, batch.word_spans)
        else:
            ranked = word_importance(word_scores(self.model, output, batch), features, self.method.importance)
        losses = self.method.ranking_losses(ranked, batch.human, batch.mask[:, None])
        return losses.sum(1) / batch.hinted.sum(1).clamp(min=1)


def word_log_probs(output: CaptionOutput, tokens: Int[Tensor, "B T+1"]) -> Float[Tensor, "B T"]:
    """Log-probability of each word after the first, 0 for padding."""
    targets = tokens[:, 1:]
    found = output.log_probs.gather(-1, targets[..., None]).squeeze(-1)
    return torch.where(targets == PAD, 0.0, found)


def span_steps(spans: Int[Tensor, "B W 2"], steps: int) -> Bool[Tensor, "B W T"]:
    """True for the steps that belong to each visual word."""
    step = torch.arange(steps, device=spans.device)
    return (spans[..., :1] <= step) & (step < spans[..., 1:])


def word_scores(model: UpDnCaptioner, output: CaptionOutput, batch: CaptionBatch) -> Float[Tensor, "B W"]:
    """The score whose gradient is a visual word's importance: its log-probability, 0 where there is no word.

    The score of a word of several tokens ("hot dog") is the sum of their log-probabilities.
    """
    targets = batch.tokens[:, 1:]
    caption, word, step = span_steps(batch.word_spans, targets.shape[1]).nonzero(as_tuple=True)
    # `output.log_probs` has these numbers too, but would make the importance differentiate all steps' vocabularies.
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
    """The importance of each proposal for each visual word; a single word a caption is cheaper than several."""
    if scores.shape[1] == 0:
        return scores[..., None].expand(-1, -1, features.shape[1])
    score = scores.squeeze(1) if scores.shape[1] == 1 else scores
    alpha = proposal_importance(score, features, reduction=importance, differentiable=differentiable)
    return alpha.view(*scores.shape, -1)


def word_attention(attention: Float[Tensor, "B T K"], spans: Int[Tensor, "B W 2"]) -> Float[Tensor, "B W K"]:
    """The mean attention over the steps of each visual word; 0 where there is no word."""
    said = span_steps(spans, attention.shape[1]).to(attention.dtype)
    return said @ attention / said.sum(-1, keepdim=True).clamp(min=1)


def one_word(batch: CaptionBatch, chance: Float[Tensor, " B"]) -> CaptionBatch:
    """Draw one visual word of each caption, uniformly among those with a hint.

    So the mean over many draws of any function of a word is its mean over the caption's hinted words.

    Args:
        batch: Captions with all of their visual words.
        chance: Random numbers, uniform in [0, 1), that decide which.
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
