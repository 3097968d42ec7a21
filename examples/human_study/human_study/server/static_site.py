"""The page as files, for hosts that run no program of ours: ``human-study static``."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from human_study.server.app import STATIC
from human_study.server.study import Study
from updn_common.console import plain_console
from updn_common.errors import InputError
from updn_common.files.writing import new_directory, write_json

MTURK = "https://www.mturk.com https://workersandbox.mturk.com"


@dataclass(frozen=True)
class StaticConfig:
    """Which study to write as files, and where answers go.

    Attributes:
        study: The study folder.
        out: A new folder for the files. Upload all of it, and nothing of the study folder.
        post_url: An address that takes each participant's answers as JSON, by POST. Without it, participants on
            Mechanical Turk send them to Mechanical Turk, and all others get a file to send.
    """

    study: Path
    out: Path
    post_url: str = ""


def write_static(config: StaticConfig) -> None:
    """Write the page as files. Nothing in them tells which network is which, or which items are checks.

    Raises:
        InputError: The folder holds no study, or the address makes no sense; nothing is left behind.
    """
    study = Study.open(config.study)
    host = _origin(config.post_url)
    policy = (
        f"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self' {host}; "
        f"form-action {MTURK}; base-uri 'none'; require-trusted-types-for 'script'"
    )
    with new_directory(config.out) as out:
        html = study.page(mode="files", csrf="", policy=policy, post_url=config.post_url)
        (out / "index.html").write_text(html, encoding="utf-8")
        shutil.copytree(STATIC, out / "static", ignore=shutil.ignore_patterns("served.js"))
        (out / "pictures").mkdir()
        for name, path in study.pictures.items():
            shutil.copy2(path, out / "pictures" / name)
        (out / "rows").mkdir()
        for row in range(study.design.rows):
            sequence = study.design.sequence(row)
            items = [study.shown(at) | {"feedback": study.feedback(at)} for at in sequence]
            write_json(out / "rows" / f"{row}.json", items)
        about = {"rows": study.design.rows, "completion_code": study.settings.completion_code}
        write_json(out / "rows.json", about)
    plain_console(soft_wrap=True).print(
        f"{config.out}: upload it, and give participants index.html?row=0 to index.html?row={study.design.rows - 1}."
    )


def _origin(url: str) -> str:
    """The origin of an address, for the page's security policy."""
    if not url:
        return ""
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname or any(c in parts.netloc for c in " ;,'\"@"):
        raise InputError(f"--post-url should be an address that begins with https://, found {url}.")
    return f"https://{parts.netloc}"
