"""From an export to the report, and the preregistration."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from human_study.analysis.analyse import AnalyseConfig, analyse, analyse_export, results
from human_study.analysis.answers import read_export
from human_study.analysis.preregister import PreregisterConfig, preregister
from human_study.analysis.report import item_cards
from human_study.folder.made_up import write_made_up_study
from human_study.simulation.simulate import SimulateConfig, simulate
from updn_common.errors import InputError

SCRIPT = "<script>alert(1)</script> the square is lit"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made up") / "study"
    write_made_up_study(folder, items=12, checks=2, raters=14, captions=True)
    return folder


@pytest.fixture(scope="module")
def answers(study: Path) -> Path:
    """Simulated answers with a script as their reason, and a participant who withdrew."""
    folder = study.with_name("answers")
    simulate(SimulateConfig(folder, study, noisy=14, left=1, careless=2, share=0.75))
    path = folder / "answers.jsonl"
    path.write_text(path.read_text().replace('"reason": ""', f'"reason": "{SCRIPT}"'))
    with (folder / "participants.jsonl").open("a") as file:
        file.write('{"participant": "gone", "status": "withdrawn", "source": "simulated"}\n')
    return folder


@pytest.fixture(scope="module")
def report(study: Path, answers: Path) -> Path:
    folder = study.with_name("report")
    analyse(AnalyseConfig(answers, folder, study))
    return folder


def rewritten(folder: Path, out: Path, **facts: Any) -> Path:
    """A copy of an export whose study.json has other facts, and whose participants are not simulated."""
    out.mkdir()
    for name in ("answers.jsonl", "participants.jsonl", "study.json"):
        (out / name).write_text((folder / name).read_text().replace('"source": "simulated"', '"source": "link"'))
    study = json.loads((out / "study.json").read_text())
    (out / "study.json").write_text(json.dumps(study | facts))
    return out


def test_known_preference_is_found_in_spite_of_careless_raters(report: Path) -> None:
    found = json.loads((report / "results.json").read_text())
    assert found["simulated"] is True
    people = found["participants"]
    assert (people["completed"], people["withdrawn"]) == (17, 1)
    assert people["excluded_by_rule"]["max_same_side_share"] == 1
    assert people["excluded_by_rule"]["min_median_seconds"] == 2
    for comparison in found["comparisons"]:
        assert (comparison["first"], comparison["second"]) == ("base", "hint")
        assert comparison["interval"][0] <= 0.75 <= comparison["interval"][1]
        assert comparison["p_value"] <= comparison["p_value_holm"] < 0.05
        assert comparison["mixed_model"]["log_odds"] > 0
        assert comparison["share"] > comparison["without_exclusions"]["share"] > 0.5
        assert sum(comparison["answers"].values()) == sum(group["answers"] for group in comparison["groups"].values())


def test_every_table_and_picture_says_that_answers_are_simulated(report: Path) -> None:
    html = (report / "report.html").read_text()
    tables = re.findall(r"<table.*?</table>", html, flags=re.DOTALL)
    cards = re.findall(r"<article.*?</article>", html, flags=re.DOTALL)
    captions = re.findall(r"<figcaption>(?!image|base|hint)(.*?)</figcaption>", html)
    assert (len(tables), len(cards), len(captions)) == (6, 12, 4)
    assert all("imulated" in part for part in (*tables, *cards, *captions))
    figures = [*(report / "figures").iterdir()]
    assert len(figures) == 4
    assert all("simulated answers" in figure.read_text() for figure in figures)


def test_real_answers_are_not_called_simulated(answers: Path, tmp_path: Path) -> None:
    analyse(AnalyseConfig(rewritten(answers, tmp_path / "real", simulated=False), tmp_path / "report"))
    html = (tmp_path / "report" / "report.html").read_text()
    assert "imulated" not in re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL)
    assert all("simulated" not in figure.read_text() for figure in (tmp_path / "report" / "figures").iterdir())


def test_report_shows_all_items_with_pictures_votes_and_reasons(report: Path, answers: Path) -> None:
    html = (report / "report.html").read_text()
    assert "a red <mark>square</mark> left of a blue star" in " ".join(html.split())
    assert "&lt;script&gt;alert(1)&lt;/script&gt; the square is lit" in html
    assert "<script" not in html
    pictures = re.findall(r'src="(pictures/[0-9a-f]+\.png)"', html)
    assert len({*pictures}) == 12 * 3
    assert all((report / picture).is_file() for picture in pictures)
    analysis = analyse_export(read_export(answers))
    cards = item_cards(analysis.kept, {})
    for question, number in (("reasonable", 0), ("trust", 1)):
        counts = [sum(column) for column in zip(*(card.bars[number].counts for card in cards), strict=True)]
        steps = analysis.comparisons[number].votes.steps.tolist()
        assert analysis.comparisons[number].question == question
        assert counts == [steps.count(step) for step in (-2, -1, 0, 1, 2)]


def test_report_uses_nothing_from_outside(report: Path) -> None:
    assert not re.findall(r"(?:src|href)=\"(?!pictures/|figures/)", (report / "report.html").read_text())


def test_results_depend_on_answers_and_seed_alone(answers: Path) -> None:
    export = read_export(answers)
    assert results(analyse_export(export, 1)) == results(analyse_export(export, 1))


def test_three_networks_are_compared_in_pairs(tmp_path: Path) -> None:
    write_made_up_study(tmp_path / "study", items=6, raters=6, arms=("base", "hint", "third"))
    simulate(SimulateConfig(tmp_path / "answers", tmp_path / "study", noisy=18))
    analyse(AnalyseConfig(tmp_path / "answers", tmp_path / "report", tmp_path / "study"))
    found = json.loads((tmp_path / "report" / "results.json").read_text())["comparisons"]
    assert len({(one["first"], one["second"], one["question"]) for one in found}) == 6
    assert all(one["p_value_holm"] >= one["p_value"] for one in found)


def test_a_study_of_one_rater_is_reported_without_intervals(tmp_path: Path) -> None:
    simulate(SimulateConfig(tmp_path / "answers", noisy=1, items=4, items_per_participant=4, seed=2))
    analyse(AnalyseConfig(tmp_path / "answers", tmp_path / "report"))
    assert "[-]" in (tmp_path / "report" / "report.html").read_text()
    assert json.loads((tmp_path / "report" / "results.json").read_text())["comparisons"][0]["interval"] == [None, None]


def test_nobody_left_is_refused(answers: Path, tmp_path: Path) -> None:
    rules = {"max_failed_checks": -1, "min_median_seconds": 0, "max_same_side_share": 1, "min_share_answered": 0}
    with pytest.raises(InputError) as error:
        analyse(AnalyseConfig(rewritten(answers, tmp_path / "none", exclusion_rules=rules), tmp_path / "report"))
    assert str(error.value) == (
        "No answers to main items are left: 17 of 17 participants are excluded by the rules in study.json."
    )
    assert not (tmp_path / "report").exists()


def test_answers_to_another_study_are_refused(study: Path, answers: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="but the answers are to the study other"):
        analyse(AnalyseConfig(rewritten(answers, tmp_path / "other", id="other"), tmp_path / "report", study))


def test_preregistration_is_filled_from_the_study(study: Path, tmp_path: Path) -> None:
    config = PreregisterConfig(study, tmp_path / "preregistration.md")
    preregister(config)
    text = config.out.read_text()
    assert "12 main items from the split `test`, 1 practice items and 2 attention checks" in text
    assert "14 raters for each item; 12 main items for each participant; 14 participants" in text
    assert "    - answered less than 80 % of the main items\n" in text
    assert "The 2 tests (1 pair of networks, two questions)" in text
    assert "{" not in text
    with pytest.raises(InputError, match="exists: give another file"):
        preregister(config)
