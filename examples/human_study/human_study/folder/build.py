"""From runs to a study folder: ``human-study build``."""

import platform
import secrets
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from human_study.folder.design import Design
from human_study.folder.items import DECOY, VALID, Item, Kind, write_items
from human_study.folder.pictures import Canvas, Explained, decoy, explanations, overlap, save_blind
from human_study.folder.settings import Settings
from updn_common.console import plain_console
from updn_common.errors import InputError, check_range
from updn_common.files.writing import new_directory
from updn_common.progress import track
from updn_common.runs.directory import read_config
from updn_common.runs.importance import Importance

REDUCTIONS: dict[str, Importance] = {"unsigned": "norm", "signed": "sum"}
PRACTICE_FEEDBACK = {
    "question": "It lights up what the question asks about. The other one lights up a place that has nothing "
    "to do with the answer.",
    "caption": "It lights up what the marked word names. The other one lights up a place that has nothing to "
    "do with it.",
}


@dataclass(frozen=True)
class BuildConfig:
    """Which networks to compare, and on what.

    Attributes:
        data: The prepared directory of either pipeline.
        runs: Directories of two or more runs that were trained on it.
        images: A folder with the images, searched with all folders below it.
        out: A new folder for the study.
        names: Names of the networks, in the order of the runs. Default: the names of the runs' directories.
        split: Split that the items are from.
        items: Number of main items.
        practice: Number of practice items, which come first and have feedback.
        checks: Number of attention checks, whose answer is known.
        raters_per_item: Number of participants who should judge each item.
        items_per_participant: Number of main items for each participant; 0 means all.
        importance: What the pictures show: the gradient's norm, or its sum as in the paper. It is the same for all
            networks.
        all_right: Ask only about questions that all networks answer right.
        picture_size: Length of a picture's longer side in pixels.
        title: Title of the page. It should not tell what is compared.
        contact: How participants reach the researchers.
        completion_code: Code by which participants are paid. Default: a random one.
        minutes: How long the study takes, for the consent text. Default: half a minute for each item.
        seed: Seed of the choice of items and of their order.
    """

    data: Path
    runs: tuple[Path, ...]
    images: Path
    out: Path
    names: tuple[str, ...] = ()
    split: str = "test"
    items: int = 24
    practice: int = 2
    checks: int = 2
    raters_per_item: int = 5
    items_per_participant: int = 0
    importance: Literal["unsigned", "signed"] = "unsigned"
    all_right: bool = True
    picture_size: int = 480
    title: str = "Which explanation is more reasonable?"
    contact: str = "[name and e-mail address of the researchers]"
    completion_code: str = ""
    minutes: int = 0
    seed: int = 0


class Draft(NamedTuple):
    """An item before its pictures are drawn."""

    kind: Kind
    explained: Explained
    importance: dict[str, Float[np.ndarray, " K"]]


