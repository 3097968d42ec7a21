"""Pages and pictures of two captioners, with a row for each category of visual words."""

import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import matplotlib.pyplot as plt
import pytest
import torch
from accelerate import Accelerator
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from PIL import Image

from updn_captioning.data.prepared import PreparedData
from updn_captioning.data.visual_words import VisualWord
from updn_captioning.evaluation.explain import TONES, ExplainConfig, choose_images, explain, person_caption
from updn_captioning.evaluation.explain_image import (
    ExplainedCaption,
    draw_explanation,
    explain_caption,
    named_categories,
)
from updn_captioning.evaluation.grounding import Words, generated_batch
from updn_captioning.networks.generate import Decoding, generate, load_model
from updn_common.errors import InputError
from updn_common.reports.gallery import COLOURS, Card

Tiny = tuple[Path, Path]
Untrained = Callable[..., Path]
GREEN, RED = COLOURS["good"], COLOURS["bad"]


class Panel(NamedTuple):
    """Content of one panel of a picture: title, marked words and their colours, outlined boxes, and text."""

    title: str
    marked: list[tuple[str, str]]
    outlined: list[list[float]]
    text: str


def read(figure: Figure) -> list[Panel]:
    panels = []
    for axes in figure.axes:
        texts = [text for box in axes.findobj(AnnotationBbox) for text in box.findobj(Text) if text.get_text()]
        panels.append(
            Panel(
                axes.get_title() or " ".join(text.get_text() for text in texts),
                [(text.get_text(), str(text.get_color())) for text in texts if text.get_fontweight() == "bold"],
                [list(patch.get_bbox().extents + 0.5) for patch in axes.patches if isinstance(patch, Rectangle)],
                " ".join(text.get_text() for text in axes.texts),
            )
        )
    return panels


@pytest.fixture
def pictures(monkeypatch: pytest.MonkeyPatch) -> list[list[Panel]]:
    """Filled with the panels of each picture that is drawn."""
    drawn: list[list[Panel]] = []
    close = plt.close

    def keep(figure: Figure) -> None:
        drawn.append(read(figure))
        close(figure)

    monkeypatch.setattr(plt, "close", keep)
    return drawn


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch) -> list[Card]:
    """Filled with the cards of each page that is written."""
    written: list[Card] = []
    gallery = "updn_captioning.evaluation.explain.write_gallery"
    monkeypatch.setattr(gallery, lambda path, title, about, guide, cards: written.extend(cards))
    return written


@pytest.fixture
def options(tiny: Tiny, untrained: Untrained, tmp_path: Path) -> ExplainConfig:
    """Two networks with random weights, and two images chosen by hand."""
    images = tuple(PreparedData.open(tiny[1]).split("test").image_ids[:2])
    return ExplainConfig(
        data=tiny[1],
        before=untrained("before"),
        after=untrained("after", seed=1),
        images=tiny[0],
        out=tmp_path / "page",
        image_ids=images,
        decoding=Decoding(beam_size=1, max_length=4),
        cpu=True,
    )


def fails(options: ExplainConfig) -> str:
    """The error message; checks that no file is left behind."""
    with pytest.raises(InputError) as error:
        explain(options)
    assert not list(options.out.parent.glob(f"{options.out.name}*"))
    return str(error.value)


def test_each_network_reads_its_own_caption(
    options: ExplainConfig, pictures: list[list[Panel]], cards: list[Card], capsys: pytest.CaptureFixture[str]
) -> None:
    """Each category that either names has a row, in which its word is marked and the top proposal is outlined."""
    explain(options)
    data = PreparedData.open(options.data)
    split = data.split("test")
    models = [load_model(run, data) for run in (options.before, options.after)]
    said = [generate(model, split, Accelerator(cpu=True), options.decoding) for model in models]
    for position, (picture, card) in enumerate(zip(pictures, cards, strict=True)):
        pair = [
            explain_caption(model, data, split, position, own[position], "gradient")
            for model, own in zip(models, said, strict=True)
        ]
        assert pair[0].caption != pair[1].caption
        categories = named_categories((pair[0], pair[1]))
        assert len(picture) == 4 * len(categories)
        image = split.image_ids[position]
        boxes = split.images([position]).boxes[0]
        for row, category in enumerate(categories):
            name = data.categories[category]
            _, people, *networks = picture[4 * row : 4 * row + 4]
            there = (image, category) in split.annotated
            assert (people.title, people.text) == ((f"people: {name}", "") if there else ("", f"no {name} is marked"))
            for panel, found, when in zip(networks, pair, ("before", "after"), strict=True):
                assert panel.title == f"{when}: {found.caption}"
                word = found.of(category)
                if word is None:
                    assert (panel.marked, panel.text, panel.outlined) == ([], f"does not say {name}", [])
                else:
                    assert panel.marked == [(found.caption.split()[found.words[word].begin], GREEN if there else RED)]
                    first = boxes[int(found.weights[word].argmax())]
                    assert panel.outlined == [pytest.approx(first.tolist())]
        assert card.title == split.references[image][0]
        assert [(fact.label, fact.value) for fact in card.facts[:2]] == [
            ("before", pair[0].caption),
            ("after", pair[1].caption),
        ]
        for fact, found in zip(card.facts[:2], pair, strict=True):
            honest = all((image, word.category) in split.annotated for word in found.words)
            tone = "good" if honest and found.words else "" if not found.words else "bad"
            assert fact.tone == tone
            assert card.filters[fact.label] == TONES[tone]
        change = pair[1].rank_correlation - pair[0].rank_correlation
        assert card.order["change of rank correlation"] == pytest.approx(change, nan_ok=True)
    assert f"{options.out / 'index.html'}: 2 images\n" in capsys.readouterr().out


