"""Names of the official files, and how to find them in a data directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from updn_common.errors import InputError

DatasetName = Literal["vqacp_v1", "vqacp_v2", "vqa_v1", "vqa_v2"]

DATASETS: tuple[DatasetName, ...] = get_args(DatasetName)
SPLITS = ("train", "val", "dev", "test")


@dataclass(frozen=True)
class SplitFiles:
    """The files of one split.

    Attributes:
        questions: The question file.
        annotations: The annotation file.
        boxes: The file of boxes around the objects that questions ask about, if it exists.
    """

    questions: Path
    annotations: Path
    boxes: Path | None = None


def find_splits(data: Path, dataset: DatasetName | None = None) -> dict[str, SplitFiles]:
    """Find the question and annotation files of a data set, by default of the only one in the directory; train first.

    Raises:
        InputError: There is no data set or a choice of several, the train split is missing, or a question file has no
            annotation file.
    """
    if not data.is_dir():
        raise InputError(f"{data} is not a directory. Give the one that holds the question files with --data.")
    found = {name: splits for name in DATASETS if (splits := existing_splits(data, name))}
    if dataset is None and len(found) > 1 and not any(f.annotations.exists() for f in found.get("vqa_v1", {}).values()):
        found.pop("vqa_v1", None)  # its questions are only needed for VQA-HAT
    if dataset is None and len(found) > 1:
        raise InputError(f"{data} holds several data sets: {', '.join(found)}. Choose one with --dataset.")
    if not found or (dataset is not None and dataset not in found):
        raise InputError(
            f"{data} holds no question files of {dataset or 'VQA or VQA-CP'}, such as "
            f"{official_files(data, dataset or 'vqacp_v2', 'train').questions.name}. "
            "Check --data, or name the files with --questions and --annotations."
        )
    chosen, splits = (dataset, found[dataset]) if dataset is not None else next(iter(found.items()))
    if "train" not in splits:
        missing = official_files(data, chosen, "train").questions.name
        raise InputError(f"{data} lacks {missing}: there is nothing to train on.")
    for files in splits.values():
        if not files.annotations.exists():
            raise InputError(f"{files.questions} is there, but {files.annotations.name} is missing. Add it.")
    return splits


def existing_splits(data: Path, dataset: DatasetName) -> dict[str, SplitFiles]:
    """The splits of a data set that have a question file."""
    candidates = {split: official_files(data, dataset, split) for split in SPLITS}
    return {split: files for split, files in candidates.items() if files.questions.exists()}


def official_files(data: Path, dataset: DatasetName, split: str) -> SplitFiles:
    """The paths of a split's files under their official names, whether they exist or not."""
    boxes = data / f"{dataset}_{split}_boxes.json"
    if dataset in ("vqa_v1", "vqa_v2"):
        prefix = "v2_" if dataset == "vqa_v2" else ""
        questions = data / f"{prefix}OpenEnded_mscoco_{split}2014_questions.json"
        annotations = data / f"{prefix}mscoco_{split}2014_annotations.json"
    else:
        questions = data / f"{dataset}_{split}_questions.json"
        annotations = data / f"{dataset}_{split}_annotations.json"
    return SplitFiles(questions, annotations, boxes if boxes.exists() else None)
