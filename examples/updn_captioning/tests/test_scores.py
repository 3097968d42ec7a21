"""Official scores against the published numbers of COCO's sample, and against loops over the formulas."""

import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from updn_captioning.scores.bleu import bleu, statistics
from updn_captioning.scores.cider import CiderD, DocumentFrequencies
from updn_captioning.scores.official import official_scores
from updn_captioning.scores.rouge import longest_common_subsequence, rouge_l
from updn_common.reports.bootstrap import estimate

Corpus = list[tuple[str, list[str]]]

captions = st.lists(st.sampled_from("abcd"), max_size=8).map(" ".join)
references = st.lists(st.lists(st.sampled_from("abcd"), min_size=1, max_size=8).map(" ".join), min_size=1, max_size=3)
corpora = st.lists(st.tuples(captions, references), min_size=1, max_size=5)


def cider(corpus: Corpus) -> list[float]:
    tokens = [[reference.split() for reference in references] for _, references in corpus]
    scorer = CiderD(DocumentFrequencies.of(tokens))
    scores: list[float] = scorer.score([candidate.split() for candidate, _ in corpus], tokens).tolist()
    return scores


@pytest.fixture(scope="module")
def sample(shared_data: Path) -> Corpus:
    """COCO's own sample of results, tokenised."""
    folder = shared_data / "captions"
    candidates = json.loads((folder / "res_tokenised.json").read_text())
    tokenised = json.loads((folder / "gts_tokenised.json").read_text())
    return [(candidates[image_id][0], tokenised[image_id]) for image_id in tokenised]


@pytest.fixture(scope="module")
def published(shared_data: Path) -> dict[str, Any]:
    scores: dict[str, Any] = json.loads((shared_data / "captions/expected_scores.json").read_text())
    return scores


def test_the_published_scores_of_the_corpus_and_each_image(
    sample: Corpus, published: dict[str, Any], shared_data: Path
) -> None:
    started = time.perf_counter()
    sums = np.stack([statistics(*pair) for pair in sample])
    found = dict(zip(("Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4"), bleu(sums.sum(0)).tolist(), strict=True))
    by_image = {
        "CIDEr": cider(sample),
        "ROUGE_L": [rouge_l(*pair) for pair in sample],
        "Bleu_4": bleu(sums)[:, 3].tolist(),
    }
    found |= {name: float(np.mean(by_image[name])) for name in ("ROUGE_L", "CIDEr")}
    assert time.perf_counter() - started < 5
    assert {name: round(value, 3) for name, value in found.items()} == {
        name: value for name, value in published["published"].items() if name in found
    }
    assert found == pytest.approx({name: published["fakecap_1000"][name] for name in found}, abs=1e-12)
    golden = json.loads((shared_data / "captions/expected_per_image_fakecap_1000.json").read_text())
    for name, values in by_image.items():
        np.testing.assert_allclose(values, [scores[name] for scores in golden.values()], rtol=0, atol=1e-12)
    counts = published["published"]["bleu_counts"]
    assert sums.sum(0).tolist() == [*counts["correct"], *counts["guess"], counts["testlen"], counts["reflen"]]


# The formulas once more, as plainly as they can be written


def grams(caption: str, n: int) -> list[tuple[str, ...]]:
    words = caption.split()
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def cider_by_loops(corpus: Corpus) -> list[float]:
    def weight(caption: str, gram: tuple[str, ...]) -> float:
        images = sum(any(gram in grams(reference, len(gram)) for reference in references) for _, references in corpus)
        return grams(caption, len(gram)).count(gram) * (math.log(len(corpus)) - math.log(max(1, images)))

    def norm(caption: str, n: int) -> float:
        return math.sqrt(sum(weight(caption, gram) ** 2 for gram in set(grams(caption, n))))

    scores = []
    for candidate, references in corpus:
        total = 0.0
        for n in (1, 2, 3, 4):
            for reference in references:
                cosine = 0.0
                for gram in set(grams(candidate, n)):
                    mine, theirs = weight(candidate, gram), weight(reference, gram)
                    cosine += min(mine, theirs) * theirs
                norms = norm(candidate, n) * norm(reference, n)
                apart = len(grams(candidate, 2)) - len(grams(reference, 2))
                total += (cosine / norms if norms else 0.0) * math.exp(-(apart**2) / 72) / len(references)
        scores.append(10 * total / 4)
    return scores


def lcs_by_table(a: Sequence[str], b: Sequence[str]) -> int:
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, one in enumerate(a):
        for j, other in enumerate(b):
            table[i + 1][j + 1] = table[i][j] + 1 if one == other else max(table[i][j + 1], table[i + 1][j])
    return table[-1][-1]


def bleu_by_loops(corpus: Corpus) -> list[float]:
    scores, product = [], 1.0
    length = sum(len(candidate.split()) for candidate, _ in corpus)
    closest = 0
    for candidate, references in corpus:
        lengths = sorted(len(reference.split()) for reference in references)
        closest += min(lengths, key=lambda other: abs(other - len(candidate.split())))
    for n in (1, 2, 3, 4):
        matched = total = 0
        for candidate, references in corpus:
            found = grams(candidate, n)
            total += len(found)
            for gram in set(found):
                matched += min(found.count(gram), max(grams(reference, n).count(gram) for reference in references))
        product *= (matched + 1e-15) / (total + 1e-9)
        brevity = min(1.0, math.exp(1 - (closest + 1e-9) / (length + 1e-15))) if length else 0.0
        scores.append(product ** (1 / n) * brevity)
    return scores


