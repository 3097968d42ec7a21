"""CHAIR: the share of objects in captions that are not in the image (Rohrbach et al., EMNLP 2018).

CHAIRi is the share of mentions that are hallucinated, over all captions; CHAIRs is the share of captions with at least
one hallucinated mention. As in the official code, an object is in the image if it is annotated or if any reference
names it, since people mention objects that annotators did not draw. Mentions are visual words, or words of the authors'
list (`chair_words.ChairWords`).
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np

from updn_captioning.data.visual_words import VisualWord
from updn_common.reports.bootstrap import Statistic, mean, ratio


class Finder(Protocol):
    """Finds the words of captions that name categories."""

    @property
    def categories(self) -> tuple[str, ...]:
        """Names of the categories, in the order of their indices."""

    @property
    def source(self) -> str:
        """Where the words come from, for a report."""

    def find(self, words: Sequence[str]) -> list[VisualWord]:
        """The mentions in a caption, left to right."""


def chair(candidates: Mapping[int, str], objects: Mapping[int, Collection[int]], words: Finder) -> dict[str, Statistic]:
    """CHAIRi and CHAIRs in percent; intervals are over images.

    Args:
        candidates: A tokenised caption of each image.
        objects: The categories in each image.
        words: Finds the words that name categories.
    """
    mentions, hallucinated = [], []
    for image_id, caption in candidates.items():
        named = [word.category for word in words.find(caption.split())]
        mentions.append(len(named))
        hallucinated.append(sum(category not in objects[image_id] for category in named))
    return {
        "CHAIRi": ratio(100 * np.array(hallucinated), np.array(mentions)),
        "CHAIRs": mean(np.array([100.0 * (count > 0) for count in hallucinated])),
    }


def present_objects(
    references: Mapping[int, Sequence[str]], annotated: Iterable[tuple[int, int]], words: Finder
) -> dict[int, set[int]]:
    """The categories in each image.

    Args:
        references: The tokenised captions of each image.
        annotated: Pairs of an image and the category of an object in it; images without references are left out.
        words: Finds the words that name categories.
    """
    objects = {
        image_id: {word.category for caption in captions for word in words.find(caption.split())}
        for image_id, captions in references.items()
    }
    for image_id, category in annotated:
        if image_id in objects:
            objects[image_id].add(category)
    return objects
