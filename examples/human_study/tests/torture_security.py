"""Attacks a server, and writes a table of what it replied."""

import argparse
import asyncio
import json
import sqlite3
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from harness import Client, Server, free_port, write_result

from human_study.folder.made_up import write_made_up_study

SCRIPT = "<script>document.title='attacked'</script>'); DROP TABLE answers; --"
Attack = Callable[[], Awaitable[tuple[int, bytes]]]


class Attacks:
    """Two participants, and an attacker without a code."""

    def __init__(self, port: int) -> None:
        self.one, self.other, self.stranger = (Client(port) for _ in range(3))

    async def begin(self) -> None:
        """The participants join."""
        for client in (self.one, self.other, self.stranger):
            await client.open()
        _, self.state = await self.one.call("join", {})
        _, other = await self.other.call("join", {})
        _, reply = await self.other.call("answer", self.good(other))
        self.others = reply["next"]

    def good(self, state: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
        """An answer to the item of a state."""
        at = state or self.state
        answer = {"position": at["position"], "item": at["item"]["id"], "reasonable": 1, "trust": 0}
        return {**answer, "reason": "", "seconds": 1, **changes}

    def post(self, client: Client, body: Any, name: str = "answer", **headers: str) -> Attack:
        """A POST that is sent when it is its turn."""
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        return lambda: client.request("POST", f"/api/{name}", text, headers)

    def get(self, path: str, **headers: str) -> Attack:
        """A GET."""
        return lambda: self.stranger.request("GET", path, headers=headers)

    def all(self) -> list[tuple[str, Attack, set[int]]]:
        """Name, request and the statuses that are right."""
        good, one = self.good(), self.one
        guess = {"Cookie": "participant=ABCDE-FGHIJ-KLMNO-PQRST; visit=0"}
        paths = (
            "/pictures/../secret.key",
            "/pictures/..%2f..%2fstudy.json",
            "/static/%2e%2e/%2e%2e/app.py",
            "/study.json",
        )
        return [
            ("forged item id", self.post(one, self.good(item="0" * 16)), {409}),
            ("item of another participant", self.post(one, self.good(self.others)), {409}),
            ("item before its turn", self.post(one, self.good(position=5)), {409}),
            ("guessed participant code", self.post(self.stranger, good, **guess), {401, 403}),
            ("guessed code to resume", self.post(self.stranger, {"code": "ABCDE-FGHIJ-KLMNO-PQRST"}, "resume"), {404}),
            ("answer without a code", self.post(self.stranger, good), {401}),
            ("withdrawing for another", self.post(self.stranger, {}, "withdraw"), {401}),
            ("no CSRF token", self.post(one, good, **{"X-CSRF-Token": ""}), {403}),
            ("CSRF token of another browser", self.post(one, good, **{"X-CSRF-Token": self.other._token}), {403}),
            ("request of another site", self.post(one, good, **{"Sec-Fetch-Site": "cross-site"}), {403}),
            ("form instead of JSON", self.post(one, good, **{"Content-Type": "text/plain"}), {400}),
            ("body of a megabyte", self.post(one, b" " * 2**20), {413}),
            ("body that lies about its length", self.post(one, b"{}" * 8000, **{"Content-Length": "16000"}), {413}),
            ("lists in lists, 4,000 deep", self.post(one, b"[" * 4000), {400}),
            ("number beyond the scale", self.post(one, self.good(reasonable=9)), {400}),
            ("unpaired surrogate", self.post(one, self.good(reason="\ud800")), {400}),
            ("script as the account", self.post(self.stranger, {"prolific": SCRIPT}, "join"), {400}),
            *((f"path {path}", self.get(path), {404}) for path in paths),
            ("admin page without a token", self.get("/admin"), {404}),
            ("script and SQL in a reason: saved as text", self.post(one, self.good(reason=SCRIPT)), {200}),
            ("replay", self.post(one, self.good(reason=SCRIPT)), {200}),
            ("replay with another answer", self.post(one, self.good(reason=SCRIPT, reasonable=-1)), {409}),
        ]


async def attack(port: int) -> dict[str, Any]:
    """Run all attacks; returns the statuses."""
    attacks = Attacks(port)
    await attacks.begin()
    rows = {}
    for name, request, right in attacks.all():
        try:
            status, body = await request()
        except OSError:
            status, body = 0, b""  # it hung up
        rows[name] = {"status": status, "as it should be": status in right and b"Traceback" not in body}
    return rows


def main() -> None:
    """Run it; the exit status is 1 if an attack succeeded."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        study, port = Path(folder), free_port()
        write_made_up_study(study)
        server = Server(study, port)
        rows = asyncio.run(attack(port))
        server.end()
        database = sqlite3.connect(study / "answers.sqlite3")
        kept = database.execute("SELECT reason FROM answers ORDER BY reason").fetchall()
        database.close()
    rows["what is in the database"] = {"as it should be": kept == [("",), (SCRIPT,)]}
    write_result(options.out, "attacks", rows)
    raise SystemExit(not all(row["as it should be"] for row in rows.values()))


if __name__ == "__main__":
    main()
