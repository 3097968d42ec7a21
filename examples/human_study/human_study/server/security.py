"""Codes, tokens, headers and limits: what keeps participants' answers theirs."""

import base64
import hashlib
import hmac
import json
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from updn_common.errors import InputError
from updn_common.files.reading import read_text

BODY_LIMIT = 8 * 1024
"""Bytes of a request's body. An answer has a few hundred."""
CODE_LENGTH = 20
"""Characters of a participant code, with five random bits each."""
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",  # a platform's address names the participant
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class Key:
    """The secret of a study."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    @classmethod
    def read(cls, path: Path) -> "Key":
        """Read ``secret.key``.

        Raises:
            InputError: It is missing, or no key.
        """
        text = read_text(path, expected="the secret.key of a folder that `human-study build` wrote").strip()
        try:
            secret = bytes.fromhex(text)
        except ValueError:
            secret = b""
        if len(secret) < 32:
            raise InputError(f"{path} should hold 64 hexadecimal digits. Restore it, or build the study again.")
        return cls(secret)

    def digest(self, purpose: str, value: str) -> str:
        """A keyed hash, which without the key tells nothing about the value."""
        return hmac.new(self._secret, f"{purpose}\0{value}".encode(), hashlib.sha256).hexdigest()

    def matches(self, purpose: str, value: str, digest: str) -> bool:
        """Whether a digest belongs to a value, in constant time."""
        return hmac.compare_digest(self.digest(purpose, value).encode(), digest.encode(errors="replace"))


def new_code() -> str:
    """A participant code, such as ``"K7QZM-2XDFA-..."``: 100 random bits."""
    text = base64.b32encode(secrets.token_bytes(13)).decode()[:CODE_LENGTH]
    return "-".join(text[i : i + 5] for i in range(0, CODE_LENGTH, 5))


def plain_code(typed: str) -> str:
    """A code as someone may have typed it, in its one spelling.

    >>> plain_code(" abcde fghij-klmno pqrs0 ")
    'ABCDE-FGHIJ-KLMNO-PQRSO'
    """
    text = "".join(c for c in typed.upper() if c.isalnum()).translate(str.maketrans("018", "OIB"))[:CODE_LENGTH]
    return "-".join(text[i : i + 5] for i in range(0, len(text), 5))


def is_same_site(request: Request) -> bool:
    """Whether a request that changes something comes from this site's own page.

    Browsers say so in Sec-Fetch-Site, older ones in Origin.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = request.headers.get("origin")
    return origin is None or origin.partition("://")[2] == request.headers.get("host")


class Limiter:
    """Lets each key act ``burst`` times at once, and ``per_second`` times a second in the long run."""

    def __init__(
        self,
        per_second: float,
        burst: float,
        clock: Callable[[], float] = time.monotonic,
        remembered: int = 10_000,
    ) -> None:
        self._per_second, self._burst, self._clock, self._remembered = per_second, burst, clock, remembered
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, key: str) -> float:
        """Seconds to wait before the next attempt; 0 if this one is allowed, which then counts."""
        now = self._clock()
        left, then = self._left.pop(key, (self._burst, now))
        left = min(self._burst, left + (now - then) * self._per_second)
        allowed = left >= 1
        self._left[key] = (left - allowed, now)
        while len(self._left) > self._remembered:
            self._left.popitem(last=False)  # whoever was quiet for longest
        return 0.0 if allowed else (1 - left) / self._per_second


class Guard:
    """Middleware: refuses bodies that are too long, also undeclared ones, and adds the security headers."""

    def __init__(self, app: ASGIApp, body_limit: int = BODY_LIMIT) -> None:
        self._app, self._limit = app, body_limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        body, too_long = b"", int(headers.get(b"content-length", b"0")) > self._limit
        more = not too_long
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more, too_long = message.get("more_body", False), len(body) > self._limit
            if too_long:
                break

        replayed = False

        async def replay() -> Message:
            nonlocal replayed
            if replayed:
                return await receive()
            replayed = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = {name for name, _ in message["headers"]}
                extra = [(name.encode(), value.encode()) for name, value in HEADERS.items() if name.encode() not in own]
                if scope["scheme"] == "https":
                    extra.append((b"strict-transport-security", b"max-age=31536000"))
                message["headers"] = [*message["headers"], *extra]
            await send(message)

        if too_long:
            await _refuse(send_guarded)
        else:
            await self._app(scope, replay, send_guarded)


async def _refuse(send: Send) -> None:
    text = json.dumps({"error": "too-long", "message": "This is too long to be saved."}).encode()
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": text})


def strict_json(body: bytes) -> dict[str, Any] | None:
    """A JSON object; None for anything else."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
