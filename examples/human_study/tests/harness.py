"""What the programs beside this file share: a server of its own process, participants, and a place for results."""

import asyncio
import json
import os
import platform
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

SERVE = """
import sys
from pathlib import Path
from human_study.server.serve import ServeConfig, serve
serve(ServeConfig(study=Path(sys.argv[1]), port=int(sys.argv[2]), joins_per_minute=1_000_000))
"""


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class Server:
    """`human-study serve` in a process of its own."""

    def __init__(self, study: Path, port: int) -> None:
        self._command = [sys.executable, "-c", SERVE, str(study), str(port)]
        self._port = port
        self.start()

    def start(self) -> None:
        """Start it, and wait until it listens."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        while True:
            try:
                socket.create_connection(("127.0.0.1", self._port), timeout=1).close()
            except OSError:
                if self._process.poll() is not None:
                    raise RuntimeError("the server has ended") from None
                time.sleep(0.05)
            else:
                return

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send it a signal, and wait for its end."""
        self._process.send_signal(number)
        self._process.wait()


class Client:
    """A browser: cookies, the page's token, and a connection that is kept."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._cookies: dict[str, str] = {}
        self._token = ""
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def open(self) -> None:
        """Load the page."""
        _, body = await self.request("GET", "/")
        self._token = re.search(rb'name="csrf-token" content="([0-9a-f]+)"', body)[1].decode()  # type: ignore[index]

    async def call(self, name: str, body: dict[str, Any]) -> tuple[int, Any]:
        """POST as the page does; returns the status and the answer."""
        status, text = await self.request("POST", f"/api/{name}", json.dumps(body).encode())
        return status, json.loads(text)

    async def request(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Send a request.

        Raises:
            OSError: The server is gone; the next request makes a new connection.
        """
        own = {
            "Host": "127.0.0.1",
            "Content-Length": str(len(body)),
            "Content-Type": "application/json",
            "Sec-Fetch-Site": "same-origin",
            "X-CSRF-Token": self._token,
            "Cookie": "; ".join(f"{name}={value}" for name, value in self._cookies.items()),
        }
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in (own | (headers or {})).items())]
        try:
            self._streams = self._streams or await asyncio.open_connection("127.0.0.1", self._port)
            reader, writer = self._streams
            writer.write("\r\n".join([*lines, "", ""]).encode() + body)
            await writer.drain()
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = re.search(r"content-length: (\d+)", head, re.IGNORECASE)
            text = await reader.readexactly(int(length[1])) if length else b""
        except (OSError, asyncio.IncompleteReadError) as error:
            self.close()
            raise ConnectionError from error
        if "connection: close" in head.lower():
            self.close()
        self._cookies |= dict(re.findall(r"set-cookie: ([^=]+)=([^;]*);", head, re.IGNORECASE))
        return int(head.split(" ", 2)[1]), text

    def close(self) -> None:
        """Close the connection."""
        if self._streams:
            self._streams[1].close()
            self._streams = None


def machine() -> dict[str, Any]:
    """Where a result was made."""
    return {
        "system": platform.system(),
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "usable cpus": len(os.sched_getaffinity(0)),
        "load average": round(os.getloadavg()[0], 1),
    }


def write_result(out: Path | None, what: str, rows: dict[str, Any]) -> None:
    """Print a result, and keep it if there is a place for it."""
    result = {"benchmark": what, "machine": machine(), "rows": rows}
    text = json.dumps(result, indent=1) + "\n"
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text)
    sys.stdout.write(text)
