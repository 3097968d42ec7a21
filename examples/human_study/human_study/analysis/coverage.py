"""Do the intervals cover, and the tests err, as often as they say? ``python -m human_study.analysis.coverage``.

Draws many studies from populations with known preference, on the Latin square that a real study uses, and counts how
often each 95 % interval covers the truth and each test finds a preference at 5 %. Intervals of the preference share
should cover the population's share; those of the mixed models, its log-odds. With 1,000 studies, a true 95 % shows as
93.6 to 96.4 % in nineteen of twenty tables.
"""

import datetime
import importlib.metadata
import os
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tyro
from scipy import sparse, stats

from human_study.analysis.intervals import (
    bootstrap_interval,
    crossed_interval,
    crossed_variance,
    exact_test,
    wilson_interval,
)
from human_study.analysis.preference import fit_preference, mixed_design
from human_study.analysis.votes import Votes
from human_study.simulation.population import assignment, population_with, synthetic_study
from updn_common.command import run_command
from updn_common.files.writing import atomic_file, write_json
from updn_common.progress import track
from updn_common.reports.bootstrap import LEVEL
from updn_common.reports.tables import markdown

METHODS = {
    "crossed": "Wilson's interval for the effective number of answers, allowing for raters and items (headline)",
    "wilson": "Wilson's interval, taking answers for independent",
    "exact": "exact binomial test of the answers that are not neutral, taking them for independent",
    "two-way": "Student's interval with the same two-way variance",
    "bootstrap raters": "percentile bootstrap of raters",
    "bootstrap items": "percentile bootstrap of items",
    "bootstrap both": "percentile bootstrap of raters and items",
    "mixed": "mixed logistic model, Laplace approximation, Student's interval (ours)",
    "mixed, variational": "mixed logistic model, statsmodels' BinomialBayesMixedGLM.fit_vb",
}


class Scenario(NamedTuple):
    """A kind of study."""

    name: str
    share: float
    rater_sd: float
    item_sd: float
    items: int = 60
    items_per_participant: int = 20
    raters_per_item: int = 10
    neutral: float = 0.2


SCENARIOS = (
    Scenario("no preference", 0.5, 0.7, 0.7),
    Scenario("a preference", 0.6, 0.7, 0.7),
    Scenario("a strong preference", 0.8, 0.7, 0.7),
    Scenario("no preference, raters differ most", 0.5, 1.2, 0.3),
    Scenario("no preference, items differ most", 0.5, 0.3, 1.2),
    Scenario("no preference, independent answers", 0.5, 0.0, 0.0),
    Scenario("a preference, small study", 0.6, 0.7, 0.7, 24, 24, 16),
)


@dataclass(frozen=True)
class CoverageConfig:
    """How many studies to simulate.

    Attributes:
        out: JSON file for the results; a table goes into the Markdown file beside it.
        studies: Number of studies of each scenario.
        slow_studies: Number of studies of the second scenario for statsmodels' variational fit, which takes a second.
        resamples: Number of resamples of each bootstrap.
        seed: Seed of the random draws.
    """

    out: Path
    studies: int = 1000
    slow_studies: int = 200
    resamples: int = 1000
    seed: int = 0


class Finding(NamedTuple):
    """What a method says about one study."""

    method: str
    low: float
    high: float
    significant: bool
    covers: bool


def coverage(config: CoverageConfig) -> None:
    """Write the measured coverage of each method in each scenario."""
    begin = time.process_time()
    scenarios = []
    for number, scenario in enumerate(SCENARIOS):
        slow = config.slow_studies if number == 1 else 0
        scenarios.append(measure(scenario, config.studies, slow, config.resamples, [config.seed, number]))
        result = {
            "simulated": True,
            "studies": config.studies,
            "machine": _machine(),
            "cpu_seconds": round(time.process_time() - begin),
            "methods": METHODS,
            "scenarios": scenarios,
        }
        write_results(config.out, result)  # after each scenario, because the run takes a while


def write_results(out: Path, result: dict[str, Any]) -> None:
    """Write the JSON file, and the table beside it."""
    write_json(out, result, indent=1)
    with atomic_file(out.with_suffix(".md")) as temporary:
        temporary.write_text(coverage_table(result), encoding="utf-8")


def coverage_table(result: dict[str, Any]) -> str:
    """As Markdown: for each scenario and method, the coverage, and how often it found a preference."""

    def percent(value: float | None) -> str:
        return "-" if value is None else f"{100 * value:.1f} %"

    rows = [
        [
            "" if number else scenario["name"],
            METHODS[method],
            str(found["studies"]),
            percent(found["coverage"]),
            percent(found["found"]),
        ]
        for scenario in result["scenarios"]
        for number, (method, found) in enumerate(scenario["measured"].items())
    ]
    text = "Simulated answers. Coverage of 95 % intervals, and how often a preference is found at 5 %.\n\n"
    return text + markdown(["scenario", "method", "simulated studies", "coverage", "found"], rows)


