"""From the runs of either pipeline to a study folder whose pictures do not tell the networks apart."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from human_study.folder.build import BuildConfig, build
from human_study.folder.pictures import BACKGROUND, Canvas, Explained, decoy
from human_study.server.study import Study
from shapes_cp.pairs import PairWorld
from shapes_cp.world import World
from shapes_cp.write import write_world
from shapes_cp.write_pairs import write_pair_world
from updn_captioning.data.prepare import prepare as captioning_prepare
from updn_captioning.data.prepare_config import PrepareConfig as CaptioningPrepareConfig
from updn_captioning.data.prepared import PreparedData as CaptionData
from updn_captioning.networks.generate import build_model
from updn_captioning.networks.updn import NetworkSizes as CaptionSizes
from updn_captioning.training.config import TrainConfig as CaptionTrainConfig
from updn_captioning.training.methods import METHODS as CAPTION_METHODS
from updn_captioning.training.methods import SCALES as CAPTION_SCALES
from updn_common.errors import InputError
from updn_common.runs.directory import RunDirectory
from updn_vqa.data.prepare import prepare as vqa_prepare
from updn_vqa.data.prepare_config import PrepareConfig as VqaPrepareConfig
from updn_vqa.data.prepared import PreparedData as VqaData
from updn_vqa.networks import build_network
from updn_vqa.training.config import TrainConfig as VqaTrainConfig
from updn_vqa.training.methods import METHODS as VQA_METHODS
from updn_vqa.training.methods import SCALES as VQA_SCALES

Config = Callable[..., BuildConfig]


def save_run(config: Any, model: torch.nn.Module) -> Path:
    """A run with random weights, as training would leave it."""
    with RunDirectory.create(config.out, config.record(processes=1)) as run:
        run.save_checkpoint("best", model.state_dict(), None, {})
    return Path(config.out)


@pytest.fixture(scope="session")
def vqa(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A tiny world of questions, and three runs."""
    folder = tmp_path_factory.mktemp("vqa")
    write_world(folder / "world", World(seed=0), "tiny", workers=1)
    vqa_prepare(VqaPrepareConfig(data=folder / "world", out=folder / "prepared", hints="hat", min_answer_occurrences=1))
    data, runs = VqaData.open(folder / "prepared"), []
    for seed, name in enumerate(("base", "hint", "third")):
        scale = VQA_SCALES["shapes"]
        scale = replace(scale, model=replace(scale.model, embedding=8, hidden=16))
        config = VqaTrainConfig(data=data.directory, out=folder / name, method=VQA_METHODS["base"], scale=scale)
        torch.manual_seed(seed)
        runs.append(save_run(config, build_network(scale.model, data)))
    return {"data": data.directory, "runs": tuple(runs), "images": folder / "world"}


