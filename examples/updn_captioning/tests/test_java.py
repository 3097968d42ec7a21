"""METEOR and SPICE: errors if anything is missing, and the known METEOR of a sample."""

import importlib.util
import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from updn_captioning.scores.java import meteor, package, spice
from updn_common.errors import InputError

CANDIDATES = {7: "a dog", 3: "a cat"}
REFERENCES = {3: ["the cat", "one cat"], 7: ["a dog runs"]}


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Install a fake Java, and a fake ``pycocoevalcap`` with the given scorers."""

    def install(**scorers: Callable[..., object]) -> Path:
        monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
        location = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: location)
        pipe = io.BytesIO()
        for name, score in scorers.items():
            scorer = type(
                name, (), {"compute_score": staticmethod(score), "meteor_p": SimpleNamespace(stdout=pipe, stderr=pipe)}
            )
            for module in ("pycocoevalcap", f"pycocoevalcap.{name.lower()}"):
                monkeypatch.setitem(sys.modules, module, SimpleNamespace(__path__=[]))
            module = f"pycocoevalcap.{name.lower()}.{name.lower()}"
            monkeypatch.setitem(sys.modules, module, SimpleNamespace(**{name: scorer}))
        return tmp_path

    return install


def message(score: Callable[..., object]) -> str:
    with pytest.raises(InputError) as error:
        score(CANDIDATES, REFERENCES)
    return str(error.value)


@pytest.mark.parametrize(("score", "name"), [(meteor, "METEOR"), (spice, "SPICE")])
def test_without_java(score: Callable[..., object], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert message(score) == (
        f"{name} needs Java, and there is no 'java' on the PATH. Install a Java runtime, such as OpenJDK, or leave it "
        "out."
    )


@pytest.mark.parametrize(("score", "name"), [(meteor, "METEOR"), (spice, "SPICE")])
def test_without_the_package(
    score: Callable[..., object], name: str, fake: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    expected = f"{name} needs pycocoevalcap, 104 MB: pip install pycocoevalcap, or leave it out."
    assert message(score) == expected


def test_spice_without_its_models(fake: Callable[..., Path]) -> None:
    libraries = fake() / "spice" / "lib"
    libraries.mkdir(parents=True)
    (libraries / "stanford-corenlp-3.6.0.jar").touch()
    assert message(spice) == (
        f"SPICE needs stanford-corenlp-3.6.0-models.jar in {libraries}. Fetch them, about 500 MB, with a network: "
        "python -m pycocoevalcap.spice.get_stanford_models"
    )


def test_a_program_that_fails(fake: Callable[..., Path]) -> None:
    def fails(gts: object, res: object) -> None:
        raise ValueError("could not convert string to float: ''")

    fake(Meteor=fails)
    assert message(meteor) == (
        "METEOR could not be computed: its Java program failed (could not convert string to float: ''). Try another "
        "version of Java."
    )


def test_scores_are_in_the_order_of_the_candidates(fake: Callable[..., Path]) -> None:
    """METEOR's program keeps the given order, SPICE's sorts by image ids."""

    def lengths(gts: dict[int, list[str]], res: dict[int, list[str]]) -> tuple[float, list[int]]:
        return 0.5, [len(gts[image_id]) for image_id in res]

    def ids(gts: dict[int, list[str]], res: dict[int, list[str]]) -> tuple[float, list[dict[str, dict[str, float]]]]:
        return 0.25, [{"All": {"f": image_id}} for image_id in sorted(gts)]

    folder = fake(Meteor=lengths, Spice=ids)
    (folder / "spice" / "lib").mkdir(parents=True)
    for name in ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar"):
        (folder / "spice" / "lib" / name).touch()
    for score, corpus, by_image in ((meteor, 0.5, [1, 2]), (spice, 0.25, [7, 3])):
        found = score(CANDIDATES, REFERENCES)
        assert found.corpus == corpus
        np.testing.assert_array_equal(found.by_image, by_image)


def test_meteor_of_the_official_sample(shared_data: Path) -> None:
    """On its first images. The score of all 1,000 takes half a minute, and equalled the known one in every digit."""
    try:
        package("METEOR")
    except InputError as error:
        pytest.skip(str(error))
    folder = shared_data / "captions"
    candidates = json.loads((folder / "res_tokenised.json").read_text())
    references = json.loads((folder / "gts_tokenised.json").read_text())
    golden = json.loads((folder / "expected_per_image_fakecap_1000.json").read_text())
    some = list(references)[:20]
    found = meteor({image_id: candidates[image_id][0] for image_id in some}, references)
    assert found.by_image.tolist() == [golden[image_id]["METEOR"] for image_id in some]