def measure(scenario: Scenario, studies: int, slow: int, resamples: int, seed: list[int]) -> dict[str, Any]:
    """The share of studies in which each method covers the truth, and in which it finds a preference."""
    population = population_with(scenario.share, scenario.neutral, scenario.rater_sd, scenario.item_sd)
    design = synthetic_study(scenario.items, scenario.items_per_participant, scenario.raters_per_item, seed=seed[0])
    raters, items, second_left = assignment(design)
    rng, share = np.random.default_rng(seed), population.moments().share
    findings: dict[str, list[Finding]] = {}
    for study in track(range(studies), scenario.name):
        votes = Votes(population.draw(raters, items, rng), raters, items, second_left)
        for finding in _findings(votes, share, population.preference, resamples, study, slow=study < slow):
            findings.setdefault(finding.method, []).append(finding)
    return {
        **scenario._asdict(),
        "participants": len(np.unique(raters)),
        "answers": len(raters),
        "log_odds": population.preference,
        "measured": {method: _summary(found) for method, found in findings.items()},
    }


def _findings(
    votes: Votes, share: float, log_odds: float, resamples: int, study: int, *, slow: bool
) -> Iterator[Finding]:
    def of_share(method: str, low: float, high: float, significant: bool | None = None) -> Finding:
        found = not low <= 0.5 <= high if significant is None else significant
        return Finding(method, low, high, found, low <= share <= high)

    def of_log_odds(method: str, value: float, error: float, quantile: float) -> Finding:
        low, high = value - quantile * error, value + quantile * error
        return Finding(method, low, high, not low <= 0 <= high, low <= log_odds <= high)

    crossed = crossed_interval(votes)
    yield of_share("crossed", *crossed.interval, crossed.p_value < 1 - LEVEL)
    points = votes.points
    yield of_share("wilson", *wilson_interval(points.sum(), len(votes)))
    yield Finding("exact", np.nan, np.nan, exact_test(votes) < 1 - LEVEL, False)
    freedom = min(votes.n_raters, votes.n_items) - 1
    half = stats.t.ppf((1 + LEVEL) / 2, freedom) * crossed_variance(points, votes.raters, votes.items) ** 0.5
    yield of_share("two-way", points.mean() - half, points.mean() + half)
    for resampled in ("raters", "items", "both"):
        interval = bootstrap_interval(votes, resampled, seed=study, resamples=resamples)
        yield of_share(f"bootstrap {resampled}", *interval)
    mixed = fit_preference(votes)
    if mixed is not None:
        yield of_log_odds("mixed", mixed.log_odds, mixed.error, float(stats.t.ppf((1 + LEVEL) / 2, freedom)))
    if slow:
        yield of_log_odds("mixed, variational", *_variational(votes), float(stats.norm.ppf((1 + LEVEL) / 2)))


def _variational(votes: Votes) -> tuple[float, float]:
    """Posterior mean and standard deviation of the preference by statsmodels."""
    from statsmodels.genmod.bayes_mixed_glm import BinomialBayesMixedGLM

    preferred, design, raters, items = mixed_design(votes)
    rows, ones = np.arange(len(preferred)), np.ones(len(preferred))
    groups = [sparse.csr_matrix((ones, (rows, group))) for group in (raters, items)]
    kinds = np.repeat([0, 1], [group.shape[1] for group in groups])
    model = BinomialBayesMixedGLM(preferred, design, sparse.hstack(groups), kinds, vcp_p=1, fe_p=10)
    fit = model.fit_vb()
    return float(fit.fe_mean[0]), float(fit.fe_sd[0])


def _summary(findings: list[Finding]) -> dict[str, float | int | None]:
    widths = [finding.high - finding.low for finding in findings]
    known = not np.isnan(widths).all()
    return {
        "studies": len(findings),
        "coverage": round(float(np.mean([finding.covers for finding in findings])), 4) if known else None,
        "found": round(float(np.mean([finding.significant for finding in findings])), 4),
        "mean_width": round(float(np.nanmean(widths)), 4) if known else None,
    }


def _machine() -> dict[str, object]:
    versions = {name: importlib.metadata.version(name) for name in ("numpy", "scipy", "statsmodels")}
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        **versions,
        "threads": os.environ.get("OMP_NUM_THREADS", "not set"),
        "load_average": round(os.getloadavg()[0], 2),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def _cpu() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())


def main() -> None:
    """Run the command line."""
    config = tyro.cli(CoverageConfig, prog="coverage", description=__doc__)
    run_command(coverage, config)


if __name__ == "__main__":
    main()
