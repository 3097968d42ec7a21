"""The connection to the database: any that SQLAlchemy knows, and SQLite so that no acknowledged answer is lost."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, OperationalError

from updn_common.errors import InputError

THREADS = 40
"""Requests that may be at work at once: the size of Starlette's pool of threads."""
Result = TypeVar("Result")


class NotSavedError(Exception):
    """The database could not save something. What it acknowledged before is kept.

    Attributes:
        full: Whether that is for lack of space.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.full = "full" in reason or "No space left" in reason


@dataclass(eq=False)
class _Job(Generic[Result]):
    work: Callable[[Connection], Result]
    done: bool = False
    result: Result | None = None
    error: BaseException | None = None


class Database:
    """A database whose writes are on disk when they return.

    Writes that wait for one another share one commit: a disk is asked to flush once for all of them. Each has its own
    savepoint, so that one that fails takes back nothing of the others.
    """

    def __init__(self, url: str) -> None:
        """Connect, and bring the tables up to date.

        Raises:
            InputError: The address is wrong, the database cannot be reached, or a newer version has written it.
        """
        try:
            self.engine = _engine(url)
            _migrate(self.engine)
        except (ArgumentError, NoSuchModuleError, ModuleNotFoundError, OperationalError, OSError) as error:
            raise InputError(f"--database {_without_password(url)} cannot be opened: {_first_line(error)}") from None
        self._writer = self.engine.execution_options(writes=True)
        self._committing = threading.Lock()
        self._queue: deque[_Job[Any]] = deque()

    def write(self, work: Callable[[Connection], Result]) -> Result:
        """Run ``work`` in a transaction; when this returns, it is committed.

        Raises:
            NotSavedError: The disk is full, or the database cannot be reached. Nothing was changed.
        """
        job = _Job(work)
        self._queue.append(job)
        with self._committing:  # whoever gets the lock commits for all who wait for it
            if not job.done:
                self._commit([self._queue.popleft() for _ in range(len(self._queue))])
        if isinstance(job.error, OperationalError):
            raise NotSavedError(_first_line(job.error)) from job.error
        if job.error is not None:
            raise job.error
        return job.result  # type: ignore[return-value]

    def _commit(self, jobs: list[_Job[Any]]) -> None:
        try:
            with self._writer.begin() as connection:
                for job in jobs:
                    savepoint = connection.begin_nested()
                    try:
                        job.result = job.work(connection)
                        savepoint.commit()
                    except OperationalError:
                        raise  # of the disk or the connection: nothing of this commit may be acknowledged
                    except Exception as error:
                        savepoint.rollback()
                        job.error = error
        except BaseException as error:  # whatever it was, nobody may take their answer for saved
            for job in jobs:
                job.error = error
        finally:
            for job in jobs:
                job.done = True

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection that sees what was committed before it began."""
        with self.engine.connect() as connection:
            yield connection

    def forget(self) -> None:
        """Let SQLite empty its log, in which deleted text is still readable."""
        if self.engine.dialect.name == "sqlite":
            with self._committing, closing(self.engine.raw_connection()) as connection:
                connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def sqlite_url(path: Path) -> str:
    """The address of an SQLite file."""
    return f"sqlite:///{path.absolute()}"


def _engine(url: str) -> Engine:
    if make_url(url).get_backend_name() != "sqlite":
        return create_engine(url, pool_size=THREADS, pool_pre_ping=True)
    file = make_url(url).database
    if file and file != ":memory:":
        Path(file).touch(mode=0o600)  # answers are for their owner's eyes
    engine = create_engine(url, pool_size=THREADS, connect_args={"timeout": 30, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, record: Any) -> None:
        connection.isolation_level = None  # transactions begin below, not when the driver thinks so
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _migrate(engine: Engine) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    try:
        with engine.execution_options(writes=True).begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except CommandError:
        engine.dispose()
        head = ScriptDirectory.from_config(config).get_current_head()
        raise InputError(
            f"The database was written by a newer version of human-study (this one knows up to {head}): update "
            "human-study."
        ) from None


def _first_line(error: Exception) -> str:
    return str(getattr(error, "orig", None) or error).strip().split("\n")[0]


def _without_password(url: str) -> str:
    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return url