def test_both_networks_read_a_person_s_caption(
    options: ExplainConfig, pictures: list[list[Panel]], cards: list[Card]
) -> None:
    explain(replace(options, words="reference", by="attention"))
    data = PreparedData.open(options.data)
    split = data.split("test")
    for position, (picture, card) in enumerate(zip(pictures, cards, strict=True)):
        caption = person_caption(data, split, position)
        text = data.vocabulary.decode(caption)
        assert text in split.references[split.image_ids[position]]
        assert card.title == text
        assert [panel.title for panel in picture[2:4]] == [f"before: {text}", f"after: {text}"]
        boxes = split.images([position]).boxes[0]
        for panel, run in zip(picture[2:4], (options.before, options.after), strict=True):
            found = explain_caption(load_model(run, data), data, split, position, caption, "attention")
            assert panel.outlined == [pytest.approx(boxes[int(found.weights[0].argmax())].tolist())]
        assert card.facts[0].value != text  # the card still has the own captions


def test_the_page(options: ExplainConfig) -> None:
    explain(options)
    html = (options.out / "index.html").read_text()
    assert re.findall(r'src="(\d+)\.png"', html) == [str(image_id) for image_id in options.image_ids]
    assert {path.name for path in options.out.iterdir()} == {"index.html", *(f"{i}.png" for i in options.image_ids)}
    assert (
        f"<p>Images chosen by hand. Split: test. Before: {options.before}. After: {options.after}. Each network reads "
        "its own caption.</p>"
    ) in html
    assert "the gradient of its log-probability, is positive" in html


def test_the_person_s_caption_names_most_objects(tiny: Tiny) -> None:
    data = PreparedData.open(tiny[1])
    split = data.split("test")
    image, category = next(iter(split.annotated))
    name = data.categories[category]
    other = next(c for i, c in split.annotated if i == image and c != category)
    absent = next(n for c, n in enumerate(data.categories) if (image, c) not in split.annotated)
    vars(split)["references"] = {
        image: [
            "red",
            f"a {name} next to a {name}",
            f"a {name} next to a {data.categories[other]}",
            f"a {absent} {absent}",
        ]
    }
    found = data.vocabulary.decode(person_caption(data, split, split.image_ids.index(image)))
    assert found == f"a {name} next to a {data.categories[other]}"


def said(caption: str, words: list[VisualWord], weights: list[list[float]]) -> ExplainedCaption:
    return ExplainedCaption(caption, words, torch.tensor(weights, dtype=torch.float64), math.nan, math.nan)


@pytest.fixture
def drawing(tiny: Tiny, tmp_path: Path, pictures: list[list[Panel]]) -> Callable[..., list[Panel]]:
    """Draw an image with given captions."""
    data = PreparedData.open(tiny[1])
    split = data.split("test")

    def draw(before: ExplainedCaption, after: ExplainedCaption, *, there: set[int]) -> list[Panel]:
        named = [VisualWord(0, 0, category) for category in named_categories((before, after))]
        batch = generated_batch(split, [0], [[]], [named])
        image = Image.new("RGB", tuple(batch.sizes[0].tolist()), "white")
        size = draw_explanation(image, batch, (before, after), there, ["cat", "hot dog"], tmp_path / "a.png")
        with Image.open(tmp_path / "a.png") as picture:
            assert picture.size == size
        return pictures[-1]

    return draw


def test_a_word_of_several_tokens_is_marked(drawing: Callable[..., list[Panel]], tiny: Tiny) -> None:
    K = PreparedData.open(tiny[1]).split("test").images([0]).mask.shape[1]
    weights = [[0.0] * K]
    long = "a very very very very very long line with a hot dog and another hot dog"
    before = said(long, [VisualWord(10, 12, 1), VisualWord(14, 16, 1)], weights * 2)
    panels = drawing(before, said("a cat", [VisualWord(1, 2, 0)], weights), there={1})
    assert panels[2].marked == [("hot", GREEN), ("dog", GREEN)]
    assert panels[2].title == f"before: {long}"
    assert panels[2].outlined == []  # a tie
    assert panels[3].text == "does not say hot dog"
    assert panels[7].marked == [("cat", RED)]


