r"""BLEU-1 to BLEU-4: the share of a caption's n-grams that occur in any of its references.

.. math::

    \mathrm{BLEU}_n = \min\big(1, e^{1 - r / c}\big) \Big(\prod_{k=1}^{n} \frac{m_k}{t_k}\Big)^{1/n},

where :math:`t_k` is the number of the candidates' k-grams, :math:`m_k` the number of those that occur in a reference
(repeated ones at most as often as in any single reference), :math:`c` the length of the candidates, and :math:`r` the
length of the references, for each candidate the closest in length (the shorter one in a tie). All of these are sums
over the corpus: the corpus score is *not* a mean over images, but :func:`bleu` of the sum of their :func:`statistics`.

As in the official code, :math:`10^{-15}` is added to numerators and :math:`10^{-9}` to denominators.

References: Papineni et al., "BLEU: a Method for Automatic Evaluation of Machine Translation", ACL 2002;
``pycocoevalcap`` 1.2.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int64

from updn_captioning.scores.ngrams import N, Ngram, ngrams

SMALL, TINY = 1e-9, 1e-15


def statistics(candidate: str, references: Sequence[str]) -> Int64[np.ndarray, "10"]:
    """The statistics that BLEU sums over a corpus: matches m_1 to m_4, totals t_1 to t_4, c and r.

    Example:
        >>> statistics("a dog dog runs", ["the dog runs", "a dog and a dog"])
        array([4, 2, 0, 0, 4, 3, 2, 1, 4, 3])
    """
    words, others = candidate.split(), [reference.split() for reference in references]
    matches, totals = [], []
    for n in range(1, N + 1):
        mine = Counter(ngrams(words, n))
        theirs: Counter[Ngram] = Counter()
        for other in others:
            theirs |= Counter(ngrams(other, n))
        matches.append((mine & theirs).total())
        totals.append(mine.total())
    closest = min((abs(len(other) - len(words)), len(other)) for other in others)[1]
    return np.array([*matches, *totals, len(words), closest])


def bleu(sums: Float64[np.ndarray, "*S 10"] | Int64[np.ndarray, "*S 10"]) -> Float64[np.ndarray, "*S 4"]:
    """BLEU-1 to BLEU-4 of statistics, or of sums of statistics.

    Example:
        >>> bleu(statistics("a dog runs", ["the dog runs", "a dog"]))[:2].round(3)
        array([1., 1.])
    """
    matches, totals, lengths, closest = np.split(sums.astype(np.float64), [N, 2 * N, 2 * N + 1], axis=-1)
    precisions = (matches + TINY) / (totals + SMALL)
    score: Float64[np.ndarray, "*S 4"] = np.cumprod(precisions, axis=-1) ** (1 / np.arange(1, N + 1))
    ratio = (lengths + TINY) / (closest + SMALL)
    return score * np.exp(np.minimum(1 - 1 / ratio, 0))