@pytest.fixture(scope="session")
def captions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A tiny world of captions, and two runs."""
    folder = tmp_path_factory.mktemp("captions")
    write_pair_world(folder / "world", PairWorld(seed=0), "tiny", workers=1)
    captioning_prepare(
        CaptioningPrepareConfig(data=folder / "world", out=folder / "prepared", split="robust", min_word_occurrences=1)
    )
    data, runs = CaptionData.open(folder / "prepared"), []
    for seed, name in enumerate(("base", "hint")):
        scale = replace(CAPTION_SCALES["shapes"], model=CaptionSizes(embedding=8, hidden=16, attention=8))
        config = CaptionTrainConfig(data=data.directory, out=folder / name, method=CAPTION_METHODS["base"], scale=scale)
        torch.manual_seed(seed)
        runs.append(save_run(config, build_model(scale.model, data)))
    return {"data": data.directory, "runs": tuple(runs), "images": folder / "world"}


@pytest.fixture
def config(vqa: dict[str, Any], tmp_path: Path) -> Config:
    def make(**changes: Any) -> BuildConfig:
        options = {**vqa, "runs": vqa["runs"][:2], "out": tmp_path / "study", "all_right": False}
        return BuildConfig(**(options | {"items": 4, "practice": 1, "checks": 1, "picture_size": 96} | changes))

    return make


def test_questions_become_a_study_that_can_be_served(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    build(config(title="A title", completion_code="PAY1", raters_per_item=3))
    study = Study.open(config().out)
    assert "4 items, 1 for practice, 1 checks; 3 participants give each item 3 raters." in capsys.readouterr().out
    assert study.settings.completion_code == "PAY1"
    assert sorted(study.settings.arms) == ["base", "hint"]
    assert study.placeholders == ["consent"]
    assert "It takes about 3 minutes." in study.texts["consent"]
    items = [*study.items.values()]
    assert sorted(item.kind for item in items) == ["check", "main", "main", "main", "main", "practice"]
    for item in items:
        assert item.text.endswith("?")
        assert item.answer
        assert item.group
        assert set(item.explanations) == ({"base", "hint"} if item.kind == "main" else {"valid", "decoy"})
        assert (item.expected is None) == (item.kind == "main")
        assert bool(item.feedback) == (item.kind == "practice")
        assert set(item.overlap) <= {"base", "hint"}
        assert all(0 <= overlap <= 1 for overlap in item.overlap.values())
    assert any(item.overlap for item in items)


def test_captions_become_a_study_too(config: Config, captions: dict[str, Any]) -> None:
    build(config(**captions, importance="signed"))
    study = Study.open(config().out)
    assert study.settings.importance == "signed"
    for item in study.items.values():
        words = item.text.split()
        assert item.marked
        assert item.answer == ""
        named = " ".join(words[at] for at in item.marked)
        assert item.group in named or named in item.group or named.rstrip("s") == item.group


def test_nothing_but_pixels_differs_between_pictures(config: Config) -> None:
    build(config())
    pictures = sorted((config().out / "pictures").iterdir())
    assert len(pictures) == 6 * 3
    assert len({path.stat().st_size for path in pictures}) == 1
    assert len({path.stat().st_mtime_ns for path in pictures}) == 1
    assert len({path.stat().st_mode for path in pictures}) == 1
    heads = set()
    for path in pictures:
        assert len(path.stem) == 16
        data = path.read_bytes()
        assert b"tEXt" not in data
        assert b"tIME" not in data
        with Image.open(path) as image:
            assert (image.size, image.mode, image.info) == ((96, 96), "RGB", {})
        heads.add(data[:41])  # signature, header, the first data chunk's length and name
    assert len(heads) == 1


def test_the_same_seed_asks_the_same_under_other_names(config: Config, tmp_path: Path) -> None:
    def asked(folder: Path) -> tuple[list[Any], set[str]]:
        items = json.loads((folder / "items.json").read_text())
        return sorted((item["kind"], item["question"]) for item in items), {item["image"] for item in items}

    for name in ("one", "two"):
        build(config(out=tmp_path / name, seed=3))
    build(config(out=tmp_path / "three", seed=4))
    (first, names), (second, others), (third, _) = (asked(tmp_path / name) for name in ("one", "two", "three"))
    assert first == second != third
    assert names.isdisjoint(others)


def test_three_networks_are_shown_in_pairs(config: Config, vqa: dict[str, Any]) -> None:
    build(config(runs=vqa["runs"], names=("c", "a", "b"), items_per_participant=2, raters_per_item=1))
    study = Study.open(config().out)
    assert study.design.rows == 6
    pairs = {(at.item, *sorted(at[1:])) for row in range(6) for at in study.design.main(row)}
    main = [item.id for item in study.items.values() if item.kind == "main"]
    assert pairs == {(item, *pair) for item in main for pair in (("a", "b"), ("a", "c"), ("b", "c"))}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"runs": ()}, "--runs should be two runs or more, found 0"),
        ({"names": ("a",)}, "--names should be as many as --runs, 2, found 1"),
        ({"names": ("a", "a")}, "--names should be different, not empty, and neither valid nor decoy, found a, a"),
        ({"names": ("a", "decoy")}, "neither valid nor decoy, found a, decoy"),
        ({"items": 0}, "--items should be at least 1, found 0"),
        ({"items_per_participant": 5}, "--items-per-participant should be from 0 to 4, found 5"),
        ({"items": 10**6}, r"The split test has too few images: \d+ could be used for --items 1000000, "),
        ({"checks": 10**6}, r"--practice 1 and --checks 1000000, and practice items and checks need images"),
        ({"split": "other"}, "has no split 'other'"),
        ({"images": Path("/no/such/folder")}, "/no/such/folder is not a folder"),
        ({"data": Path("/no/such/folder")}, "does not exist"),
    ],
)
def test_options_that_make_no_sense_are_refused(config: Config, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(config(**changes))
    assert not config().out.exists()


def test_the_decoy_is_the_largest_proposal_that_shows_nothing_of_what_people_see() -> None:
    boxes = np.array([[0, 0, 10, 10], [20, 20, 30, 30], [40, 0, 60, 20], [5, 5, 70, 70]], dtype=float)
    people = np.array([0.9, 0.1, 0.0, 0.2])
    assert decoy(boxes, people).tolist() == [0, 0, 1, 0]


def test_images_of_other_shapes_lie_on_one_canvas(tmp_path: Path) -> None:
    for image_id, size in ((1, (80, 40)), (2, (30, 60))):
        Image.new("RGB", size, (200, 0, 0)).save(tmp_path / f"{image_id}.png")

    def explained(image_id: int, size: tuple[int, int]) -> Explained:
        boxes = np.array([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 20.0, 20.0]])
        return Explained("?", (), "a", "g", image_id, "", size, boxes, {}, None)

    items = [explained(1, (80, 40)), explained(2, (30, 60))]
    canvas = Canvas(tmp_path, items, 120)
    assert canvas.size == (120, 120)
    wide, tall = (canvas.draw(item, None) for item in items)
    assert wide.size == tall.size == canvas.draw(items[0], np.array([1.0, 0.5])).size == (120, 120)
    assert wide.getpixel((60, 5)) == tall.getpixel((5, 60)) == (BACKGROUND,) * 3
    assert wide.getpixel((5, 60)) == tall.getpixel((60, 5)) == (200, 0, 0)
