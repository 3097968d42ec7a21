"""Pages and pictures of two handmade networks, whose answers and importance are known."""

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, cast

import matplotlib.pyplot as plt
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image
from scipy.stats import spearmanr
from torch import Tensor, nn

from updn_common.errors import InputError
from updn_common.reports.gallery import Card, Fact
from updn_vqa.data.prepare import PrepareConfig, prepare
from updn_vqa.data.prepared import PreparedData, VqaSplit
from updn_vqa.evaluation.explain import ExplainConfig, choose_questions, explain
from updn_vqa.networks import VqaNetwork, VqaOutput
from updn_vqa.training.measure import Measured

GREEN, AMBER, RED = "#1a7f37", "#9a6700", "#b42318"
ANSWERS = ["red", "dark red", "blue", "yes", "no"]
BEFORE, AFTER = [0.1, 0.4, 0.3, 0.2], [-0.1, -0.4, -0.3, -0.2]
"""Importance of four proposals for two networks."""


class HandMade(nn.Module):
    """Always gives the same answer; the importance of proposal k is `importance[k]`, whatever the features are."""

    explained_by = "sum"

    def __init__(self, answer: str, importance: list[float]) -> None:
        super().__init__()
        self.answer = nn.functional.one_hot(torch.tensor(ANSWERS.index(answer)), len(ANSWERS)) * 1000.0
        self.importance = torch.tensor(importance)

    def forward(self, tokens: Tensor, features: Tensor, mask: Tensor) -> VqaOutput:
        value = (features.mean(-1) * self.importance[: features.shape[1]]).sum(-1)
        return VqaOutput(self.answer + value[:, None], mask.float(), tokens.float())


class Panel(NamedTuple):
    """Content of one panel of a picture."""

    title: str
    colour: str
    outlined: list[list[float]]


@pytest.fixture
def panels(monkeypatch: pytest.MonkeyPatch) -> list[list[Panel]]:
    """Filled with the panels of each picture that is drawn."""
    pictures: list[list[Panel]] = []
    close = plt.close

    def read(figure: Figure) -> None:
        pictures.append(
            [
                Panel(
                    axes.get_title(),
                    to_hex(axes.title.get_color()),
                    [
                        (patch.get_bbox().extents + 0.5).tolist()
                        for patch in axes.patches
                        if isinstance(patch, Rectangle)
                    ],
                )
                for axes in figure.axes
            ]
        )
        close(figure)

    monkeypatch.setattr(plt, "close", read)
    return pictures


