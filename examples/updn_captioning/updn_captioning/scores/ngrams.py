"""The n-grams that BLEU and CIDEr-D count."""

from collections.abc import Iterable, Sequence

N = 4
"""Largest length of the n-grams."""

Ngram = tuple[str, ...]


def ngrams(caption: Sequence[str], n: int) -> Iterable[Ngram]:
    """All n-grams of a caption's tokens, in order.

    Example:
        >>> list(ngrams(["a", "red", "bus"], 2))
        [('a', 'red'), ('red', 'bus')]
    """
    return zip(*(caption[i:] for i in range(n)), strict=False)
