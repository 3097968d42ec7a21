"""``items.json``: what participants are asked about. It tells which picture is whose, so no browser may see it."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, cast, get_args

from updn_common.errors import InputError
from updn_common.files.json_fields import field as checked
from updn_common.files.json_fields import is_number, kind_of
from updn_common.files.reading import read_json
from updn_common.files.writing import write_json

Kind = Literal["practice", "check", "main"]
VALID, DECOY = "valid", "decoy"
"""The two explanations of a practice item or check: where people looked, and a place that has nothing to do with it."""


@dataclass(frozen=True)
class Item:
    """One image, a question or a caption about it, and an explanation by each network.

    Attributes:
        id: Opaque name.
        kind: Practice items have feedback, checks have a known answer, and only main items are analysed.
        text: The question, or the caption.
        marked: Positions of the caption's words that the explanations are about; empty for a question.
        answer: The answer that the explanations are about; empty for a caption.
        group: Type of the question, or category that the marked word names.
        image: The image, a path in the study folder.
        explanations: Picture of each network's explanation, by the network's name.
        expected: The explanation that is more reasonable, where that is known.
        feedback: What a participant reads after a practice item.
        overlap: Overlap (IoU) of each network's explanation with the place that people marked, where that is known:
            simulated experts judge by it.
    """

    id: str
    kind: Kind
    text: str
    marked: tuple[int, ...]
    answer: str
    group: str
    image: str
    explanations: dict[str, str]
    expected: str | None = None
    feedback: str = ""
    overlap: dict[str, float] = field(default_factory=dict)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Pairs of networks that are compared, each in alphabetical order."""
        return list(combinations(sorted(self.explanations), 2))

    def record(self) -> dict[str, Any]:
        """The item as JSON."""
        record = asdict(self)
        text, marked, expected = record.pop("text"), record.pop("marked"), record.pop("expected")
        if not self.overlap:
            del record["overlap"]
        shown = {"caption": text, "marked": list(marked)} if marked else {"question": text}
        return {**shown, **record, "expected": None if expected is None else {"reasonable": expected}}


def write_items(folder: Path, items: Iterable[Item]) -> None:
    """Write ``items.json``."""
    write_json(folder / "items.json", [item.record() for item in items], indent=1)


def read_items(folder: Path) -> dict[str, Item]:
    """Read ``items.json``: items by their ids, in the file's order.

    Raises:
        InputError: The file is damaged, or a picture that it names is missing.
    """
    path = folder / "items.json"
    records = read_json(path, expected="the items.json of a folder that `human-study build` wrote")
    if not isinstance(records, list):
        raise InputError(f"{path} should hold a list of items, found {kind_of(records)}.")
    items: dict[str, Item] = {}
    for number, record in enumerate(records, start=1):
        item = _item(record, f"{path}, item {number}")
        if item.id in items:
            raise InputError(f"{path} has the item {item.id!r} twice. Keep one of them.")
        for picture in (item.image, *item.explanations.values()):
            if not (folder / picture).is_file():
                raise InputError(f"{folder / picture} does not exist, but {path} names it. Build the study again.")
        items[item.id] = item
    if not any(item.kind == "main" for item in items.values()):
        raise InputError(f"{path} has no item of the kind 'main'. Build the study again.")
    return items


def _item(record: Any, where: str) -> Item:
    kind = checked(record, "kind", str, where)
    if kind not in get_args(Kind):
        raise InputError(f"{where}: 'kind' should be one of {', '.join(get_args(Kind))}, found {kind!r}.")
    marked = checked(record, "marked", list, where) if "caption" in record else []
    text = checked(record, "caption" if "caption" in record else "question", str, where)
    if not all(type(at) is int and 0 <= at < len(text.split()) for at in marked):
        raise InputError(f"{where}: 'marked' should be positions of the caption's words, found {marked}.")
    explanations, expected = record.get("explanations"), record.get("expected")
    if not isinstance(explanations, dict) or len(explanations) < 2:
        raise InputError(f"{where}: 'explanations' should be an object with two pictures or more.")
    reasonable = None if expected is None else checked(expected, "reasonable", str, where)
    if reasonable is not None and reasonable not in explanations:
        raise InputError(f"{where}: 'expected' names {reasonable!r}, which has no explanation.")
    overlap = record.get("overlap", {})
    if not isinstance(overlap, dict) or not all(map(is_number, overlap.values())):
        raise InputError(f"{where}: 'overlap' should be an object with a number for each network.")
    texts = {key: checked(record, key, str, where) for key in ("id", "answer", "group", "image", "feedback")}
    pictures = {str(arm): checked(explanations, arm, str, where) for arm in explanations}
    for picture in (texts["image"], *pictures.values()):
        if Path(picture).parent != Path("pictures"):
            raise InputError(f"{where}: {picture!r} should be a file in the folder pictures.")
    return Item(
        kind=cast(Kind, kind),
        text=text,
        marked=tuple(marked),
        explanations=pictures,
        expected=reasonable,
        overlap=overlap,
        **texts,
    )
