"""The fixed part of GVQA: which words and answers name concepts, and how concepts are grouped."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int
from torch import Tensor, nn

NONE = -1
"""Index that stands for no concept."""


class Concepts(NamedTuple):
    """W words and A answers name N concepts in C clusters; Y question types have at most L words."""

    question_types: Int[Tensor, "Y L"]
    """Token ids, padded on the right with 0."""
    content: Bool[Tensor, " W"]
    """Whether each word is a content word, which a question may ask to verify."""
    of_word: Int[Tensor, " W"]
    """The concept that each word names, or ``NONE``."""
    of_answer: Int[Tensor, " A"]
    """The concept that each answer names; ``NONE`` for yes and no."""
    cluster: Int[Tensor, " N"]
    """The cluster of each concept; 0 for concepts that are never an answer."""
    verdicts: Int[Tensor, "2"]
    """Indices of the answers yes and no."""


class Lexicon(nn.Module):
    """Finds concepts in questions and answers. It has buffers, which are saved with a network, and no parameters."""

    question_types: Tensor
    content: Tensor
    of_word: Tensor
    of_answer: Tensor
    cluster: Tensor
    verdicts: Tensor

    def __init__(self, concepts: Concepts) -> None:
        super().__init__()
        for name, tensor in concepts._asdict().items():
            self.register_buffer(name, tensor)

    @property
    def clusters(self) -> int:
        """Number of clusters, C."""
        return int(self.cluster.max()) + 1

    def main_words(self, tokens: Int[Tensor, "B T"]) -> Int[Tensor, "B T"]:
        """Remove the question types; the rest is still padded on the left."""
        _, end = match_question_types(tokens, self.question_types)
        return tokens.masked_fill(torch.arange(tokens.shape[1], device=tokens.device) < end[:, None], 0)

    def to_verify(self, main: Int[Tensor, "B T"]) -> Int[Tensor, " B"]:
        """Extract the word of the concept to verify: the last content word, or padding if there is none."""
        places = torch.arange(1, main.shape[1] + 1, device=main.device)
        last = (self.content[main] * places).amax(1, keepdim=True)  # 0 if there is none
        return F.pad(main, (1, 0)).gather(1, last).squeeze(1)

    def says_yes_or_no(self, ground_truth: Int[Tensor, " B"]) -> Bool[Tensor, " B"]:
        """Whether an answer is yes or no."""
        return (ground_truth[:, None] == self.verdicts).any(1)

    def named_by_answer(self, ground_truth: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
        """The concept that the answer names, or ``NONE``."""
        return torch.where(ground_truth >= 0, self.of_answer[ground_truth.clamp(min=0)], NONE)

    def judged(
        self, main: Int[Tensor, "B T"], ground_truth: Int[Tensor, " B"]
    ) -> tuple[Bool[Tensor, "B N"], Bool[Tensor, "B N"]]:
        """Labels of the visual concept classifier.

        Args:
            main: Main words of questions.
            ground_truth: The answers, -1 for an unknown one.

        Returns:
            Whether each concept is present, and whether that is known.
        """
        denied = torch.where(ground_truth == self.verdicts[1], self.of_word[self.to_verify(main)], NONE)
        absent = self._marked(denied[:, None])
        named = torch.cat([self.of_word[main], self.named_by_answer(ground_truth)[:, None]], 1)
        present = self._marked(named) & ~absent
        active = present.float() @ F.one_hot(self.cluster).float()  # (B, C)
        return present, (active[:, self.cluster] > 0) | absent

    def _marked(self, concepts: Int[Tensor, "B M"]) -> Bool[Tensor, "B N"]:
        """Mask that is true for the given concepts."""
        count = len(self.cluster)
        at = torch.where(concepts == NONE, count, concepts)  # a column that is cut off
        marked = torch.zeros(len(concepts), count + 1, dtype=torch.bool, device=concepts.device)
        return marked.scatter_(1, at, True)[:, :-1]


def match_question_types(
    tokens: Int[Tensor, "B T"], question_types: Int[Tensor, "Y L"]
) -> tuple[Int[Tensor, " B"], Int[Tensor, " B"]]:
    """The longest question type that each question begins with, and the position after it.

    A question that begins with no type has the type -1 and the position of its first word.
    """
    begin = (tokens != 0).int().argmax(1)
    L = question_types.shape[1]
    columns = begin[:, None] + torch.arange(L, device=tokens.device)
    first = F.pad(tokens, (0, L)).gather(1, columns)  # (B, L)
    alike = ((first[:, None] == question_types) | (question_types == 0)).all(-1)  # (B, Y)
    length, found = torch.where(alike, (question_types != 0).sum(-1), 0).max(1)
    return torch.where(length > 0, found, -1), begin + length
