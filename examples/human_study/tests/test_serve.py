"""The command that serves a study: its options, its warnings, and what it passes on."""

from pathlib import Path
from typing import Any

import pytest

from human_study import cli
from human_study.server.serve import ServeConfig, serve
from human_study.server.study import Study
from updn_common.command import parse_command_line
from updn_common.errors import InputError


@pytest.fixture
def uvicorn_run(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Notes what would be served."""
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr("uvicorn.run", lambda app, **options: calls.append(options))
    return calls


def test_serve_listens_to_this_machine_alone_and_logs_no_addresses(
    study: Study, uvicorn_run: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    (study.folder / "consent.md").write_text("By [institution].")
    serve(ServeConfig(study.folder, port=8123))
    (options,) = uvicorn_run
    assert (options["host"], options["port"], options["access_log"]) == ("127.0.0.1", 8123, False)
    assert capsys.readouterr().out.splitlines() == [
        f"warning: {study.folder / 'consent'}.md still has something in [brackets] to be filled in.",
        "A made-up study: http://127.0.0.1:8123 (Ctrl-C stops it)",
    ]
    assert (study.folder / "answers.sqlite3").stat().st_mode & 0o077 == 0  # nobody else may read the answers


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"port": 0}, "--port should be from 1 to 65535, found 0"),
        ({"joins_per_minute": 0}, "--joins-per-minute should be at least 1, found 0"),
        ({"abandoned_after_hours": 0.0}, "--abandoned-after-hours should be at least 0.1, found 0.0"),
        ({"study": Path("/no/such/study")}, "/no/such/study/study.json does not exist"),
    ],
)
def test_options_that_make_no_sense_are_refused(study: Study, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        serve(ServeConfig(**({"study": study.folder} | changes)))


def test_short_tokens_are_refused(study: Study, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("short\n")
    with pytest.raises(InputError, match="token should hold a token of 16 characters or more, found 5"):
        serve(ServeConfig(study.folder, admin_token_file=tmp_path / "token"))


@pytest.mark.parametrize("command", ["build", "serve", "static", "import", "withdraw", "export", "analyse", "simulate"])
def test_every_option_is_explained(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_command_line("human-study", None, cli.COMMANDS, [command, "--help"])
    assert "--study" in capsys.readouterr().out.replace("--data", "--study")
