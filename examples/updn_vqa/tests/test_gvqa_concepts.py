"""Parsing of questions, and the concepts and clusters that GVQA finds in data."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save
from torch import Tensor

from updn_common.errors import InputError
from updn_vqa.data.prepare import prepare
from updn_vqa.data.prepare_config import PrepareConfig
from updn_vqa.data.prepared import PreparedData
from updn_vqa.networks.gvqa.concepts import cluster, find_concepts
from updn_vqa.networks.gvqa.lexicon import Concepts, Lexicon, match_question_types


def padded(rows: list[list[int]], length: int = 5) -> Tensor:
    return torch.tensor([[0] * (length - len(row)) + row for row in rows])


TYPES = torch.tensor([[2, 0, 0], [2, 3, 0], [2, 3, 4], [5, 0, 0]])


@pytest.mark.parametrize(
    ("question", "kind", "rest"),
    [
        ([2, 9, 3], 0, [9, 3]),
        ([2, 3, 9, 9], 1, [9, 9]),
        ([2, 3, 4, 7, 8], 2, [7, 8]),
        ([5], 3, []),
        ([2, 3], 1, []),
        ([9, 2, 3], -1, [9, 2, 3]),
        ([], -1, []),
    ],
)
def test_the_longest_question_type_is_removed(question: list[int], kind: int, rest: list[int]) -> None:
    tokens = padded([question])
    found, end = match_question_types(tokens, TYPES)
    assert found.tolist() == [kind]
    assert [token for token in tokens[0, end[0] :].tolist() if token] == rest


@given(st.lists(st.lists(st.integers(1, 4), max_size=5), min_size=1, max_size=6), st.data())
def test_types_are_matched_like_prefixes(questions: list[list[int]], data: st.DataObject) -> None:
    types = data.draw(st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=3), min_size=1, max_size=6))
    table = torch.tensor([kind + [0] * (3 - len(kind)) for kind in types])
    found, end = match_question_types(padded(questions), table)
    for question, kind, stop in zip(questions, found.tolist(), end.tolist(), strict=True):
        prefixes = [len(t) for t in types if question[: len(t)] == t]
        assert (len(types[kind]) if kind >= 0 else 0) == max(prefixes, default=0)
        assert kind < 0 or question[: len(types[kind])] == types[kind]
        assert [token for token in padded([question])[0, stop:].tolist() if token] == question[max([0, *prefixes]) :]


def test_the_concept_to_verify_is_the_last_content_word() -> None:
    content = torch.tensor([False, False, True, True, False])
    nothing = torch.full((5,), -1)
    lexicon = Lexicon(Concepts(TYPES, content, nothing, nothing, torch.zeros(1, dtype=torch.int64), torch.arange(2)))
    assert lexicon.to_verify(padded([[2, 3], [3, 2, 4], [4, 4], [], [2, 1]])).tolist() == [3, 2, 0, 0, 2]


# From data


def write_data(folder: Path, pairs: list[tuple[str, str, str]]) -> Path:
    """Write questions, types and answers, each about a different image; twice, for a development split."""
    for split, first in (("train", 1), ("dev", 1001)):
        questions, annotations = [], []
        for image_id, (text, kind, answer) in enumerate(pairs, start=first):
            ids = {"image_id": image_id, "question_id": 1000 * image_id}
            answers = [{"answer": answer, "answer_confidence": "yes", "answer_id": n} for n in range(1, 11)]
            questions.append({**ids, "question": text, "coco_split": "train2014"})
            about = {"question_type": kind, "answer_type": "other", "multiple_choice_answer": answer}
            annotations.append({**ids, **about, "answers": answers})
        for name, records in (("questions", questions), ("annotations", annotations)):
            (folder / f"vqacp_v2_{split}_{name}.json").write_text(json.dumps(records))
    return folder


PAIRS = [
    ("What color is the star?", "what color is the", "red"),
    ("What color is the dog's hat?", "what color is the", "dark blue"),
    ("What color is the moon?", "what color is the", "green"),
    ("How many dogs are there?", "how many", "2"),
    ("How many stars?", "how many", "3"),
    ("Is the star red?", "is the", "yes"),
    ("Is it a hat?", "none of the above", "no"),
]


@pytest.fixture
def data(tmp_path: Path) -> Callable[..., PreparedData]:
    def make(pairs: list[tuple[str, str, str]] = PAIRS, **options: Any) -> PreparedData:
        out = tmp_path / "prepared"
        data = write_data(tmp_path, pairs)
        prepare(PrepareConfig(out=out, data=data, question_only=True, min_answer_occurrences=1, **options))
        return PreparedData.open(out)

    return make


def named(data: PreparedData, concepts: Concepts) -> list[set[str]]:
    """Names of the concepts in each cluster; a word and an answer with the same name are one concept."""
    names: dict[int, set[str]] = {}
    words = ["", "?", *data.words.words]
    for texts, of in ((data.answers.answers, concepts.of_answer), (words, concepts.of_word)):
        for text, concept in zip(texts, of.tolist(), strict=True):
            if concept >= 0:
                names.setdefault(concept, set()).add(text)
    assert all(len(name) == 1 for name in names.values())
    assert names.keys() == set(range(len(concepts.cluster)))
    clusters = range(int(concepts.cluster.max()) + 1)
    return [{next(iter(names[n])) for n in names if concepts.cluster[n] == number} for number in clusters]


def test_concepts_are_answers_and_content_words(data: Callable[..., PreparedData]) -> None:
    prepared = data()
    concepts = find_concepts(prepared)
    only_asked, *answered = named(prepared, concepts)
    assert only_asked == {"star", "stars", "dog", "dogs", "hat", "moon"}
    assert sorted(map(sorted, answered)) == [["2", "3"], ["dark blue", "green", "red"]]
    assert concepts.of_word[prepared.words.index["red"]] == concepts.of_answer[prepared.answers.index["red"]]
    assert [prepared.answers.answers[i] for i in concepts.verdicts] == ["yes", "no"]
    again = find_concepts(prepared)
    assert all(torch.equal(one, other) for one, other in zip(concepts, again, strict=True))
    lexicon = Lexicon(concepts)
    main = lexicon.main_words(torch.from_numpy(prepared.words.encode(["Is the red star red?", "Is it a big moon?"])))
    words = ["", "?", *prepared.words.words]
    assert [words[token] for token in main[0].tolist() if token] == ["red", "star", "red"]
    assert [words[token] for token in lexicon.to_verify(main)] == ["red", "moon"]


def test_question_types_with_unknown_words_are_ignored(data: Callable[..., PreparedData]) -> None:
    """Then whole questions are main words, and all answers are in one cluster."""
    prepared = data([(text, "none of the above", answer) for text, _, answer in PAIRS])
    concepts = find_concepts(prepared)
    only_asked, *answered = named(prepared, concepts)
    assert only_asked == {"star", "stars", "dog", "dogs", "hat", "moon", "color"}
    assert answered == [{"red", "dark blue", "green", "2", "3"}]
    tokens = torch.from_numpy(prepared.words.encode(["What color is it?"]))
    assert torch.equal(Lexicon(concepts).main_words(tokens), tokens)


def test_answers_are_clustered_by_word_vectors_if_there_are_any(data: Callable[..., PreparedData]) -> None:
    """Red and green have similar vectors; answers without any word vector are in one cluster."""
    prepared = data([*PAIRS, ("Is the star green?", "is the", "no")])
    words = prepared.words.index
    vectors = np.zeros((len(prepared.words), 2), dtype=np.float32)
    vectors[words["red"]], vectors[words["green"]] = [2.0, 0.1], [1.0, 0.0]
    (prepared.directory / "embeddings.safetensors").write_bytes(save({"vectors": vectors}))
    _, *answered = named(prepared, find_concepts(prepared))
    assert sorted(map(sorted, answered)) == [["2", "3", "dark blue"], ["green", "red"]]


def test_clusters_depend_on_directions_only() -> None:
    draw = np.random.default_rng(0)
    around = np.repeat(np.eye(5), 20, axis=0) + 0.05 * draw.standard_normal((100, 5))
    found = cluster(torch.from_numpy(around * draw.uniform(0.1, 10, (100, 1))))
    assert len(found.unique()) == 5
    assert all(len(found[20 * i : 20 * i + 20].unique()) == 1 for i in range(5))
    assert len(cluster(torch.ones(7, 3)).unique()) == 1


@pytest.mark.parametrize("kept", [["yes", "no"], ["red", "yes", "2", "3", "green", "dark blue"]])
def test_data_without_yes_no_or_other_answers_are_refused(
    data: Callable[..., PreparedData], kept: list[str], tmp_path: Path
) -> None:
    answers = tmp_path / "answers.json"
    answers.write_text(json.dumps(kept))
    prepared = data(answers=answers)
    with pytest.raises(InputError) as error:
        find_concepts(prepared)
    told = ", ".join(kept) if len(kept) < 6 else "red, yes, 2, 3, green, ..."
    assert str(error.value) == (
        f"--model.network gvqa needs the answers yes, no, and others: {tmp_path / 'prepared'} has {told}. Choose "
        "another network, or prepare the data with all of them, by a lower --min-answer-occurrences or by --answers."
    )