def test_dollar_signs_are_no_formulas(drawing: Callable[..., list[Panel]]) -> None:
    """Matplotlib would try to read a formula."""
    panels = drawing(said("a $x_{$ for $5", [], []), said("", [], []), there=set())
    assert panels[2].title == "before: a $x_{$ for $5"


def test_captions_that_name_nothing(drawing: Callable[..., list[Panel]]) -> None:
    panels = drawing(said("grass", [], []), said("", [], []), there=set())
    assert [panel.text for panel in panels] == ["", "", "names nothing", "names nothing"]
    assert [panel.title for panel in panels[2:]] == ["before: grass", "after:"]


@pytest.fixture
def five_images(options: ExplainConfig, monkeypatch: pytest.MonkeyPatch) -> ExplainConfig:
    """The mean correlation of their words changes by 0.3, 0, -0.3, NaN, and 0.1."""
    nan = math.nan
    measures = {"before": [0.1, 0.1, 0.4, nan, 0.0, 0.0], "after": [0.5, 0.3, 0.1, 0.9, 0.1, 0.1]}
    images = {"before": [0, 1, 2, 3, 4, 4], "after": [0, 0, 2, 3, 4, 4]}

    def fake(run: Path, *_: object, **__: object) -> SimpleNamespace:
        column = torch.tensor(measures[run.name], dtype=torch.float64)
        words = Words(torch.tensor(images[run.name]), torch.zeros(6).long(), column[:, None].expand(6, 4))
        return SimpleNamespace(words={"reference": words})

    monkeypatch.setattr("updn_captioning.evaluation.explain.evaluate_run", fake)
    return replace(options, image_ids=(), count=5)


def test_most_improved_and_most_harmed(five_images: ExplainConfig, tiny: Tiny) -> None:
    data = PreparedData.open(tiny[1])
    split = data.split("test")
    split.image_ids = split.image_ids[:5]
    assert choose_images(five_images, data, split).tolist() == [0, 4, 1, 3, 2]
    assert choose_images(replace(five_images, choose="most-harmed", count=2), data, split).tolist() == [2, 1]
    chosen = {
        seed: choose_images(replace(five_images, choose="random", count=3, seed=seed), data, split).tolist()
        for seed in range(20)
    }
    assert all(len(set(positions)) == 3 for positions in chosen.values())
    assert len(set(map(tuple, chosen.values()))) > 10
    assert choose_images(replace(five_images, choose="random", count=3, seed=7), data, split).tolist() == chosen[7]


def test_chosen_images_are_drawn_under_the_name_of_the_choice(options: ExplainConfig) -> None:
    explain(replace(options, image_ids=(), count=1))
    html = (options.out / "index.html").read_text()
    assert "<p>Images whose visual words gained most grounding. Split: test." in html
    assert len(re.findall(r'src="\d+\.png"', html)) == 1


def test_wrong_options_are_found_before_anything_is_measured(
    options: ExplainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("updn_captioning.evaluation.explain.generate", lambda *_, **__: pytest.fail("measured"))
    monkeypatch.setattr("updn_captioning.evaluation.explain.evaluate_run", lambda *_, **__: pytest.fail("measured"))
    assert fails(replace(options, count=0)) == "--count should be at least 1, found 0."
    assert fails(replace(options, seed=-1)) == "--seed should be at least 0, found -1."
    assert fails(replace(options, decoding=Decoding(max_length=0))) == "--max-length should be at least 1, found 0."
    absent = tmp_path / "absent"
    assert fails(replace(options, images=absent)) == f"{absent} is not a folder: give the one that holds the images."
    assert (
        fails(replace(options, before=absent)) == f"--before {absent} does not exist. Give the --out of a training run."
    )
    assert fails(replace(options, image_ids=(7,))) == (
        f"{options.data / 'test'} has no image 7; give ids of this split's captions.json."
    )
    with pytest.raises(InputError) as error:
        explain(replace(options, out=options.data))
    assert str(error.value) == f"{options.data} already holds files: choose another directory or delete it."


def test_a_missing_or_scaled_image(options: ExplainConfig, tmp_path: Path) -> None:
    """Boxes are in pixels of the prepared size, and would silently be wrong on another."""
    folder = tmp_path / "images"
    folder.mkdir()
    first, second = options.image_ids
    Image.new("RGB", (80, 60)).save(folder / f"{first}.png")
    assert "has 80 x 60 pixels, but its proposals were prepared for" in fails(replace(options, images=folder))
    message = fails(replace(options, images=folder, image_ids=(second,)))
    assert message.startswith(f"{folder} and the folders below it have no image {second}, such as COCO_")
