"""A made-up study and its application."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from human_study.folder.made_up import write_made_up_study
from human_study.server.app import Limits, create_app
from human_study.server.database import Database, sqlite_url
from human_study.server.security import Limiter
from human_study.server.store import Store
from human_study.server.study import Study

ADMIN_TOKEN = "a token of the tests"


class Browser(TestClient):
    """A client with cookies of its own, which sends the page's token as the page does."""

    token = ""

    def open(self, path: str = "/") -> str:
        """Load the page."""
        html = self.get(path).text
        self.token = re.search('name="csrf-token" content="([0-9a-f]+)"', html)[1]  # type: ignore[index]
        return html

    def call(self, name: str, body: Any, **headers: str) -> Any:
        """POST as the page does; returns the response."""
        own = {"X-CSRF-Token": self.token, "Sec-Fetch-Site": "same-origin", "Content-Type": "application/json"}
        return self.post(f"/api/{name}", content=json.dumps(body), headers=own | headers)

    def join(self, **accounts: str) -> Any:
        """Agree; returns the first state."""
        self.open()
        return self.call("join", accounts).json()

    def answer(self, state: Any, **changes: Any) -> Any:
        """Answer the item of a state; returns the response."""
        answer = {"position": state["position"], "item": state["item"]["id"], "reasonable": 1, "trust": -2}
        return self.call("answer", answer | {"reason": "", "seconds": 1.5} | changes)

    def finish(self, state: Any, **changes: Any) -> Any:
        """Answer everything that is left; returns the last state."""
        while state["stage"] == "item":
            state = self.answer(state, **changes).json()["next"]
        return state


@pytest.fixture
def study(tmp_path: Path) -> Study:
    write_made_up_study(tmp_path / "study")
    return Study.open(tmp_path / "study")


@pytest.fixture
def store(study: Study) -> Iterator[Store]:
    database = Database(sqlite_url(study.folder / "answers.sqlite3"))
    yield Store(database, study.design)
    database.close()


@pytest.fixture
def browser(study: Study, store: Store) -> Iterator[Callable[..., Browser]]:
    """Makes browsers; all talk to one server."""
    limits = Limits(joins=Limiter(100, 1000), requests=Limiter(100, 1000))
    app = create_app(study, store, limits=limits, admin_token=ADMIN_TOKEN)
    with ExitStack() as stack:

        def make(**options: Any) -> Browser:
            return stack.enter_context(Browser(app, **options))

        yield make
