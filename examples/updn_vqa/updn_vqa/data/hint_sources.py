"""Read the hints that the options of ``updn-vqa prepare`` select."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from updn_common.errors import InputError
from updn_common.files.finding import existing
from updn_vqa.data.hints import BoxHints, FileHints, HatHints, HintSource, SaliconHints, WordHints, read_gqa
from updn_vqa.data.prepare_config import PrepareConfig
from updn_vqa.data.splits import Split

V1_QUESTIONS = "OpenEnded_mscoco_*2014_questions.json"
OBJECT_NAMES = "objects_vocab.txt"


def hint_source(config: PrepareConfig, box_files: Sequence[Path], splits: Mapping[str, Split]) -> HintSource | None:
    """Read the hints that the options select. ``box_files`` are the files of boxes that belong to the splits.

    Raises:
        InputError: Hints are missing or malformed.
    """
    questions = [question for split in splits.values() for question in split.questions]
    annotations = [annotation for split in splits.values() for annotation in split.annotations]
    match config.hints:
        case "hat":
            v1_files = config.questions_v1 or existing(config.data, V1_QUESTIONS)
            if not v1_files:
                raise InputError(
                    f"--hints hat needs VQA v1 question files, and --data has no {V1_QUESTIONS}. Give --questions-v1."
                )
            return HatHints.match(_paths(config, "vqahat_train", "vqahat_val"), v1_files, questions)
        case "boxes":
            return BoxHints.read(config.hint_paths or box_files or _paths(config, "*_boxes.json"))
        case "gqa":
            return read_gqa(_paths(config, "*_balanced_questions.json", "*_sceneGraphs.json"))
        case "salicon":
            return SaliconHints.read(_paths(config, "fixations_*.json"), config.salicon_sigma)
        case "explanations":
            return WordHints.of_explanations(_paths(config, "*_exp_anno*.json"), _required_names(config))
        case "question-answer":
            return WordHints.of_answers(questions, annotations, _required_names(config))
        case "file":
            return FileHints.read(_paths(config, "*hints.jsonl*"), _names(config))
        case "none":
            return None


def _paths(config: PrepareConfig, *names: str) -> Sequence[Path]:
    found = config.hint_paths or existing(config.data, *names)
    if not found:
        raise InputError(f"--hints {config.hints} found no {' or '.join(names)} in --data. Give --hint-paths.")
    return found


def _names(config: PrepareConfig) -> Path | None:
    return config.object_names or next(iter(existing(config.data, OBJECT_NAMES)), None)


def _required_names(config: PrepareConfig) -> Path:
    names = _names(config)
    if names is None:
        raise InputError(
            f"--hints {config.hints} needs the detector's names of objects, and --data has no {OBJECT_NAMES}. "
            "Give --object-names."
        )
    return names
