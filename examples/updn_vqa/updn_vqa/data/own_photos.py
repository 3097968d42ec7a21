"""Make a data set from ten photos of your own, to try every command of ``updn-vqa`` before downloading 20 GB.

Number the photos, such as ``photos/1.jpg`` to ``photos/10.jpg``, and write ``photos/questions.csv`` with a line for
each question: the answer, and optionally the box (in pixels) around what the question asks about::

    photo,question,answer,x1,y1,x2,y2
    1,What color is the mug?,red,410,220,655,480
    1,How many people are there?,2,,,,

Then ``python -m updn_vqa.data.own_photos photos ten`` writes the directory ``ten`` with all files that ``updn-vqa
prepare`` reads. The last three photos are for testing. The features are the colours in the cells of a grid, which is
enough for a trial run only: for real use, give the features of a detector with ``--features``.
"""

import argparse
import csv
import sys
from pathlib import Path

import numpy as np
from PIL import ImageOps

from updn_common.errors import InputError
from updn_common.files.images import read_image
from updn_common.files.json_fields import as_id
from updn_common.files.reading import read_text
from updn_common.files.writing import new_directory, write_json
from updn_common.reports.figures import find_images
from updn_vqa.data.official_files import official_files
from updn_vqa.data.official_writers import write_annotations, write_questions
from updn_vqa.data.questions import ANSWERS_PER_QUESTION, Annotation, Question

HEADER = "photo,question,answer,x1,y1,x2,y2"
CELLS, PIXELS = 6, 4
"""Number of cells along each side of a photo, and of pixels along each side of a cell."""
TEST = 3
"""Number of photos for testing."""


def write_features(photo: Path, out: Path) -> None:
    """Write an npz file as the usual extraction scripts do; each proposal is a cell with its colours."""
    with read_image(photo) as image:
        upright = ImageOps.exif_transpose(image).convert("RGB")
    colours = np.asarray(upright.resize((CELLS * PIXELS,) * 2), dtype=np.float32) / 255
    cells = colours.reshape(CELLS, PIXELS, CELLS, PIXELS, 3).transpose(0, 2, 1, 3, 4).reshape(CELLS**2, -1)
    rows, columns = np.divmod(np.arange(CELLS**2), CELLS)
    boxes = np.stack([columns, rows, columns + 1, rows + 1], axis=1) / CELLS * (upright.size * 2)
    width, height = upright.size
    np.savez(out, x=cells, bbox=boxes.astype(np.float32), num_bbox=len(boxes), image_w=width, image_h=height)


def read_questions(path: Path) -> list[tuple[Question, Annotation, list[float]]]:
    """Read the questions, annotations that repeat the answer ten times, and the corners of boxes, if there are any."""
    found: list[tuple[Question, Annotation, list[float]]] = []
    for number, row in enumerate(csv.DictReader(read_text(path).splitlines()), start=1):
        where = f"{path}, question {number}"
        for name in ("photo", "question", "answer"):
            if not row.get(name):
                raise InputError(f"{where}: {name!r} is missing. The first line should be {HEADER}.")
        image_id, text, answer = as_id(row["photo"]), row["question"], row["answer"]
        if image_id is None:
            raise InputError(f"{where}: 'photo' is {row['photo']!r}. It should be the photo's number.")
        try:
            box = [float(row[name]) for name in ("x1", "y1", "x2", "y2") if row.get(name)]
        except ValueError as error:
            raise InputError(f"{where}: {error}. A box has four numbers.") from None
        if len(box) not in (0, 4):
            raise InputError(f"{where}: the box is {box}. Give x1, y1, x2 and y2, or none of them.")
        question = Question(1000 * image_id + number, image_id, text)
        kind = "yes/no" if answer in ("yes", "no") else "number" if answer.isdigit() else "other"
        first_words = " ".join(text.lower().split()[:2])
        answers = (answer,) * ANSWERS_PER_QUESTION
        annotation = Annotation(question.question_id, image_id, first_words, kind, answer, answers)
        found.append((question, annotation, box))
    return found


def make_data_set(photos: Path, out: Path) -> None:
    """Write features, and the questions, annotations and boxes of both splits.

    Raises:
        InputError: The questions are malformed, there are too few, or one is about a missing photo.
    """
    asked, files = read_questions(photos / "questions.csv"), find_images(photos).files
    images = sorted({question.image_id for question, _, _ in asked})
    if missing := [image_id for image_id in images if image_id not in files]:
        raise InputError(f"{photos} has no photo {missing[0]}, such as {missing[0]}.jpg.")
    if len(images) <= TEST + 1:
        raise InputError(
            f"{photos / 'questions.csv'} has questions about {len(images)} photos. At least {TEST + 2} are needed: "
            f"{TEST} are for testing."
        )
    with new_directory(out) as directory:
        (directory / "features").mkdir()
        for image_id in images:
            write_features(files[image_id], directory / "features" / f"{image_id}.npz")
        for split, chosen in (("train", images[:-TEST]), ("test", images[-TEST:])):
            mine = [item for item in asked if item[0].image_id in chosen]
            names = official_files(directory, "vqacp_v2", split)
            write_questions(names.questions, [question for question, _, _ in mine], None)
            write_annotations(names.annotations, [annotation for _, annotation, _ in mine], None)
            boxes = {str(question.question_id): [box] for question, _, box in mine if box}
            write_json(directory / f"vqacp_v2_{split}_boxes.json", boxes)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m updn_vqa.data.own_photos", description="Ten photos as a data set.")
    parser.add_argument("photos", type=Path, help="folder with the photos and questions.csv")
    parser.add_argument("out", type=Path, help="the new directory")
    arguments = parser.parse_args()
    try:
        make_data_set(arguments.photos, arguments.out)
    except InputError as error:
        sys.exit(f"error: {error}")
