"""Serve a study: ``human-study serve``."""

from dataclasses import dataclass
from pathlib import Path

import uvicorn

from human_study.server.app import Limits, create_app
from human_study.server.database import Database, sqlite_url
from human_study.server.security import Limiter
from human_study.server.store import Store
from human_study.server.study import Study
from updn_common.console import plain_console
from updn_common.errors import InputError, check_range
from updn_common.files.reading import read_text

SHORTEST_TOKEN = 16


@dataclass(frozen=True)
class ServeConfig:
    """Which study to serve, and where.

    Attributes:
        study: The study folder.
        database: Any address that SQLAlchemy knows, such as postgresql+psycopg://user@host/name. Default: the SQLite
            file answers.sqlite3 in the study folder.
        host: Address to listen on.
        port: Port to listen on.
        proxies: Addresses of reverse proxies whose X-Forwarded-For is believed, separated by commas.
        admin_token_file: A file with a token of 16 characters or more. With it, /admin shows the progress to those who
            give the token as password.
        joins_per_minute: Number of participants who may join from one address in a minute.
        abandoned_after_hours: Hours after which the place of a participant who stays away goes to another one.
    """

    study: Path
    database: str = ""
    host: str = "127.0.0.1"
    port: int = 8000
    proxies: str = "127.0.0.1"
    admin_token_file: Path | None = None
    joins_per_minute: int = 60
    abandoned_after_hours: float = 24.0


def open_store(study: Study, database: str, abandoned_after_hours: float = 24.0) -> Store:
    """The answers of a study.

    Raises:
        InputError: The database cannot be opened, or holds another study.
    """
    url = database or sqlite_url(study.folder / "answers.sqlite3")
    opened = Database(url)
    try:
        return Store(opened, study.design, 3600 * abandoned_after_hours)
    except InputError:
        opened.close()
        raise


def serve(config: ServeConfig) -> None:
    """Serve a study until the process is stopped.

    Raises:
        InputError: The folder holds no study, or an option makes no sense.
    """
    check_range(1, 65535, port=config.port)
    check_range(1, joins_per_minute=config.joins_per_minute)
    check_range(0.1, abandoned_after_hours=config.abandoned_after_hours)
    token = _token(config.admin_token_file)
    study = Study.open(config.study)
    console = plain_console(soft_wrap=True)
    for name in study.placeholders:
        console.print(f"warning: {config.study / name}.md still has something in [brackets] to be filled in.")
    store = open_store(study, config.database, config.abandoned_after_hours)
    limits = Limits(joins=Limiter(config.joins_per_minute / 60, config.joins_per_minute))
    console.print(f"{study.settings.title}: http://{config.host}:{config.port} (Ctrl-C stops it)")
    uvicorn.run(
        create_app(study, store, limits=limits, admin_token=token),
        host=config.host,
        port=config.port,
        forwarded_allow_ips=config.proxies,
        access_log=False,  # addresses of participants are nobody's business
        server_header=False,
        log_level="warning",
        h11_max_incomplete_event_size=16 * 1024,
        timeout_keep_alive=75,  # people take that long for an item
        timeout_graceful_shutdown=10,
    )


def _token(path: Path | None) -> str:
    if path is None:
        return ""
    token = read_text(path, expected="a file with a token").strip()
    if len(token) < SHORTEST_TOKEN:
        raise InputError(f"{path} should hold a token of {SHORTEST_TOKEN} characters or more, found {len(token)}.")
    return token
