"""The captioning world: partners, pictures and captions."""

import re
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from shapes_cp.captions import relation
from shapes_cp.pair_captions import describe_pair
from shapes_cp.pairs import LARGE, SMALL, STRENGTHS, PairWorld
from shapes_cp.scene import CLUTTER, IMAGE_SIZE, OBJECTS
from shapes_cp.shapes import COLORS, SHAPES, TEXTURES
from shapes_cp.world import SPLITS
from updn_common.errors import InputError

COUNT = 2000
LINK = "(?P<link>above|below|to the left of|to the right of|next to|and|with)"


def thing(number):
    texture, color, shape = (
        f"(?P<{name}{number}>{'|'.join(words)})"
        for name, words in (("texture", TEXTURES), ("color", COLORS), ("shape", SHAPES))
    )
    return f"an? (?:{texture} )?(?:{color} )?{shape}"


CAPTION = re.compile(f"(?:there is )?{thing(1)} {LINK} {thing(2)}")


def pictures(world, name, count):
    return [
        world.sample_picture(world.generator(name, i).spawn(1)[0], shifted=SPLITS[name].shifted) for i in range(count)
    ]


@pytest.mark.parametrize("strength", list(STRENGTHS))
def test_shapes_are_partners_in_groups(strength):
    partners = PairWorld(4, strength).partners
    assert partners.keys() == SHAPES.keys()
    for shape, others in partners.items():
        assert len(others) == STRENGTHS[strength].group - 1
        assert shape not in others
        assert all(partners[other] | {other} == others | {shape} for other in others)
    assert len({str(sorted(PairWorld(seed, strength).partners["star"])) for seed in range(6)}) > 1


@pytest.mark.parametrize("strength", list(STRENGTHS))
@pytest.mark.parametrize("shifted", [False, True])
def test_share_of_partners_follows_the_strength(strength, shifted):
    world, rng = PairWorld(1, strength), np.random.default_rng(0)
    drawn = [world.sample_pair(rng, shifted=shifted) for _ in range(COUNT)]
    assert all(a != b for a, b in drawn)
    partners = np.mean([b in world.partners[a] for a, b in drawn])
    group, share = STRENGTHS[strength].group, STRENGTHS[strength].share
    # What is no partner by rule may be one by chance.
    expected = 0 if shifted else share + (1 - share) * (group - 1) / (len(SHAPES) - 1)
    assert partners == pytest.approx(expected, abs=0.0 if shifted else 0.03)
    for position in (0, 1):  # no shape is more frequent than others, whoever it is with
        counts = Counter(pair[position] for pair in drawn)
        np.testing.assert_allclose([counts[shape] / COUNT for shape in SHAPES], 1 / len(SHAPES), atol=0.03)


def test_second_shape_is_predictable_only_without_shift():
    """Accuracy of guessing the second shape from the first with the statistics of train."""
    world = PairWorld(0, "strong")
    pairs = {n: [tuple(o.shape for o in p.pair) for p in pictures(world, n, 300)] for n in ("train", "val", "test")}
    fellows = {shape: Counter(b for a, b in pairs["train"] if a == shape).most_common(1)[0][0] for shape in SHAPES}
    right = {name: np.mean([fellows[a] == b for a, b in drawn]) for name, drawn in pairs.items()}
    assert right["val"] > 0.93
    assert right["test"] == 0


def test_two_objects_are_large_and_none_overlap():
    for picture in pictures(PairWorld(), "test", 100):
        assert len({item.shape for item in picture.objects}) == len(picture.objects) == OBJECTS
        assert picture.sign is None
        assert len(picture.clutter) == CLUTTER
        sizes = [item.size for item in picture.objects]
        assert min(sizes[:2]) >= LARGE[0] > 1.5 * SMALL[1] >= 1.5 * max(sizes[2:])
        boxes = np.array([item.box for item in picture.items])
        assert boxes.min() >= 0
        assert boxes.max() <= IMAGE_SIZE
        for i, a in enumerate(boxes):
            for b in boxes[:i]:
                assert (np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])).min() <= 0


def test_captions_follow_the_grammar_and_are_true():
    for picture in pictures(PairWorld(2, "weak"), "train", 100):
        captions = describe_pair(picture, np.random.default_rng(0))
        assert len(captions) == 5
        objects = {item.shape: item for item in picture.pair}
        for caption in captions:
            found = CAPTION.fullmatch(caption)
            assert found, caption
            named = [objects[found[f"shape{i}"]] for i in (1, 2)]
            assert named[0] is not named[1]
            for i, item in enumerate(named, 1):
                assert found[f"color{i}"] in (None, item.color)
                assert found[f"texture{i}"] in (None, item.texture)
                assert found[f"texture{i}"] != "plain"
            assert found["link"] in ("and", "with", relation(*named))
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", " ".join(captions))


def test_captions_vary():
    """In the order of objects, their attributes, the link between them, and the opening."""
    found = []
    for i, picture in enumerate(pictures(PairWorld(), "train", 300)):
        for caption in describe_pair(picture, np.random.default_rng(i)):
            match = CAPTION.fullmatch(caption)
            found.append((match, match["shape1"] == picture.pair[0].shape, caption.startswith("there is ")))
    shares = {
        "first object first": np.mean([first for _, first, _ in found]),
        "opening": np.mean([opening for _, _, opening in found]),
        "relation": np.mean([match["link"] not in ("and", "with") for match, _, _ in found]),
        "colour": np.mean([match["color2"] is not None for match, _, _ in found]),
        "texture": np.mean([match["texture2"] is not None for match, _, _ in found]),
    }
    expected = {"first object first": 0.5, "opening": 0.5, "relation": 0.6, "colour": 0.6, "texture": 0.2 * 0.75}
    assert shares == pytest.approx(expected, abs=0.04)


def test_standard_split_distributes_all_images():
    robust = {"train": list(range(600)), "val": list(range(1000, 1100)), "test": list(range(2000, 2300))}
    dealt = PairWorld(5).deal(robust)
    assert {name: len(images) for name, images in dealt.items()} == {"train": 600, "val": 100, "test": 300}
    everyone = sorted(image_id for images in dealt.values() for image_id in images)
    assert everyone == sorted(image_id for images in robust.values() for image_id in images)
    for images in dealt.values():
        assert np.mean([image_id < 1000 for image_id in images]) == pytest.approx(0.6, abs=0.1)
    assert dealt == PairWorld(5).deal(robust) != PairWorld(6).deal(robust)


def test_negative_seed_is_refused():
    with pytest.raises(InputError, match=r"^--seed should be at least 0, found -1\.$"):
        PairWorld(-1)


def test_image_depends_on_its_number_alone():
    world = PairWorld(3)
    numbers = [world.generator(name, i).random() for name in SPLITS for i in range(3)]
    assert len(set(numbers)) == len(numbers)
    assert numbers == [world.generator(name, i).random() for name in SPLITS for i in range(3)]
    assert all(a != b for a, b in pairwise(numbers))