@pytest.fixture
def options(
    config: Callable[..., PrepareConfig],
    dump: Callable[..., Path],
    world: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> ExplainConfig:
    """The handmade data with blank images, and the networks "before" and "after"."""
    prepared = config(hints="hat", development_share=0, answers=dump(ANSWERS, "answers.json"))
    prepare(prepared)
    for image_id in (1, 2, 11, 12):
        Image.new("RGB", (40, 30), "white").save(world / f"COCO_train2014_{image_id:012d}.png")
    models = {
        "before": HandMade("blue", BEFORE),
        "after": HandMade("red", AFTER),
        "amber": HandMade("dark red", [0.0, 0.0, 0.0, 0.2]),
    }
    monkeypatch.setattr("updn_vqa.evaluation.explain.load_model", lambda run, data, option: models[run.name])
    runs = Path("before"), Path("after")
    return ExplainConfig(prepared.out, *runs, world, tmp_path / "page", "train", questions=(1000,))


def fails(options: ExplainConfig) -> str:
    """The error message; checks that no file is left behind."""
    with pytest.raises(InputError) as error:
        explain(options)
    assert not list(options.out.parent.glob(f"{options.out.name}*"))
    return str(error.value)


def test_before_is_before_and_after_is_after(
    options: ExplainConfig, panels: list[list[Panel]], capsys: pytest.CaptureFixture[str]
) -> None:
    explain(options)
    assert panels == [
        [
            Panel("What color is the cat?\n(answer: red)", "#000000", []),
            Panel("people", "#000000", [[0, 0, 20, 15]]),
            Panel("before: blue", RED, [[20, 15, 40, 30]]),
            # All importances are negative: the picture is grey, but the highest is outlined.
            Panel('after: red\n(no proposal speaks for "red")', GREEN, [[0, 0, 20, 15]]),
        ]
    ]
    html = (options.out / "index.html").read_text()
    assert "What color is the cat? Ground truth: red. Before: blue. After: red." in html
    assert "<p>Questions chosen by hand. Split: train. Before: before. After: after.</p>" in html
    assert 'src="1000.png"' in html
    assert {path.name for path in options.out.iterdir()} == {"1000.png", "index.html"}
    assert f"{options.out / 'index.html'}: 1 questions\n" in capsys.readouterr().out


def test_an_answer_of_few_annotators_is_partly_correct(options: ExplainConfig, panels: list[list[Panel]]) -> None:
    """One in ten annotators gave "dark red" (soft score 0.3)."""
    explain(replace(options, after=Path("amber"), questions=(1000,)))
    assert [panel.colour for panel in panels[0][2:]] == [RED, AMBER]
    assert panels[0][3].title == "after: dark red"


def test_a_question_without_a_hint_has_no_panel_of_people(options: ExplainConfig, panels: list[list[Panel]]) -> None:
    explain(replace(options, split="test", questions=(12000, 11001)))
    assert [[panel.title.partition(":")[0] for panel in picture] for picture in panels] == [
        ["What color is the cat?\n(answer", "before", "after"],
        ["Is it Bob's dog, then?\n(answer", "before", "after"],
    ]
    assert [picture[0].title.partition("\n")[2] for picture in panels] == ["(answer: red)", "(answer: yes)"]


def test_dollar_signs_are_no_formulas(options: ExplainConfig, panels: list[list[Panel]]) -> None:
    """Matplotlib would read text between two of them as a formula."""
    for name, text, ours in (
        ("questions", "What color is the cat?", "Is it $5 or $10?"),
        ("annotations", '"red"', '"$x_{$"'),
    ):
        file = options.data / "train" / f"{name}.json"
        file.write_text(file.read_text().replace(text, ours))
    explain(options)
    assert panels[0][0].title == "Is it $5 or $10?\n(answer: $x_{$)"
    assert panels[0][3].title == 'after: red\n("$x_{$" is not in the vocabulary)'


def test_padding_is_not_drawn(options: ExplainConfig, panels: list[list[Panel]]) -> None:
    """Image 2 has three proposals, image 1 four."""
    explain(replace(options, after=Path("amber"), questions=(2001,)))
    assert panels[0][-1] == Panel('after: dark red\n(no proposal speaks for "yes")', RED, [])


def test_a_missing_image(options: ExplainConfig, world: Path) -> None:
    (world / "COCO_train2014_000000000001.png").unlink()
    message = (
        f"{world} and the folders below it have no image 1, such as COCO_train2014_000000000001.jpg: give the folder "
        "that holds the images."
    )
    assert fails(options) == message
    assert fails(replace(options, questions=(2000, 1000))) == message


def test_wrong_options_are_found_before_anything_is_measured(
    options: ExplainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("updn_vqa.evaluation.explain.measure", lambda *_: pytest.fail("measured"))
    options = replace(options, questions=())
    assert fails(replace(options, count=0)) == "--count should be at least 1, found 0."
    assert fails(replace(options, seed=-1)) == "--seed should be at least 0, found -1."
    absent = tmp_path / "absent"
    assert fails(replace(options, images=absent)) == f"{absent} is not a folder: give the one that holds the images."
    with pytest.raises(InputError) as error:
        explain(replace(options, out=options.data))
    assert str(error.value) == f"{options.data} already holds files: choose another directory or delete it."


def test_a_scaled_image(options: ExplainConfig, world: Path) -> None:
    """Boxes are in pixels of the prepared size, and would silently be wrong on another."""
    path = world / "COCO_train2014_000000000001.png"
    Image.new("RGB", (80, 60), "white").save(path)
    assert fails(options) == (
        f"{path} has 80 x 60 pixels, but its proposals were prepared for 40 x 30. "
        "Give the images that the features were made from."
    )
    Image.new("RGB", (30, 40), "white").save(path)
    assert "has 30 x 40 pixels, but its proposals were prepared for 40 x 30" in fails(options)


def test_a_question_of_another_split(options: ExplainConfig) -> None:
    assert fails(replace(options, questions=(11000,))) == (
        f"{options.data / 'train'} has no question 11000; give ids of this split's questions.json."
    )


def test_cards_of_the_page(options: ExplainConfig, panels: list[list[Panel]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Their facts, filters and orders; a question without a hint has no rank correlation."""
    pages: list[list[Card]] = []
    gallery = "updn_vqa.evaluation.explain.write_gallery"
    monkeypatch.setattr(gallery, lambda path, title, about, guide, cards: pages.append(cards))
    explain(replace(options, questions=(1000,)))
    explain(replace(options, split="test", questions=(11001,), after=Path("amber"), out=options.out / "test"))
    explain(replace(options, questions=(1000,), before=Path("amber"), out=options.out / "amber"))
    ((hinted,), (other,), (amber,)) = pages
    human = PreparedData.open(options.data).split("train").batch([0]).human[0]
    before, after = (float(spearmanr(importance, human).statistic) for importance in (BEFORE, AFTER))
    assert hinted.title == "What color is the cat?"
    assert hinted.facts == [
        Fact("ground truth", "red"),
        Fact("before", "blue", "bad"),
        Fact("after", "red", "good"),
        Fact("rank correlation", f"{before:.2f} → {after:.2f}", "bad" if after < before else "good"),
    ]
    assert hinted.filters == {"question type": "what color is the", "before": "wrong", "after": "correct"}
    assert hinted.order == pytest.approx(
        {
            "change of rank correlation": after - before,
            "rank correlation before": before,
            "rank correlation after": after,
            "change of score": 1.0,
        }
    )
    assert other.facts == [Fact("ground truth", "yes"), Fact("before", "blue", "bad"), Fact("after", "dark red", "bad")]
    assert other.order["change of score"] == 0
    assert math.isnan(other.order["change of rank correlation"])
    assert amber.order["change of score"] == pytest.approx(0.7)
    assert amber.filters["before"] == "partly correct"
    with Image.open(options.out / hinted.path) as picture:
        assert hinted.size == picture.size


@pytest.fixture
def five_questions(monkeypatch: pytest.MonkeyPatch) -> tuple[list[VqaNetwork], VqaSplit]:
    """Scores change by +1, 0, -1, 0 and 0; where they stay, grounding changes by -0.5, NaN, and +0.5."""
    nan = float("nan")
    measured = {
        "before": ([0.0, 0.3, 1.0, 0.0, 0.3], [0.9, 0.0, -0.9, nan, 0.0]),
        "after": ([1.0, 0.3, 0.0, 0.0, 0.3], [-0.9, -0.5, 0.9, nan, 0.5]),
    }

    def fake_measure(model: str, split: object, accelerator: object) -> Measured:
        scores, correlation = map(torch.tensor, measured[model])
        return Measured(torch.zeros(5, dtype=torch.int64), scores, correlation, torch.full((5,), nan))

    monkeypatch.setattr("updn_vqa.evaluation.explain.measure", fake_measure)
    return cast(list[VqaNetwork], ["before", "after"]), cast(VqaSplit, range(5))


def test_most_improved_and_most_harmed(five_questions: tuple[list[VqaNetwork], VqaSplit]) -> None:
    """Questions are ordered by the change of their scores, and where scores stay, by that of the grounding."""
    assert choose_questions(*five_questions, "most-improved", 5, seed=0).tolist() == [0, 4, 3, 1, 2]
    assert choose_questions(*five_questions, "most-harmed", 5, seed=0).tolist() == [2, 1, 3, 4, 0]
    assert choose_questions(*five_questions, "most-harmed", 2, seed=0).tolist() == [2, 1]


def test_the_random_choice_depends_on_its_seed(five_questions: tuple[list[VqaNetwork], VqaSplit]) -> None:
    chosen = {seed: choose_questions(*five_questions, "random", 3, seed).tolist() for seed in range(20)}
    assert choose_questions(*five_questions, "random", 3, 7).tolist() == chosen[7]
    assert all(len(set(positions)) == 3 for positions in chosen.values())
    assert {position for positions in chosen.values() for position in positions} == set(range(5))
    assert len(set(map(tuple, chosen.values()))) > 10


def test_chosen_questions_are_drawn_under_the_name_of_the_choice(options: ExplainConfig) -> None:
    """ "after" answers "red", which improves on "blue" for questions about cats."""
    explain(replace(options, questions=(), split="test", count=2))
    html = (options.out / "index.html").read_text()
    assert "<h1>What two networks look at</h1>" in html
    assert "<p>Questions whose score rose most. Split: test. Before: before. After: after.</p>" in html
    assert re.findall(r'src="(\d+)\.png"', html) == ["11000", "12000"]
    ids = [question.question_id for question in PreparedData.open(options.data).split("test").questions]
    assert ids == [11000, 11001, 12000, 12001]
    assert json.loads((options.data / "answers.json").read_text()) == ANSWERS
