"""The web application: one page, and the requests by which it joins, reads items, answers and withdraws."""

import math
import re
import secrets
from base64 import b64decode
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from human_study.server import store as stored
from human_study.server.answer import read_answer
from human_study.server.database import NotSavedError
from human_study.server.security import Guard, Key, Limiter, is_same_site, new_code, plain_code, strict_json
from human_study.server.store import Participant, Source, Store
from human_study.server.study import Study, templates
from updn_common.files.json_fields import is_text

STATIC = Path(str(resources.files("human_study.server") / "static"))
PLATFORM_ID = re.compile(r"[A-Za-z0-9]{1,64}")
PROLIFIC_COMPLETE = "https://app.prolific.com/submissions/complete?cc="
YEAR = 365 * 24 * 3600
MESSAGES = {
    "wrong-page": (403, "This page is out of date. Please load it again."),
    "no-session": (401, "Your browser does not know your participant code. Please enter it on the first page."),
    "unknown-code": (404, "There is no such participant code. Please check it for typing errors."),
    "bad-request": (400, "This could not be understood. Please load the page again."),
    "conflict": (409, "This item was answered already, perhaps in another window. The page now shows where you are."),
    "withdrawn": (410, "You have withdrawn. Your answers were deleted."),
    "full": (409, "The study has enough participants. Thank you for your interest."),
    "known": (409, "Your account takes part already. Continue in the browser that you began in, or enter your code."),
    "too-fast": (429, "These were too many requests. Please wait a moment and try again."),
    "not-saved": (
        503,
        "This could not be saved. All earlier answers are kept. Please leave this page open and try again in a few "
        "minutes.",
    ),
    "disk-full": (
        507,
        "This could not be saved, because the server has no space left. All earlier answers are kept. Please leave "
        "this page open and try again in a few minutes.",
    ),
}
"""Status and text of each refusal."""


@dataclass
class Limits:
    """Limiters by what they count."""

    joins: Limiter = field(default_factory=lambda: Limiter(1.0, 60))
    """Joining, returning and failed log-ins, by the address."""
    requests: Limiter = field(default_factory=lambda: Limiter(5.0, 60))
    """Requests of a participant, by the code."""


