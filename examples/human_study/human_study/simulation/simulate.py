"""Simulated raters answer a study: ``human-study simulate``. All they write is marked as simulated."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from human_study.folder.design import Design, Placement
from human_study.folder.items import read_items
from human_study.folder.settings import Settings
from human_study.simulation.population import Population, draw_steps, population_with, synthetic_study
from updn_common.console import plain_console
from updn_common.errors import InputError, check_range
from updn_common.files.writing import json_text, new_directory, write_json

Kind = Literal["noisy", "expert", "left", "careless"]
_KEEN = 5.0
"""Log-odds by which attentive raters answer a check right."""
_BY_OVERLAP = 10.0
"""Log-odds by which experts prefer an explanation whose IoU is larger by 1."""
_MEDIAN_SECONDS: dict[Kind, float] = {"noisy": 9.0, "expert": 14.0, "left": 3.0, "careless": 1.2}


@dataclass(frozen=True)
class SimulateConfig:
    """Which raters to simulate.

    Attributes:
        out: A new folder for the answers, as `human-study export` writes it.
        study: The study folder. Default: a study of two networks, base and hint, without pictures.
        noisy: Number of raters who have a leaning of their own and answer with noise.
        expert: Number of raters who prefer the explanation that overlaps more (IoU) with the place that people marked.
            They have no preference on items without such a place.
        left: Number of raters who always choose the left explanation.
        careless: Number of raters who answer fast and at random.
        share: Preference share of the noisy raters for the network whose name comes later in the alphabet; neutral
            answers count as a half.
        neutral: Share of neutral answers of the noisy raters.
        rater_sd: Standard deviation of the noisy raters' leanings, in log-odds.
        item_sd: Standard deviation of the items' leanings, in log-odds.
        items: Number of main items, if no study is given.
        items_per_participant: Number of main items for each rater, if no study is given.
        seed: Seed of the random draws.
    """

    out: Path
    study: Path | None = None
    noisy: int = 30
    expert: int = 0
    left: int = 0
    careless: int = 0
    share: float = 0.6
    neutral: float = 0.2
    rater_sd: float = 0.5
    item_sd: float = 0.5
    items: int = 30
    items_per_participant: int = 20
    seed: int = 0


class Rater(NamedTuple):
    """A simulated participant."""

    code: str
    kind: Kind
    leaning: float


def simulate(config: SimulateConfig) -> None:
    """Write an export with simulated answers.

    Raises:
        InputError: An option makes no sense, the study is damaged, or experts should rate a study without places
            that people marked.
    """
    check_range(0, noisy=config.noisy, expert=config.expert, left=config.left, careless=config.careless)
    check_range(0, seed=config.seed, rater_sd=config.rater_sd, item_sd=config.item_sd)
    check_range(1, items=config.items, items_per_participant=config.items_per_participant)
    rng = np.random.default_rng(config.seed)
    if config.study is None:
        raters_per_item = max(1, _count(config) * config.items_per_participant // config.items)
        design = synthetic_study(
            config.items, config.items_per_participant, raters_per_item, checks=2, seed=config.seed
        )
    else:
        design = Design(Settings.read(config.study), read_items(config.study))
    if config.expert and not any(item.overlap for item in design.items.values()):
        raise InputError(
            "--expert raters judge by how far explanations overlap with what people marked, which this study does not "
            "tell: give a study that was built on data with hints, or other raters."
        )
    raters = _raters(config, rng)
    answers = list(_answers(config, design, raters, rng))
    with new_directory(config.out) as out:
        write_json(out / "study.json", {**design.settings.public(), "simulated": True}, indent=1)
        records = [{"participant": rater.code, "status": "completed", "source": "simulated"} for rater in raters]
        for name, lines in (("participants.jsonl", records), ("answers.jsonl", answers)):
            text = "".join(f"{json_text(line)}\n" for line in lines)
            (out / name).write_text(text, encoding="utf-8")
    plain_console(soft_wrap=True).print(
        f"{config.out}: {len(answers)} simulated answers by {len(raters)} simulated raters."
    )


def _count(config: SimulateConfig) -> int:
    return config.noisy + config.expert + config.left + config.careless


def _raters(config: SimulateConfig, rng: np.random.Generator) -> list[Rater]:
    """All raters in random order."""
    if not _count(config):
        raise InputError("There should be at least one rater: give a number to --noisy, for example.")
    numbers: dict[Kind, int] = {
        "noisy": config.noisy,
        "expert": config.expert,
        "left": config.left,
        "careless": config.careless,
    }
    kinds = [kind for kind, number in numbers.items() for _ in range(number)]
    leanings = config.rater_sd * rng.standard_normal(len(kinds))
    order = rng.permutation(len(kinds))
    return [Rater(rng.bytes(6).hex(), kinds[k], float(leaning)) for k, leaning in zip(order, leanings, strict=True)]


def _answers(
    config: SimulateConfig, design: Design, raters: list[Rater], rng: np.random.Generator
) -> Iterator[dict[str, Any]]:
    """One record for each answer.

    The leaning of an item is toward the later of two networks in the alphabet; both questions have the same leanings
    of raters and items, and noise of their own.
    """
    population = population_with(config.share, config.neutral, config.rater_sd, config.item_sd)
    leanings = {item: population.item_sd * rng.standard_normal() for item in design.items}
    for row, rater in enumerate(raters):
        for position, placement in enumerate(design.sequence(row)):
            item = design.items[placement.item]
            pair = sorted((placement.left, placement.right))
            if item.expected is not None:
                eta = _KEEN if item.expected == pair[1] else -_KEEN
            elif rater.kind == "expert":
                eta = _BY_OVERLAP * (item.overlap.get(pair[1], 0.0) - item.overlap.get(pair[0], 0.0))
            else:
                eta = population.preference + rater.leaning + leanings[item.id]
            seconds = _MEDIAN_SECONDS[rater.kind] * np.exp(0.4 * rng.standard_normal())
            yield {
                "participant": rater.code,
                "item": item.id,
                "kind": item.kind,
                "group": item.group,
                "position": position,
                "left": placement.left,
                "right": placement.right,
                **{question: _step(rater, population, placement, eta, rng) for question in ("reasonable", "trust")},
                "reason": "",
                "seconds": round(float(seconds), 3),
                "expected": item.expected,
            }


def _step(rater: Rater, population: Population, placement: Placement, eta: float, rng: np.random.Generator) -> int:
    """An answer from -2 (left) to 2 (right)."""
    if rater.kind == "left":
        return -int(rng.integers(1, 3))
    if rater.kind == "careless":
        return int(rng.integers(-2, 3))
    neutral = population.neutral if abs(eta) < _KEEN else 0.0
    toward_second = int(draw_steps(np.array([eta]), neutral, rng)[0])
    return toward_second if placement.right > placement.left else -toward_second
