"""From the official files to one directory that training reads: ``updn-vqa prepare``.

The directory holds::

    prepared.json               what was made of what: options, checksums of all sources, counts
    proposals/                  the proposal store
    answers.json, words.json    the vocabularies, made from the train split alone
    <split>/questions.json, <split>/annotations.json        the kept questions, as official files
    <split>/arrays.safetensors                              what a model sees, see updn_vqa.arrays

It appears whole or not at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console
from rich.table import Table
from safetensors.numpy import save

from updn_common.errors import InputError, check_range
from updn_common.files import new_directory, sha256, write_json
from updn_common.progress import track
from updn_common.readers import ImageProposals, proposal_sources, read_proposals
from updn_common.store import ProposalStore, write_store
from updn_vqa.arrays import counts, hint_arrays, question_arrays, relevance_arrays
from updn_vqa.hints import (
    SALICON_SIGMA,
    BoxHints,
    Geometry,
    HatHints,
    HintSource,
    SaliconHints,
    read_all,
    read_question_boxes,
)
from updn_vqa.layout import DatasetName, SplitFiles, existing, find_features, find_splits
from updn_vqa.questions import Question, write_annotations, write_questions
from updn_vqa.splits import Split, hold_out_development, keep_images, read_splits
from updn_vqa.vocabulary import AnswerVocabulary, QuestionVocabulary, tokenise

FORMAT_VERSION = 2


@dataclass(frozen=True)
class PrepareConfig:
    """What to prepare, from which files.

    Attributes:
        out: The new directory.
        data: A directory with the official files: VQA-CP's vqacp_v2_train_questions.json and so on, or VQA v2's
            v2_OpenEnded_mscoco_train2014_questions.json and so on.
        dataset: Which data set to take where the directory holds several.
        questions: One question file to use instead of those in the directory; it becomes the train split.
        annotations: The annotation file that belongs to it.
        features: Bottom-up features: TSV or HDF5 files, or folders of npz. Default: the only ones in the directory.
        feature_dtype: How features are stored; float16 halves the disk.
        hints: Human hints: VQA-HAT maps, drawn boxes, SALICON fixations (free viewing, not question-driven), or none.
        hint_paths: Folders of VQA-HAT maps, files of boxes, or SALICON files. Default: vqahat_train and vqahat_val,
            *_boxes.json, or fixations_*.json in the data directory.
        questions_v1: VQA v1 question files, which say what VQA-HAT maps are about. Default:
            OpenEnded_mscoco_*2014_questions.json in the data directory.
        salicon_sigma: Standard deviation of the blur of fixations, in pixels.
        answers: A fixed answer vocabulary: a JSON list, or an object from answer to index.
        min_answer_occurrences: Otherwise, at how many train questions an answer must stand to be learnt.
        question_length: Words of a question that are kept, at most; never more than the longest train question has.
        development_share: Share of the train images held out as the split "dev", unless there is such a split.
        seed: Chooses the images that are held out.
        drop_questions_without_proposals: Leave out questions whose image has no features, instead of stopping.
    """

    out: Path
    data: Path | None = None
    dataset: DatasetName | None = None
    questions: Path | None = None
    annotations: Path | None = None
    features: tuple[Path, ...] = ()
    feature_dtype: Literal["float32", "float16"] = "float32"
    hints: Literal["none", "hat", "boxes", "salicon"] = "none"
    hint_paths: tuple[Path, ...] = ()
    questions_v1: tuple[Path, ...] = ()
    salicon_sigma: float = SALICON_SIGMA
    answers: Path | None = None
    min_answer_occurrences: int = 9
    question_length: int = 14
    development_share: float = 0.05
    seed: int = 0
    drop_questions_without_proposals: bool = False


def prepare(config: PrepareConfig) -> None:
    """Write a prepared directory and print what is in it.

    Raises:
        InputError: If an option or a file is wrong; nothing is left behind.
    """
    _check(config)
    with new_directory(config.out) as out:
        record = _write(config, out)
    _print_summary(config.out, record)


def _write(config: PrepareConfig, out: Path) -> dict[str, Any]:
    """Write everything and return the content of ``prepared.json``."""
    files = _split_files(config)
    splits = read_splits(files)
    box_files = [split.boxes for split in files.values() if split.boxes]
    truth = read_all(read_question_boxes, box_files)
    hints = _hint_source(config, box_files, [question for split in splits.values() for question in split.questions])

    features = _feature_files(config)
    source = ", ".join(map(str, features))
    store, images = _store_proposals(config, features, splits, out / "proposals")
    splits, dropped = keep_images(splits, images, source, drop=config.drop_questions_without_proposals)
    if "dev" not in splits and config.development_share > 0:
        splits = hold_out_development(splits, config.development_share, config.seed)
    answers, words = _vocabularies(config, splits["train"])
    answers.write(out / "answers.json")
    words.write(out / "words.json")

    length = min(config.question_length, max(len(tokenise(q.text)) for q in splits["train"].questions))
    arrays = {}
    for name, split in splits.items():
        arrays[name] = question_arrays(split, answers, words, length)
        arrays[name]["image_rows"] = store.rows([question.image_id for question in split.questions])
        arrays[name] |= hint_arrays(split.questions, hints, images, store.max_proposals)
        arrays[name] |= relevance_arrays(split.questions, truth, images, store.max_proposals)
    if hints and not any(len(split["hint_rows"]) for split in arrays.values()):
        raise InputError(f"No question has a hint from {config.hints!r}. Check --hint-paths, or use --hints none.")
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
        "sources": [{"name": path.name, "sha256": sha256(path)} for path in dict.fromkeys(sources)]
        + store.description["sources"],
        "hints": hints.record() if hints else {"source": "none"},
        "dropped_questions": dropped,
        "answers": len(answers),
        "words": len(words.words),
        "splits": {name: counts(split) for name, split in arrays.items()},
    }
    write_json(out / "prepared.json", record, indent=1)
    return record


def _check(config: PrepareConfig) -> None:
    if not 0 <= config.development_share < 1:
        raise InputError(f"--development-share should be at least 0 and below 1, found {config.development_share}.")
    if not config.salicon_sigma > 0:
        raise InputError(f"--salicon-sigma should be above 0, found {config.salicon_sigma}.")
    check_range(1, min_answer_occurrences=config.min_answer_occurrences, question_length=config.question_length)
    check_range(0, seed=config.seed)


def _split_files(config: PrepareConfig) -> dict[str, SplitFiles]:
    if config.questions and config.annotations:
        return {"train": SplitFiles(config.questions, config.annotations)}
    if config.questions or config.annotations:
        raise InputError("--questions and --annotations belong together: give both or none.")
    if config.data:
        return find_splits(config.data, config.dataset)
    raise InputError("There is nothing to prepare. Give --data, or --questions and --annotations.")


def _feature_files(config: PrepareConfig) -> Sequence[Path]:
    if config.features:
        return config.features
    if config.data:
        return find_features(config.data)
    raise InputError("There are no features. Give --features, or a --data directory that holds them.")


def _hint_source(config: PrepareConfig, box_files: Sequence[Path], questions: Sequence[Question]) -> HintSource | None:
    def paths(*names: str) -> Sequence[Path]:
        found = config.hint_paths or existing(config.data, *names)
        if not found:
            raise InputError(f"--hints {config.hints} found no {' or '.join(names)} in --data. Give --hint-paths.")
        return found

    if config.hints == "hat":
        v1_files = config.questions_v1 or existing(config.data, "OpenEnded_mscoco_*2014_questions.json")
        if not v1_files:
            raise InputError(
                "--hints hat needs VQA v1 question files, and --data has no OpenEnded_mscoco_*2014_questions.json. "
                "Give --questions-v1."
            )
        return HatHints.match(paths("vqahat_train", "vqahat_val"), v1_files, questions)
    if config.hints == "boxes":
        return BoxHints.read(config.hint_paths or box_files or paths("*_boxes.json"))
    if config.hints == "salicon":
        return SaliconHints.read(paths("fixations_*.json"), config.salicon_sigma)
    return None


def _store_proposals(
    config: PrepareConfig, features: Sequence[Path], splits: Mapping[str, Split], directory: Path
) -> tuple[ProposalStore, dict[int, Geometry]]:
    """Store the proposals of the images that any question is about."""
    wanted = {question.image_id for split in splits.values() for question in split.questions}
    geometry: dict[int, Geometry] = {}

    def images() -> Iterator[ImageProposals]:
        for path in features:
            for image in read_proposals(path):
                if image.image_id in wanted:
                    geometry[image.image_id] = Geometry(torch.tensor(image.boxes), image.height, image.width)
                    yield image
        if not geometry:
            raise InputError(
                f"{', '.join(map(str, features))}: none of the images is among the {len(wanted)} that the questions "
                "are about. Give the features of the right data set with --features."
            )

    directory.mkdir()
    sources = [source for path in features for source in proposal_sources(path)]
    write_store(directory, images(), dtype=config.feature_dtype, total=len(wanted), sources=sources)
    return ProposalStore.open(directory), geometry


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
            f"{split['answerable'] / split['questions']:.1%}",
            f"{split['unknown_words'] / max(split['words'], 1):.1%}",
        )
    console = Console()
    console.print(table)
    hints = record["hints"]
    if hints["source"] != "none":
        details = ", ".join(f"{value:,} {key.replace('_', ' ')}" for key, value in hints.items() if type(value) is int)
        console.print(f"Hints: {hints['about']} ({details}).")
    if record["dropped_questions"]:
        console.print(f"{record['dropped_questions']:,} questions were dropped: their images have no proposals.")
