r"""VisFIS: four objectives for being right for the right reasons (Ying, Hase and Bansal, NeurIPS 2022).

People mark the proposals e that are important for a question. The network f should

- answer from these alone, *sufficiency*: :math:`L_{task}(f(x_e), y)`;
- be uncertain without them, *uncertainty*: :math:`KL(\text{uniform} \,\|\, f(x_{\bar e}))`;
- ignore the others, *invariance*: :math:`\frac{1}{K} \sum_{r \notin e} |\alpha_r| / \lVert \alpha \rVert_2`;
- weigh all as people do, *alignment* (plausibility): :math:`1 - \cos(\alpha, s)`,

where :math:`\alpha` is HINT's importance, s the human score, and a proposal is important if s is above a threshold
(0.55 for VQA-HAT, in the authors' code). Proposals that are removed from x are replaced by -1, as there.

Where the paper leaves room, or we differ: the distribution that should be uniform is the softmax of the logits, since
one sigmoid for each answer is not a distribution over answers; and a question without important (unimportant) proposals
has no sufficiency (uncertainty and invariance) loss.

The authors' code (``components/losses.py`` of https://github.com/zfying/visfis, run by ``visfis_updn.sh``) has the same
invariance and alignment, and these differences:

- **softmax**: their network has a softmax over answers. The answers' loss and sufficiency are its cross entropy with
  the answer of highest soft score. Here they are the sigmoids' binary cross entropy with all soft scores, summed over
  answers;
- **uncertainty**: their divergence is divided by the number of answers A; ``VisFis.uncertainty = 1 / A`` does so here;
- **weights**: 1, 1, 0.1 and 0.1, as here, on UpDn with VQA-HAT (on their other data, 1 instead of 0.1), beside an
  answers' loss of weight 1. Here ``--weight`` multiplies all four, and because of the first two differences the same
  weights do not give the same balance;
- **importance**: theirs is the gradient of the sum of the logits of all annotated answers (here ``--score annotated``);
- **means**: theirs are over all questions of a batch, ours over those with hints.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

REMOVED = -1.0


def remove(features: Float[Tensor, "B K D"], proposals: Bool[Tensor, "B K"]) -> Float[Tensor, "B K D"]:
    """Replace the features of some proposals by ``REMOVED``."""
    return torch.where(proposals[..., None], REMOVED, features)


def uncertainty_loss(logits: Float[Tensor, "B A"]) -> Float[Tensor, " B"]:
    """Divergence of the softmax from the uniform distribution; 0 if all answers are equally likely."""
    return -logits.log_softmax(-1).mean(-1) - math.log(logits.shape[-1])


def invariance_loss(
    alpha: Float[Tensor, "B K"], unimportant: Bool[Tensor, "B K"], mask: Bool[Tensor, "B K"]
) -> Float[Tensor, " B"]:
    """Mean over existing proposals (``mask``) of the normalised importance of the unimportant ones."""
    size = F.normalize(alpha, dim=-1).abs()
    return torch.where(unimportant, size, 0.0).sum(-1) / mask.sum(-1)


def alignment_loss(
    alpha: Float[Tensor, "B K"], human: Float[Tensor, "B K"], known: Bool[Tensor, "B K"]
) -> Float[Tensor, " B"]:
    """One minus the cosine of importance and human scores, from 0 to 2; 0 for questions without hints."""
    cosine = F.cosine_similarity(torch.where(known, alpha, 0.0), torch.where(known, human, 0.0), dim=-1)
    return torch.where(known.any(-1), 1 - cosine, 0.0)
