r"""Does the answer depend on the right proposals? The network answers again without some of them.

A proposal is removed by leaving it out of the mask. For networks that use the mask wherever they read proposals, as
ours do, this equals *dropping* it from the input, as the authors of FPVG do. (VisFIS replaces its features by a
constant instead, which no detector would produce.)

**Faithful and plausible visual grounding** (FPVG; Reich, Putze and Schultz, EMNLP Findings 2023). With people's
*relevant* proposals alone the answer should stay the same, and with the *irrelevant* ones alone it should change. If
both hold, grounding is good, else it is bad; the answer with all proposals is correct or wrong:

========= ======= =====
grounding correct wrong
========= ======= =====
good      GGC     GGW
bad       BGC     BGW
========= ======= =====

FPVG is GGC + GGW, over questions that have both relevant and irrelevant proposals. An answer is correct if its soft
score is at least one half: questions in the paper have one answer, those of VQA have soft scores.

**Sufficiency and comprehensiveness** (DeYoung et al., ACL 2020, "ERASER"). Let :math:`p` be the probability (sigmoid of
the logit) of the answer that the network gives with all proposals :math:`x`, and :math:`r_k` the share :math:`k` of
them that is most important to *that* answer: by the gradient of its logit, whatever the ground truth is. Then

.. math:: \text{sufficiency} = p(x) - p(r_k), \qquad \text{comprehensiveness} = p(x) - p(x \setminus r_k),

averaged over the shares (in ERASER, the area over the perturbation curve). They evaluate the importance: if it is
faithful, sufficiency is low, since the important proposals are enough, and comprehensiveness is high, since the others
are not enough.

**Flip rates** show whether answers rely on the wrong evidence: the share of answers that change when the irrelevant
proposals are swapped for those of another image, at the same positions, and when the relevant ones are. They are over
the same questions as FPVG, and do not depend on importance.
"""

from typing import Literal, NamedTuple

import torch
from accelerate import Accelerator
from jaxtyping import Bool, Float
from torch import Tensor

from hint_loss import answer_flips, proposal_importance, two_level
from updn_vqa.data.prepared import VqaBatch, VqaSplit
from updn_vqa.networks import VqaNetwork
from updn_vqa.training.measure import measure_all

RelevantBy = Literal["boxes", "hints"]
SHARES = (0.05, 0.1, 0.2, 0.5)
"""Shares of an image's proposals: two, four, eight and eighteen of 36."""
MOST_COVERED = 0.25
"""The largest share of an irrelevant proposal that a relevant object may cover, as in FPVG."""
HIGH_SCORE = 0.55
"""Human importance above which a proposal is relevant if only hints are known, as in VisFIS for VQA-HAT."""


class Faithfulness(NamedTuple):
    """Measurements on each of N questions, in their order.

    All but sufficiency and comprehensiveness are NaN for a question without both relevant and irrelevant proposals.
    """

    stays: Float[Tensor, " N"]
    """Whether the answer is the same with the relevant proposals alone."""
    changes: Float[Tensor, " N"]
    """Whether the answer differs with the irrelevant proposals alone."""
    sufficiency: Float[Tensor, " N"]
    """Mean over the shares; NaN for an image with one proposal."""
    comprehensiveness: Float[Tensor, " N"]
    """Mean over the shares; NaN for an image with one proposal."""
    flips_irrelevant: Float[Tensor, " N"]
    """Whether the answer changes if another image's proposals replace the irrelevant ones."""
    flips_relevant: Float[Tensor, " N"]
    """Whether the answer changes if another image's proposals replace the relevant ones."""


