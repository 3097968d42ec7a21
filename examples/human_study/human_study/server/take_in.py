"""Answers from the page as files: ``human-study import``."""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

from human_study.server.answer import read_answer
from human_study.server.serve import open_store
from human_study.server.store import Answer, Source
from human_study.server.study import Study
from updn_common.console import plain_console
from updn_common.errors import InputError
from updn_common.files.json_fields import field as checked
from updn_common.files.reading import read_json, read_json_lines

MTURK_COLUMN = "Answer.answers"


@dataclass(frozen=True)
class ImportConfig:
    """Which files to import.

    Attributes:
        study: The study folder.
        files: JSON files of one participant each, JSON Lines with one participant a line, or result files (CSV) of
            Mechanical Turk. Answers that were imported before are left out.
        database: The database, as for `serve`.
    """

    study: Path
    files: tuple[Path, ...]
    database: str = ""


@dataclass(frozen=True)
class Session:
    """The answers of one participant."""

    name: str
    source: Source
    row: int
    answers: list[Answer]


def take_in(config: ImportConfig) -> None:
    """Save answers in the study's database: all of them, or none if something is wrong with one.

    Raises:
        InputError: A file is damaged, or its answers do not belong to this study.
    """
    study = Study.open(config.study)
    sessions = [_session(record, where, study) for path in config.files for where, record in _records(path)]
    store = open_store(study, config.database)
    new = sum(
        store.take_in(study.key.digest("session", session.name), session.source, session.row, session.answers)
        for session in sessions
    )
    plain_console().print(f"{new} participants imported, {len(sessions) - new} known already")


def _records(path: Path) -> Iterator[tuple[str, Any]]:
    if path.suffix == ".csv":
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            if MTURK_COLUMN not in (rows.fieldnames or ()):
                raise InputError(f"{path} has no column {MTURK_COLUMN}. Give a result file of Mechanical Turk.")
            for row in rows:
                where = f"{path}, line {rows.line_num}"
                try:
                    yield where, json.loads(row[MTURK_COLUMN] or "")
                except (ValueError, RecursionError):
                    raise InputError(f"{where}: {MTURK_COLUMN} is not JSON. Fetch the file again.") from None
    elif path.suffix == ".jsonl":
        yield from read_json_lines(path)
    else:
        yield str(path), read_json(path, expected="the answers of a participant")


def _session(record: Any, where: str, study: Study) -> Session:
    found = checked(record, "study", str, where)
    if found != study.settings.id:
        raise InputError(f"{where} holds answers to study {found}, not to {study.settings.id}.")
    row, source = checked(record, "row", int, where), checked(record, "source", str, where)
    if source not in get_args(Source):
        raise InputError(f"{where}: 'source' should be one of {', '.join(get_args(Source))}, found {source!r}.")
    if not 0 <= row < study.design.rows:
        raise InputError(f"{where}: 'row' should be from 0 to {study.design.rows - 1}, found {row}.")
    sequence, answers = study.design.sequence(row), []
    given = checked(record, "answers", list, where)
    if len(given) > len(sequence):
        raise InputError(f"{where} has {len(given)} answers, but participants see {len(sequence)} items.")
    for number, (placement, one) in enumerate(zip(sequence, given, strict=False), start=1):
        answer = read_answer(one)
        if answer is None or answer.item != placement.item:
            raise InputError(f"{where}: answer {number} is damaged, or not about the item of row {row} at this place.")
        answers.append(answer)
    return Session(checked(record, "session", str, where), cast(Source, source), row, answers)
