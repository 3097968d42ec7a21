"""What is there of the data, and what is not: ``updn-vqa data``."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.text import Text

from updn_common.data.status import DataConfig, show_status
from updn_common.errors import InputError
from updn_common.files.layout import find_features
from updn_vqa.data.catalogue import CATALOGUE
from updn_vqa.data.layout import DATASETS, existing_splits, find_splits


def show_data(config: DataConfig, console: Console | None = None) -> None:
    """Print what `show_status` prints, about what VQA can use."""
    show_status(config, CATALOGUE, _verdict, console)


def _verdict(data: Path) -> list[Text]:
    """What ``updn-vqa prepare`` would say to it."""
    lines = []
    try:
        find_features(data)
    except InputError as error:
        lines.append(Text(f"No features to prepare from yet: {error}", style="yellow"))
    for name in DATASETS:
        try:
            splits = find_splits(data, name)
        except InputError as error:
            if existing_splits(data, name):
                lines.append(Text(f"{name} is incomplete: {error}", style="yellow"))
            continue
        command = f"updn-vqa prepare --data {data} --dataset {name} --out prepared/{name}"
        lines.append(Text(f"{name} ({', '.join(splits)}): {command}", style="green"))
    if not any(line.style == "green" for line in lines):
        lines.append(Text("No data set has a train part with questions and annotations yet.", style="yellow"))
    return lines
