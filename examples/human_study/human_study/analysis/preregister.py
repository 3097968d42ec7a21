"""A preregistration, filled in from the study: ``human-study preregister``."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from human_study.analysis.answers import QUESTIONS
from human_study.analysis.exclusions import rule_texts
from human_study.analysis.power import formula_power
from human_study.folder.design import Design
from human_study.folder.items import read_items
from human_study.folder.settings import Settings
from human_study.simulation.population import population_with
from updn_common.console import plain_console
from updn_common.errors import InputError, check_range
from updn_common.files.writing import atomic_file


@dataclass(frozen=True)
class PreregisterConfig:
    """What to preregister.

    Attributes:
        study: The study folder.
        out: The Markdown file to write.
        share: The smallest preference share that matters.
        neutral: Expected share of neutral answers.
        rater_sd: Standard deviation of the raters' leanings, in log-odds.
        item_sd: Standard deviation of the items' leanings, in log-odds.
    """

    study: Path
    out: Path = Path("preregistration.md")
    share: float = 0.6
    neutral: float = 0.2
    rater_sd: float = 0.5
    item_sd: float = 0.5


def preregister(config: PreregisterConfig) -> None:
    """Write a preregistration with the study's facts; what researchers must add stands in brackets.

    Raises:
        InputError: The study is missing or damaged, the file exists, or the population is impossible.
    """
    if config.out.exists():
        raise InputError(f"{config.out} exists: give another file.")
    check_range(0, rater_sd=config.rater_sd, item_sd=config.item_sd)
    check_range(0, 1, share=config.share, neutral=config.neutral)
    settings, items = Settings.read(config.study), read_items(config.study)
    design = Design(settings, items)
    kinds = Counter(item.kind for item in items.values())
    pairs = len(design.units) // kinds["main"]
    population = population_with(config.share, config.neutral, config.rater_sd, config.item_sd)
    environment = Environment(
        loader=PackageLoader("human_study.analysis"), undefined=StrictUndefined, trim_blocks=True, autoescape=False
    )
    text = environment.get_template("preregistration.md").render(
        title=settings.title,
        id=settings.id,
        arms=sorted(settings.arms),
        items=kinds["main"],
        practice=kinds["practice"],
        checks=kinds["check"],
        split=settings.split,
        importance=settings.importance,
        seed=settings.seed,
        raters_per_item=settings.raters_per_item,
        items_per_participant=settings.items_per_participant,
        participants=design.rows,
        power=config,
        # with several pairs of networks, each participant judges each pair on a part of the items
        reached=formula_power(population, design.rows, kinds["main"], settings.items_per_participant / pairs),
        rules=rule_texts(settings.exclusion_rules).values(),
        pairs=pairs,
        comparisons=pairs * len(QUESTIONS),
    )
    with atomic_file(config.out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    plain_console(soft_wrap=True).print(f"{config.out}: complete what stands in [brackets], then register it.")
