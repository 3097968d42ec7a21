"""From the official files to one directory that training reads: ``updn-vqa prepare``.

The directory holds::

    prepared.json               what was made of what: options, checksums of all sources, counts
    proposals/                  the proposal store
    answers.json, words.json    the vocabularies, made from the train split alone
    embeddings.safetensors      word vectors, one for each token id, if asked for
    hints.jsonl                 all hints in the open format of updn_vqa.data.hints.file, if there are any
    <split>/questions.json, <split>/annotations.json        the kept questions, as official files
    <split>/arrays.safetensors                              what a model sees, see updn_vqa.data.arrays

It appears whole or not at all. Converting features takes longest: proposals that were converted when the process was
interrupted stay in ``<out>.partial``, and the same command goes on from there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table
from safetensors.numpy import save

from updn_common.console import plain_console
from updn_common.errors import InputError
from updn_common.files.reading import sha256
from updn_common.files.writing import new_directory, write_json
from updn_common.progress import track
from updn_common.proposals.conversion import FeatureOptions, store_proposals
from updn_common.proposals.image_proposals import ImageProposals
from updn_common.proposals.store import ProposalStore
from updn_common.proposals.store_writer import source_record, write_store
from updn_vqa.data import glove
from updn_vqa.data.arrays import Arrays, counts, hint_arrays, question_arrays, relevance_arrays
from updn_vqa.data.hint_sources import hint_source
from updn_vqa.data.hints import FileHints, HintSource, read_all, read_question_boxes, write_hints
from updn_vqa.data.official_writers import write_annotations, write_questions
from updn_vqa.data.prepare_config import PrepareConfig
from updn_vqa.data.prepared import FORMAT_VERSION
from updn_vqa.data.splits import Split, hold_out_development, keep_images, read_splits
from updn_vqa.data.vocabulary import AnswerVocabulary, QuestionVocabulary, tokenise


def prepare(config: PrepareConfig) -> None:
    """Write a prepared directory and print what is in it.

    Raises:
        InputError: If an option or a file is wrong; nothing is left behind.
    """
    config.check()
    with new_directory(config.out, keep="proposals") as out:
        record = _write(config, out)
    _print_summary(config.out, record)


def _write(config: PrepareConfig, out: Path) -> dict[str, Any]:
    """Write everything and return the content of ``prepared.json``."""
    files = config.split_files()
    splits = read_splits(files)
    box_files = [split.boxes for split in files.values() if split.boxes]
    truth = read_all(read_question_boxes, box_files)
    hints = hint_source(config, box_files, splits)

    features = config.feature_files()
    store = _store_proposals(config, features, splits, out / "proposals")
    if isinstance(hints, FileHints):
        hints.check_features(store.description["sources"])
    source = ", ".join(map(str, features))
    images, given = set(store.image_ids.tolist()), _question_ids(splits)
    splits, dropped = keep_images(splits, images, source, drop=config.drop_questions_without_proposals)
    idle = _idle_hints(hints, given, _question_ids(splits))
    if "dev" not in splits and config.development_share > 0:
        splits = hold_out_development(splits, config.development_share, config.seed)
    answers, words = _vocabularies(config, splits["train"])
    answers.write(out / "answers.json")
    words.write(out / "words.json")
    vectors = _write_word_vectors(config.glove, words, out / glove.FILE)

    length = min(config.question_length, max(len(tokenise(q.text)) for q in splits["train"].questions))
    arrays = {}
    for name, split in splits.items():
        arrays[name] = question_arrays(split, answers, words, length)
        arrays[name]["image_rows"] = store.rows([question.image_id for question in split.questions])
        arrays[name] |= hint_arrays(split.questions, hints, store.geometries, store.max_proposals)
        known = {} if config.question_only else truth
        arrays[name] |= relevance_arrays(split.questions, known, store.geometries, store.max_proposals, box_files)
    if not counts(arrays["train"])["answerable"]:
        raise InputError(
            f"None of the {len(answers)} answers in {config.answers or 'train'} is one that people gave to a train "
            "question, so there is nothing to learn. Check --answers."
        )
    if hints:
        _write_hints(config, hints, idle, arrays, store, out / "hints.jsonl")
    for name, split in track(splits.items(), "splits"):
        (out / name).mkdir()
        write_questions(out / name / "questions.json", split.questions, name)
        write_annotations(out / name / "annotations.json", split.annotations, name)
        (out / name / "arrays.safetensors").write_bytes(save(arrays[name]))

    sources = [path for split in files.values() for path in (split.questions, split.annotations)] + box_files
    sources += (list(hints.files) if hints else []) + ([config.answers] if config.answers else [])
    record = {
        "format_version": FORMAT_VERSION,
        "options": asdict(config),
        "sources": [source_record(path) for path in dict.fromkeys(sources)] + store.description["sources"],
        "proposals": "none: question-only, each image has one of zeros" if config.question_only else "features",
        "feature_size": store.feature_size,
        "hints": hints.record() if hints else {"source": "none"},
        "idle_hints": idle,
        "word_vectors": vectors,
        "dropped_questions": dropped,
        "answers": len(answers),
        "words": len(words.words),
        "splits": {name: counts(split) for name, split in arrays.items()},
    }
    write_json(out / "prepared.json", record, indent=1)
    return record


def _store_proposals(
    config: PrepareConfig, features: Sequence[Path], splits: Mapping[str, Split], directory: Path
) -> ProposalStore:
    """Store the proposals of the images that any question is about, or share those of another prepared directory."""
    wanted = {question.image_id for split in splits.values() for question in split.questions}
    directory.mkdir(exist_ok=True)
    if config.question_only:
        box, nothing = np.array([[0, 0, 2, 2]], dtype=np.float32), np.zeros((1, 1), dtype=np.float32)
        blank = (ImageProposals(image_id, 2, 2, box, nothing) for image_id in sorted(wanted))
        write_store(directory, blank, total=len(wanted))
        return ProposalStore.open(directory)
    options = FeatureOptions(config.feature_dtype, config.feature_size, config.skip_damaged_features)
    return store_proposals(directory, features, wanted, options)


def _write_word_vectors(path: Path | None, words: QuestionVocabulary, out: Path) -> dict[str, Any] | None:
    if path is None:
        return None
    vectors, found = glove.read_word_vectors(path, words)
    out.write_bytes(save({"vectors": vectors}))
    return {"name": path.name, "sha256": sha256(path), "size": vectors.shape[1], "words": found}


def _question_ids(splits: Mapping[str, Split]) -> set[int]:
    return {question.question_id for split in splits.values() for question in split.questions}


def _idle_hints(hints: HintSource | None, given: Set[int], kept: Set[int]) -> dict[str, int]:
    """How many questions have a hint, but are not asked or were dropped."""
    hinted = set(hints.question_ids) if hints else set()
    return {"unknown": len(hinted - given), "dropped": len(hinted & given - kept)}


def _write_hints(
    config: PrepareConfig,
    hints: HintSource,
    idle: Mapping[str, int],
    arrays: Mapping[str, Arrays],
    store: ProposalStore,
    out: Path,
) -> None:
    """Write the hints of all splits in the open format."""

    def by_question() -> Iterator[tuple[int, Any]]:
        for split in arrays.values():
            for question_id, s in zip(split["question_ids"][split["hint_rows"]], split["hints"], strict=True):
                yield int(question_id), s[~np.isnan(s)]

    if not any(len(split["hint_rows"]) for split in arrays.values()):
        remedy = "Check --hint-paths and --features, or use --hints none."
        reasons = [f"No question has a hint from {config.hints!r}.", remedy, _format_idle_hints(idle)]
        raise InputError(" ".join(filter(None, reasons)))
    write_hints(out, by_question(), about=hints.record()["about"], features=store.description["sources"])


def _format_idle_hints(idle: Mapping[str, int]) -> str:
    """A sentence on hints that are not used; empty if there are none."""
    reasons = {"unknown": "questions that are not given", "dropped": "questions whose images have no proposals"}
    unused = [f"{count:,} for {reasons[kind]}" for kind, count in idle.items() if count]
    return f"Hints that are not used: {', '.join(unused)}." if unused else ""


def _vocabularies(config: PrepareConfig, train: Split) -> tuple[AnswerVocabulary, QuestionVocabulary]:
    words = QuestionVocabulary.build(question.text for question in train.questions)
    if config.answers:
        return AnswerVocabulary.read(config.answers), words
    return AnswerVocabulary.build(train.annotations, config.min_answer_occurrences), words


def _print_summary(out: Path, record: Mapping[str, Any]) -> None:
    table = Table(title=f"{out}: {record['answers']} answers, {record['words']} words")
    for column in ("split", "questions", "images", "hinted", "grounded", "answer in vocabulary", "unknown words"):
        table.add_column(column, justify="left" if column == "split" else "right")
    for name, split in record["splits"].items():
        table.add_row(
            name,
            *(f"{split[key]:,}" for key in ("questions", "images", "hinted", "grounded")),
            f"{split['with_ground_truth'] / split['questions']:.1%}",
            f"{split['unknown_words'] / max(split['words'], 1):.1%}",
        )
    console = plain_console()
    console.print(table)
    hints = record["hints"]
    if hints["source"] != "none":
        details = ", ".join(f"{value:,} {key.replace('_', ' ')}" for key, value in hints.items() if type(value) is int)
        hinted = sum(split["hinted"] for split in record["splits"].values())
        console.print(f"Hints: {hints['about']}. {hinted:,} questions have one; read: {details}.")
        if sentence := _format_idle_hints(record["idle_hints"]):
            console.print(sentence)
        if lost := sum(split["hinted_without_ground_truth"] for split in record["splits"].values()):
            console.print(
                f"The annotated answers of {lost:,} of them are not in the vocabulary, or nobody typed them so: these "
                "hints teach no network where to look."
            )
    if vectors := record["word_vectors"]:
        covered = f"{vectors['words']:,} of {record['words']:,} words"
        console.print(f"Word vectors: {vectors['name']} has {covered}, {vectors['size']} numbers each.")
    if record["proposals"] == "features":
        console.print(f"Features: {record['feature_size']:,} numbers a proposal.")
    else:
        console.print("Question-only: no features, each image has one proposal of zeros.")
    if record["dropped_questions"]:
        console.print(f"{record['dropped_questions']:,} questions were dropped: their images have no proposals.")
