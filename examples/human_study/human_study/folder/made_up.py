"""A study with made-up pictures: for tests and measurements of the server, which need no network."""

import os
import secrets
from pathlib import Path
from random import Random

from PIL import Image

from human_study.folder.items import DECOY, VALID, Item, Kind, write_items
from human_study.folder.settings import Settings

TEXTS = {
    "consent.md": "# Taking part\n\nThis is a **made-up** study. <script>alert(1)</script>\n",
    "instructions.md": "# How it works\n\n- Look at A and B.\n- Choose.\n",
}


def write_made_up_study(
    folder: Path,
    *,
    items: int = 6,
    practice: int = 1,
    checks: int = 1,
    raters: int = 4,
    per_participant: int = 0,
    arms: tuple[str, ...] = ("base", "hint"),
    size: tuple[int, int] = (48, 36),
    captions: bool = False,
) -> Settings:
    """Write a study folder into an empty or new folder, and return its facts."""
    settings = Settings(
        id=secrets.token_hex(6),
        title="A made-up study",
        seed=0,
        raters_per_item=raters,
        items_per_participant=per_participant or items,
        language="en",
        contact="nobody@example.org",
        completion_code="MADEUP42",
        importance="unsigned",
        split="test",
        arms={arm: {"run": f"runs/{arm}"} for arm in arms},
        made_by={},
    )
    counts: dict[Kind, int] = {"practice": practice, "check": checks, "main": items}
    kinds = [kind for kind, count in counts.items() for _ in range(count)]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pictures").mkdir()
    made = [_item(folder, kind, number, arms, size, captions) for number, kind in enumerate(kinds)]
    settings.write(folder)
    write_items(folder, made)
    (folder / "secret.key").write_text(secrets.token_hex(32))
    for name, text in TEXTS.items():
        (folder / name).write_text(text)
    return settings


def _item(folder: Path, kind: Kind, number: int, arms: tuple[str, ...], size: tuple[int, int], captions: bool) -> Item:
    names = arms if kind == "main" else (VALID, DECOY)
    return Item(
        id=secrets.token_hex(8),
        kind=kind,
        text="a red square left of a blue star" if captions else f"What colour is shape {number}?",
        marked=(2,) if captions else (),
        answer="" if captions else "red",
        group=("square", "star")[number % 2] if captions else ("what colour", "is there")[number % 2],
        image=_picture(folder, number, size),
        explanations={name: _picture(folder, number, size) for name in names},
        expected=None if kind == "main" else VALID,
        feedback="One of them lights up the shape." if kind == "practice" else "",
    )


def _picture(folder: Path, number: int, size: tuple[int, int]) -> str:
    random = Random(secrets.token_bytes(8))
    colour = (40 * number % 256, random.randrange(256), random.randrange(256))
    path = f"pictures/{secrets.token_hex(8)}.png"
    Image.new("RGB", size, colour).save(folder / path, compress_level=0)
    os.utime(folder / path, (0, 0))  # the time of change would tell which picture was made first
    return path