@given(corpora)
@settings(deadline=None)
def test_cider_equals_its_formula(corpus: Corpus) -> None:
    np.testing.assert_allclose(cider(corpus), cider_by_loops(corpus), rtol=1e-9, atol=1e-9)


@given(corpora)
def test_bleu_equals_its_formula(corpus: Corpus) -> None:
    sums = np.stack([statistics(*pair) for pair in corpus])
    np.testing.assert_allclose(bleu(sums.sum(0)), bleu_by_loops(corpus), rtol=1e-9, atol=1e-12)


words = st.lists(st.sampled_from("abc"), max_size=70)


@given(words, words)
def test_the_longest_common_subsequence_equals_the_textbook_s(a: list[str], b: list[str]) -> None:
    assert longest_common_subsequence(a, b) == lcs_by_table(a, b)


def test_rouge_by_hand() -> None:
    """Precision (2 of 3 words) and recall (2 of 2) are of different references."""
    precision, recall = 2 / 3, 1.0
    expected = 2.44 * precision * recall / (recall + 1.44 * precision)
    assert rouge_l("a b c", ["x a c y z", "a b"]) == pytest.approx(expected)


# Properties


@given(corpora, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_of_images_does_not_matter(corpus: Corpus, random: Any) -> None:
    order = list(range(len(corpus)))
    random.shuffle(order)
    shuffled = [corpus[i] for i in order]
    np.testing.assert_allclose(cider(shuffled), [cider(corpus)[i] for i in order], rtol=1e-12, atol=1e-12)
    sums = [np.sum([statistics(*pair) for pair in pairs], axis=0) for pairs in (corpus, shuffled)]
    assert sums[0].tolist() == sums[1].tolist()


@given(st.lists(captions.filter(lambda caption: len(caption.split()) > 3), min_size=2, max_size=5, unique=True))
def test_a_perfect_caption_has_the_highest_score(texts: list[str]) -> None:
    """CIDEr-D is 10 if each length has an n-gram that other images lack; BLEU and ROUGE-L are 1."""
    texts = [" ".join(f"{word}{i}" for word in text.split()) for i, text in enumerate(texts)]
    corpus = [(text, [text]) for text in texts]
    np.testing.assert_allclose(cider(corpus), 10)
    np.testing.assert_allclose(bleu(np.sum([statistics(*pair) for pair in corpus], axis=0)), 1, rtol=1e-8)
    assert all(rouge_l(*pair) == pytest.approx(1) for pair in corpus)


@given(corpora)
@settings(deadline=None)
def test_scores_are_in_their_range(corpus: Corpus) -> None:
    assert all(-1e-9 <= score <= 10 + 1e-9 for score in cider(corpus))
    assert all(0 <= rouge_l(*pair) <= 1 for pair in corpus)
    assert all(0 <= score <= 1 for score in bleu(np.stack([statistics(*pair) for pair in corpus])).ravel())


def test_an_empty_caption_has_no_score() -> None:
    corpus = [("", ["a dog runs"]), ("a cat", ["a cat"])]
    assert cider(corpus)[0] == 0
    assert rouge_l("", ["a dog runs"]) == 0
    assert bleu(statistics("", ["a dog runs"])).tolist() == [0] * 4


def test_one_image_has_no_rare_words() -> None:
    """As in the official code, all weights and the score are 0."""
    assert cider([("a dog", ["a dog"])]) == [0]


def test_words_without_a_reference_have_the_weight_of_rare_ones() -> None:
    frequencies = DocumentFrequencies.of([[["a", "b"]], [["a", "c"]]])
    assert frequencies.counts == {("a",): 2}
    assert CiderD(frequencies).vector(["a", "b", "new"]).weights[0] == {
        ("a",): 0,
        ("b",): math.log(2),
        ("new",): math.log(2),
    }


def test_repeating_a_word_does_not_raise_the_score() -> None:
    """Clipping: without it, the second caption would score higher than the first."""
    others: Corpus = [("x", ["one two"]), ("x", ["three four"])]
    once = cider([("rare word", ["rare thing"]), *others])[0]
    often = cider([("rare rare", ["rare thing"]), *others])[0]
    assert 0 < often < once * math.sqrt(2)


# What is resampled


def test_intervals_resample_images() -> None:
    """BLEU is computed again from the drawn images; ROUGE-L and CIDEr-D are means, with the weights of all images."""
    rng = np.random.default_rng(1)
    corpus = [(" ".join(rng.choice(list("abcdef"), 6)), [" ".join(rng.choice(list("abcdef"), 7))]) for _ in range(12)]
    scores = official_scores(
        {i: pair[0] for i, pair in enumerate(corpus)}, {i: pair[1] for i, pair in enumerate(corpus)}
    )
    found = estimate(scores.corpus, seed=3, resamples=15)
    assert found.values["Bleu_2"] == pytest.approx(bleu_by_loops(corpus)[1])
    assert found.values["CIDEr"] == pytest.approx(np.mean(cider(corpus)))
    drawn = np.random.default_rng(3).integers(0, 12, (15, 12))
    for n in (1, 2, 3, 4):
        expected = [bleu_by_loops([corpus[i] for i in rows])[n - 1] for rows in drawn]
        np.testing.assert_allclose(found.resampled[f"Bleu_{n}"], expected)
    by_image = {"CIDEr": np.array(cider(corpus)), "ROUGE_L": np.array([rouge_l(*pair) for pair in corpus])}
    for name, values in by_image.items():
        np.testing.assert_allclose(found.resampled[name], [values[rows].mean() for rows in drawn])
        np.testing.assert_allclose(scores.by_image[name], values)
