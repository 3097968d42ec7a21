"""Hallucinated objects, counted by hand."""

import numpy as np
import pytest

from updn_captioning.data.visual_words import VisualWords
from updn_captioning.scores.chair import chair, present_objects
from updn_common.reports.bootstrap import estimate

WORDS = VisualWords.of_names(["cat", "dog", "hot dog"])
CAT, DOG, HOT_DOG = range(3)


def test_objects_are_annotated_or_named_by_references() -> None:
    references = {1: ["a cat", "two dogs and a cat"], 2: ["grass"]}
    annotated = [(1, HOT_DOG), (2, CAT), (3, DOG)]
    assert present_objects(references, annotated, WORDS) == {1: {CAT, DOG, HOT_DOG}, 2: {CAT}}


def test_mentions_and_captions() -> None:
    """Each mention of the same object counts; a hot dog is not a dog, and grass is not an object."""
    captions = {1: "a dog and a dog near a cat", 2: "a hot dog", 3: "a cat and a hot dog", 4: "green grass", 5: ""}
    objects = {1: {CAT}, 2: {DOG}, 3: {CAT, HOT_DOG}, 4: set[int](), 5: {CAT}}
    found = estimate(chair(captions, objects, WORDS)).values
    assert found["CHAIRi"] == pytest.approx(100 * 3 / 6)
    assert found["CHAIRs"] == pytest.approx(100 * 2 / 5)


def test_chair_of_mentions_is_undefined_without_mentions() -> None:
    assert estimate(chair({1: "grass"}, {1: set()}, WORDS)).values == {"CHAIRs": 0}


def test_the_interval_resamples_images() -> None:
    captions = {i: "a dog and a cat" if i % 3 else "a dog" for i in range(30)}
    objects = {i: {CAT} if i % 2 else {DOG} for i in captions}
    found = estimate(chair(captions, objects, WORDS)).resampled["CHAIRi"]
    mentions = np.array([2 if i % 3 else 1 for i in captions])
    hallucinated = np.array([1 if i % 3 or i % 2 else 0 for i in captions])
    drawn = np.random.default_rng(0).integers(0, 30, (1000, 30))
    expected = [100 * hallucinated[rows].sum() / mentions[rows].sum() for rows in drawn]
    np.testing.assert_allclose(found, expected)
