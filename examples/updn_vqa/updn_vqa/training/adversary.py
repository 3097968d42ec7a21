r"""AdvReg: a question-only adversary and a difference of entropies (Ramakrishnan, Agrawal and Lee, NeurIPS 2018).

Language priors are in the question's encoding q. So an adversary :math:`f_Q` learns to answer from q alone, and the
network learns to encode questions so that the adversary fails. Besides, the image should make the network surer than
the adversary:

.. math::
    \min_{\text{adversary}} L_Q \qquad
    \min_{\text{network}} L_{task} - \lambda_Q L_Q - \lambda_H \left(H(A | Q) - H(A | Q, I)\right)

:math:`L_Q` is the adversary's loss on the answers, :math:`H(A | Q)` the entropy of its prediction, and
:math:`H(A | Q, I)` the entropy of the network's prediction. No hints are needed.

Where the paper leaves room, we chose: :math:`L_Q` is the same binary cross entropy as the network's. Entropies are
those of the softmax of the logits, since one sigmoid for each answer is not a distribution over answers. The entropies
do not train the adversary, which keeps estimating what can be answered from the question alone. Reversal works against
this adversary only: a new one, trained afterwards on the encodings, can find much of the priors again.
"""

from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call


class QuestionOnlyAdversary(nn.Module):
    """Two layers from a question's encoding to one logit for each answer."""

    def __init__(self, question_size: int, answers: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(question_size, question_size), nn.ReLU(), nn.Linear(question_size, answers)
        )

    def forward(self, question: Float[Tensor, "B Q"]) -> Float[Tensor, "B A"]:
        logits: Tensor = self.layers(question)
        return logits

    def frozen(self, question: Float[Tensor, "B Q"]) -> Float[Tensor, "B A"]:
        """The same logits, but a loss on them trains only the question's encoding, not the adversary."""
        weights = {name: parameter.detach() for name, parameter in self.layers.named_parameters()}
        logits: Tensor = functional_call(self.layers, weights, question)
        return logits


def reverse_gradient(x: Tensor, weight: float) -> Tensor:
    """Return ``x``; its gradient is multiplied by ``-weight`` (Ganin and Lempitsky, ICML 2015)."""
    return x.detach() - weight * (x - x.detach())


def entropy(logits: Float[Tensor, "B A"]) -> Float[Tensor, " B"]:
    """Entropy of the softmax in nats, from 0 to log A."""
    return -(logits.softmax(-1) * logits.log_softmax(-1)).sum(-1)
