"""Delete the answers of a participant who asked for it: ``human-study withdraw``."""

from dataclasses import dataclass
from pathlib import Path

from human_study.server.security import plain_code
from human_study.server.serve import open_store
from human_study.server.study import Study
from updn_common.console import plain_console
from updn_common.errors import InputError


@dataclass(frozen=True)
class WithdrawConfig:
    """Whose answers to delete.

    Attributes:
        study: The study folder.
        code: The participant code that the page showed.
        database: The database, as for `serve`.
    """

    study: Path
    code: str
    database: str = ""


def withdraw(config: WithdrawConfig) -> None:
    """Delete all answers of a participant, for good.

    Raises:
        InputError: No participant has the code.
    """
    study = Study.open(config.study)
    store = open_store(study, config.database)
    served, file = study.key.digest("code", plain_code(config.code)), study.key.digest("session", config.code.strip())
    participant = store.find(served) or store.find(file)
    if participant is None:
        raise InputError(f"--code {config.code} belongs to no participant of this study. Check it for typing errors.")
    store.withdraw(participant.id)
    plain_console().print(f"{participant.answered} answers deleted")
