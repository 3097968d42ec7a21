"""The table of networks."""

import json
from pathlib import Path
from typing import Any

from updn_vqa.studies.network_table import HEADER, network_table

ROOT = Path(__file__).parents[3]


def outcome(arm: str, test: float, world: str = "cue0", seed: int = 0) -> dict[str, Any]:
    return {"arm": arm, "world": world, "seed": seed, "accuracy": {"test": test, "dev": 0.0}}


def test_each_cell_comes_from_the_right_study(tmp_path: Path) -> None:
    studies = {
        "from-start": [
            *(outcome("unsigned", 90.0 + seed, seed=seed) for seed in range(3)),
            outcome("unsigned", 1.0, world="cue1"),
            outcome("base", 30.0),
        ],
        "fine-tuned": [outcome("unsigned", 48.0), outcome("hint", 65.0)],
        "trained": [outcome("unsigned", 80.0), outcome("attn-align", 70.0), outcome("base", 31.0)],
        "san": [outcome("unsigned", 57.0), outcome("unsigned, trained", 27.0), outcome("start", 24.0)],
    }
    for name, outcomes in studies.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(json.dumps({"outcomes": outcomes}))
    header, _, *rows = network_table(tmp_path).splitlines()
    names = header.strip("| ").split(" | ")
    assert names == list(HEADER)
    cells = [dict(zip(names, row.strip("| ").split(" | "), strict=True)) for row in rows]
    known = [{name: cell for name, cell in row.items() if cell != "-"} for row in cells]
    assert known == [
        {
            **{"network": "UpDn", "no hints": "30.0", "unsigned": "91.0 ± 1.0"},
            **{"trained: attention": "70.0", "trained: signed": "65.0", "trained: unsigned": "80.0"},
        },
        {"network": "SAN", "unsigned": "57.0", "trained: unsigned": "27.0"},
    ]


def test_the_committed_table_matches_the_committed_results() -> None:
    text = network_table(ROOT / "examples/updn_vqa/results")
    assert (ROOT / "docs/claims/networks.md").read_text(encoding="utf-8") == text, "run `make claims`"