def measure_faithfulness(
    model: VqaNetwork,
    split: VqaSplit,
    accelerator: Accelerator,
    *,
    relevant_by: RelevantBy = "boxes",
    shares: tuple[float, ...] = SHARES,
    batch_size: int = 256,
) -> Faithfulness:
    """Answer all questions of a split with all proposals, and with parts of them; processes share the work.

    Args:
        model: The network, which is in evaluation mode meanwhile.
        split: The questions.
        accelerator: Knows the device and the processes.
        relevant_by: What defines relevant proposals; see :func:`relevant_and_irrelevant`.
        shares: Shares of proposals to keep and to remove, for sufficiency and comprehensiveness.
        batch_size: Number of questions at a time.
    """

    def columns(asked: VqaBatch, batch: VqaBatch) -> list[Tensor]:
        features = batch.features.requires_grad_()

        def logits(keep: Bool[Tensor, "B K"]) -> Float[Tensor, "B A"]:
            """Logits with some proposals; NaN for questions that keep none."""
            some = keep.any(-1, keepdim=True)
            return torch.where(some, model(batch.tokens, features, keep | ~some).logits, torch.nan)

        with torch.enable_grad(), accelerator.autocast():
            whole = logits(batch.mask)
            answers = whole.argmax(-1, keepdim=True)
            score = whole.gather(1, answers).squeeze(1)
            alpha = proposal_importance(score, features, reduction=model.explained_by, differentiable=False)
        with torch.no_grad(), accelerator.autocast():
            relevant, irrelevant = relevant_and_irrelevant(batch, relevant_by)
            known = relevant.any(-1) & irrelevant.any(-1)
            same = [(logits(part).argmax(-1, keepdim=True) == answers).squeeze(1) for part in (relevant, irrelevant)]
            drops = []
            for share in shares:
                top = most_important(alpha, batch.mask, share)
                parts = (whole, logits(top), logits(batch.mask & ~top))
                before, kept, removed = (part.gather(1, answers).squeeze(1).float().sigmoid() for part in parts)
                drops.append(torch.stack([before - kept, before - removed]))
            others = split.other_images(asked.question_ids, batch.mask.shape[1]).to(features.device)

            def predict(mixed: Float[Tensor, "B K D"]) -> Float[Tensor, "B A"]:
                found: Tensor = model(batch.tokens, mixed, batch.mask).logits
                return found

            swaps = [torch.where(known[:, None], part, False) for part in (irrelevant, relevant)]
            flips = [answer_flips(predict, features, part, others=others) for part in swaps]
        both = torch.stack(drops).mean(0)
        both = torch.where(batch.mask.sum(-1) > 1, both, torch.nan)
        return [torch.where(known, same[0], torch.nan), torch.where(known, ~same[1], torch.nan), *both, *flips]

    return Faithfulness(*measure_all(columns, model, split, accelerator, batch_size))


def relevant_and_irrelevant(
    batch: VqaBatch, relevant_by: RelevantBy
) -> tuple[Bool[Tensor, "B K"], Bool[Tensor, "B K"]]:
    """The proposals that are relevant, and those that are irrelevant, according to people; both empty if unknown.

    - ``"boxes"``: relevant proposals overlap an annotated box with an intersection over union above one half, as in
      FPVG. Irrelevant proposals are covered by at most a quarter by each *relevant proposal*; FPVG takes the annotated
      boxes, which the relevant proposals stand for here. All others are neither.
    - ``"hints"``, for data with attention maps but no boxes: relevant proposals have a human importance of at least
      0.55, and all others are irrelevant. FPVG does not have this definition.
    """
    if relevant_by == "hints":
        known = batch.mask & ~batch.human.isnan()
        relevant = two_level(batch.human, relevant=HIGH_SCORE)[0] == 1  # False for NaN
        return relevant & known, ~relevant & known
    relevant = batch.relevant & batch.mask & batch.grounded[:, None]
    covered = torch.where(relevant[:, None], covered_shares(batch.boxes), 0.0).amax(-1)
    known = relevant.any(-1, keepdim=True) & batch.mask
    return relevant, known & ~relevant & (covered <= MOST_COVERED)


def covered_shares(boxes: Float[Tensor, "B K 4"]) -> Float[Tensor, "B K K"]:
    """The share of box k's area that box j covers, at ``[..., k, j]``; 0 if box k has no area."""
    low = torch.maximum(boxes[:, :, None, :2], boxes[:, None, :, :2])
    high = torch.minimum(boxes[:, :, None, 2:], boxes[:, None, :, 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    area = (boxes[..., 2:] - boxes[..., :2]).prod(-1)
    return torch.where(shared > 0, shared / area[:, :, None], 0.0)


def most_important(alpha: Float[Tensor, "B K"], mask: Bool[Tensor, "B K"], share: float) -> Bool[Tensor, "B K"]:
    """Choose the given share of each image's proposals, by the highest importance (in a tie, the first ones).

    Their number is rounded up, but at least one is left out, so that none is chosen if an image has one proposal.
    """
    existing = mask.sum(-1, keepdim=True)
    number = (share * existing - 1e-4).ceil().minimum(existing - 1)  # in float32, 0.15 * 100 is a bit more than 15
    order = torch.where(mask, alpha, -torch.inf).argsort(dim=-1, descending=True, stable=True)
    return (order.argsort(dim=-1) < number) & mask
