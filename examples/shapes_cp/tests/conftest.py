from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from shapes_cp.scene import Scene, sample_scene
from shapes_cp.world import SPLITS, SplitName, World
from shapes_cp.write import write_world
from shapes_cp.write_coco import Drawn


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[SplitName, list[Drawn[Scene]]]]:
    """A tiny cue world drawn by one process, and its images."""
    out = tmp_path_factory.mktemp("worlds") / "one"
    return out, write_world(out, World(seed=3), "tiny", workers=1)


@pytest.fixture(scope="session")
def scenes() -> Callable[[World, SplitName, int], list[Scene]]:
    """Samples the first scenes of a split without rendering them."""

    @cache
    def draw(world: World, name: SplitName, count: int) -> list[Scene]:
        shifted = SPLITS[name].shifted
        priors, cue = world.priors(shifted=shifted), world.cue(shifted=shifted)
        generators = [world.generator(name, i).spawn(1)[0] for i in range(count)]
        return [sample_scene(generator, priors, cue, world.carrier) for generator in generators]

    return draw


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