def build(config: BuildConfig) -> None:
    """Write a study folder.

    Raises:
        InputError: An option makes no sense, something does not exist, or the split has too few items; nothing is left
            behind.
    """
    arms = _arms(config)
    drafts = _drafts(config, arms)
    canvas = Canvas(config.images, [draft.explained for draft in drafts], config.picture_size)
    settings = Settings(
        id=secrets.token_hex(6),
        title=config.title,
        seed=config.seed,
        raters_per_item=config.raters_per_item,
        items_per_participant=config.items_per_participant or config.items,
        language="en",
        contact=config.contact,
        completion_code=config.completion_code or secrets.token_hex(4).upper(),
        importance=config.importance,
        split=config.split,
        arms={arm: _run_facts(run) for arm, run in arms.items()},
        made_by={"command": sys.argv, "python": platform.python_version(), "data": str(config.data)},
    )
    with new_directory(config.out) as out:
        items = _draw(drafts, canvas, out)
        rows = Design(settings, {item.id: item for item in items}).rows
        settings.write(out)
        write_items(out, items)
        _write_key(out / "secret.key")
        minutes = config.minutes or max(1, -(-len(items) // 2))
        for name in ("consent.md", "instructions.md"):
            text = resources.files("human_study.folder").joinpath("texts", name).read_text(encoding="utf-8")
            text = text.replace("{minutes}", str(minutes)).replace("{contact}", config.contact)
            (out / name).write_text(text, encoding="utf-8")
    plain_console(soft_wrap=True).print(
        f"{config.out}: {config.items} items, {config.practice} for practice, {config.checks} checks; {rows} "
        f"participants give each item {config.raters_per_item} raters. Now edit consent.md and instructions.md, then "
        f"run: human-study serve --study {config.out}"
    )


def _arms(config: BuildConfig) -> dict[str, Path]:
    """The runs by the networks' names."""
    check_range(1, items=config.items, raters_per_item=config.raters_per_item)
    check_range(0, practice=config.practice, checks=config.checks, seed=config.seed, minutes=config.minutes)
    check_range(0, config.items, items_per_participant=config.items_per_participant)
    check_range(64, 2000, picture_size=config.picture_size)
    if len(config.runs) < 2:
        raise InputError(f"--runs should be two runs or more, found {len(config.runs)}.")
    names = config.names or tuple(run.name for run in config.runs)
    if len(names) != len(config.runs):
        raise InputError(f"--names should be as many as --runs, {len(config.runs)}, found {len(names)}.")
    if len({*names}) < len(names) or not all(names) or {*names} & {VALID, DECOY}:
        found = ", ".join(names)
        raise InputError(f"--names should be different, not empty, and neither {VALID} nor {DECOY}, found {found}.")
    return dict(zip(names, config.runs, strict=True))


def _run_facts(run: Path) -> dict[str, object]:
    """What is worth knowing about a run, for the report."""
    config = read_config(run)
    return {"run": str(run), "seed": config["seed"], "hint_share": config["hint_share"], "method": config["method"]}


def _drafts(config: BuildConfig, arms: dict[str, Path]) -> list[Draft]:
    """The first explained questions or captions of a random order, without a look at the explanations.

    Practice items and checks are those whose right place people have marked.
    """
    left: dict[Kind, int] = {"practice": config.practice, "check": config.checks, "main": config.items}
    drafts = []
    reduction = REDUCTIONS[config.importance]
    found = explanations(config.data, arms, config.split, reduction, config.seed, all_right=config.all_right)
    for explained in found:
        kinds: Sequence[Kind] = ("practice", "check") if explained.people is not None else ()
        kind = next((kind for kind in (*kinds, "main") if left[kind]), None)
        if kind is None:
            if not any(left.values()):
                break
            continue
        left[kind] -= 1
        importance = explained.importance
        if kind != "main" and explained.people is not None:
            importance = {VALID: explained.people - 0.5, DECOY: decoy(explained.boxes, explained.people)}
        drafts.append(Draft(kind, explained, importance))
    if any(left.values()):
        right = " that all networks answer right" if config.all_right else ""
        raise InputError(
            f"The split {config.split} has too few images{right}: {len(drafts)} could be used for --items "
            f"{config.items}, --practice {config.practice} and --checks {config.checks}, and practice items and checks "
            "need images where people marked the right place. Ask for fewer, or give another split."
        )
    return drafts


def _draw(drafts: Sequence[Draft], canvas: Canvas, out: Path) -> list[Item]:
    """Draw all pictures, in the order of their random names, so that nothing tells which belong together."""
    (out / "pictures").mkdir()
    now = int(time.time())
    items = list(_named(drafts))
    jobs: list[tuple[str, Draft, str | None]] = [
        (item.image, draft, None) for item, draft in zip(items, drafts, strict=True)
    ]
    jobs += [
        (picture, draft, arm)
        for item, draft in zip(items, drafts, strict=True)
        for arm, picture in item.explanations.items()
    ]
    for path, draft, arm in track(sorted(jobs, key=lambda job: job[0]), "pictures"):
        picture = canvas.draw(draft.explained, None if arm is None else draft.importance[arm])
        save_blind(picture, out / path, now)
    return sorted(items, key=lambda item: item.id)


def _named(drafts: Sequence[Draft]) -> Iterator[Item]:
    """Items with opaque names, which no seed tells."""
    for kind, explained, importance in drafts:
        people = explained.people if kind == "main" else None
        what = "caption" if explained.marked else "question"
        yield Item(
            id=secrets.token_hex(8),
            kind=kind,
            text=explained.text,
            marked=explained.marked,
            answer=explained.answer,
            group=explained.group,
            image=_picture_name(),
            explanations={arm: _picture_name() for arm in importance},
            expected=None if kind == "main" else VALID,
            feedback=PRACTICE_FEEDBACK[what] if kind == "practice" else "",
            overlap={arm: overlap(explained, x, people) for arm, x in importance.items() if people is not None},
        )


def _picture_name() -> str:
    return f"pictures/{secrets.token_hex(8)}.png"


def _write_key(path: Path) -> None:
    """The key that turns platforms' ids into opaque ones; nobody but the owner may read it."""
    path.touch(mode=0o600)
    path.write_text(secrets.token_hex(32) + "\n", encoding="ascii")
