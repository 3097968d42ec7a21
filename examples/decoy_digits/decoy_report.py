"""Tables and a figure from what ``decoy_digits.py --out`` wrote: ``python decoy_report.py results``.

Reads every ``FOLDER/*.jsonl``, and writes a table of means and standard deviations over seeds beside it, and a figure.
Published figures, which others measured on other networks, stand in a column of their own.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt

mpl.use("Agg")

PUBLISHED = {
    ("rieger", "nothing"): "60.1 ± 5.1",
    ("rieger", "RRR"): "99.0 ± 1.0",
    ("rieger", "CDEP (only as published)"): "97.2 ± 0.8",
    ("rieger", "expected gradients (only as published)"): "97.8 ± 0.2",
}
"""Test accuracy in % of a larger network: Rieger et al., ICML 2020, Table 3."""

Rows = list[dict[str, Any]]


def best_weight(found: Rows, row: str, hints: float) -> float | None:
    """The weight of the highest mean accuracy in what ``--development --out`` wrote, if it has the row.

    Rows of random directions take that of the exact norm.
    """
    accuracies: dict[float, list[float]] = {}
    for line in found:
        if (line["row"], line["hints"]) == (row.rpartition(", ")[0] if "directions" in row else row, hints):
            accuracies.setdefault(line["weight"], []).append(line["accuracy"])
    return max(accuracies, key=lambda weight: fmean(accuracies[weight]), default=None)


def spread(values: Sequence[float], scale: float = 100.0, digits: int = 1) -> str:
    """Mean and standard deviation."""
    if not values:
        return ""
    deviation = f" ± {stdev(values) * scale:.{digits}f}" if len(values) > 1 else ""
    return f"{fmean(values) * scale:.{digits}f}{deviation}"


def table(rows: Rows, protocol: str) -> str:
    """A Markdown table: a row for each method, columns for each share of hints."""
    shares = sorted({row["hints"] for row in rows}, reverse=True)
    names = list(dict.fromkeys(row["row"] for row in rows))
    header = ["trained with"]
    for share in shares:
        header += [f"weight, {100 * share:g} % of hints", "accuracy", "flips", "pointing"]
    header += ["step over plain", "published accuracy"]
    lines = [header, ["---", *["---:"] * (len(header) - 1)]]
    steps = {row["row"]: row["step_ms"] for row in rows if row["hints"] == shares[0] and row["processes"] == 1}
    for name in names:
        mine = [row for row in rows if row["row"] == name]
        cells = [name]
        for share in shares:
            found = [row for row in mine if row["hints"] == share]
            cells.append(", ".join(sorted({f"{row['weight']:g}" for row in found})))
            cells += [spread([row[what] for row in found]) for what in ("accuracy", "flips", "pointing")]
        step = f"{steps[name] / steps['nothing']:.2f}" if name in steps and "nothing" in steps else ""
        lines.append([*cells, step, PUBLISHED.get((protocol, name), "")])
    for (of, name), figure in PUBLISHED.items():
        if of == protocol and name not in names:
            lines.append([name, *[""] * (len(header) - 2), figure])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def draw(rows: Rows, path: Path) -> None:
    """Accuracy against flips, and pointing beside: pointing right is not answering right."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained", sharey=True)
    for i, name in enumerate(dict.fromkeys(row["row"] for row in rows)):
        mine = [row for row in rows if row["row"] == name]
        for axes, what in ((left, "flips"), (right, "pointing")):
            x, y = ([100 * row[key] for row in mine] for key in (what, "accuracy"))
            axes.scatter(x, y, s=26, label=name, color=f"C{i % 10}", marker="o" if i < 10 else "^")
    left.set(xlabel="answers that change with the swatch (%)", ylabel="test accuracy (%)")
    right.set(xlabel="most important cell is on the digit (%)")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    for path in sorted(folder.glob("*.jsonl")):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        path.with_suffix(".md").write_text(table(rows, rows[0]["protocol"]), encoding="utf-8")
        draw([row for row in rows if row["hints"] == max(r["hints"] for r in rows)], path.with_suffix(".png"))


if __name__ == "__main__":
    main()
