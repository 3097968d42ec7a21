"""GVQA as one network of several parts, and the loss of each part."""

from typing import NamedTuple, Self

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from updn_vqa.data.prepared import PreparedData
from updn_vqa.networks.gvqa.concepts import find_concepts
from updn_vqa.networks.gvqa.lexicon import NONE, Concepts, Lexicon
from updn_vqa.networks.gvqa.parts import AnswerPredictor, Seen, TextClassifier, VisualConceptClassifier, VisualVerifier
from updn_vqa.networks.layers import NetworkSizes, VqaNetwork, VqaOutput

NOT_CHOSEN = 20.0
"""Subtracted from the logits of the branch that is not chosen."""


class Perceived(NamedTuple):
    """Outputs of the parts from which answers are computed."""

    yes_or_no: Float[Tensor, " B"]
    """Logit of the answer being yes or no."""
    clusters: Float[Tensor, "B C"]
    """Logits of the answer's cluster."""
    seen: Seen


class Gvqa(VqaNetwork):
    """From question and proposals to one logit for each answer; see :mod:`updn_vqa.networks.gvqa`."""

    order: Tensor

    def __init__(self, sizes: NetworkSizes, *, words: int, answers: int, feature_size: int, concepts: Concepts) -> None:
        super().__init__(sizes, words=words, answers=answers, feature_size=feature_size)
        self.lexicon = Lexicon(concepts)
        count = len(concepts.cluster)
        self.question_classifier = TextClassifier(sizes, words, 1)
        self.cluster_predictor = TextClassifier(sizes, words, self.lexicon.clusters)
        self.concept_classifier = VisualConceptClassifier(sizes, words, feature_size, count)
        self.answer_predictor = AnswerPredictor(sizes, count, answers - 2)
        self.verifier = VisualVerifier(sizes, words, count)
        others = (concepts.of_answer != NONE).nonzero().squeeze(1)
        self.register_buffer("order", torch.cat([concepts.verdicts, others]).argsort(), persistent=False)

    @classmethod
    def for_data(cls, sizes: NetworkSizes, data: PreparedData) -> Self:
        return cls(sizes, **cls.counts(data), concepts=find_concepts(data))

    def forward(
        self, tokens: Int[Tensor, "B T"], features: Float[Tensor, "B K D"], mask: Bool[Tensor, "B K"]
    ) -> VqaOutput:
        return self._answer(tokens, self.perceive(tokens, features, mask))

    def training_output(
        self,
        tokens: Int[Tensor, "B T"],
        features: Float[Tensor, "B K D"],
        mask: Bool[Tensor, "B K"],
        ground_truth: Int[Tensor, " B"],
    ) -> tuple[VqaOutput, Float[Tensor, " B"]]:
        perceived = self.perceive(tokens, features, mask)
        given = Perceived(
            perceived.yes_or_no.detach(),
            perceived.clusters.detach(),
            perceived.seen._replace(concepts=perceived.seen.concepts.detach()),
        )
        losses = self.part_losses(tokens, perceived, ground_truth)
        return self._answer(tokens, given), torch.stack(list(losses.values())).sum(0)

    def perceive(
        self, tokens: Int[Tensor, "B T"], features: Float[Tensor, "B K D"], mask: Bool[Tensor, "B K"]
    ) -> Perceived:
        """Run the parts that have their own losses."""
        return Perceived(
            self.question_classifier(tokens).squeeze(1),
            self.cluster_predictor(tokens),
            self.concept_classifier(self.lexicon.main_words(tokens), features, mask),
        )

    def _answer(self, tokens: Int[Tensor, "B T"], perceived: Perceived) -> VqaOutput:
        """Run the parts that predict answers."""
        seen = perceived.seen.concepts.sigmoid()
        plausible = perceived.clusters.softmax(-1)[:, self.lexicon.cluster]
        answers = self.answer_predictor(seen, plausible)
        verdicts = self.verifier(seen, self.lexicon.to_verify(self.lexicon.main_words(tokens)))
        yes_or_no = (perceived.yes_or_no > 0)[:, None]
        logits = torch.cat([verdicts - NOT_CHOSEN * ~yes_or_no, answers - NOT_CHOSEN * yes_or_no], 1)
        return VqaOutput(logits[:, self.order], perceived.seen.attention, perceived.seen.question)

    def part_losses(
        self, tokens: Int[Tensor, "B T"], perceived: Perceived, ground_truth: Int[Tensor, " B"]
    ) -> dict[str, Float[Tensor, " B"]]:
        """Loss of each part; 0 for questions that have no label for it."""
        yes_or_no = self.lexicon.says_yes_or_no(ground_truth)
        kind = F.binary_cross_entropy_with_logits(
            perceived.yes_or_no, yes_or_no.to(perceived.yes_or_no.dtype), reduction="none"
        )
        concept = self.lexicon.named_by_answer(ground_truth)
        cluster = torch.where(concept == NONE, NONE, self.lexicon.cluster[concept])
        present, judged = self.lexicon.judged(self.lexicon.main_words(tokens), ground_truth)
        concepts = F.binary_cross_entropy_with_logits(
            perceived.seen.concepts, present.to(perceived.seen.concepts.dtype), reduction="none"
        )
        return {
            "question classifier": torch.where(ground_truth >= 0, kind, 0.0),
            "answer cluster predictor": F.cross_entropy(
                perceived.clusters, cluster, ignore_index=NONE, reduction="none"
            ),
            "visual concept classifier": torch.where(judged, concepts, 0.0).sum(-1),
        }
