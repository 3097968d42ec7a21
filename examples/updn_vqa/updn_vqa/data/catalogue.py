"""What of others' data the pipeline can use: under which names, how much there is of it, and where it is published."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from updn_common.data.attention_maps import find_vqa_hat, read_salicon
from updn_common.data.catalogue import Group, Item, count_lines, features, photos
from updn_common.errors import InputError
from updn_common.files.reading import read_json, read_json_lines
from updn_vqa.data.hints import ObjectNames, read_question_boxes
from updn_vqa.data.hints.words import read_explanations
from updn_vqa.data.questions import read_annotations, read_questions


def _questions(path: Path) -> int:
    return len(read_questions(path))


def _annotations(path: Path) -> int:
    return len(read_annotations(path))


def _entries(path: Path) -> int:
    document = read_json(path)
    if not isinstance(document, dict):
        raise InputError(f"{path} should hold an object, found {type(document).__name__}.")
    return len(document)


def _hint_lines(path: Path) -> int:
    return max(sum(1 for _ in read_json_lines(path)) - 1, 0)


def _maps(path: Path) -> int:
    return sum(map(len, find_vqa_hat(path).values()))


def _parts(prefix: str, questions: str, annotations: str, parts: Iterable[tuple[str, int | None]]) -> tuple[Item, ...]:
    return tuple(
        Item(f"{prefix} {part}", (name.format(part),), count, units, published)
        for part, published in parts
        for name, count, units in ((questions, _questions, "questions"), (annotations, _annotations, "annotations"))
    )


_V1_PARTS = (("train", 248_349), ("val", 121_512))
_V2_PARTS = (("train", 443_757), ("val", 214_354))
_CP_V1_PARTS = (("train", None), ("test", None))
_CP_V2_PARTS = (("train", 438_183), ("test", 219_928))
_VQA = "https://visualqa.org/download.html"
_VQACP = "https://computing.ece.vt.edu/~aish/vqacp\nOften dead: updn-vqa rebuild-cp makes it from VQA."

CATALOGUE = (
    Group(
        "VQA v2",
        "training and evaluation",
        _VQA,
        _parts("VQA v2", "v2_OpenEnded_mscoco_{}2014_questions.json", "v2_mscoco_{}2014_annotations.json", _V2_PARTS),
    ),
    Group(
        "VQA v2, test2015",
        "questions without published answers: updn-vqa predict",
        _VQA,
        tuple(
            Item(
                f"VQA v2 {part}",
                (f"v2_OpenEnded_mscoco_{part}2015_questions.json",),
                _questions,
                "questions",
                published,
            )
            for part, published in (("test", 447_793), ("test-dev", 107_394))
        ),
    ),
    Group(
        "VQA-CP v2",
        "training and evaluation under changed priors",
        _VQACP,
        _parts("VQA-CP v2", "vqacp_v2_{}_questions.json", "vqacp_v2_{}_annotations.json", _CP_V2_PARTS),
    ),
    Group(
        "VQA-CP v1",
        "training and evaluation under changed priors",
        _VQACP,
        _parts("VQA-CP v1", "vqacp_v1_{}_questions.json", "vqacp_v1_{}_annotations.json", _CP_V1_PARTS),
    ),
    Group(
        "VQA v1",
        "its questions: VQA-HAT; all of it: to rebuild VQA-CP v1",
        f"{_VQA}, v1",
        _parts("VQA v1", "OpenEnded_mscoco_{}2014_questions.json", "mscoco_{}2014_annotations.json", _V1_PARTS),
    ),
    features("all training, unless --question-only"),
    Group(
        "VQA-HAT",
        "--hints hat, the paper's hints",
        "https://computing.ece.vt.edu/~abhshkdz/vqa-hat",
        (
            Item("attention maps, train", ("vqahat_train",), _maps, "maps", 58_475),
            Item("attention maps, val", ("vqahat_val",), _maps, "maps", 4_122),
        ),
    ),
    Group(
        "VQA-X",
        "--hints explanations",
        "https://github.com/Seth-Park/MultimodalExplanations",
        (
            Item("explanations, train", ("train_exp_anno*.json",), lambda p: len(read_explanations(p)), "questions"),
            Item("explanations, val", ("val_exp_anno*.json",), lambda p: len(read_explanations(p)), "questions", 1_459),
            Item(
                "explanations, test", ("test_exp_anno*.json",), lambda p: len(read_explanations(p)), "questions", 1_968
            ),
        ),
    ),
    Group(
        "object names",
        "--hints explanations, question-answer, or words in a file",
        "https://github.com/peteanderson80/bottom-up-attention\nthere in data/genome/1600-400-20",
        (
            Item(
                "names of detected objects",
                ("objects_vocab.txt",),
                lambda p: len(ObjectNames.read(p).names),
                "names",
                1_600,
            ),
        ),
    ),
    Group(
        "boxes",
        "--hints boxes, and how well networks point at what is asked for",
        "nowhere: boxes of your own",
        (Item("boxes of questions", ("*_boxes.json",), lambda p: len(read_question_boxes(p)), "questions"),),
    ),
    Group(
        "hint files",
        "--hints file",
        "nowhere: hints of your own, in the format that README.md describes",
        (Item("hints in the open format", ("*hints.jsonl*",), _hint_lines, "questions"),),
    ),
    Group(
        "GQA",
        "--hints gqa",
        "https://cs.stanford.edu/people/dorarad/gqa/download.html",
        (
            Item("questions with their objects", ("*_balanced_questions.json",), _entries, "questions"),
            Item("scene graphs", ("*_sceneGraphs.json",), _entries, "images"),
        ),
    ),
    Group(
        "SALICON",
        "--hints salicon: free viewing, not question-driven",
        "http://salicon.net",
        (Item("fixations", ("fixations_*.json",), lambda p: len(read_salicon(p)), "images"),),
    ),
    Group(
        "word vectors",
        "--glove",
        "https://nlp.stanford.edu/projects/glove",
        (Item("GloVe, 300 numbers a word", ("glove*.txt",), count_lines, "words"),),
    ),
    photos("updn-vqa explain --images"),
)
