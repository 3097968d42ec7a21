r"""ROUGE-L: the words that a caption and its references have in the same order.

With the longest common subsequence :math:`\mathrm{lcs}(h, r)` of a candidate and a reference,

.. math::

    P = \max_r \frac{\mathrm{lcs}(h, r)}{|h|}, \qquad R = \max_r \frac{\mathrm{lcs}(h, r)}{|r|}, \qquad
    F = \frac{(1 + \beta^2) P R}{R + \beta^2 P}, \qquad \beta = 1.2,

where :math:`P` and :math:`R` may be of different references; F is 0 if no word is shared. The corpus score is the mean
over images.

References: Lin, "ROUGE: A Package for Automatic Evaluation of Summaries", 2004; ``pycocoevalcap`` 1.2.
"""

from collections.abc import Sequence

BETA = 1.2


def rouge_l(candidate: str, references: Sequence[str]) -> float:
    """The score of one caption.

    Example:
        >>> round(rouge_l("a dog runs", ["the dog runs fast", "a cat"]), 3)
        0.557
    """
    words = candidate.split(" ")  # as in the official code, an empty caption has one empty word
    others = [reference.split(" ") for reference in references]
    common = [longest_common_subsequence(words, reference) for reference in others]
    precision = max(common) / len(words)
    recall = max(shared / len(reference) for shared, reference in zip(common, others, strict=True))
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision) if precision else 0.0


def longest_common_subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    """The length of the longest common subsequence, by Hyyrö's bit-parallel algorithm (2004).

    Bit i of ``row`` is 0 if the table of the textbook's dynamic programme, in the row of the current word of ``b``,
    increases between the columns i and i + 1. So an addition updates a whole row.
    """
    positions: dict[str, int] = {}
    for i, word in enumerate(a):
        positions[word] = positions.get(word, 0) | 1 << i
    everything = (1 << len(a)) - 1
    row = everything
    for word in b:
        matches = row & positions.get(word, 0)
        row = ((row + matches) | (row - matches)) & everything
    return len(a) - row.bit_count()
