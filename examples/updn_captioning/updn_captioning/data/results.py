"""Captions of any model in the official results format, and the references for their scores."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from updn_captioning.data.coco import read_captions
from updn_captioning.data.tokenise import tokenise
from updn_common.errors import InputError, first_few
from updn_common.files.json_fields import field, kind_of
from updn_common.files.reading import read_json
from updn_common.files.writing import write_json


def read_results(path: Path) -> dict[int, str]:
    """Read captions in the official results format, ``[{"image_id": int, "caption": str}, ...]``; they may be empty.

    Raises:
        InputError: A record is malformed, there is none, or an image has two captions.
    """
    records = read_json(path, expected="a caption results file")
    if not isinstance(records, list) or not records:
        found = kind_of(records) if records != [] else "an empty one"
        raise InputError(f"{path} is not a caption results file: it should hold a list of captions, found {found}.")
    results: dict[int, str] = {}
    for index, record in enumerate(records):
        where = f"{path}, record {index}"
        image_id = field(record, "image_id", int, where)
        if image_id in results:
            raise InputError(f"{where}: image {image_id} has two captions. Keep one of them.")
        results[image_id] = field(record, "caption", str, where)
    return results


def write_results(path: Path, captions: Mapping[int, str]) -> None:
    """Write the caption of each image in the official results format."""
    write_json(path, [{"image_id": image_id, "caption": caption} for image_id, caption in captions.items()])


def read_references(paths: Sequence[Path], *, tokenised: bool = False) -> dict[int, list[str]]:
    """Read the references of each image from COCO caption files, as tokens separated by spaces.

    If they are ``tokenised`` already, they are not tokenised again, which would change some.
    """
    references: dict[int, list[str]] = {}
    for path in paths:
        for caption in read_captions(path):
            references.setdefault(caption.image_id, []).append(caption.text if tokenised else tokenise(caption.text))
    for image_id, captions in references.items():
        if "" in captions:
            raise InputError(f"{_names(paths)}: a caption of image {image_id} has no tokens. Remove it.")
    return references


def check_captioned(
    results: Collection[int], references: Collection[int], source: str, against: str, remedy: str
) -> None:
    """Raise an InputError unless captions and references are about the same images.

    Args:
        results: The captioned images.
        references: The images that have references.
        source: File of the results, for the error message.
        against: Files of the references, for the error message.
        remedy: What the error message should advise if images have no caption.
    """
    if unknown := sorted({*results} - {*references}):
        raise InputError(
            f"{source}: {len(unknown)} of its {len(results)} images have no references in {against}: "
            f"{first_few(unknown)}. Take the results and the references of the same images."
        )
    if missing := sorted({*references} - {*results}):
        raise InputError(
            f"{source}: {len(missing)} of the {len(references)} images of {against} have no caption: "
            f"{first_few(missing)}. {remedy}"
        )


def _names(paths: Sequence[Path]) -> str:
    return " and ".join(map(str, paths))
