"""What is there of the data, and what is not: ``updn-captioning data``."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from rich.console import Console
from rich.text import Text

from updn_captioning.data.catalogue import CATALOGUE
from updn_captioning.data.layout import SplitKind, find_captions, find_instances, find_split
from updn_common.data.status import DataConfig, show_status
from updn_common.errors import InputError
from updn_common.files.layout import find_features


def show_data(config: DataConfig, console: Console | None = None) -> None:
    """Print what `show_status` prints, about what captioning can use."""
    show_status(config, CATALOGUE, _verdict, console)


def _verdict(data: Path) -> list[Text]:
    """What ``updn-captioning prepare`` would say to it."""
    lines = []
    for what, look in {"features": find_features, "hints": find_instances}.items():
        try:
            look(data)
        except InputError as error:
            lines.append(Text(f"No {what} to prepare from yet: {error}", style="yellow"))
    features = ""
    for kind in get_args(SplitKind):
        try:
            find_captions(data)
            find_split(data, kind)
        except InputError as error:
            lines.append(Text(f"No {kind} split yet: {error}", style="yellow"))
        else:
            command = f"updn-captioning prepare --data {data} --split {kind} --out prepared/{kind}{features}"
            lines.append(Text(f"{kind}: {command}", style="green"))
            features = f" --features prepared/{kind}"  # the next one links them
    return lines
