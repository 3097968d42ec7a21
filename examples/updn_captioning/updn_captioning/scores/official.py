"""The official scores, with the statistics of each image from which they can be resampled.

**Intervals.** Images are resampled, each with its candidate and all of its references. ROUGE-L is the mean over the
resampled images. BLEU is computed from the sums of their statistics. CIDEr-D is the mean of their scores, with the
document frequencies of *all* evaluated references, whose weights define this CIDEr-D. If document frequencies were
counted again in each resample, the n-grams of an image that is drawn twice would seem to be those of two images. That
would shift the score (by 0.006 of 0.600 on COCO's official sample) and hardly change its spread (standard deviation
0.0181 instead of 0.0187).
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from updn_captioning.scores.bleu import bleu, statistics
from updn_captioning.scores.cider import CiderD, DocumentFrequencies
from updn_captioning.scores.ngrams import N
from updn_captioning.scores.rouge import rouge_l
from updn_common.reports.bootstrap import Statistic, mean


class OfficialScores(NamedTuple):
    """Scores, by their official names."""

    corpus: dict[str, Statistic]
    """Scores over all I images."""
    by_image: dict[str, Float64[np.ndarray, " I"]]
    """Scores of each image alone."""


def official_scores(candidates: Mapping[int, str], references: Mapping[int, Sequence[str]]) -> OfficialScores:
    """BLEU-1 to BLEU-4, ROUGE-L and CIDEr(-D) of tokenised captions, in the order of the candidates."""
    images = list(candidates)
    sums = np.stack([statistics(candidates[i], references[i]) for i in images])
    tokens = [[reference.split() for reference in references[i]] for i in images]
    scorer = CiderD(DocumentFrequencies.of(tokens))
    cider = scorer.score([candidates[i].split() for i in images], tokens)
    rouge = np.array([rouge_l(candidates[i], references[i]) for i in images])
    by_image = {f"Bleu_{n}": bleu(sums)[:, n - 1] for n in range(1, N + 1)} | {"ROUGE_L": rouge, "CIDEr": cider}
    corpus = {f"Bleu_{n}": Statistic(sums, partial(_bleu, n)) for n in range(1, N + 1)}
    return OfficialScores(corpus | {"ROUGE_L": mean(rouge), "CIDEr": mean(cider)}, by_image)


def _bleu(n: int, sums: Float64[np.ndarray, "*S 10"]) -> Float64[np.ndarray, "*S"]:
    return bleu(sums)[..., n - 1]
