"""The structure: imports run one way (a folder knows those before it), and the map for contributors is right."""

import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
FOLDERS = {
    "hint_loss": (
        "_checks",
        "_slopes",
        "second_order",
        "importance",
        "human",
        "ranking",
        "metrics",
        "reliance",
        "diagnostics",
        "plot",
    ),
    "updn_common": (
        "errors",
        "console",
        "progress",
        "signals",
        "files",
        "command",
        "proposals",
        "data",
        "runs",
        "reports",
        "studies",
    ),
    "updn_vqa": ("data", "networks", "training", "evaluation", "studies", "cli"),
    "updn_captioning": ("data", "networks", "scores", "training", "evaluation", "studies", "cli"),
    "human_study": ("folder", "server", "simulation", "analysis", "cli"),
}


@pytest.mark.parametrize("package", FOLDERS)
def test_imports_run_one_way(package: str) -> None:
    root = (HERE.parent if package == "hint_loss" else HERE / package) / package
    order = FOLDERS[package]
    places = {path: path.relative_to(root).parts[0].removesuffix(".py") for path in root.rglob("*.py")}
    assert {*places.values()} == {*order, "__init__"}
    back = [
        f"{path.relative_to(root)} imports {package}.{imported}"
        for path, place in places.items()
        if place in order
        for imported in re.findall(
            rf"^\s*(?:from|import) {package}(?:\.| import )(\w+)", path.read_text(), flags=re.MULTILINE
        )
        if order.index(imported) > order.index(place)
    ]
    assert not back


def test_the_map_for_contributors_names_what_is_there() -> None:
    """A batch's way from disk to the optimiser step touches at most twelve files."""
    places = re.findall(r"`([\w/]+)\.py:(\w+)(?:\.(\w+))?`", (HERE.parent / "CONTRIBUTING.md").read_text())
    files = {path for path, _, _ in places if not path.startswith("updn_captioning")}
    assert 8 < len(files) <= 12
    for path, name, method in places:
        package = path.partition("/")[0]
        source = (HERE / package / f"{path}.py").read_text()
        assert re.search(rf"^(?:class|def) {name}\b", source, re.MULTILINE), (path, name)
        assert not method or re.search(rf"^    def {method}\b", source, re.MULTILINE), (path, name, method)
