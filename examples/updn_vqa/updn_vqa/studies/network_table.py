"""A table of networks: what each method does to each network in committed results. ``make claims`` writes it."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from updn_common.files.reading import read_json
from updn_common.reports.tables import format_values, markdown

Record = dict[str, Any]
NETWORKS = {
    "updn": "UpDn",
    "updn-bypass": "UpDn, bypass",
    "updn-mean": "UpDn, mean path",
    "updn-concat": "UpDn, concat",
    "san": "SAN",
    "transformer": "Transformer",
}
OF_UPDN, OF_UPDN_TRAINED = ("from-start",), ("fine-tuned", "trained")
"""The studies with the rows of UpDn. A row that is in two of them is taken from the last: there it has the weight for
trained networks."""
METHODS = ("base", "attn-align", "hint", "unsigned", "unsigned, permuted", "unsigned 25 %")
TRAINED = ("attn-align", "hint", "unsigned", "unsigned 25 %")
HEADER = (
    *("network", "no hints", "attention", "signed", "unsigned", "permuted", "unsigned, 25 %"),
    *(f"trained: {name}" for name in ("attention", "signed", "unsigned", "unsigned, 25 %")),
)
WORLD = "cue0"
"""The world that all networks were trained in."""


def network_table(results: Path) -> str:
    """The table as Markdown: accuracy on the shifted test of one world, mean ± standard deviation over seeds.

    Args:
        results: Folder of the committed results of ``updn_vqa``. The rows of UpDn are in several studies; every other
            network has a study of its name.
    """
    return markdown(HEADER, _rows(results))


def _rows(results: Path) -> Iterator[list[str]]:
    for network, name in NETWORKS.items():
        of_updn = network == "updn"
        from_start = _accuracies(results, OF_UPDN if of_updn else (network,))
        later = _accuracies(results, OF_UPDN_TRAINED if of_updn else (network,))
        cells = [from_start.get(method, []) for method in METHODS]
        cells += [later.get(method if of_updn else f"{method}, trained", []) for method in TRAINED]
        if any(cells):
            yield [name, *map(format_values, cells)]


def _accuracies(results: Path, studies: Sequence[str]) -> dict[str, list[float]]:
    """The accuracies on the shifted test of the runs of each row in the world."""
    found: dict[str, list[float]] = {}
    for path in (results / study / "results.json" for study in studies):
        rows: dict[str, list[float]] = {}
        for outcome in read_json(path)["outcomes"] if path.exists() else ():
            if outcome["world"] == WORLD:
                rows.setdefault(outcome["arm"], []).append(outcome["accuracy"]["test"])
        found |= rows
    return found


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(network_table(Path(sys.argv[1])), encoding="utf-8")
