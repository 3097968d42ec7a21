"""Small versions of the programs that torture the server; `make results-study` runs the large ones."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from human_study.folder.made_up import write_made_up_study
from human_study.server.study import Study

HERE = Path(__file__).parent


def run(name: str, out: Path, *options: str) -> dict[str, Any]:
    program = [sys.executable, str(HERE / f"torture_{name}.py"), "--out", str(out), *options]
    done = subprocess.run(program, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    rows: dict[str, Any] = json.loads(out.read_text())["rows"]
    return rows


def test_killing_the_server_loses_no_answer(tmp_path: Path) -> None:
    rows = run("kill", tmp_path / "kill.json", "--kills", "2", "--participants", "4")
    assert rows["answers acknowledged"] > 0
    assert rows["acknowledged and lost"] == rows["kept twice"] == 0


def test_all_answers_of_many_participants_are_kept(tmp_path: Path) -> None:
    rows = run("load", tmp_path / "load.json", "--participants", "10", "--seconds", "3", "--pause", "0.5")
    measured = [row for row in rows.values() if isinstance(row, dict) and "p99 ms" in row]
    assert sum(row["answers"] for row in measured) == rows["answers kept"] > 0


def test_attacks_are_refused(tmp_path: Path) -> None:
    rows = run("security", tmp_path / "security.json")
    assert len(rows) > 20
    assert all(row["as it should be"] for row in rows.values())


def test_files_do_not_tell_the_networks_apart(tmp_path: Path) -> None:
    write_made_up_study(tmp_path / "study", items=40, practice=0, checks=0, raters=2, per_participant=8)
    rows = run("blind", tmp_path / "blind.json", str(tmp_path / "study"), "--exchanges", "50")
    for name in ("files of the study folder", "files of the page", "order in what browsers are told"):
        assert rows[name]["guessed right %"] < 80  # by chance once in ten thousand times


def test_the_classifier_would_notice_names_that_tell(tmp_path: Path) -> None:
    write_made_up_study(tmp_path / "study", items=40, practice=0, checks=0, raters=2, per_participant=8)
    items = json.loads((tmp_path / "study" / "items.json").read_text())
    for item in items:
        for digit, (arm, picture) in enumerate(sorted(item["explanations"].items())):
            renamed = f"{picture[:-5]}{digit}.png"
            shutil.move(tmp_path / "study" / picture, tmp_path / "study" / renamed)
            item["explanations"][arm] = renamed
    (tmp_path / "study" / "items.json").write_text(json.dumps(items))
    Study.open(tmp_path / "study")
    rows = run("blind", tmp_path / "blind.json", str(tmp_path / "study"), "--exchanges", "50")
    row = rows["files of the study folder"]
    assert row["guessed right %"] > 95
    assert row["p (above chance)"] < 0.03


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("mount") is None, reason="only root can mount a small disk")
def test_a_disk_that_is_really_full_gives_a_message_and_recovers(tmp_path: Path) -> None:
    """The test fills and frees a small file system of its own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk], check=False, capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("mounting is not allowed here")
    try:
        done = subprocess.run(
            [sys.executable, str(HERE / "torture_full.py"), str(disk)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    finally:
        subprocess.run(["umount", disk], check=True)
