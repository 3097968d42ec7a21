"""The answers as files, for the analysis and for publication: ``human-study export``."""

from dataclasses import dataclass
from pathlib import Path

from human_study.server.serve import open_store
from human_study.server.study import Study
from updn_common.console import plain_console
from updn_common.files.writing import json_text, new_directory, write_json


@dataclass(frozen=True)
class ExportConfig:
    """Which answers to export.

    Attributes:
        study: The study folder.
        out: A new folder for study.json, participants.jsonl and answers.jsonl.
        database: The database, as for `serve`.
    """

    study: Path
    out: Path
    database: str = ""


def export(config: ExportConfig) -> None:
    """Write all answers. Participants are opaque names; no times of day are written, which could tell who they are.

    Raises:
        InputError: The folder holds no study, or the database another one; nothing is left behind.
    """
    study = Study.open(config.study)
    store = open_store(study, config.database)
    people, answers = store.everything()
    with new_directory(config.out) as out:
        write_json(out / "study.json", study.settings.public(), indent=1)
        records = [{"participant": row.id, "status": row.status, "source": row.source} for row in people]
        _write_lines(out / "participants.jsonl", records)
        lines = []
        for row in answers:
            item = study.items[row.item]
            shown = {name: getattr(row, name) for name in ("participant", "item", "position", "left", "right")}
            given = {name: getattr(row, name) for name in ("reasonable", "trust", "reason", "seconds")}
            lines.append({**shown, "kind": item.kind, "group": item.group, **given, "expected": item.expected})
        _write_lines(out / "answers.jsonl", lines)
    plain_console(soft_wrap=True).print(f"{config.out}: {len(answers)} answers of {len(people)} participants")


def _write_lines(path: Path, records: list[dict[str, object]]) -> None:
    path.write_text("".join(json_text(record) + "\n" for record in records), encoding="utf-8")
