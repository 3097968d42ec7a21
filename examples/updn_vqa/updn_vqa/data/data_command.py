"""``updn-vqa data``: which data files a directory holds and lacks, and what can be prepared from them."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.text import Text

from updn_common.data.attention_maps import find_vqa_hat, read_salicon
from updn_common.data.data_command import DataConfig, show_data_files
from updn_common.data.published_files import FileGroup, FileKind, count_lines, features, length_of, photos
from updn_common.errors import InputError
from updn_common.files.finding import find_features
from updn_common.files.reading import read_json, read_json_lines
from updn_vqa.data.hints import ObjectNames, read_question_boxes
from updn_vqa.data.hints.words import read_explanations
from updn_vqa.data.official_files import DATASETS, existing_splits, find_splits
from updn_vqa.data.questions import read_annotations, read_questions

_VQA = "https://visualqa.org/download.html"
_VQACP = "https://computing.ece.vt.edu/~aish/vqacp\nOften dead: updn-vqa rebuild-cp makes it from VQA."


def _read_object(path: Path) -> dict[str, object]:
    document = read_json(path)
    if not isinstance(document, dict):
        raise InputError(f"{path} should hold an object, found {type(document).__name__}.")
    return document


def _count_hints(path: Path) -> int:
    return max(sum(1 for _ in read_json_lines(path)) - 1, 0)  # the first line is a header


def _count_maps(path: Path) -> int:
    return sum(map(len, find_vqa_hat(path).values()))


def _dataset(questions: str, annotations: str, published: dict[str, int | None]) -> tuple[FileKind, ...]:
    """Question and annotation files, from the pattern of their names and the number of questions in each part."""
    kinds = (
        (questions, length_of(read_questions), "questions"),
        (annotations, length_of(read_annotations), "annotations"),
    )
    return tuple(
        FileKind((name.format(part),), count, units, number)
        for part, number in published.items()
        for name, count, units in kinds
    )


DATA_FILES = (
    FileGroup(
        "VQA v2",
        "training and evaluation",
        _VQA,
        _dataset(
            "v2_OpenEnded_mscoco_{}2014_questions.json",
            "v2_mscoco_{}2014_annotations.json",
            {"train": 443_757, "val": 214_354},
        ),
    ),
    FileGroup(
        "VQA v2, test2015",
        "questions without published answers: updn-vqa predict",
        _VQA,
        tuple(
            FileKind(
                (f"v2_OpenEnded_mscoco_{part}2015_questions.json",), length_of(read_questions), "questions", number
            )
            for part, number in (("test", 447_793), ("test-dev", 107_394))
        ),
    ),
    FileGroup(
        "VQA-CP v2",
        "training and evaluation under changed priors",
        _VQACP,
        _dataset("vqacp_v2_{}_questions.json", "vqacp_v2_{}_annotations.json", {"train": 438_183, "test": 219_928}),
    ),
    FileGroup(
        "VQA-CP v1",
        "training and evaluation under changed priors",
        _VQACP,
        _dataset("vqacp_v1_{}_questions.json", "vqacp_v1_{}_annotations.json", {"train": None, "test": None}),
    ),
    FileGroup(
        "VQA v1",
        "its questions: VQA-HAT; all of it: to rebuild VQA-CP v1",
        f"{_VQA}, v1",
        _dataset(
            "OpenEnded_mscoco_{}2014_questions.json",
            "mscoco_{}2014_annotations.json",
            {"train": 248_349, "val": 121_512},
        ),
    ),
    features("all training, unless --question-only"),
    FileGroup(
        "VQA-HAT",
        "--hints hat, the paper's hints",
        "https://computing.ece.vt.edu/~abhshkdz/vqa-hat",
        (
            FileKind(("vqahat_train",), _count_maps, "maps", 58_475),
            FileKind(("vqahat_val",), _count_maps, "maps", 4_122),
        ),
    ),
    FileGroup(
        "VQA-X",
        "--hints explanations",
        "https://github.com/Seth-Park/MultimodalExplanations",
        tuple(
            FileKind((f"{part}_exp_anno*.json",), length_of(read_explanations), "questions", number)
            for part, number in (("train", None), ("val", 1_459), ("test", 1_968))
        ),
    ),
    FileGroup(
        "object names",
        "--hints explanations, question-answer, or words in a file",
        "https://github.com/peteanderson80/bottom-up-attention\nthere in data/genome/1600-400-20",
        (FileKind(("objects_vocab.txt",), lambda path: len(ObjectNames.read(path).names), "names", 1_600),),
    ),
    FileGroup(
        "boxes",
        "--hints boxes, and how well networks point at what is asked for",
        "nowhere: boxes of your own",
        (FileKind(("*_boxes.json",), length_of(read_question_boxes), "questions"),),
    ),
    FileGroup(
        "hint files",
        "--hints file",
        "nowhere: hints of your own, in the format that README.md describes",
        (FileKind(("*hints.jsonl*",), _count_hints, "questions"),),
    ),
    FileGroup(
        "GQA",
        "--hints gqa",
        "https://cs.stanford.edu/people/dorarad/gqa/download.html",
        (
            FileKind(("*_balanced_questions.json",), length_of(_read_object), "questions"),
            FileKind(("*_sceneGraphs.json",), length_of(_read_object), "images"),
        ),
    ),
    FileGroup(
        "SALICON",
        "--hints salicon: free viewing, not question-driven",
        "http://salicon.net",
        (FileKind(("fixations_*.json",), length_of(read_salicon), "images"),),
    ),
    FileGroup(
        "word vectors",
        "--glove",
        "https://nlp.stanford.edu/projects/glove",
        (FileKind(("glove*.txt",), count_lines, "words"),),
    ),
    photos("updn-vqa explain --images"),
)


def show_data(config: DataConfig, console: Console | None = None) -> None:
    """Print which files of `DATA_FILES` a directory holds; see `show_data_files`."""
    show_data_files(config, DATA_FILES, _verdict, console)


def _verdict(data: Path) -> list[Text]:
    """Commands that prepare the directory, and the errors of those that would fail."""
    lines = []
    try:
        find_features(data)
    except InputError as error:
        lines.append(Text(f"No features to prepare from yet: {error}", style="yellow"))
    for name in DATASETS:
        try:
            splits = find_splits(data, name)
        except InputError as error:
            if existing_splits(data, name):
                lines.append(Text(f"{name} is incomplete: {error}", style="yellow"))
            continue
        command = f"updn-vqa prepare --data {data} --dataset {name} --out prepared/{name}"
        lines.append(Text(f"{name} ({', '.join(splits)}): {command}", style="green"))
    if not any(line.style == "green" for line in lines):
        lines.append(Text("No data set has a train part with questions and annotations yet.", style="yellow"))
    return lines
