"""From an export to numbers and a report: ``human-study analyse``."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from human_study.analysis.answers import Export, read_export
from human_study.analysis.compare import Comparison, compare_all
from human_study.analysis.exclusions import RULES, broken_rules
from human_study.analysis.report import Analysis, percent, write_report
from human_study.folder.items import Item, read_items
from human_study.folder.settings import Settings
from updn_common.console import plain_console
from updn_common.errors import InputError, check_range
from updn_common.files.writing import new_directory, write_json
from updn_common.reports.bootstrap import Number
from updn_common.reports.tables import format_number


@dataclass(frozen=True)
class AnalyseConfig:
    """Which answers to analyse.

    Attributes:
        answers: The folder that `human-study export` or `human-study simulate` wrote.
        out: A new folder for the report.
        study: The study folder, for the pictures and texts of the items. Default: the report shows items by their ids.
        seed: Seed of the bootstrap.
    """

    answers: Path
    out: Path
    study: Path | None = None
    seed: int = 0


def analyse(config: AnalyseConfig) -> None:
    """Print the preference shares, and write ``report.html`` and ``results.json``.

    Raises:
        InputError: The export or the study is missing, damaged, or of another study; or nobody's answers are left.
    """
    check_range(0, seed=config.seed)
    export = read_export(config.answers)
    items = _items(config.study, export)
    analysis = analyse_export(export, config.seed)
    with new_directory(config.out) as out:
        write_json(out / "results.json", results(analysis), indent=1)
        write_report(out, analysis, items, config.study)
    _print(analysis)
    plain_console(soft_wrap=True).print(f"Report: {config.out / 'report.html'}")


def analyse_export(export: Export, seed: int = 0) -> Analysis:
    """Exclude participants by the stated rules, and compare the networks by the answers of the others.

    Raises:
        InputError: No answers to main items are left.
    """
    broken = broken_rules(export)
    kept = [answer for answer in export.answers if not broken[answer.participant]]
    if not any(answer.kind == "main" for answer in kept):
        excluded = sum(map(bool, broken.values()))
        raise InputError(
            f"No answers to main items are left: {excluded} of {len(broken)} participants are excluded by the rules in "
            "study.json."
        )
    return Analysis(export, broken, kept, compare_all(export.answers, kept, export.pairs, seed))


def _items(study: Path | None, export: Export) -> dict[str, Item]:
    if study is None:
        return {}
    settings = Settings.read(study)
    if settings.id != export.id:
        raise InputError(f"{study} is the study {settings.id}, but the answers are to the study {export.id}.")
    items = read_items(study)
    if unknown := sorted({answer.item for answer in export.answers} - {*items}):
        raise InputError(f"{study} has no item {unknown[0]!r}, which the export has answers to.")
    return items


def results(analysis: Analysis) -> dict[str, Any]:
    """All numbers of the report as JSON."""
    export = analysis.export
    return {
        "study": export.id,
        "simulated": export.simulated,
        "participants": {
            **Counter(export.participants.values()),
            "excluded": sum(map(bool, analysis.broken.values())),
            "excluded_by_rule": {rule: sum(rule in broken for broken in analysis.broken.values()) for rule in RULES},
        },
        "exclusion_rules": export.exclusion_rules,
        "comparisons": [_record(comparison) for comparison in analysis.comparisons],
    }


def _record(comparison: Comparison) -> dict[str, Any]:
    def number(found: Number) -> dict[str, Any]:
        return {"value": found.value, "interval": [*found.interval]}

    votes, mixed = comparison.votes, comparison.mixed
    first, neutral, second = votes.counts
    return {
        "first": comparison.pair[0],
        "second": comparison.pair[1],
        "question": comparison.question,
        "raters": votes.n_raters,
        "items": votes.n_items,
        "answers": {"first": first, "neutral": neutral, "second": second},
        "share": comparison.share.value,
        "interval": [*comparison.share.interval],
        "p_value": comparison.share.p_value,
        "p_value_holm": comparison.adjusted_p,
        "effective_answers": comparison.share.effective_answers,
        "without_exclusions": {
            "share": comparison.share_of_all.value,
            "interval": [*comparison.share_of_all.interval],
        },
        "wilson_interval": [*comparison.wilson],
        "exact_p_value": comparison.exact_p,
        "bootstrap_interval": {name: [*interval] for name, interval in comparison.bootstrap.items()},
        "mixed_model": None if mixed is None else {**mixed._asdict(), "interval": [*mixed.interval]},
        "krippendorff_alpha": {
            "ordinal": number(comparison.alpha_ordinal),
            "nominal": number(comparison.alpha_nominal),
        },
        "groups": {
            group.name: {
                "answers": len(group.votes),
                "share": group.share.value,
                "interval": [*group.share.interval],
            }
            for group in comparison.groups
        },
    }


def _print(analysis: Analysis) -> None:
    simulated = "simulated " if analysis.export.simulated else ""
    table = Table(
        title=f"{analysis.export.title}: who is preferred ({simulated}answers)",
        caption="share: of answers that prefer the second network, neutral ones counted as a half; in brackets: 95 % "
        "confidence intervals, over raters and items; p: of no preference, adjusted by Holm's method",
    )
    for name in ("question", "first", "second"):
        table.add_column(name)
    for name in (f"{simulated}answers", "share (%)", "p"):
        table.add_column(name, justify="right")
    for comparison in analysis.comparisons:
        share = percent(comparison.share)
        table.add_row(
            comparison.question,
            *comparison.pair,
            str(len(comparison.votes)),
            format_number(share, 1),
            f"{comparison.adjusted_p:.4f}",
        )
    plain_console().print(table)
