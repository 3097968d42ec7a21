"""What the server remembers of a study: who takes part, in which row of the design, and all answers."""

import secrets
import time
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from sqlalchemy import Connection, Row, delete, func, insert, or_, select, update

from human_study.folder.design import Design, Placement
from human_study.server.database import Database
from human_study.server.tables import answers, participants, study
from updn_common.errors import InputError

Source = Literal["prolific", "mturk", "link"]
Status = Literal["started", "completed", "withdrawn"]
ABANDONED_AFTER = 24 * 3600.0
"""Seconds after which the row of a participant who does not come back is given to another one, too."""
UNUSED_AFTER = 1800.0
"""The same for a participant who has not answered anything: else a few hundred of these would keep all others out."""


class StudyFullError(Exception):
    """Every row of the design has its participant."""


class KnownError(Exception):
    """The platform's account takes part already, in another browser."""


class ConflictError(Exception):
    """An answer is not about the item that the participant is at, or differs from one that is saved."""


class WithdrawnError(Exception):
    """The participant has withdrawn."""


class Participant(NamedTuple):
    """A participant, and how far they are."""

    id: str
    source: Source
    row: int
    status: Status
    answered: int


@dataclass(frozen=True)
class Answer:
    """What a participant said of one item: from -2 (all for the explanation on the left) to 2 (for the right one)."""

    item: str
    reasonable: int
    trust: int
    reason: str
    seconds: float


