"""Tables and figures of the results of ``decoy_digits.py --out``: ``python decoy_report.py results``.

For every ``FOLDER/*.jsonl`` it writes a table of means and standard deviations over seeds, and a figure with a point
for each seed and a mark for their mean. The times of a training step come from ``FOLDER/steps.jsonl``, which was
measured with nothing else running. ``FOLDER/cancellation.png`` shows pointing and flips for all weights that were
tried in ``rieger-selection.jsonl``. Published numbers are from other networks, and have a column of their own.
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
"""Test accuracy (%) of a larger network, by protocol and row: Rieger et al., ICML 2020, Table 3."""

Rows = list[dict[str, Any]]


def best_weight(found: Rows, row: str, hints: float) -> float | None:
    """The weight with the highest mean accuracy of a row in the results of ``--development``; None without such a row.

    A row with random directions takes the weight of the row with the exact norm.
    """
    accuracies: dict[float, list[float]] = {}
    for line in found:
        if (line["row"], line["hints"]) == (row.rpartition(", ")[0] if "directions" in row else row, hints):
            accuracies.setdefault(line["weight"], []).append(line["accuracy"])
    return max(accuracies, key=lambda weight: fmean(accuracies[weight]), default=None)


def format_percent(shares: Sequence[float]) -> str:
    """The mean and standard deviation of shares in percent, such as ``"66.4 ± 7.9"``; empty if there are none."""
    if not shares:
        return ""
    return f"{100 * fmean(shares):.1f}" + (f" ± {100 * stdev(shares):.1f}" if len(shares) > 1 else "")


def table(rows: Rows, steps: dict[str, float], protocol: str) -> str:
    """A Markdown table with a row for each method and columns for each share of hints, and the weights below it."""
    shares = sorted({row["hints"] for row in rows}, reverse=True)
    names = list(dict.fromkeys(row["row"] for row in rows))
    header, weights = ["trained with"], []
    for share in shares:
        header += [f"accuracy, {100 * share:g} % of hints", "flips", "pointing"]
    lines = [[*header, "step over plain", "published accuracy"]]
    lines.append(["---", *["---:"] * len(lines[0][1:])])
    for name in names:
        cells, chosen = [name], []
        for share in shares:
            found = [row for row in rows if (row["row"], row["hints"]) == (name, share)]
            cells += [format_percent([row[what] for row in found]) for what in ("accuracy", "flips", "pointing")]
            chosen += [f"{weight:g}" for weight in sorted({row["weight"] for row in found})]
        step = f"{steps[name] / steps['nothing']:.2f}" if name in steps else ""
        lines.append([*cells, step, PUBLISHED.get((protocol, name), "")])
        weights += [f"{name}: {', '.join(chosen)}"] if chosen != ["0"] else []
    for (of, name), figure in PUBLISHED.items():
        if of == protocol and name not in names:
            lines.append([name, *[""] * (len(lines[0]) - 2), figure])
    text = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return f"{text}\nWeights, for {', '.join(f'{100 * share:g} %' for share in shares)}: {'; '.join(weights)}.\n"


def draw(rows: Rows, path: Path) -> None:
    """Draw a line for each method: a network may point right without answering right."""
    shares = sorted({row["hints"] for row in rows}, reverse=True)
    names = list(dict.fromkeys(row["row"] for row in rows))[::-1]
    figure, panels = plt.subplots(1, 3, figsize=(10, 0.8 + 0.33 * len(names)), layout="constrained", sharey=True)
    titles = {
        "accuracy": "test accuracy (%)",
        "flips": "answers that change\nwith the swatch (%)",
        "pointing": "most important cell\nis on the digit (%)",
    }
    for axes, (what, title) in zip(panels, titles.items(), strict=True):
        for i, share in enumerate(shares):
            for y, name in enumerate(names):
                found = [100 * row[what] for row in rows if (row["row"], row["hints"]) == (name, share)]
                height = y + 0.22 * ((len(shares) - 1) / 2 - i)
                label = f"{100 * share:g} % of the images have a hint" if found and y == 0 else None
                axes.plot(found, [height] * len(found), ".", color=f"C{i}", alpha=0.6, ms=6, mew=0, label=label)
                axes.plot([fmean(found)] if found else [], [height] if found else [], "|", color=f"C{i}", ms=8, mew=1.6)
        axes.set(xlabel=title, yticks=range(len(names)), yticklabels=names)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", alpha=0.25)
        for y in range(0, len(names), 2):
            axes.axhspan(y - 0.5, y + 0.5, color="0.965", zorder=0)
        axes.set_ylim(-0.5, len(names) - 0.5)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def draw_cancellation(found: Rows, path: Path) -> None:
    """Draw pointing and flips against the weight of the loss, one network each, with hints for all images."""
    forms = {"HINT, signed": "sum of the gradient (signed)", "HINT, unsigned": "norm of the gradient (unsigned)"}
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained", sharey=True)
    for axes, (name, title) in zip(panels, forms.items(), strict=True):
        chosen = sorted(
            (row for row in found if (row["row"], row["hints"]) == (name, 1.0)), key=lambda row: row["weight"]
        )
        weights = [row["weight"] for row in chosen]
        for what, label, color in (
            ("pointing", "the most important cell is on the digit", "C0"),
            ("flips", "the answer changes with the swatch", "C3"),
        ):
            axes.plot(weights, [100 * row[what] for row in chosen], "o-", color=color, label=label)
        axes.set(xscale="log", xlabel="weight of the loss", title=f"importance: {title}", ylim=(-4, 104))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    panels[0].set_ylabel("images (%)")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    read = {path: [json.loads(line) for line in path.read_text().splitlines()] for path in folder.glob("*.jsonl")}
    steps = {row["row"]: row["step_ms"] for path, rows in read.items() if path.stem == "steps" for row in rows}
    for path, rows in sorted(read.items()):
        if path.stem != "steps" and not rows[0]["development"]:
            path.with_suffix(".md").write_text(table(rows, steps, rows[0]["protocol"]), encoding="utf-8")
            draw(rows, path.with_suffix(".png"))
        if path.name == "rieger-selection.jsonl":
            draw_cancellation(rows, folder / "cancellation.png")


if __name__ == "__main__":
    main()
