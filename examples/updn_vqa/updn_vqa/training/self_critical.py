r"""SCR: self-critical reasoning (Wu and Mooney, NeurIPS 2019).

The sensitivity :math:`S(a, r)` of an answer a to a proposal r is HINT's importance: the gradient of a's score with
respect to r's features, summed over features. People mark the influential proposals I. *Influence strengthening* trains
the best of them, :math:`r^*`, to matter more for the ground truth :math:`a^*` than any proposal outside of I:

.. math::
    L_{infl} = \min_{r \in I} \sum_{j \notin I} \max(0,\; S(a^*, j) - S(a^*, r)) , \qquad r^* \text{ its minimiser.}

The *self-critical* loss is on the wrong answers B that are scored above the ground truth, at most five. They should not
depend on that proposal more than the ground truth does:

.. math:: L_{crit} = \sum_{a \in B} w(a) \max(0,\; S(a, r^*) - S(a^*, r^*)) .

Where the paper leaves room, or we differ: S is the gradient of logits, as in the authors' code, not of probabilities;
:math:`w(a) = 1`, where they take the distance of the answers' word vectors, which not every data set has; an answer is
wrong if no annotator gave it; I is the five proposals (their number) of highest human score, without those at or below
a threshold; and both losses are trained at once, not in turns.

The authors' code (``train.py`` of https://github.com/jialinwu17/self_critical_vqa) differs from these formulas:

- **confidence**: each term of the self-critical loss is multiplied by the difference of the two answers' sigmoids,
  through which gradients flow;
- **no floor**: this term has no ``max(0, ...)``, so a wrong answer that depends on the proposal less than the ground
  truth does lowers the loss, without bound;
- **satisfied candidates**: a proposal whose sum is 0 is left out of the minimum, unless all are 0. So influence
  strengthening ends when every candidate is satisfied; ours, as in the formula, ends when the first one is;
- **candidates**: these are the five proposals of highest human score, in I or not. I includes the sixth too, and all
  with the same score; or, if the sixth scores below 0.2, those that score higher than it by 0.1. A candidate outside of
  I is trained to matter *less* than those of I;
- **margin**: the better one of two proposals has to lead by 0.0001;
- **criticised proposal**: the minimum gives the candidate's rank by human score, but this number is used as the
  proposal's position in the image's list. The self-critical loss is about one of the first five in that list, and 0 if
  this one is not in I;
- **rivals**: these are the four answers with the highest scores, annotated ones included. The ground truth is the
  answer of highest soft score, and its sensitivity is the gradient of the sum over all annotated answers (here
  ``--score annotated``);
- **means**: influence strengthening is averaged over the questions where it is not 0, the self-critical loss over all
  pairs of a question and a rival. Here both are averaged over hinted questions, and rivals are summed. The weights in
  its README, 20 and 1,500, are ``--weight`` and ``--critical`` (their ratio) here, but multiply these other means, and
  the confidence.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

MOST_INFLUENTIAL = 5
MOST_RIVALS = 5


class Rivals(NamedTuple):
    """The T wrong answers with the highest scores."""

    answers: Int[Tensor, "B T"]
    criticised: Bool[Tensor, "B T"]
    """True for answers that are scored above the ground truth."""


def find_rivals(
    logits: Float[Tensor, "B A"], answer_scores: Float[Tensor, "B A"], ground_truth: Int[Tensor, " B"]
) -> Rivals:
    """Find B, which is empty for a question whose ground truth is not in the vocabulary (-1)."""
    wrong = answer_scores == 0
    truth = logits.gather(1, ground_truth.clamp(min=0)[:, None])
    best = logits.masked_fill(~wrong, -torch.inf).topk(min(MOST_RIVALS, logits.shape[1]))
    return Rivals(best.indices, (best.values > truth) & (ground_truth >= 0)[:, None])


def influential_proposals(human: Float[Tensor, "B K"], threshold: float) -> Bool[Tensor, "B K"]:
    """Find I, which excludes proposals whose human score is unknown (NaN)."""
    best = human.nan_to_num(-torch.inf).topk(min(MOST_INFLUENTIAL, human.shape[1])).indices
    return torch.zeros_like(human, dtype=torch.bool).scatter(1, best, True) & (human > threshold)


def influence_loss(
    truth: Float[Tensor, "B K"], influential: Bool[Tensor, "B K"], others: Bool[Tensor, "B K"]
) -> tuple[Float[Tensor, " B"], Int[Tensor, " B"]]:
    """Influence strengthening, which is 0 without influential proposals, and the most influential proposal.

    Args:
        truth: Sensitivities of the ground truth, ``S(a*, r)``.
        influential: True for proposals in I.
        others: True for existing proposals outside of I.
    """
    excess = (truth[:, None, :] - truth[:, :, None]).relu()  # (B, r, j)
    losses = (excess * others[:, None, :]).sum(-1).masked_fill(~influential, torch.inf)
    loss, most = losses.min(-1)
    return torch.where(influential.any(-1), loss, 0.0), most


def critical_loss(
    truth: Float[Tensor, "B K"],
    rivals: Float[Tensor, "B T K"],
    most: Int[Tensor, " B"],
    criticised: Bool[Tensor, "B T"],
) -> Float[Tensor, " B"]:
    """The self-critical loss, given the sensitivities of the ground truth and of the rivals."""
    at = most[:, None, None].expand(*rivals.shape[:2], 1)
    excess = rivals.gather(2, at).squeeze(2) - truth.gather(1, most[:, None])
    return (excess.relu() * criticised).sum(-1)
