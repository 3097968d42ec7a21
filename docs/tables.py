"""Sphinx extension: tables of results, read from the committed files when the pages are built, never typed in.

``.. benchmark-table:: FILE.json`` shows what ``benchmarks/_measure.py`` wrote, with the machine it was measured on;
``.. markdown-table:: FILE.md`` a pipe table such as ``updn-vqa study`` writes. Paths are relative to the page. A file
that does not exist yet becomes a note that says so.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class Results(NamedTuple):
    """A table's content, and the line below it."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""


class ResultsTable(SphinxDirective):
    """What both directives share: find the file, watch it, and lay it out."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The table, or a note that there is no such file."""
        relative, absolute = self.env.relfn2path(self.arguments[0])
        self.env.note_dependency(relative)
        path = Path(absolute)
        if not path.exists():
            return [nodes.note("", nodes.paragraph(text=f"{path.name} has not been made yet."))]
        results = self.read(path.read_text(encoding="utf-8"))
        return [_table(results), nodes.paragraph(text=results.caption)]

    def read(self, text: str) -> Results:
        """Parse the file."""
        raise NotImplementedError


class BenchmarkTable(ResultsTable):
    """Numbers have three significant digits.

    ``columns`` chooses and orders the columns, and ``rows`` says which list of a file with several.
    """

    option_spec: ClassVar[dict[str, Any]] = {"columns": directives.unchanged_required, "rows": directives.unchanged}

    def read(self, text: str) -> Results:
        """See :class:`ResultsTable`."""
        content = json.loads(text)
        columns = self.options["columns"].split()
        rows = [[_number(row.get(column)) for column in columns] for row in content[self.options.get("rows", "rows")]]
        machine = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in content["machine"].items())
        header = [column.replace("_", " ") for column in columns]
        what = f"{content['benchmark']}. " if "benchmark" in content else ""
        return Results(header, rows, f"{what}Measured on: {machine}.")


class MarkdownTable(ResultsTable):
    """A header, a row of dashes, rows."""

    def read(self, text: str) -> Results:
        """See :class:`ResultsTable`."""
        lines = [re.split(r"(?<!\\)\|", line.strip()[1:-1]) for line in text.strip().split("\n")]  # a cell may be empty
        header, _, *rows = [[_unescaped(cell.strip()) for cell in line] for line in lines]
        return Results(header, rows)


def _unescaped(cell: str) -> str:
    return html.unescape(re.sub(r"\\(.)", r"\1", cell))


def _number(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return "" if value is None else str(value)


def _table(results: Results) -> nodes.table:
    group = nodes.tgroup("", *(nodes.colspec(colwidth=1) for _ in results.header), cols=len(results.header))
    group += nodes.thead("", _row(results.header))
    group += nodes.tbody("", *map(_row, results.rows))
    return nodes.table("", group, classes=["numbers"])  # as tables.css lays it out


def _row(cells: Sequence[str]) -> nodes.row:
    return nodes.row("", *map(_entry, cells))


def _entry(cell: str) -> nodes.entry:
    is_number = cell == "-" or cell.removeprefix("-")[:1].isdigit()
    return nodes.entry("", nodes.paragraph(text=cell), classes=["number"] if is_number else [])


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    app.add_directive("benchmark-table", BenchmarkTable)
    app.add_directive("markdown-table", MarkdownTable)
    return {"parallel_read_safe": True}
