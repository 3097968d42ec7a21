r"""Does the answer follow from the proposals that it should follow from? The network is asked again without some.

To take a proposal away is to leave it out of the mask: the network sees an image that never had it. For networks that
read proposals through their mask alone, as ours do, this is the same as *dropping* it from the input, which is what the
authors of FPVG do. (VisFIS overwrites its features by a constant instead: a proposal that no detector ever found.)

**Faithful and plausible visual grounding** (FPVG; Reich, Putze and Schultz, EMNLP Findings 2023). With people's
*relevant* proposals alone the answer should stay as it is, and with the *irrelevant* ones alone it should change. Both
together are good grounding, and anything else is bad grounding, of a correct or wrong answer (with all proposals):

========= ======= =====
grounding correct wrong
========= ======= =====
good      GGC     GGW
bad       BGC     BGW
========= ======= =====

FPVG is GGC + GGW. A question counts if it has proposals of both kinds. Correct means a soft score of at least one half:
the questions of the paper have one answer, those of VQA have soft scores.

**Sufficiency and comprehensiveness** (DeYoung et al., ACL 2020, "ERASER"). Let :math:`p` be the probability (sigmoid of
the logit) of the answer that the network gives with all proposals :math:`x`, and :math:`r_k` the share :math:`k` of
them that is most important to *that* answer: by the gradient of its logit, whatever the ground truth is. Then

.. math:: \text{sufficiency} = p(x) - p(r_k), \qquad \text{comprehensiveness} = p(x) - p(x \setminus r_k),

averaged over the shares (in ERASER, the area over the perturbation curve). They judge the importance: if it is
faithful, sufficiency is low, since the important proposals are enough, and comprehensiveness is high, since the others
are not.

**Flip rates** say whether answers rely on the wrong evidence: the share that changes when the irrelevant proposals are
swapped for those of another image, at the same positions, and when the relevant ones are. Where a question counts for
FPVG it counts here. No importance is asked.
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
"""Of an image's proposals: two, four, eight and eighteen of 36."""
MOST_COVERED = 0.25
"""FPVG: a proposal of which relevant objects cover more is not irrelevant."""
HIGH_SCORE = 0.55
"""Human importance above which a proposal is relevant where only hints are known: VisFIS's, for VQA-HAT."""


class Faithfulness(NamedTuple):
    """What was measured on each of N questions, in their order."""

    stays: Float[Tensor, " N"]
    """Whether the answer is the same with the relevant proposals alone; NaN if the question does not count."""
    changes: Float[Tensor, " N"]
    """Whether it is another with the irrelevant ones alone; NaN if the question does not count."""
    sufficiency: Float[Tensor, " N"]
    """NaN for an image with one proposal."""
    comprehensiveness: Float[Tensor, " N"]
    flips_irrelevant: Float[Tensor, " N"]
    """Whether the answer changes with another image's proposals in place of the irrelevant ones; NaN as above."""
    flips_relevant: Float[Tensor, " N"]
    """The same, in place of the relevant ones."""


def measure_faithfulness(
    model: VqaNetwork,
    split: VqaSplit,
    accelerator: Accelerator,
    *,
    relevant_by: RelevantBy = "boxes",
    shares: tuple[float, ...] = SHARES,
    batch_size: int = 256,
) -> Faithfulness:
    """Answer all questions of a split with all proposals, and with parts of them; every process its share.

    Args:
        model: It is put into evaluation mode and back.
        split: The questions.
        accelerator: Where to do it.
        relevant_by: What says which proposals are relevant; see :func:`relevant_and_irrelevant`.
        shares: Of proposals to keep and to take away, for sufficiency and comprehensiveness.
        batch_size: Questions at a time.
    """

    def columns(asked: VqaBatch, batch: VqaBatch) -> list[Tensor]:
        features = batch.features.requires_grad_()

        def logits(keep: Bool[Tensor, "B K"]) -> Float[Tensor, "B A"]:
            """NaN for questions that keep no proposal: the network is not asked without any."""
            some = keep.any(-1, keepdim=True)
            return torch.where(some, model(batch.tokens, features, keep | ~some).logits, torch.nan)

        with torch.enable_grad(), accelerator.autocast():
            whole = logits(batch.mask)
            answers = whole.argmax(-1, keepdim=True)
            score = whole.gather(1, answers).squeeze(1)
            alpha = proposal_importance(score, features, reduction=model.explained_by, differentiable=False)
        with torch.no_grad(), accelerator.autocast():
            relevant, irrelevant = relevant_and_irrelevant(batch, relevant_by)
            counts = relevant.any(-1) & irrelevant.any(-1)
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

            swaps = [torch.where(counts[:, None], part, False) for part in (irrelevant, relevant)]
            flips = [answer_flips(predict, features, part, others=others) for part in swaps]
        both = torch.stack(drops).mean(0)
        both = torch.where(batch.mask.sum(-1) > 1, both, torch.nan)
        return [torch.where(counts, same[0], torch.nan), torch.where(counts, ~same[1], torch.nan), *both, *flips]

    return Faithfulness(*measure_all(columns, model, split, accelerator, batch_size))


def relevant_and_irrelevant(
    batch: VqaBatch, relevant_by: RelevantBy
) -> tuple[Bool[Tensor, "B K"], Bool[Tensor, "B K"]]:
    """Which proposals people hold relevant, and which irrelevant; none of both where that is not known.

    - ``"boxes"``: relevant are those that overlap an annotated box with an intersection over union above one half, as
      in FPVG. Irrelevant are those that *relevant proposals* cover by at most a quarter each; FPVG takes the annotated
      boxes, which the relevant proposals stand for here. What lies between is neither.
    - ``"hints"``: where people left attention maps but no boxes. Relevant are those of a human importance of at least
      0.55, irrelevant all others. This is not FPVG's own definition.
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
    """Which share of box k's area box j covers, at ``[..., k, j]``; 0 of a box without an area."""
    low = torch.maximum(boxes[:, :, None, :2], boxes[:, None, :, :2])
    high = torch.minimum(boxes[:, :, None, 2:], boxes[:, None, :, 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    area = (boxes[..., 2:] - boxes[..., :2]).prod(-1)
    return torch.where(shared > 0, shared / area[:, :, None], 0.0)


def most_important(alpha: Float[Tensor, "B K"], mask: Bool[Tensor, "B K"], share: float) -> Bool[Tensor, "B K"]:
    """The given share of each image's proposals, those of the highest importance (the first ones of a tie).

    Their number is rounded up, but one is always left out: of an image with one proposal, none is taken.
    """
    existing = mask.sum(-1, keepdim=True)
    number = (share * existing - 1e-4).ceil().minimum(existing - 1)  # 0.15 * 100 is 15, not a bit more
    order = torch.where(mask, alpha, -torch.inf).argsort(dim=-1, descending=True, stable=True)
    return (order.argsort(dim=-1) < number) & mask
