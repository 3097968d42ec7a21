"""The database: migrations, durability, commits that are shared, and what it refuses."""

import os
import shutil
import sqlite3
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, NullPool, create_engine, event, insert, text

from human_study.folder.made_up import write_made_up_study
from human_study.server.database import Database, NotSavedError, sqlite_url
from human_study.server.serve import open_store
from human_study.server.store import Answer, ConflictError, KnownError, Store, StudyFullError
from human_study.server.study import Study
from human_study.server.tables import metadata
from human_study.server.tables import study as study_table
from updn_common.errors import InputError


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The address of a PostgreSQL server of the tests' own, where it is installed."""
    programs = [*Path("/usr/lib/postgresql").glob("*/bin/initdb"), *filter(None, [shutil.which("initdb")])]
    if not programs or shutil.which("runuser") is None or os.geteuid() != 0:
        pytest.skip("PostgreSQL or runuser is not installed, or the user is not root")
    pytest.importorskip("psycopg", exc_type=ImportError)

    def run(name: str, *options: str) -> None:
        program = str(Path(programs[0]).parent / name)
        command = ["runuser", "-u", "postgres", "--", program, "-D", f"{folder}/data", *options]
        subprocess.run(command, check=True, cwd="/", stdout=subprocess.DEVNULL)

    with tempfile.TemporaryDirectory() as folder:  # pytest's own are closed to other users
        shutil.chown(folder, "postgres")
        run("initdb", "-A", "trust")
        options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off"
        run("pg_ctl", "-w", "-o", options, "-l", f"{folder}/log", "start")
        yield f"postgresql+psycopg://postgres@/postgres?host={folder}"
        run("pg_ctl", "-w", "-m", "immediate", "stop")


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield sqlite_url(tmp_path / "answers.sqlite3")
        return
    address = request.getfixturevalue("postgresql")
    yield address
    database = Database(address)
    metadata.drop_all(database.engine)
    database.write(lambda connection: connection.execute(text("DROP TABLE alembic_version")))
    database.close()


def answers_of(store: Store, row: int) -> list[Answer]:
    return [Answer(placement.item, 1, 0, "", 2.0) for placement in store.design.sequence(row)]


def test_migrations_make_the_tables_that_the_code_reads(url: str) -> None:
    database = Database(url)
    with database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    database.close()
    Database(url).close()  # and again, with nothing to do


def test_a_database_of_a_newer_version_is_refused(url: str) -> None:
    database = Database(url)
    database.write(lambda connection: connection.execute(text("UPDATE alembic_version SET version_num = '9999'")))
    database.close()
    with pytest.raises(InputError, match=r"written by a newer version of human-study .*0001.*: update human-study"):
        Database(url)
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))


@pytest.mark.parametrize("wrong", ["nonsense", "sqlite:////no/such/folder/a.sqlite3", "oracle9://host/name"])
def test_addresses_that_lead_nowhere_are_refused(wrong: str) -> None:
    with pytest.raises(InputError, match=r"^--database .* cannot be opened: "):
        Database(wrong)


def test_the_database_of_another_study_is_refused(study: Study, url: str, tmp_path: Path) -> None:
    open_store(study, url).database.close()
    write_made_up_study(tmp_path / "other")
    other = Study.open(tmp_path / "other")
    with pytest.raises(InputError, match=f"holds the answers of study {study.settings.id}, not of {other.settings.id}"):
        open_store(other, url)


def test_many_at_once_get_different_rows_and_lose_nothing(study: Study, url: str) -> None:
    store = open_store(study, url)

    def take_part(number: int) -> str:
        try:
            participant = store.join(f"code {number}", f"account {number % 6}", "prolific")
        except (KnownError, StudyFullError) as error:
            return type(error).__name__
        for answer in answers_of(store, participant.row):
            participant = store.answer(participant.id, participant.answered, answer)
        return participant.status

    with ThreadPoolExecutor(12) as pool:
        results = list(pool.map(take_part, range(12)))
    assert results.count("completed") == study.design.rows
    assert {*results} <= {"completed", "KnownError", "StudyFullError"}
    people, answers = store.everything()
    assert sorted(row.row for row in people) == list(range(study.design.rows))
    assert len(answers) == study.design.rows * study.design.length
    assert store.counts() == {"completed": 4}
    main = {item.id for item in study.items.values() if item.kind == "main"}
    assert {count for item, count in store.raters().items() if item in main} == {4}
    store.database.close()


def test_one_answer_sent_from_two_windows_is_saved_once(study: Study, url: str) -> None:
    store = open_store(study, url)
    participant = store.join("code", None, "link")
    answer = answers_of(store, participant.row)[0]
    with ThreadPoolExecutor(8) as pool:
        after = list(pool.map(lambda _: store.answer(participant.id, 0, answer).answered, range(8)))
    assert after == [1] * 8
    assert len(store.everything()[1]) == 1
    with pytest.raises(ConflictError):
        store.answer(participant.id, 0, Answer(answer.item, -1, 0, "", 2.0))
    store.database.close()


def test_writes_that_wait_share_a_commit_and_one_that_fails_takes_nothing_back(url: str) -> None:
    database = Database(url)
    go, commits = threading.Event(), []
    commit = database._commit

    def counted(jobs: list) -> None:  # type: ignore[type-arg]
        commits.append(len(jobs))
        commit(jobs)

    database._commit = counted  # type: ignore[method-assign]

    def first(connection: Connection) -> None:
        assert go.wait(30)

    def save(number: int) -> int:
        def work(connection: Connection) -> int:
            connection.execute(insert(study_table).values(id=str(number)))
            if number == 3:
                raise ConflictError
            return number

        return database.write(work)

    with ThreadPoolExecutor(8) as pool:
        blocker = pool.submit(database.write, first)
        waiting = [pool.submit(save, number) for number in range(6)]
        while len(database._queue) < 6:
            pass
        go.set()
        blocker.result()
        results = [task.result() if task.exception() is None else type(task.exception()) for task in waiting]
    assert results == [0, 1, 2, ConflictError, 4, 5]
    assert commits == [1, 6]
    with database.read() as connection:
        kept = {*connection.execute(text("SELECT id FROM study")).scalars()}
    assert kept == {"0", "1", "2", "4", "5"}
    database.close()


def test_a_full_disk_gives_a_message_and_keeps_acknowledged_answers(study: Study, store: Store) -> None:
    participant = store.join("code", None, "link")
    given = answers_of(store, participant.row)
    store.answer(participant.id, 0, given[0])

    def limit(connection: sqlite3.Connection, _: object) -> None:
        connection.execute("PRAGMA max_page_count=1")  # SQLite takes the number of pages that it has

    store.database.engine.dispose()
    event.listen(store.database.engine, "connect", limit)
    saved = 1

    def answer_all() -> None:
        nonlocal saved
        for position in range(1, len(given)):
            store.answer(participant.id, position, Answer(given[position].item, 1, 0, "x" * 20_000, 2.0))
            saved += 1

    with pytest.raises(NotSavedError, match="full"):
        answer_all()
    assert len(store.everything()[1]) == saved


def test_sqlite_flushes_each_commit_and_forgets_what_is_deleted(store: Store) -> None:
    with store.database.read() as connection:
        names = ("journal_mode", "synchronous", "foreign_keys", "secure_delete")
        pragmas = {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names}
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "secure_delete": 1}
