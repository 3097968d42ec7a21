"""Fills the disk that a server writes to, and frees it again: what was acknowledged stays, and the page says why.

The argument is a folder on a small disk of its own, such as a tmpfs of 8 MB.
"""

import asyncio
import sqlite3
import sys
from pathlib import Path

from harness import Client, Server, free_port

from human_study.folder.made_up import write_made_up_study


async def fill(port: int, folder: Path) -> tuple[int, str]:
    """Answer until the disk is full, make room, and answer the rest; returns the number of answers and the refusal."""
    client, acknowledged, refusal = Client(port), 0, ""
    await client.open()
    _, state = await client.call("join", {})
    ballast = folder / "ballast"
    while state["stage"] == "item":
        answer = {"position": state["position"], "item": state["item"]["id"], "reasonable": 1, "trust": 0}
        status, reply = await client.call("answer", {**answer, "reason": "x" * 900, "seconds": 1})
        if status == 507:
            refusal = reply["message"]
            ballast.unlink()
        elif status == 200:
            acknowledged, state = acknowledged + 1, reply["next"]
        else:
            raise RuntimeError(f"{status} {reply}")
        if acknowledged == 3 and not refusal:
            take_all(ballast)
    return acknowledged, refusal


def take_all(ballast: Path) -> None:
    """Leave no byte free."""
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            pass


def main() -> None:
    """Run it; the exit status is 1 if anything was lost."""
    folder = Path(sys.argv[1])
    study, port = folder / "study", free_port()
    write_made_up_study(study, items=40, size=(16, 12))
    server = Server(study, port)
    try:
        acknowledged, refusal = asyncio.run(fill(port, folder))
    finally:
        server.end()
    database = sqlite3.connect(study / "answers.sqlite3")
    kept = database.execute("SELECT count(*) FROM answers").fetchone()[0]
    sound = database.execute("PRAGMA integrity_check").fetchone()[0]
    database.close()
    sys.stdout.write(f"{acknowledged} acknowledged, {kept} kept, {sound}; refused with: {refusal}\n")
    raise SystemExit(not (acknowledged == kept == 42 and sound == "ok" and "no space left" in refusal))


if __name__ == "__main__":
    main()
