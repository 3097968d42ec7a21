"""The concepts that train questions and their answers name, and their clusters."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from safetensors.torch import load_file
from scipy.cluster.vq import kmeans2
from torch import Tensor

from updn_common.errors import InputError
from updn_vqa.data import glove
from updn_vqa.data.prepared import PreparedData
from updn_vqa.data.vocabulary import QuestionVocabulary, tokenise
from updn_vqa.networks.gvqa.function_words import FUNCTION_WORDS
from updn_vqa.networks.gvqa.lexicon import NONE, Concepts, match_question_types

ANSWERS_PER_CLUSTER = 20
MOST_WORDS = 2000
"""Largest number of content words that become concepts, beside the answers."""
VERDICTS = ("yes", "no")


def find_concepts(data: PreparedData) -> Concepts:
    """Collect concepts from the train questions of prepared data; a pure function of the data.

    Raises:
        InputError: The answers lack yes, no, or any other answer.
    """
    train, answers = data.split("train"), data.answers.answers
    others = [answer for answer in answers if answer not in VERDICTS]
    if not others or len(answers) - len(others) < len(VERDICTS):
        raise InputError(
            f"--model.network gvqa needs the answers yes, no, and others: {data.directory} has "
            f"{', '.join(answers[:5])}{', ...' if len(answers) > 5 else ''}. Choose another network, or "
            "prepare the data with all of them, by a lower --min-answer-occurrences or by --answers."
        )
    question_types = _padded_types({annotation.question_type for annotation in train.annotations}, data.words)
    matched = [match_question_types(part, question_types) for part in torch.split(train.tokens, 4096)]
    kind, end = (torch.cat(parts) for parts in zip(*matched, strict=True))

    content = {word: index for word, index in data.words.index.items() if word not in FUNCTION_WORDS}
    main = train.tokens[torch.arange(train.tokens.shape[1]) >= end[:, None]]
    times = torch.bincount(main, minlength=len(data.words)).tolist()
    frequent = sorted(content, key=lambda word: -times[content[word]])[:MOST_WORDS]
    names = list(dict.fromkeys([*others, *(word for word in frequent if times[content[word]])]))
    concept = {name: number for number, name in enumerate(names)}

    is_content = torch.zeros(len(data.words), dtype=torch.bool)
    is_content[list(content.values())] = True
    of_word = torch.full((len(data.words),), NONE)
    for word, index in content.items():
        of_word[index] = concept.get(word, NONE)
    of_answer = torch.tensor([concept.get(answer, NONE) for answer in answers])

    if (data.directory / glove.FILE).exists():
        vectors = _word_vectors(others, data.words, data.directory / glove.FILE)
    else:
        vectors = _answered_types(train.ground_truth, kind, len(answers), len(question_types))[of_answer != NONE]
    return Concepts(
        question_types=question_types,
        content=is_content,
        of_word=of_word,
        of_answer=of_answer,
        cluster=torch.cat([1 + cluster(vectors), torch.zeros(len(names) - len(others), dtype=torch.int64)]),
        verdicts=torch.tensor([data.answers.index[answer] for answer in VERDICTS]),
    )


def cluster(vectors: Float[Tensor, "M D"]) -> Int[Tensor, " M"]:
    """K-means on directions, with a cluster for every twenty vectors, but at least two if vectors differ."""
    points = F.normalize(vectors.double(), dim=-1).numpy()
    wanted = max(2, round(len(points) / ANSWERS_PER_CLUSTER))
    k = min(wanted, len(np.unique(points, axis=0)))
    _, labels = kmeans2(points, k, minit="++", rng=np.random.default_rng(0))
    return torch.from_numpy(labels.astype(np.int64))


def _padded_types(question_types: set[str], words: QuestionVocabulary) -> Int[Tensor, "Y L"]:
    """Token ids of each question type whose words are all known, in alphabetical order of the types."""
    split = [tokenise(text) for text in sorted(question_types)]
    known = [[words.index[word] for word in kind] for kind in split if all(word in words.index for word in kind)]
    longest = max(map(len, known), default=0)
    return torch.tensor([ids + [0] * (longest - len(ids)) for ids in known or [[]]], dtype=torch.int64)


def _answered_types(
    ground_truth: Int[Tensor, " N"], kind: Int[Tensor, " N"], answers: int, kinds: int
) -> Float[Tensor, "A Y"]:
    """How often each answer is the ground truth of each question type."""
    known = (ground_truth >= 0) & (kind >= 0)
    pairs = ground_truth[known] * kinds + kind[known]
    return torch.bincount(pairs, minlength=answers * kinds).view(answers, kinds).float()


def _word_vectors(answers: Sequence[str], words: QuestionVocabulary, file: Path) -> Float[Tensor, "M D"]:
    """Sum of the word vectors of each answer; zeros for an answer without a known word."""
    vectors = load_file(file)["vectors"]
    ids = [[words.index[word] for word in tokenise(answer) if word in words.index] for answer in answers]
    return torch.stack([vectors[known].sum(0) for known in ids])
