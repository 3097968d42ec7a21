"""``updn-vqa prepare``: convert the official files to one directory that training reads.

The directory holds::

    prepared.json               options, checksums of all sources, counts
    proposals/                  the proposal store
    answers.json, words.json    the vocabularies, built from the train split alone
    embeddings.safetensors      a word vector for each token id, with --glove
    hints.jsonl                 all hints in the open format of updn_vqa.data.hints.file, with --hints
    <split>/questions.json, <split>/annotations.json        the kept questions, as official files
    <split>/arrays.safetensors                              the input of models, see updn_vqa.data.split_arrays

It is either complete or absent. Converting features takes longest: after an interruption, the proposals that were
converted stay in ``<out>.partial``, and the same command continues from there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from updn_common.data.prepared_writer import print_summary, write_arrays, write_record
from updn_common.errors import InputError
from updn_common.files.reading import sha256
from updn_common.files.writing import new_directory
from updn_common.progress import track
from updn_common.proposals.conversion import FeatureOptions, store_proposals
from updn_common.proposals.image_proposals import ImageProposals
from updn_common.proposals.store import ProposalStore
from updn_common.proposals.store_writer import write_store
from updn_vqa.data import glove
from updn_vqa.data.hint_sources import hint_source
from updn_vqa.data.hints import FileHints, HintSource, read_all, read_question_boxes, write_hints
from updn_vqa.data.official_writers import write_annotations, write_questions
from updn_vqa.data.prepare_config import PrepareConfig
from updn_vqa.data.prepared import PreparedData
from updn_vqa.data.split_arrays import Arrays, hint_arrays, question_arrays, relevance_arrays, split_counts
from updn_vqa.data.splits import Split, hold_out_development, keep_images, read_splits
from updn_vqa.data.vocabulary import AnswerVocabulary, QuestionVocabulary, tokenise

COLUMNS: Mapping[str, str | tuple[str, str]] = {
    "questions": "questions",
    "images": "images",
    "hinted": "hinted",
    "grounded": "grounded",
    "answer in vocabulary": ("with_ground_truth", "questions"),
    "unknown words": ("unknown_words", "words"),
}
"""Columns of the printed table; see `print_summary`."""


def prepare(config: PrepareConfig) -> None:
    """Write a prepared directory and print a summary.

    Raises:
        InputError: An option or a file is wrong; nothing is left behind.
    """
    config.check()
    with new_directory(config.out, keep="proposals") as out:
        record = _write(config, out)
    title = f"{config.out}: {record['answers']} answers, {record['words']} words"
    print_summary(title, COLUMNS, record["splits"], _notes(record))


def _write(config: PrepareConfig, out: Path) -> dict[str, Any]:
    """Write everything and return the content of ``prepared.json``."""
    files = config.split_files()
    splits = read_splits(files)
    box_files = [split.boxes for split in files.values() if split.boxes]
    boxes = read_all(read_question_boxes, box_files)
    hints = hint_source(config, box_files, splits)

    features = config.feature_files()
    store = _store_proposals(config, features, splits, out / "proposals")
    if isinstance(hints, FileHints):
        hints.check_features(store.description["sources"])
    source = ", ".join(map(str, features))
    images, given = set(store.image_ids.tolist()), _question_ids(splits)
    splits, dropped = keep_images(splits, images, source, drop=config.drop_questions_without_proposals)
    unused = _unused_hints(hints, given, _question_ids(splits))
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
        arrays[name] |= hint_arrays(split.questions, hints, store.geometry, store.max_proposals)
        known = {} if config.question_only else boxes
        arrays[name] |= relevance_arrays(split.questions, known, store.geometry, store.max_proposals, box_files)
    counts = {name: split_counts(split) for name, split in arrays.items()}
    if not counts["train"]["answerable"]:
        raise InputError(
            f"Nobody gave any of the {len(answers)} answers in {config.answers or 'train'} to a train question, so "
            "there is nothing to learn. Check --answers."
        )
    if hints:
        _write_hints(config, hints, unused, arrays, store, out / "hints.jsonl")
    for name, split in track(splits.items(), "splits"):
        (out / name).mkdir()
        write_questions(out / name / "questions.json", split.questions, name)
        write_annotations(out / name / "annotations.json", split.annotations, name)
        write_arrays(out / name, arrays[name])

    sources = [path for split in files.values() for path in (split.questions, split.annotations)] + box_files
    sources += (list(hints.files) if hints else []) + ([config.answers] if config.answers else [])
    details = {
        "proposals": "none: question-only, each image has one of zeros" if config.question_only else "features",
        "feature_size": store.feature_size,
        "hints": hints.record() if hints else {"source": "none"},
        "idle_hints": unused,
        "word_vectors": vectors,
        "dropped_questions": dropped,
        "answers": len(answers),
        "words": len(words.words),
    }
    return write_record(out, PreparedData.FORMAT_VERSION, config, sources, store, details, counts)


def _store_proposals(
    config: PrepareConfig, features: Sequence[Path], splits: Mapping[str, Split], directory: Path
) -> ProposalStore:
    """Store the proposals of the images of all questions, or share the proposals of another prepared directory."""
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


def _unused_hints(hints: HintSource | None, given: Set[int], kept: Set[int]) -> dict[str, int]:
    """Number of hints for questions that are not in the question files, and for questions that were dropped."""
    hinted = set(hints.question_ids) if hints else set()
    return {"unknown": len(hinted - given), "dropped": len(hinted & given - kept)}


def _write_hints(
    config: PrepareConfig,
    hints: HintSource,
    unused: Mapping[str, int],
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
        reasons = [f"No question has a hint from {config.hints!r}.", remedy, _format_unused_hints(unused)]
        raise InputError(" ".join(filter(None, reasons)))
    write_hints(out, by_question(), about=hints.record()["about"], features=store.description["sources"])


def _format_unused_hints(unused: Mapping[str, int]) -> str:
    """A sentence about hints that are not used; empty if all are."""
    reasons = {"unknown": "questions that are not given", "dropped": "questions whose images have no proposals"}
    parts = [f"{count:,} for {reasons[kind]}" for kind, count in unused.items() if count]
    return f"Hints that are not used: {', '.join(parts)}." if parts else ""


def _vocabularies(config: PrepareConfig, train: Split) -> tuple[AnswerVocabulary, QuestionVocabulary]:
    words = QuestionVocabulary.build(question.text for question in train.questions)
    if config.answers:
        return AnswerVocabulary.read(config.answers), words
    return AnswerVocabulary.build(train.annotations, config.min_answer_occurrences), words


def _notes(record: Mapping[str, Any]) -> Iterator[str]:
    """What the summary says below the table."""
    hints, splits = record["hints"], record["splits"].values()
    if hints["source"] != "none":
        details = ", ".join(f"{value:,} {key.replace('_', ' ')}" for key, value in hints.items() if type(value) is int)
        hinted = sum(split["hinted"] for split in splits)
        yield f"Hints: {hints['about']}. {hinted:,} questions have one; read: {details}."
        if sentence := _format_unused_hints(record["idle_hints"]):
            yield sentence
        if lost := sum(split["hinted_without_ground_truth"] for split in splits):
            yield (
                f"For {lost:,} of these questions, the annotated answer is not in the vocabulary, or none of the ten "
                "people typed it in this form: networks learn nothing from their hints."
            )
    if vectors := record["word_vectors"]:
        covered = f"{vectors['words']:,} of {record['words']:,} words"
        yield f"Word vectors: {vectors['name']} has {covered}, {vectors['size']} numbers each."
    if record["proposals"] == "features":
        yield f"Features: {record['feature_size']:,} numbers per proposal."
    else:
        yield "Question-only: no features, each image has one proposal of zeros."
    if record["dropped_questions"]:
        yield f"{record['dropped_questions']:,} questions were dropped: their images have no proposals."
