"""Kills the server at random moments under load, and looks for answers that it acknowledged and lost.

Participants send again what was not acknowledged, as the page does. Afterwards each acknowledged answer should be in
the database once, with what was said, and nothing should be there that nobody sent.
"""

import argparse
import asyncio
import random
import signal
import sqlite3
import tempfile
from pathlib import Path

from harness import Client, Server, free_port, write_result

from human_study.folder.made_up import write_made_up_study


class Load:
    """Participants who join, answer everything, and make room for the next."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.sent: set[str] = set()
        self.acknowledged: list[str] = []
        self.repeated = 0
        self.over = False

    async def participants(self, name: int) -> None:
        """One after the other until it is over."""
        number = 0
        while not self.over:
            number += 1
            client = Client(self._port)
            try:
                await client.open()
                _, state = await client.call("join", {})
            except OSError:
                await asyncio.sleep(0.1)
                continue
            while state["stage"] == "item" and not self.over:
                state = await self._answer(client, state, f"{name} {number} {state['position']}")
            client.close()

    async def _answer(self, client: Client, state: dict, reason: str) -> dict:  # type: ignore[type-arg]
        choice = random.randint(-2, 2)
        answer = {"position": state["position"], "item": state["item"]["id"], "reasonable": choice, "trust": -choice}
        self.sent.add(reason)
        while not self.over:
            try:
                status, reply = await client.call("answer", {**answer, "reason": reason, "seconds": 1.0})
            except OSError:
                self.repeated += 1
                await asyncio.sleep(0.1)
                continue
            if status == 429:
                await asyncio.sleep(0.2)
                continue
            if status != 200:
                raise RuntimeError(f"{status} {reply}")
            self.acknowledged.append(reason)
            return reply["next"]  # type: ignore[no-any-return]
        return {"stage": "over"}


async def torture(study: Path, kills: int, participants: int) -> dict[str, int]:
    """Kill and restart; returns what was found."""
    port = free_port()
    server, load = Server(study, port), Load(port)
    tasks = [asyncio.create_task(load.participants(name)) for name in range(participants)]
    for _ in range(kills):
        await asyncio.sleep(random.uniform(0.1, 3.0))
        await asyncio.to_thread(server.end, signal.SIGKILL)
        await asyncio.to_thread(server.start)
    await asyncio.sleep(1.0)
    load.over = True
    await asyncio.gather(*tasks)
    server.end(signal.SIGKILL)
    return {"kills": kills, "participants at once": participants, **audit(study / "answers.sqlite3", load)}


def audit(path: Path, load: Load) -> dict[str, int]:
    """Compare the database with what participants know."""
    database = sqlite3.connect(path)
    kept = [reason for (reason,) in database.execute("SELECT reason FROM answers")]
    gaps = "SELECT count(*) FROM (SELECT 1 FROM answers GROUP BY participant HAVING max(position) + 1 != count(*))"
    found = {
        "answers acknowledged": len(load.acknowledged),
        "attempts without a reply": load.repeated,
        "acknowledged and lost": len({*load.acknowledged} - {*kept}),
        "kept twice": len(kept) - len({*kept}),
        "kept but never sent": len({*kept} - load.sent),
        "participants with a gap": database.execute(gaps).fetchone()[0],
        "damaged pages": int(database.execute("PRAGMA integrity_check").fetchone()[0] != "ok"),
    }
    database.close()
    return found


def main() -> None:
    """Run it; the exit status is 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--participants", type=int, default=20)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    random.seed(0)
    with tempfile.TemporaryDirectory() as folder:
        study = Path(folder)
        write_made_up_study(study, items=12, raters=100_000)
        rows = asyncio.run(torture(study, options.kills, options.participants))
    write_result(options.out, "answers after SIGKILL of the server under load", rows)
    wrong = ("acknowledged and lost", "kept twice", "kept but never sent", "participants with a gap", "damaged pages")
    raise SystemExit(any(rows[name] for name in wrong))


if __name__ == "__main__":
    main()
