"""Bottom-Up Top-Down attention for VQA (Anderson et al., CVPR 2018).

The layers are those of the widely used "UpDn" reference (Teney et al., CVPR 2018, tips and tricks): weight-normalised
fully connected layers, a GRU for the question, attention from the product of question and proposal, fusion by a
product, and a sigmoid for each answer.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from updn_vqa.networks.layers import NetworkSizes, VqaNetwork, VqaOutput, linear, nonlinear
from updn_vqa.networks.question import encode_question


class UpDn(VqaNetwork):
    """From question and proposals to one logit for each answer.

    ::

        tokens ----> embedding -> GRU ----> q --+--> question net --+
                                                |                   * --> classifier --> logits
        proposals -+--> attention(proposals, q) --> sum -> image net-+
                   +--------------------------------^
    """

    def __init__(self, sizes: NetworkSizes, *, words: int, answers: int, feature_size: int) -> None:
        super().__init__(sizes, words=words, answers=answers, feature_size=feature_size)
        hidden, activation = sizes.hidden, sizes.activation
        self.embedding = nn.Embedding(words, sizes.embedding, padding_idx=0)
        self.gru = nn.GRU(sizes.embedding, hidden, batch_first=True)
        self.attend_proposal = nonlinear(feature_size, hidden, activation)
        self.attend_question = nonlinear(hidden, hidden, activation)
        self.attend_dropout = nn.Dropout(sizes.attention_dropout)
        self.attend_logit = linear(hidden, 1)
        self.question_net = nonlinear(hidden, hidden, activation)
        self.image_net = nonlinear(feature_size, hidden, activation)
        self.classifier = classifier(sizes, answers)

    def forward(
        self, tokens: Int[Tensor, "B T"], features: Float[Tensor, "B K D"], mask: Bool[Tensor, "B K"]
    ) -> VqaOutput:
        question = encode_question(self.gru, self.embedding, tokens)
        attention = self.scores(question, features).masked_fill(~mask, -torch.inf).softmax(-1)
        logits = self.classifier(self.question_net(question) * self.image(attention, features, mask))
        return VqaOutput(logits, attention, question)

    def scores(self, question: Float[Tensor, "B H"], features: Float[Tensor, "B K D"]) -> Float[Tensor, "B K"]:
        """Scores of the proposals, whose softmax is the attention."""
        # A proposal's score is w . (p * q) = p . (w * q), and w * q is the same for all proposals.
        proposals = self.attend_dropout(self.attend_proposal(features))  # (B, K, H)
        query = self.attend_question(question) * self.attend_logit.weight
        scores: Tensor = (proposals @ query[..., None]).squeeze(-1) + self.attend_logit.bias
        return scores

    def image(
        self, attention: Float[Tensor, "B K"], features: Float[Tensor, "B K D"], mask: Bool[Tensor, "B K"]
    ) -> Float[Tensor, "B H"]:
        """Encode the image by the proposals that are attended to."""
        seen: Tensor = self.image_net((attention[:, None] @ features).squeeze(1))
        return seen


class UpDnBypass(UpDn):
    """UpDn that adds to its logits those of a classifier that reads only the question.

    Answers that are likely without looking at the image get their logits from that classifier, in which the proposals
    have no gradient. So the logits do not depend on attention alone.
    """

    def __init__(self, sizes: NetworkSizes, *, words: int, answers: int, feature_size: int) -> None:
        super().__init__(sizes, words=words, answers=answers, feature_size=feature_size)
        self.bypass = classifier(sizes, answers)

    def forward(
        self, tokens: Int[Tensor, "B T"], features: Float[Tensor, "B K D"], mask: Bool[Tensor, "B K"]
    ) -> VqaOutput:
        output = super().forward(tokens, features, mask)
        return output._replace(logits=output.logits + self.bypass(output.question))


class UpDnMean(UpDn):
    """UpDn that also reads the mean of all proposals, past its attention.

    The paper's argument against aligning attention is about networks like this one, which may answer from proposals
    that they do not attend to.
    """

    def __init__(self, sizes: NetworkSizes, *, words: int, answers: int, feature_size: int) -> None:
        super().__init__(sizes, words=words, answers=answers, feature_size=feature_size)
        self.mean_net = nonlinear(feature_size, sizes.hidden, sizes.activation)

    def image(
        self, attention: Float[Tensor, "B K"], features: Float[Tensor, "B K D"], mask: Bool[Tensor, "B K"]
    ) -> Float[Tensor, "B H"]:
        uniform = mask.to(features.dtype) / mask.sum(1, keepdim=True)
        mean: Tensor = self.mean_net((uniform[:, None] @ features).squeeze(1))
        return super().image(attention, features, mask) + mean


class UpDnConcat(UpDn):
    """UpDn with its authors' attention: a layer reads question and proposal, concatenated (Anderson et al.)."""

    def __init__(self, sizes: NetworkSizes, *, words: int, answers: int, feature_size: int) -> None:
        super().__init__(sizes, words=words, answers=answers, feature_size=feature_size)
        self.attend_proposal = nonlinear(sizes.hidden + feature_size, sizes.hidden, sizes.activation)
        del self.attend_question

    def scores(self, question: Float[Tensor, "B H"], features: Float[Tensor, "B K D"]) -> Float[Tensor, "B K"]:
        joint = torch.cat([question[:, None].expand(-1, features.shape[1], -1), features], -1)
        scores: Tensor = self.attend_logit(self.attend_dropout(self.attend_proposal(joint))).squeeze(-1)
        return scores


def classifier(sizes: NetworkSizes, answers: int) -> nn.Sequential:
    """From a joint representation, or a question, to one logit for each answer."""
    return nn.Sequential(
        nonlinear(sizes.hidden, 2 * sizes.hidden, sizes.activation),
        nn.Dropout(sizes.classifier_dropout),
        linear(2 * sizes.hidden, answers),
    )
