"""A study folder opened for the server: its texts, and what a browser may know of its items."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup

from human_study.folder.design import Design, Placement
from human_study.folder.items import Item
from human_study.folder.items import read_items as read_item_file
from human_study.folder.settings import Settings
from human_study.server.security import Key
from updn_common.files.images import read_image
from updn_common.files.reading import read_text

TEXTS = ("consent", "instructions")


@dataclass(frozen=True)
class Study:
    """A study folder.

    Attributes:
        folder: Where it is.
        settings: Its facts.
        items: Its items by their ids.
        design: Who sees which items.
        key: Its secret.
        texts: Consent and instructions as HTML.
    """

    folder: Path
    settings: Settings
    items: dict[str, Item]
    design: Design
    key: Key
    texts: dict[str, Markup]

    @classmethod
    def open(cls, folder: Path) -> "Study":
        """Open a study folder.

        Raises:
            InputError: It is none, or a file in it is damaged.
        """
        settings = Settings.read(folder)
        items = read_item_file(folder)
        markdown = MarkdownIt("commonmark", {"html": False})
        texts = {
            name: Markup(markdown.render(read_text(folder / f"{name}.md", expected=f"the {name} text of a study")))
            for name in TEXTS
        }
        return cls(folder, settings, items, Design(settings, items), Key.read(folder / "secret.key"), texts)

    @property
    def placeholders(self) -> list[str]:
        """Texts that still have something in [brackets] to be filled in."""
        return [name for name in TEXTS if "[" in self.texts[name]]

    @cached_property
    def pictures(self) -> dict[str, Path]:
        """The files of pictures by their names."""
        paths = (path for item in self.items.values() for path in (item.image, *item.explanations.values()))
        return {Path(path).name: self.folder / path for path in paths}

    @cached_property
    def picture_size(self) -> tuple[int, int]:
        """Width and height that all pictures share."""
        with read_image(next(iter(self.pictures.values()))) as picture:
            return picture.size

    def shown(self, placement: Placement) -> dict[str, Any]:
        """An item as the browser gets it: nothing in it names a network, or tells a check from a main item."""
        item = self.items[placement.item]
        return {
            "id": item.id,
            "practice": item.kind == "practice",
            "text": item.text,
            "marked": list(item.marked),
            "answer": item.answer,
            "image": item.image,
            "a": item.explanations[placement.left],
            "b": item.explanations[placement.right],
            "size": self.picture_size,
        }

    def feedback(self, placement: Placement) -> dict[str, str] | None:
        """What follows a practice item: its more reasonable explanation, A or B, and why."""
        item = self.items[placement.item]
        if item.kind != "practice" or item.expected is None:
            return None
        return {"expected": "A" if item.expected == placement.left else "B", "text": item.feedback}

    def page(self, **options: Any) -> str:
        """The page that participants see.

        Args:
            options: What differs between the served page and the page as files.
        """
        return templates().get_template("page.html").render(settings=self.settings, texts=self.texts, **options)


def templates() -> Environment:
    """The templates; what they are filled with is escaped."""
    loader = PackageLoader("human_study.server")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
