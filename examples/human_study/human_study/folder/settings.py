"""``study.json``: the facts of a study. The file names the models, so no browser may see it."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from updn_common.errors import InputError
from updn_common.files.json_fields import field as checked
from updn_common.files.json_fields import kind_of
from updn_common.files.reading import read_json
from updn_common.files.writing import write_json

FORMAT = 1
EXCLUSION_RULES: dict[str, float] = {
    "max_failed_checks": 0,
    "min_median_seconds": 2.0,
    "max_same_side_share": 0.95,
    "min_share_answered": 0.8,
}
"""Participants outside these limits are excluded from the analysis. The rules are stated before any answer is seen."""


@dataclass(frozen=True)
class Settings:
    """The facts of a study.

    Attributes:
        id: Opaque name of the study.
        title: Title of the page.
        seed: Seed of the choice of items and of their order.
        raters_per_item: Number of participants who should judge each item (each pair of networks, if there are more).
        items_per_participant: Number of items that a participant judges, practice items and checks not counted.
        language: Language of the page, as in HTML's ``lang``.
        contact: How participants reach the researchers.
        completion_code: Code that a participant shows to be paid.
        importance: The importance that the pictures show, the same for all networks.
        split: Split that the items are from.
        arms: The networks by their names, each with facts about its run.
        made_by: The command that built the study, and the versions that it ran on.
        exclusion_rules: Rules by which the analysis excludes participants.
    """

    id: str
    title: str
    seed: int
    raters_per_item: int
    items_per_participant: int
    language: str
    contact: str
    completion_code: str
    importance: str
    split: str
    arms: dict[str, dict[str, Any]]
    made_by: dict[str, Any]
    exclusion_rules: dict[str, float] = field(default_factory=EXCLUSION_RULES.copy)

    def write(self, folder: Path) -> None:
        """Write ``study.json``."""
        write_json(folder / "study.json", {"format": FORMAT, **asdict(self)}, indent=1)

    @classmethod
    def read(cls, folder: Path) -> "Settings":
        """Read ``study.json``.

        Raises:
            InputError: The folder holds no study, or the file is damaged or of another version.
        """
        path = folder / "study.json"
        record = read_json(path, expected="the study.json of a folder that `human-study build` wrote")
        if not isinstance(record, dict) or record.get("format") != FORMAT:
            found = record.get("format") if isinstance(record, dict) else kind_of(record)
            raise InputError(f"{path}: format {found}; expected {FORMAT}. Build the study again.")
        where = str(path)
        texts = {
            key: checked(record, key, str, where)
            for key in ("id", "title", "language", "contact", "completion_code", "importance", "split")
        }
        numbers = {
            key: checked(record, key, int, where) for key in ("seed", "raters_per_item", "items_per_participant")
        }
        for key, least in {"raters_per_item": 1, "items_per_participant": 1, "seed": 0}.items():
            if numbers[key] < least:
                raise InputError(f"{where}: {key!r} should be at least {least}, found {numbers[key]}.")
        objects = {key: _object(record, key, where) for key in ("arms", "made_by", "exclusion_rules")}
        if len(objects["arms"]) < 2:
            raise InputError(f"{where}: 'arms' should name two networks or more, found {len(objects['arms'])}.")
        unknown = sorted(set(objects["exclusion_rules"]) ^ set(EXCLUSION_RULES))
        if unknown:
            raise InputError(
                f"{where}: 'exclusion_rules' should hold {', '.join(EXCLUSION_RULES)}; see {unknown[0]!r}."
            )
        return cls(**texts, **numbers, **objects)  # type: ignore[arg-type]

    def public(self) -> dict[str, Any]:
        """Facts that the export tells about the study; the completion code and the runs' paths are not among them."""
        names = ("id", "title", "raters_per_item", "items_per_participant", "importance", "split", "exclusion_rules")
        return {"format": FORMAT, **{name: getattr(self, name) for name in names}, "arms": sorted(self.arms)}


def _object(record: dict[str, Any], key: str, where: str) -> dict[str, Any]:
    value = record.get(key)
    if not isinstance(value, dict):
        raise InputError(f"{where}: {key!r} should be an object, found {kind_of(value)}.")
    return value
