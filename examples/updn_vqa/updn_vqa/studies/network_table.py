"""One row for each network: what each method does to it in committed results; ``make claims`` writes the table."""

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
"""Studies that have UpDn's rows; of a row in two of them, the last has it with the weight for trained networks."""
METHODS = ("base", "attn-align", "hint", "unsigned", "unsigned, permuted", "unsigned 25 %")
TRAINED = ("attn-align", "hint", "unsigned", "unsigned 25 %")
HEADER = (
    *("network", "no hints", "attention", "signed", "unsigned", "permuted", "unsigned, 25 %"),
    *(f"trained: {name}" for name in ("attention", "signed", "unsigned", "unsigned, 25 %")),
)
WORLD = "cue0"
"""The one that all networks were trained in."""


def network_table(results: Path) -> str:
    """As Markdown: accuracy on the shifted test of world 0, mean ± standard deviation over seeds.

    Args:
        results: The results of ``updn_vqa``. UpDn's rows are in several studies, another network's in one of its name.
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
    """On the shifted test, of each row's runs in the world."""
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
