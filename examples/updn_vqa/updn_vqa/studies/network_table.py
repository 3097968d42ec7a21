"""A table of networks: what each method does to each network in committed results. ``make claims`` writes it."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from updn_common.files.reading import read_json
from updn_common.reports.tables import format_values, markdown

WORLD = "cue0"
"""The world that all networks were trained in."""
FINE_TUNED = ("fine-tuned", "trained")
"""Studies that fine-tune UpDn; a row that both have is taken from the last, with the weight for trained networks."""
STUDIES = {
    "UpDn": ("from-start", *FINE_TUNED),
    "UpDn, bypass": ("updn-bypass",),
    "UpDn, mean path": ("updn-mean",),
    "UpDn, concat": ("updn-concat",),
    "SAN": ("san",),
    "Transformer": ("transformer",),
}
COLUMNS = {
    "no hints": "base",
    "attention": "attn-align",
    "signed": "hint",
    "unsigned": "unsigned",
    "permuted": "unsigned, permuted",
    "unsigned, 25 %": "unsigned 25 %",
}
"""The arm that each column shows."""
TRAINED = ("attention", "signed", "unsigned", "unsigned, 25 %")
"""The columns that are repeated for fine-tuned networks."""
HEADER = ("network", *COLUMNS, *(f"trained: {name}" for name in TRAINED))


def network_table(results: Path) -> str:
    """The table as Markdown: accuracy on the shifted test of one world, mean ± standard deviation over seeds.

    Args:
        results: Folder of the committed results of ``updn_vqa``.
    """
    return markdown(HEADER, _rows(results))


def _rows(results: Path) -> Iterator[list[str]]:
    for network, studies in STUDIES.items():
        found = _accuracies(results, studies)
        cells = [found.get((arm, False), []) for arm in COLUMNS.values()]
        cells += [found.get((COLUMNS[name], True), []) for name in TRAINED]
        if any(cells):
            yield [network, *map(format_values, cells)]


def _accuracies(results: Path, studies: Sequence[str]) -> dict[tuple[str, bool], list[float]]:
    """The accuracies of each arm's runs on the shifted test, and whether the arm fine-tunes a network."""
    found: dict[tuple[str, bool], list[float]] = {}
    for study in studies:
        path = results / study / "results.json"
        rows: dict[tuple[str, bool], list[float]] = {}
        for outcome in read_json(path)["outcomes"] if path.exists() else ():
            if outcome["world"] == WORLD:
                arm = outcome["arm"].removesuffix(", trained")
                fine_tuned = study in FINE_TUNED or arm != outcome["arm"]
                rows.setdefault((arm, fine_tuned), []).append(outcome["accuracy"]["test"])
        found |= rows
    return found


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(network_table(Path(sys.argv[1])), encoding="utf-8")
