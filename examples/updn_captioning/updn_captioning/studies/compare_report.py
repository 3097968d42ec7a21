"""A comparison as tables, for the terminal, as Markdown and as CSV."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from updn_captioning.studies.published import HINT_ROW, PUBLISHED, ROBUST, STANDARD
from updn_captioning.studies.recipes import ComparedRun
from updn_common.console import plain_console
from updn_common.reports.comparison import Cell, Row, describe_data
from updn_common.reports.tables import Block, Line, beside_published, format_cell, print_blocks, write_blocks, write_csv
from updn_common.runs.importance import trained_importance

Rows = Mapping[str | None, Sequence[Row[ComparedRun]]]
"""For each test set of the paper, and None for all other data together."""

SCORES = {
    "CIDEr": "CIDEr-D",
    "Bleu_4": "BLEU-4",
    "Bleu_1": "BLEU-1",
    "ROUGE_L": "ROUGE-L",
    "CHAIRi": "CHAIRi %",
    "CHAIRs": "CHAIRs %",
}
MEASURES = {
    "gradient_pointing": "gradient: pointing %",
    "gradient_rank_correlation": "gradient: rank corr.",
    "attention_pointing": "attention: pointing %",
    "attention_rank_correlation": "attention: rank corr.",
}
GROUNDING = {kind: {f"{kind}_{name}": label for name, label in MEASURES.items()} for kind in ("reference", "generated")}
TITLES = {"reference": "visual words of the references", "generated": "visual words of own captions"}
GUIDE = (
    "Means over runs of different seeds or data ± their standard deviation. In brackets: 95 % confidence intervals of "
    "the means, by the percentile bootstrap over images, each with all of its captions; they know nothing of other "
    "seeds. Differences are paired: of runs with the same seed and data, over the same images."
)
GROUNDING_GUIDE = (
    "Gradient: the importance that HINT trains, of a visual word's log-probability; attention: its attention weights. "
    "Pointing: the most important proposal overlaps an object of the category by more than half, of words where any "
    "proposal does; rank correlation is Spearman's, with human importance. CHAIR (Rohrbach et al., 2018): hallucinated "
    "objects, of all mentions and of captions, by the words that the data were prepared with."
)

FORMS_GUIDE = (
    "UpDn + HINT: hint is the signed form with a margin, hint-paper the paper's to the letter; both stand beside "
    "the paper's result."
)


def tables(rows: Rows) -> list[Block]:
    """Ours beside the paper's on its test sets; ours on other data, and then the paper's apart."""
    blocks = []
    for data_set, mine in rows.items():
        where = data_set or describe_data(mine)
        there = {name for row in mine for name in row.cells}
        scores = {name: label for name, label in SCORES.items() if name in there}
        ours = [_line(f"{row.name} ({len(row.runs)})", row.cells, scores) for row in mine]
        lines = beside_published(mine, ours, _published(data_set, scores) if data_set else {})
        blocks.append(Block(f"{where}: official scores", ["method (runs)", *scores.values()], lines))
        parts = [("scores", scores)]
        taken = " and ".join(sorted({trained_importance(run.path) for row in mine for run in row.runs}))
        for kind, measures in GROUNDING.items():
            if there & measures.keys():
                title = f"{where}: {TITLES[kind]}, importance: the gradient's {taken}"
                blocks.append(_block(title, mine, measures))
                parts.append((TITLES[kind], measures))
        compared = [row for row in mine if row.differences]
        for of, measures in parts if compared else ():
            lines = [_line(row.name, row.differences, measures) for row in compared]
            title = f"{where}: difference to {mine[0].name}, {of}"
            blocks.append(Block(title, ["method", *measures.values()], lines))
    if None in rows:
        for data_set in (STANDARD, ROBUST):
            lines = list(_published(data_set, {"CIDEr": ""}).values())
            title = f"{data_set}, published: other data than above, not to be compared"
            blocks.append(Block(title, ["method", "CIDEr"], lines))
    return blocks


def _block(title: str, rows: Sequence[Row[ComparedRun]], measures: Mapping[str, str]) -> Block:
    return Block(title, ["method", *measures.values()], [_line(row.name, row.cells, measures) for row in rows])


def _published(data_set: str, columns: Mapping[str, str]) -> dict[str, Line]:
    """The paper has nothing but CIDEr."""
    return {
        name: Line(
            f"{name}, published",
            [(f"{found[data_set]:.2f}", "") if column == "CIDEr" else ("-", "") for column in columns],
            published=True,
        )
        for name, found in PUBLISHED.items()
        if data_set in found
    }


def _line(name: str, cells: Mapping[str, Cell], columns: Mapping[str, str]) -> Line:
    told = [
        format_cell(cells[name], 2 if "%" in label else 3) if name in cells else ("-", "")
        for name, label in columns.items()
    ]
    return Line(name, told)


def notes(rows: Rows) -> list[str]:
    """What is to be said of the tables."""
    beside = {row.runs[0].published_row for data_set, mine in rows.items() if data_set for row in mine}
    return [GROUNDING_GUIDE, *([FORMS_GUIDE] if HINT_ROW in beside else [])]


def print_tables(rows: Rows) -> None:
    """Print them, each number above its interval."""
    print_blocks(tables(rows))
    plain_console().print("± standard deviation over runs; [95 % interval over images].", *notes(rows))


def write_tables(out: Path, rows: Rows) -> list[Path]:
    """Write the tables; returns what was written."""
    out.mkdir(parents=True, exist_ok=True)
    written = [out / "table.md", out / "table.csv"]
    write_blocks(written[0], "\n\n".join((GUIDE, *notes(rows))) + "\n", tables(rows))
    published = [
        (data_set, name, "CIDEr", value) for name, found in PUBLISHED.items() for data_set, value in found.items()
    ]
    write_csv(written[1], {data_set or describe_data(mine): mine for data_set, mine in rows.items()}, published)
    return written
