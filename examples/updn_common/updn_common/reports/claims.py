"""Claims of the paper and of its critics about hints, tested on committed results: ``make claims`` writes two tables.

A claim is about the paired difference between two rows of a table, over runs with the same world and seed. It holds if
the 95 % interval of the mean (Student's t over runs) lies on the claimed side, fails if it lies on the other side, and
is open otherwise. Runs in one world share its images: if a table has a single world, the interval covers seeds only.
"""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from scipy import stats

from updn_common.files.reading import read_json
from updn_common.reports.tables import markdown

Record = dict[str, Any]


@dataclass(frozen=True)
class Claim:
    """Claims that the difference in ``measure`` between ``row`` and ``other`` is above ``least``, or below it."""

    text: str
    measure: str
    row: str
    other: str = "base"
    least: float = 0.0
    below: bool = False

    def verdict(self, low: float, high: float) -> str:
        """Whether an interval of the difference shows that the claim holds or fails."""
        if self.below:
            low, high = -high, -low
        least = -self.least if self.below else self.least
        return "holds" if low > least else "fails" if high < least else "open"


HINTS, ATTENTION = "HINT", "attention"
VERDICTS = ("holds", "fails", "open")
CLAIMS = (
    Claim("C1. Hints for 6 % of the questions raise accuracy on the shifted test", "test", HINTS),
    Claim("C2. Hints for 1.5 % raise it by 5 points or more", "test", "HINT, 1.5 %", least=5.0),
    Claim("C3. Aligning attention instead does not raise it (by a point)", "test", ATTENTION, least=1.0, below=True),
    Claim("C4. Hints cost nothing (a point) where the test is like training", "val", HINTS, least=-1.0),
    Claim("C5. Another question's hints help as much (within a point)", "test", "HINT, permuted", HINTS, -1.0),
    Claim("C5. Random hints, redrawn, help as much (within a point)", "test", "HINT, redrawn", HINTS, -1.0),
    Claim("C6. Inverted hints help as much (within a point)", "test", "HINT, inverted", HINTS, -1.0),
    Claim("C7. Rank correlation rises", "rank", HINTS),
    Claim("C7. Pointing rises", "pointing", HINTS),
    Claim("C8. CIDEr rises", "cider", HINTS),
    Claim("C8. Fewer objects are named that are not there", "hallucinated", HINTS, below=True),
    Claim("Ours. HINT does better than aligning attention", "test", HINTS, ATTENTION),
    Claim("Ours. Fewer answers hang on what people ignore", "flips", HINTS, below=True),
)


def measured(outcome: Record) -> dict[str, float]:
    """The measures of a run on questions or captions; on the shifted test, except for ``val``."""
    if "scores" in outcome:
        test = outcome["scores"]["test"]
        pointing, rank = (test[f"reference_gradient_{name}"] for name in ("pointing", "rank_correlation"))
        return {"cider": test["CIDEr"], "hallucinated": test["CHAIRi"], "pointing": pointing, "rank": rank}
    measures = {split: outcome["accuracy"][split] for split in ("val", "test")}
    measures |= {"pointing": outcome["pointing"], "rank": outcome["rank_correlation"]}
    return measures | ({"flips": outcome["flips_irrelevant"]} if "flips_irrelevant" in outcome else {})


FORMS = {
    ("norm", True): "unsigned",
    ("sum", True): "signed",
    ("sum", False): "the paper's loss",
}
STARTS = {True: "fine-tuned", False: "from the start"}
CONTROLS = {"human": "", "permuted": ", permuted", "random-per-epoch": ", redrawn", "irrelevant": ", inverted"}


def role(arm: Record, full_share: float) -> tuple[str, str] | None:
    """The form of HINT that an arm uses, and the row of the claims that it is; None if no claim is about it."""
    method, others = arm["method"], {"base": ("base", "base"), "attn-align": (ATTENTION, ATTENTION)}
    if (name := arm["name"].removesuffix(", trained")) in others:
        return others[name]
    if method["supervision"] != "importance" or method.get("task_on", "all") != "all" or method.get("probes") == 0:
        return None
    form, control = FORMS[method.get("importance", "sum"), method["scale_free"]], CONTROLS.get(method["hints"])
    shares = {full_share: "", 0.015: ", 1.5 %"}
    if control is None or arm["hint_share"] not in shares:
        return None
    return form, HINTS + shares[arm["hint_share"]] + control


