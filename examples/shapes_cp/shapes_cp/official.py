"""Convert scenes to records of the official VQA and COCO files."""

from collections.abc import Mapping, Sequence
from typing import Any

from shapes_cp.scene import IMAGE_SIZE, Picture, Question, Scene
from shapes_cp.shapes import SHAPES, polygon_area
from shapes_cp.world import SplitName

Record = dict[str, Any]

_INFO = {"description": "shapes_cp: a small rendered world under changing priors", "version": "1.0"}
_LICENSE = {"id": 1, "name": "MIT", "url": "https://opensource.org/license/mit"}
_SECOND_ANSWER = 10  # the annotator who gives the second answer, where there is one
CATEGORIES = [{"supercategory": "shape", "id": i, "name": name} for i, name in enumerate(SHAPES, 1)]


def v2_question_id(image_id: int) -> int:
    """The id of the first question about an image in VQA v2."""
    return image_id * 1000


def v1_question_id(image_id: int) -> int:
    """The id of the same question in VQA v1, which VQA-HAT uses too."""
    return image_id * 10


def file_name(image_id: int, coco_split: str) -> str:
    """The name of an image file in COCO."""
    return f"COCO_{coco_split}_{image_id:012d}.jpg"


def vqa_cp_question(image_id: int, coco_split: str, question: Question) -> Record:
    """A record of ``vqacp_v2_*_questions.json``."""
    return {
        "image_id": image_id,
        "question": question.text,
        "question_id": v2_question_id(image_id),
        "coco_split": coco_split,
    }


def vqa_cp_annotation(image_id: int, coco_split: str, question: Question) -> Record:
    """A record of ``vqacp_v2_*_annotations.json``.

    All ten people give the same answer, or one of them the second answer. By the official leave-one-out rule, the
    answer then scores 1 and the second answer 0.3.
    """
    answers = [question.answer] * 10
    if question.second_answer is not None:
        answers[_SECOND_ANSWER - 1] = question.second_answer
    return {
        "question_type": "is the" if question.kind == "yes/no" else f"what {question.kind} is the",
        "multiple_choice_answer": question.answer,
        "answers": [
            {"answer": answer, "answer_confidence": "yes", "answer_id": i} for i, answer in enumerate(answers, 1)
        ],
        "image_id": image_id,
        "answer_type": "yes/no" if question.kind == "yes/no" else "other",
        "question_id": v2_question_id(image_id),
        "coco_split": coco_split,
    }


def vqa_v1_questions(coco_split: str, scenes: Sequence[tuple[int, Scene]]) -> Record:
    """``OpenEnded_mscoco_*_questions.json``, from pairs of an image id and a scene."""
    questions = [
        {"image_id": image_id, "question": scene.question.text, "question_id": v1_question_id(image_id)}
        for image_id, scene in scenes
    ]
    return {
        "info": _INFO,
        "task_type": "Open-Ended",
        "data_type": "mscoco",
        "license": _LICENSE,
        "data_subtype": coco_split,
        "questions": questions,
    }


def coco_instances(coco_split: str, pictures: Sequence[tuple[int, Picture]]) -> Record:
    """``instances_*.json``: the polygon of every object. The sign and clutter are background."""
    annotations = []
    for image_id, picture in pictures:
        for i, item in enumerate(picture.objects):
            polygon = item.polygon.round(2)
            low, high = polygon.min(0), polygon.max(0)
            annotations.append(
                {
                    "segmentation": [polygon.ravel().tolist()],
                    "area": round(polygon_area(polygon), 2),
                    "iscrowd": 0,
                    "image_id": image_id,
                    "bbox": [*low.tolist(), *(high - low).round(2).tolist()],
                    "category_id": list(SHAPES).index(item.shape) + 1,
                    "id": image_id * 10 + i,
                }
            )
    header = _coco_header(coco_split, [image_id for image_id, _ in pictures])
    return {**header, "annotations": annotations, "categories": CATEGORIES}


def coco_captions(coco_split: str, captions: Sequence[tuple[int, list[str]]]) -> Record:
    """``captions_*.json``, from the captions of each image id."""
    annotations = [
        {"image_id": image_id, "id": caption_id(image_id, i), "caption": caption}
        for image_id, texts in captions
        for i, caption in enumerate(texts)
    ]
    return {**_coco_header(coco_split, [image_id for image_id, _ in captions]), "annotations": annotations}


def caption_id(image_id: int, index: int) -> int:
    """The id of an image's caption in COCO's and Karpathy's files."""
    return image_id * 10 + index


def karpathy_image(image_id: int, coco_split: str, split: str, imgid: int, captions: list[str]) -> Record:
    """A record of ``dataset_coco.json``; ``imgid`` counts the file's images from 0."""
    sentence_ids = [caption_id(image_id, i) for i in range(len(captions))]
    return {
        "filepath": coco_split,
        "sentids": sentence_ids,
        "filename": file_name(image_id, coco_split),
        "imgid": imgid,
        "split": split,
        "sentences": [
            {"tokens": caption.split(), "raw": caption, "imgid": imgid, "sentid": sentence_id}
            for caption, sentence_id in zip(captions, sentence_ids, strict=True)
        ],
        "cocoid": image_id,
    }


def robust_split(images: Mapping[SplitName, Sequence[int]]) -> Record:
    """``split_robust_coco.json``, from the images of each split."""
    return {f"{name}_id": [{"img_id": image_id} for image_id in of_split] for name, of_split in images.items()}


def _coco_header(coco_split: str, image_ids: Sequence[int]) -> Record:
    images = [
        {
            "license": 1,
            "file_name": file_name(image_id, coco_split),
            "height": IMAGE_SIZE,
            "width": IMAGE_SIZE,
            "id": image_id,
        }
        for image_id in image_ids
    ]
    return {"info": _INFO, "licenses": [_LICENSE], "images": images}
