"""Many participants at once: how long an answer takes to be saved, and how many a second can be.

All of them answer without a pause first, which no people do; then they take some seconds for each item. Beside them
stands a loop that inserts the same rows into SQLite, with one commit each and the same settings.
"""

import argparse
import asyncio
import os
import random
import sqlite3
import tempfile
import time
from pathlib import Path
from typing import Any

from harness import Client, Server, free_port, write_result

from human_study.folder.made_up import write_made_up_study


async def participant(port: int, pause: float, end: float, latencies: list[float]) -> None:
    """Answer until the end, as one participant after the other."""
    while time.monotonic() < end:
        client = Client(port)
        await client.open()
        _, state = await client.call("join", {})
        while state["stage"] == "item" and time.monotonic() < end:
            await asyncio.sleep(random.uniform(0.5, 1.5) * pause)
            answer = {"position": state["position"], "item": state["item"]["id"], "reasonable": 1, "trust": 0}
            begin = time.perf_counter()
            status, reply = await client.call("answer", {**answer, "reason": "x" * 80, "seconds": 1.0})
            if status == 429:
                await asyncio.sleep(1)
                continue
            latencies.append(time.perf_counter() - begin)
            state = reply["next"]
        client.close()


async def under_load(port: int, participants: int, pause: float, seconds: float) -> dict[str, float]:
    """Measure; times in milliseconds."""
    latencies: list[float] = []
    begin = time.monotonic()
    tasks = (participant(port, pause, begin + seconds, latencies) for _ in range(participants))
    await asyncio.gather(*tasks)
    latencies.sort()
    return {
        "answers": len(latencies),
        "answers per second": round(len(latencies) / (time.monotonic() - begin), 1),
        **{f"p{p} ms": round(1000 * latencies[int(len(latencies) * p / 100)], 1) for p in (50, 90, 99)},
    }


def plain_loop(folder: Path, seconds: float) -> dict[str, float]:
    """Insert rows into a table of their own, each committed."""
    database = sqlite3.connect(folder / "plain.sqlite3")
    for pragma in ("journal_mode=WAL", "synchronous=FULL"):
        database.execute(f"PRAGMA {pragma}")
    database.execute(
        "CREATE TABLE answers (participant, position, item, left, right, reasonable, trust, reason, seconds)"
    )
    begin, count = time.monotonic(), 0
    while time.monotonic() < begin + seconds:
        row = ("0123456789abcdef", count, "0123456789abcdef", "base", "hint", 1, 0, "x" * 80, 1.0)
        database.execute("INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        database.commit()
        count += 1
    database.close()
    return {"answers": count, "answers per second": round(count / (time.monotonic() - begin), 1)}


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--participants", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--pause", type=float, default=6.0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    random.seed(0)
    rows: dict[str, Any] = {"participants": options.participants}
    with tempfile.TemporaryDirectory(dir=os.environ.get("TORTURE_DIR")) as folder:
        study = Path(folder)
        write_made_up_study(study, items=28, raters=100_000)
        rows["a plain SQLite loop"] = plain_loop(study, min(options.seconds, 10.0))
        port = free_port()
        server = Server(study, port)
        for name, pause in (("without a pause", 0.0), (f"with {options.pause:g} s for an item", options.pause)):
            rows[name] = asyncio.run(under_load(port, options.participants, pause, options.seconds))
        server.end()
        database = sqlite3.connect(study / "answers.sqlite3")
        rows["answers kept"] = database.execute("SELECT count(*) FROM answers").fetchone()[0]
        database.close()
    write_result(options.out, "participants at once", rows)


if __name__ == "__main__":
    main()
