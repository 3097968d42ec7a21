r"""CIDEr-D, which COCO calls CIDEr: n-grams that a caption shares with its references, where rare ones weigh more.

An n-gram :math:`g` of a caption has the weight :math:`w(g) = c(g) \cdot \big(\log N - \log \max(1, d(g))\big)`, where
:math:`c(g)` is its number in the caption, and :math:`d(g)` the number of images, of :math:`N`, that have it in any of
their references. A candidate :math:`h` with the references :math:`r_1, \dots, r_m` of its image scores

.. math::

    10 \cdot \frac{1}{4} \sum_{n=1}^{4} \frac{1}{m} \sum_{j=1}^{m} e^{-(l_h - l_j)^2 / (2 \cdot 6^2)}
    \frac{\sum_g \min\big(w_h(g), w_j(g)\big) \, w_j(g)}{\lVert w_h \rVert \, \lVert w_j \rVert},

with sums and norms over n-grams of length :math:`n`, and 0 where a norm is 0. The minimum limits the gain from repeated
n-grams; :math:`l` is the number of tokens.

The corpus score is the mean over images. The official evaluation computes :math:`d` from the references that it
evaluates against, so that scores on different sets of images cannot be compared. With a single image all weights, and
the score, are 0.

References: Vedantam, Zitnick and Parikh, "CIDEr: Consensus-based Image Description Evaluation", CVPR 2015, section 7;
``pycocoevalcap`` 1.2.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from updn_captioning.scores.ngrams import N, Ngram, ngrams

SIGMA = 6.0

Tokens = Sequence[str]


class DocumentFrequencies(NamedTuple):
    """The number of images in whose references each n-gram occurs."""

    counts: Mapping[Ngram, int]
    """Numbers of images, without n-grams of a single image, which have the same weight as n-grams of none."""
    images: int

    @classmethod
    def of(cls, references: Iterable[Sequence[Tokens]]) -> "DocumentFrequencies":
        """Count the n-grams in the references of each image."""
        counts: Counter[Ngram] = Counter()
        images = 0
        for captions in references:
            images += 1
            counts.update({ngram for caption in captions for n in range(1, N + 1) for ngram in ngrams(caption, n)})
        return cls({ngram: count for ngram, count in counts.items() if count > 1}, images)


class Vector(NamedTuple):
    """Weights of a caption's n-grams for each n, their norms, and its number of tokens."""

    weights: Sequence[Mapping[Ngram, float]]
    norms: Sequence[float]
    length: int


class CiderD:
    """Scores captions, with the document frequencies of a corpus.

    Example:
        >>> references = [["a dog runs".split(), "the dog runs".split()], ["a red bus".split()]]
        >>> cider = CiderD(DocumentFrequencies.of(references))
        >>> cider.score(["a dog runs".split(), "a bus".split()], references).round(2)
        array([5.4 , 1.74])
    """

    def __init__(self, frequencies: DocumentFrequencies) -> None:
        self._unseen = math.log(frequencies.images)
        self._idf = {ngram: self._unseen - math.log(count) for ngram, count in frequencies.counts.items()}

    def score(self, candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> Float64[np.ndarray, " N"]:
        """The score of each candidate against its references, of which there is at least one."""
        pairs = zip(candidates, references, strict=True)
        return np.array([self.consensus(self.vector(one), map(self.vector, others)) for one, others in pairs])

    def vector(self, caption: Tokens) -> Vector:
        """The vector by which a caption is compared; a trainer may keep the vectors of its references."""
        weights = [
            {ngram: count * self._idf.get(ngram, self._unseen) for ngram, count in Counter(ngrams(caption, n)).items()}
            for n in range(1, N + 1)
        ]
        norms = [math.hypot(*part.values()) for part in weights]
        return Vector(weights, norms, len(caption))

    def consensus(self, candidate: Vector, references: Iterable[Vector]) -> float:
        """The score of one candidate, given as vectors."""
        similarities = [_similarity(candidate, reference) for reference in references]
        return 10 * sum(similarities) / len(similarities)


def _similarity(candidate: Vector, reference: Vector) -> float:
    total = 0.0
    for n in range(N):
        mine, theirs, norms = candidate.weights[n], reference.weights[n], candidate.norms[n] * reference.norms[n]
        if norms > 0:
            # In the caption's order: that of a set, and so the last digit of the sum, would differ between processes.
            shared = [ngram for ngram in mine if ngram in theirs]
            total += sum(min(mine[ngram], theirs[ngram]) * theirs[ngram] for ngram in shared) / norms
    return total / N * math.exp(-((candidate.length - reference.length) ** 2) / (2 * SIGMA**2))
