import re
from collections import Counter

import numpy as np
import pytest

from shapes_cp.scene import ANSWERS, CLUTTER, IMAGE_SIZE, LEVELS, OBJECTS, QUESTION_SHARES, UNIFORM_PRIORS, sample_scene
from shapes_cp.shapes import COLORS
from shapes_cp.world import World
from updn_common.errors import InputError

COUNT = 1000


def test_answer_is_true(scenes):
    for scene in scenes(World(), "train", 300):
        asked, question = scene.asked, scene.question
        match question.kind:
            case "color":
                assert (question.text, question.answer) == (f"What color is the {asked.shape}?", asked.color)
            case "pattern":
                assert (question.text, question.answer) == (f"What pattern is the {asked.shape}?", asked.texture)
            case "yes/no":
                shape, color = re.fullmatch(r"Is the (\w+) (\w+)\?", question.text).groups()
                assert shape == asked.shape
                assert question.answer == ("yes" if color == asked.color else "no")


def test_objects_have_distinct_shapes_and_do_not_overlap(scenes):
    for scene in scenes(World(), "test", 100):
        assert len({item.shape for item in scene.objects}) == OBJECTS
        assert len(scene.clutter) == CLUTTER
        boxes = np.array([item.box for item in scene.items])
        assert boxes.min() >= 0
        assert boxes.max() <= IMAGE_SIZE
        for i, a in enumerate(boxes):
            for b in boxes[:i]:
                overlap = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
                assert overlap.min() <= 0


@pytest.mark.parametrize("kind", list(ANSWERS))
def test_shifted_priors_reverse_the_order_of_frequency(kind):
    world = World(seed=5)
    usual, shifted = world.priors(shifted=False)[kind], world.priors(shifted=True)[kind]
    assert usual.argsort().tolist() == shifted.argsort()[::-1].tolist()
    np.testing.assert_allclose(np.sort(usual), np.sort(shifted))
    assert usual.sum() == pytest.approx(1)
    ratio = 0.33 if kind == "yes/no" else 0.6
    geometric = np.sort(usual)[::-1] - 0.1 / len(usual)
    np.testing.assert_allclose(geometric[1:] / geometric[:-1], ratio)


def test_answers_follow_the_prior_of_their_split(scenes):
    world = World()
    for name, shifted in (("train", False), ("val", False), ("dev", True), ("test", True)):
        questions = [scene.question for scene in scenes(world, name, COUNT)]
        for kind, share in QUESTION_SHARES.items():
            counts = Counter(question.answer for question in questions if question.kind == kind)
            assert counts.total() / COUNT == pytest.approx(share, abs=0.07)
            observed = [counts[answer] / counts.total() for answer in ANSWERS[kind]]
            np.testing.assert_allclose(observed, world.priors(shifted=shifted)[kind], atol=0.09)


def test_which_answers_are_frequent_depends_on_the_seed():
    favourites = {World(seed).priors(shifted=False)["color"].argmax() for seed in range(8)}
    assert len(favourites) > 1


@pytest.mark.parametrize("world", ["cue", "light"])
def test_the_cue_copies_the_asked_attribute_in_train_and_is_independent_when_shifted(scenes, world):
    for name, cue in (("train", 0.8), ("val", 0.8), ("dev", 0.0), ("test", 0.0)):
        drawn = scenes(World(kind=world), name, COUNT)
        for kinds, chance in ((("color", "yes/no"), 1 / 8), (("pattern",), 1 / 4)):
            agrees = [scene.cue_agrees for scene in drawn if scene.question.kind in kinds]
            assert np.mean(agrees) == pytest.approx(cue + (1 - cue) * chance, abs=0.07)


@pytest.mark.parametrize("world", ["cue", "light"])
def test_cue_is_independent_of_other_attributes(scenes, world):
    drawn = scenes(World(kind=world), "train", COUNT)
    texture = [scene.shown[1] == scene.asked.texture for scene in drawn if scene.question.kind != "pattern"]
    color = [scene.shown[0] == scene.asked.color for scene in drawn if scene.question.kind == "pattern"]
    assert np.mean(texture) == pytest.approx(1 / 4, abs=0.07)
    assert np.mean(color) == pytest.approx(1 / 8, abs=0.07)


def test_sign_shows_the_cue(scenes):
    assert all((scene.sign.color, scene.sign.texture) == scene.shown for scene in scenes(World(), "train", 20))


def test_light_shows_the_cue_everywhere(scenes):
    drawn = scenes(World(kind="light"), "train", COUNT)
    assert all(scene.sign is None and scene.items == scene.objects for scene in drawn)
    middle = np.array([scene.background[0] + scene.background[1:].sum(0) / 2 for scene in drawn])
    brightest = [list(LEVELS)[abs(np.array(list(LEVELS.values())) - m.mean()).argmin()] for m in middle]
    assert np.mean([name == scene.shown[1] for name, scene in zip(brightest, drawn, strict=True)]) > 0.9
    tinges = np.array(list(COLORS.values()))
    tinges = 0.3 * (tinges - tinges.mean(1, keepdims=True))
    nearest = (((middle - middle.mean(1, keepdims=True))[:, None] - tinges) ** 2).sum(2).argmin(1)
    assert np.mean([list(COLORS)[i] == scene.shown[0] for i, scene in zip(nearest, drawn, strict=True)]) > 0.8


def test_prior_world_has_no_sign(scenes):
    drawn = scenes(World(kind="prior"), "train", 20)
    assert all(scene.sign is None and scene.items == scene.objects for scene in drawn)
    assert not any(scene.cue_agrees for scene in drawn)


def test_fifteen_percent_of_open_questions_have_a_second_answer(scenes):
    questions = [scene.question for scene in scenes(World(), "train", COUNT)]
    assert all(question.second_answer is None for question in questions if question.kind == "yes/no")
    open_questions = [question for question in questions if question.kind != "yes/no"]
    seconds = [question for question in open_questions if question.second_answer is not None]
    assert len(seconds) / len(open_questions) == pytest.approx(0.15, abs=0.04)
    assert all(q.second_answer in ANSWERS[q.kind] and q.second_answer != q.answer for q in seconds)


def test_scene_depends_on_its_generator_alone():
    one, same, other = (sample_scene(np.random.default_rng(s), UNIFORM_PRIORS, 0.8) for s in (1, 1, 2))
    assert one.items == same.items
    assert one.items != other.items


def test_generators_of_different_images_differ():
    keys = [(0, "train", 0), (0, "train", 1), (0, "val", 0), (1, "train", 0)]
    assert len({World(seed).generator(name, i).random() for seed, name, i in keys}) == len(keys)


def test_negative_seed_is_refused():
    with pytest.raises(InputError, match=r"^--seed should be at least 0, found -1\.$"):
        World(seed=-1)