class RefusedError(Exception):
    """A request is refused, with one of `MESSAGES`."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.reason, self.wait = reason, wait


class StudyServer:
    """Answers the requests of a study's page."""

    def __init__(self, study: Study, store: Store, limits: Limits, admin_token: str) -> None:
        self.study, self.store, self.limits, self.admin_token = study, store, limits, admin_token
        self.pictures = study.pictures

    @property
    def key(self) -> Key:
        """The study's secret."""
        return self.study.key

    async def page(self, request: Request) -> Response:
        """The page, with a token that only this browser's requests can prove."""
        visit = request.cookies.get(_cookie(request, "visit")) or secrets.token_hex(16)
        token = self.key.digest("csrf", visit)
        response = HTMLResponse(self.study.page(mode="served", csrf=token, policy="", post_url=""))
        _set_cookie(response, request, "visit", visit)
        return response

    async def picture(self, request: Request) -> Response:
        """A picture, by its random name."""
        path = self.pictures.get(request.path_params["name"])
        if path is None:
            return PlainTextResponse("There is no such picture.", 404)
        return FileResponse(path, headers={"cache-control": "private, max-age=86400, immutable"})

    async def state(self, request: Request) -> Response:
        """Where the participant is."""
        code = request.cookies.get(_cookie(request, "participant"))
        participant = await self._find(code) if code else None
        if code is None or participant is None:
            return JSONResponse({"stage": "consent"})
        return JSONResponse(self.state_of(participant, code))

    async def join(self, request: Request) -> Response:
        """Take in a participant who agreed to the consent text."""
        body = await self._checked(request)
        self._limit(self.limits.joins, _address(request))
        source, platform_hash = self._source(body)
        code = new_code()
        participant = await self._run(self.store.join, self.key.digest("code", code), platform_hash, source)
        return self._with_code(request, participant, code)

    async def resume(self, request: Request) -> Response:
        """Let a participant go on in another browser."""
        body = await self._checked(request)
        self._limit(self.limits.joins, _address(request))
        typed = body.get("code")
        code = plain_code(typed) if isinstance(typed, str) and is_text(typed) else ""
        participant = await self._find(code)
        if participant is None:
            raise RefusedError("unknown-code")
        return self._with_code(request, participant, code)

    async def answer(self, request: Request) -> Response:
        """Save an answer; the reply with the next item is sent only after that."""
        body = await self._checked(request)
        code, participant = await self._session(request)
        position, answer = body.get("position"), read_answer(body)
        if answer is None or type(position) is not int:
            raise RefusedError("bad-request")
        after = await self._run(self.store.answer, participant.id, position, answer)
        placement = self.study.design.sequence(after.row)[position]
        return JSONResponse({"feedback": self.study.feedback(placement), "next": self.state_of(after, code)})

    async def withdraw(self, request: Request) -> Response:
        """Delete a participant's answers."""
        await self._checked(request)
        code, participant = await self._session(request)
        await self._run(self.store.withdraw, participant.id)
        return JSONResponse(self.state_of(participant._replace(status="withdrawn"), code))

    async def health(self, request: Request) -> Response:
        """Whether the database can be read."""
        await self._run(self.store.counts)
        return PlainTextResponse("ok")

    async def admin(self, request: Request) -> Response:
        """The progress of the study, for those who have the token."""
        if not self.admin_token:
            return PlainTextResponse("Not Found", 404)
        if not _has_token(request, self.admin_token):
            self._limit(self.limits.joins, f"admin {_address(request)}")
            return PlainTextResponse("A token is needed.", 401, {"www-authenticate": 'Basic realm="study"'})
        counts, raters = await self._run(self.store.counts), await self._run(self.store.raters)
        main = [item for item in self.study.items.values() if item.kind == "main"]
        html = (
            templates()
            .get_template("admin.html")
            .render(settings=self.study.settings, counts=counts, rows=self.study.design.rows, items=main, raters=raters)
        )
        return HTMLResponse(html)

    def state_of(self, participant: Participant, code: str) -> dict[str, Any]:
        """What the page shows to a participant."""
        if participant.status == "withdrawn":
            return {"stage": "withdrawn"}
        if participant.status == "completed":
            return {"stage": "done", "code": code, **completion(self.study, participant)}
        sequence = self.study.design.sequence(participant.row)
        item = self.study.shown(sequence[participant.answered])
        return {"stage": "item", "code": code, "position": participant.answered, "total": len(sequence), "item": item}

    async def _checked(self, request: Request) -> dict[str, Any]:
        """The body of a request that changes something, which must come from this site's page."""
        visit = request.cookies.get(_cookie(request, "visit"), "")
        token = request.headers.get("x-csrf-token", "")
        if not visit or not is_same_site(request) or not self.key.matches("csrf", visit, token):
            raise RefusedError("wrong-page")
        body = strict_json(await request.body())
        if body is None or request.headers.get("content-type", "").partition(";")[0] != "application/json":
            raise RefusedError("bad-request")
        return body

    async def _session(self, request: Request) -> tuple[str, Participant]:
        code = request.cookies.get(_cookie(request, "participant"), "")
        participant = await self._find(code) if code else None
        if participant is None:
            self._limit(self.limits.joins, _address(request))
            raise RefusedError("no-session")
        self._limit(self.limits.requests, participant.id)
        if participant.status == "withdrawn":
            raise RefusedError("withdrawn")
        return code, participant

    async def _find(self, code: str) -> Participant | None:
        found: Participant | None = await self._run(self.store.find, self.key.digest("code", code))
        return found

    def _source(self, body: dict[str, Any]) -> tuple[Source, str | None]:
        """Where a participant comes from, and an opaque name of the platform's account; its id is not kept."""
        sources: tuple[Source, ...] = ("prolific", "mturk")
        for source in sources:
            account = body.get(source)
            if account is None:
                continue
            if not isinstance(account, str) or not PLATFORM_ID.fullmatch(account):
                raise RefusedError("bad-request")
            return source, self.key.digest(source, account)
        return "link", None

    def _limit(self, limiter: Limiter, who: str) -> None:
        if wait := limiter.wait(who):
            raise RefusedError("too-fast", wait)

    def _with_code(self, request: Request, participant: Participant, code: str) -> Response:
        response = JSONResponse(self.state_of(participant, code))
        _set_cookie(response, request, "participant", code)
        return response

    async def _run(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """Run the store's work in a thread; if it refuses, the participant gets a message."""
        try:
            return await run_in_threadpool(work, *arguments)
        except stored.ConflictError:
            raise RefusedError("conflict") from None
        except stored.WithdrawnError:
            raise RefusedError("withdrawn") from None
        except stored.StudyFullError:
            raise RefusedError("full") from None
        except stored.KnownError:
            raise RefusedError("known") from None
        except NotSavedError as error:
            raise RefusedError("disk-full" if error.full else "not-saved") from error


def completion(study: Study, participant: Participant) -> dict[str, str]:
    """The code that pays a participant. Prolific asks all for the same; elsewhere each has an ending of its own."""
    code = study.settings.completion_code
    if participant.source == "prolific":
        return {"completion_code": code, "completion_url": PROLIFIC_COMPLETE + code}
    return {"completion_code": f"{code}-{study.key.digest('completion', participant.id)[:8].upper()}"}


def create_app(study: Study, store: Store, *, limits: Limits | None = None, admin_token: str = "") -> Starlette:
    """The application for a study; without a token it has no admin page."""
    server = StudyServer(study, store, limits or Limits(), admin_token)
    posts: dict[str, Callable[[Request], Awaitable[Response]]] = {
        "join": server.join,
        "resume": server.resume,
        "answer": server.answer,
        "withdraw": server.withdraw,
    }
    return Starlette(
        routes=[
            Route("/", server.page),
            Route("/pictures/{name}", server.picture),
            Route("/api/state", server.state),
            *(Route(f"/api/{name}", endpoint, methods=["POST"]) for name, endpoint in posts.items()),
            Route("/admin", server.admin),
            Route("/health", server.health),
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        middleware=[Middleware(Guard)],
        exception_handlers={RefusedError: _refused},
    )


async def _refused(request: Request, error: Exception) -> Response:
    if not isinstance(error, RefusedError):
        raise error
    status, message = MESSAGES[error.reason]
    headers = {"retry-after": str(math.ceil(error.wait))} if error.wait else None
    return JSONResponse({"error": error.reason, "message": message}, status, headers)


def _cookie(request: Request, name: str) -> str:
    """A cookie's name; over HTTPS one that no other host of the domain can set."""
    return f"__Host-{name}" if request.url.scheme == "https" else name


def _set_cookie(response: Response, request: Request, name: str, value: str) -> None:
    secure = request.url.scheme == "https"
    response.set_cookie(
        _cookie(request, name), value, max_age=YEAR, path="/", secure=secure, httponly=True, samesite="lax"
    )


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


def _has_token(request: Request, token: str) -> bool:
    """Whether the password of basic authentication is the token."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return False
    try:
        password = b64decode(given, validate=True).decode().partition(":")[2]
    except ValueError:
        return False
    return secrets.compare_digest(password.encode(), token.encode())