class Store:
    """The participants and answers of one study."""

    def __init__(self, database: Database, design: Design, abandoned_after: float = ABANDONED_AFTER) -> None:
        """Use a database for a study.

        Raises:
            InputError: The database holds another study.
        """
        self.database, self.design, self._abandoned_after = database, design, abandoned_after
        database.write(self._claim)

    def _claim(self, connection: Connection) -> None:
        held = connection.scalar(select(study.c.id))
        if held is None:
            connection.execute(insert(study).values(id=self.design.settings.id))
        elif held != self.design.settings.id:
            raise InputError(
                f"The database holds the answers of study {held}, not of {self.design.settings.id}: give another "
                "--database."
            )

    def join(self, code_hash: str, platform_hash: str | None, source: Source) -> Participant:
        """Take in a new participant, in the first row that nobody has.

        Raises:
            StudyFullError: There is none.
            KnownError: The platform's account takes part already.
        """

        def work(connection: Connection) -> Participant:
            connection.execute(select(study.c.id).with_for_update())  # one at a time, also with several servers
            known = participants.c.platform_hash == platform_hash
            if platform_hash and connection.scalar(select(participants.c.id).where(known)):
                raise KnownError
            now, columns = time.time(), participants.c
            unused = (columns.seen_at == columns.started_at) & (columns.started_at < now - UNUSED_AFTER)
            there = (columns.seen_at > now - self._abandoned_after) & ~unused
            lives = or_(columns.status == "completed", (columns.status == "started") & there)
            taken = {*connection.scalars(select(participants.c.row).where(lives))}
            row = next((row for row in range(self.design.rows) if row not in taken), None)
            if row is None:
                raise StudyFullError
            return self._insert(connection, code_hash, platform_hash, source, row, now)

        return self.database.write(work)

    def _insert(
        self,
        connection: Connection,
        code_hash: str,
        platform_hash: str | None,
        source: Source,
        row: int,
        now: float,
    ) -> Participant:
        values: dict[str, Any] = {
            "id": secrets.token_hex(8),
            "code_hash": code_hash,
            "platform_hash": platform_hash,
            "source": source,
            "row": row,
            "status": "started",
            "started_at": now,
            "seen_at": now,
        }
        connection.execute(insert(participants).values(values))
        return Participant(values["id"], source, row, "started", 0)

    def find(self, code_hash: str) -> Participant | None:
        """The participant with a code; None if there is no such code."""
        with self.database.read() as connection:
            return _find(connection, participants.c.code_hash == code_hash)

    def answer(self, participant: str, position: int, answer: Answer) -> Participant:
        """Save an answer. The same answer may come twice, since a browser repeats what was not acknowledged.

        Raises:
            ConflictError: It is about another item than the participant is at, or contradicts a saved answer.
            WithdrawnError: The participant has withdrawn.
            NotSavedError: It could not be saved.
        """

        def work(connection: Connection) -> Participant:
            lock = select(participants.c.id).where(participants.c.id == participant).with_for_update()
            connection.execute(lock)  # one answer at a time, also with several servers
            found = _find(connection, participants.c.id == participant)
            if found is None or found.status == "withdrawn":
                raise WithdrawnError
            sequence = self.design.sequence(found.row)
            if not 0 <= position <= found.answered or position >= len(sequence):
                raise ConflictError
            if sequence[position].item != answer.item:
                raise ConflictError
            if position < found.answered:
                if not _is_saved(connection, participant, position, answer):
                    raise ConflictError
                return found
            seen_at = select(participants.c.seen_at).where(participants.c.id == participant)
            longest = max(time.time() - connection.execute(seen_at).scalar_one(), 0.0)
            credible = replace(answer, seconds=min(answer.seconds, longest))  # nobody looked for longer than that
            return self._save(connection, found, sequence[position], credible, len(sequence))

        return self.database.write(work)

    def _save(
        self, connection: Connection, participant: Participant, at: Placement, answer: Answer, length: int
    ) -> Participant:
        now, where = time.time(), participants.c.id == participant.id
        connection.execute(
            insert(answers).values(
                participant=participant.id,
                position=participant.answered,
                item=at.item,
                left=at.left,
                right=at.right,
                reasonable=answer.reasonable,
                trust=answer.trust,
                reason=answer.reason,
                seconds=answer.seconds,
                answered_at=now,
            )
        )
        status: Status = "completed" if participant.answered + 1 == length else "started"
        connection.execute(update(participants).where(where).values(status=status, seen_at=now))
        return participant._replace(status=status, answered=participant.answered + 1)

    def withdraw(self, participant: str) -> None:
        """Delete all answers of a participant, for good, and free their row."""

        def work(connection: Connection) -> None:
            where = participants.c.id == participant
            connection.execute(update(participants).where(where).values(status="withdrawn"))  # from now on, no answers
            connection.execute(delete(answers).where(answers.c.participant == participant))

        self.database.write(work)
        self.database.forget()

    def take_in(self, session_hash: str, source: Source, row: int, given: list[Answer]) -> bool:
        """Save the answers of a participant who used the page as files; False if they are saved already."""

        def work(connection: Connection) -> bool:
            if _find(connection, participants.c.code_hash == session_hash):
                return False
            participant = self._insert(connection, session_hash, None, source, row, 0.0)
            sequence = self.design.sequence(row)
            for placement, answer in zip(sequence, given, strict=False):
                participant = self._save(connection, participant, placement, answer, len(sequence))
            return True

        return self.database.write(work)

    def counts(self) -> dict[str, int]:
        """Number of participants by their status."""
        query = select(participants.c.status, func.count()).group_by(participants.c.status)
        with self.database.read() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def raters(self) -> dict[str, int]:
        """Number of answers of each item that has any."""
        query = select(answers.c.item, func.count()).group_by(answers.c.item)
        with self.database.read() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def everything(self) -> tuple[list[Row[Any]], list[Row[Any]]]:
        """All participants and all answers, as of one moment."""
        with self.database.read() as connection:
            order = answers.c.participant, answers.c.position
            people = list(connection.execute(select(participants).order_by(participants.c.id)))
            return people, list(connection.execute(select(answers).order_by(*order)))


def _find(connection: Connection, where: Any) -> Participant | None:
    count = select(func.count()).where(answers.c.participant == participants.c.id).scalar_subquery()
    columns = participants.c
    query = select(columns.id, columns.source, columns.row, columns.status, count).where(where)
    found = connection.execute(query).first()
    return Participant(*found) if found else None


def _is_saved(connection: Connection, participant: str, position: int, answer: Answer) -> bool:
    columns = answers.c
    where = (columns.participant == participant) & (columns.position == position)
    query = select(columns.reasonable, columns.trust, columns.reason).where(where)
    return connection.execute(query).one() == (answer.reasonable, answer.trust, answer.reason)
