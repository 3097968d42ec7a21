"""Simulated raters, and the population that they are drawn from."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from human_study.analysis.answers import read_export
from human_study.analysis.exclusions import broken_rules
from human_study.analysis.votes import collect_votes
from human_study.folder.items import read_items, write_items
from human_study.folder.made_up import write_made_up_study
from human_study.simulation.population import Population, assignment, population_with, probabilities, synthetic_study
from human_study.simulation.simulate import SimulateConfig, simulate
from updn_common.errors import InputError


def test_answers_that_are_not_neutral_follow_the_logistic_model() -> None:
    eta = np.linspace(-3, 3, 7)
    second, neutral = probabilities(eta, 0.8)
    assert second / (1 - neutral) == pytest.approx(1 / (1 + np.exp(-eta)))
    assert neutral.argmax() == 3


def test_moments_equal_those_of_drawn_answers() -> None:
    population = Population(0.8, 0.5, 0.9, 0.6)
    moments = population.moments()
    rng = np.random.default_rng(0)
    raters, items = (part.ravel() for part in np.indices((400, 400)))
    points = (1 + np.sign(population.draw(raters, items, rng).reshape(400, 400))) / 2
    assert points.mean() == pytest.approx(moments.share, abs=0.02)
    assert (points == 0.5).mean() == pytest.approx(moments.neutral, abs=0.01)
    assert points.mean(1).var() == pytest.approx(moments.rater_variance, rel=0.15)
    assert points.mean(0).var() == pytest.approx(moments.item_variance, rel=0.15)
    assert points.var() == pytest.approx(sum(moments[2:]), rel=0.05)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("neutral", [0.0, 0.2])
def test_population_has_the_asked_share(share: float, neutral: float) -> None:
    moments = population_with(share, neutral, 0.7, 0.4).moments()
    assert (moments.share, moments.neutral) == pytest.approx((share, neutral), abs=1e-6)


@pytest.mark.parametrize(
    ("share", "neutral", "message"),
    [
        (1.0, 0.0, "The preference share should be between 0 and 1, found 1.0."),
        (
            0.95,
            0.5,
            "No population has a preference share of 0.95 with 50% neutral answers. A neutral answer counts as a half: "
            "choose a share nearer to 0.5, or fewer neutral answers.",
        ),
    ],
)
def test_impossible_populations_are_refused(share: float, neutral: float, message: str) -> None:
    with pytest.raises(InputError) as error:
        population_with(share, neutral, 0.5, 0.5)
    assert str(error.value) == message


def test_assignment_gives_each_item_its_raters_and_sides() -> None:
    raters, items, second_left = assignment(synthetic_study(12, 6, 4))
    assert np.bincount(items).tolist() == [4] * 12
    assert np.bincount(raters).tolist() == [6] * 8
    assert second_left.mean() == 0.5


def test_simulated_answers_are_an_export_that_says_so(tmp_path: Path) -> None:
    simulate(SimulateConfig(out=tmp_path / "a", noisy=6, items=9, items_per_participant=6))
    simulate(SimulateConfig(out=tmp_path / "b", noisy=6, items=9, items_per_participant=6))
    export = read_export(tmp_path / "a")
    assert export.simulated
    assert json.loads((tmp_path / "a" / "study.json").read_text())["simulated"] is True
    assert len(export.answers) == 6 * (6 + 2)
    assert sorted({answer.position for answer in export.answers}) == [*range(8)]
    assert (tmp_path / "a" / "answers.jsonl").read_bytes() == (tmp_path / "b" / "answers.jsonl").read_bytes()


def test_careless_raters_and_those_of_one_side_are_excluded(tmp_path: Path) -> None:
    config = SimulateConfig(out=tmp_path / "out", noisy=10, left=4, careless=4, items=20)
    simulate(config)
    rules = sorted(map(tuple, broken_rules(read_export(config.out)).values()))
    assert sum("max_same_side_share" in broken for broken in rules) == 4
    assert sum("min_median_seconds" in broken for broken in rules) == 4
    assert 8 <= rules.count(()) <= 10


def test_noisy_raters_have_the_asked_share(tmp_path: Path) -> None:
    config = SimulateConfig(out=tmp_path / "out", noisy=150, share=0.7, items=150, items_per_participant=60)
    simulate(config)
    answers = read_export(config.out).answers
    for question in ("reasonable", "trust"):
        points = collect_votes(answers, ("base", "hint"), question).points  # type: ignore[arg-type]
        assert points.mean() == pytest.approx(0.7, abs=0.04)


def test_experts_prefer_the_larger_overlap(tmp_path: Path) -> None:
    study = tmp_path / "study"
    write_made_up_study(study, items=8, checks=2)
    items = [
        replace(item, overlap={"base": 0.9 * (number % 2), "hint": 0.9 * (1 - number % 2)})
        for number, item in enumerate(read_items(study).values())
    ]
    write_items(study, items)
    simulate(SimulateConfig(out=tmp_path / "out", study=study, noisy=0, expert=10))
    export = read_export(tmp_path / "out")
    votes = collect_votes(export.answers, ("base", "hint"), "reasonable")
    better = {item.id: item.overlap["hint"] > 0 for item in items}
    toward = np.array([1 if better[votes.item_ids[item]] else -1 for item in votes.items])
    assert (votes.steps * toward > 0).mean() > 0.9
    assert export.title == "A made-up study"


def test_experts_need_places_that_people_marked(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        simulate(SimulateConfig(out=tmp_path / "out", expert=1))
    assert str(error.value) == (
        "--expert raters judge by how far explanations overlap with what people marked, which this study does not "
        "tell: give a study that was built on data with hints, or other raters."
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"noisy": 0}, "There should be at least one rater: give a number to --noisy, for example."),
        ({"left": -1}, "--left should be at least 0, found -1."),
        ({"items": 5, "items_per_participant": 6}, "A participant cannot judge 6 of 5 items."),
    ],
)
def test_impossible_options_are_refused(tmp_path: Path, changes: dict[str, int], message: str) -> None:
    with pytest.raises(InputError) as error:
        simulate(SimulateConfig(out=tmp_path / "out", **changes))
    assert str(error.value) == message