def differences(results: Record) -> Iterator[tuple[str, Claim, list[float]]]:
    """The paired differences for each claim about rows of a table, with the form of HINT and how its training starts.

    If the base starts from random weights, it is also the base of fine-tuned rows: all take as many steps in all.
    """
    rows: dict[tuple[str, str, str], dict[tuple[str, int], dict[str, float]]] = {}
    full_share = next(arm["hint_share"] for arm in results["arms"] if arm["name"] == "base")
    for arm in results["arms"]:
        if (at := role(arm, full_share)) is not None:
            runs = [outcome for outcome in results["outcomes"] if outcome["arm"] == arm["name"]]
            rows[STARTS[arm["from_start"]], *at] = {(run["world"], run["seed"]): measured(run) for run in runs}
    base = next(row for (_, form, _), row in rows.items() if form == "base")
    for start in STARTS.values():
        rows.setdefault((start, "base", "base"), base)
    for start, form in sorted({(start, form) for start, form, _ in rows if form != "base"}):
        for claim in CLAIMS:
            row = rows.get((start, form, claim.row))
            other = rows.get((start, form, claim.other)) or rows.get((start, claim.other, claim.other))
            runs = [(row[run], other[run]) for run in row] if row and other else []
            if runs and all(claim.measure in measures for both in runs for measures in both):
                yield f"{form}, {start}", claim, [a[claim.measure] - b[claim.measure] for a, b in runs]


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % confidence interval of the mean."""
    half = float(stats.t.ppf(0.975, len(values) - 1)) * stdev(values) / len(values) ** 0.5
    return fmean(values) - half, fmean(values) + half


def report(results: Sequence[Path]) -> tuple[str, str]:
    """Two tables as Markdown: in how many settings each claim holds, and every difference with its interval."""
    tally: dict[tuple[Claim, str], Counter[str]] = {}
    details: list[tuple[int, list[str]]] = []
    seen = set()
    for path in results:
        content = read_json(path)
        for column, claim, values in differences(content):
            low, high = interval(values)
            if (claim, column, tuple(values)) in seen:  # two tables may share runs
                continue
            seen.add((claim, column, tuple(values)))
            tally.setdefault((claim, column), Counter())[claim.verdict(low, high)] += 1
            digits = 2 if claim.measure in ("cider", "rank") else 1
            difference = f"{fmean(values):+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"
            setting = f"{path.parents[2].name.removeprefix('updn_')}, {path.parent.name}"
            row = [claim.text, column, setting, str(len(values)), difference, claim.verdict(low, high)]
            details.append((CLAIMS.index(claim), row))
    counts = [
        ["" if row else claim.text, column, *(str(tally[claim, column][verdict]) for verdict in VERDICTS)]
        for claim in CLAIMS
        for row, column in enumerate(sorted(column for other, column in tally if other is claim))
    ]
    rows = [row for _, row in sorted(details)]
    header = ["claim", "HINT"]
    settings = markdown([*header, "setting", "runs", "difference [95 %]", "verdict"], rows)
    return markdown([*header, *VERDICTS], counts), settings


def committed(examples: Path) -> list[Path]:
    """The committed results of all studies, except for selections, which use development splits."""
    paths = sorted(examples.glob("*/results/*/results.json"))
    return [path for path in paths if not path.parent.name.startswith("selection")]


def main(examples: str, out: str) -> None:
    """Write ``table.md`` and ``settings.md`` into ``out``."""
    Path(out).mkdir(parents=True, exist_ok=True)
    for name, text in zip(("table.md", "settings.md"), report(committed(Path(examples))), strict=True):
        Path(out, name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
