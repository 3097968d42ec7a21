"""Words and human importance as arrays: small cases by hand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hint_loss import human_importance
from updn_captioning.data.coco import Caption
from updn_captioning.data.instances import Instances
from updn_captioning.data.split_arrays import Arrays, caption_arrays, pair_arrays, split_counts
from updn_captioning.data.visual_words import VisualWords
from updn_captioning.data.vocabulary import CaptionVocabulary
from updn_common.errors import InputError
from updn_common.proposals.store import Geometry

WORDS = VisualWords.of_names(["cat", "hot dog", "dog"])
VOCABULARY = CaptionVocabulary(("a", "cat", "dog", "dogs", "hot"))
CAPTIONS = [
    [Caption(1, 7, "", ("a", "cat", "a", "hot", "dog")), Caption(2, 7, "", ("dogs",))],
    [Caption(3, 8, "", ("two", "cats", "a", "cat", "dog"))],
]
SIZE = (6, 10)
BOXES = torch.tensor([[0.0, 0.0, 5.0, 6.0], [5, 0, 10, 6], [0, 0, 10, 6], [0, 0, 2, 2]])


def test_tokens_and_visual_words() -> None:
    arrays = caption_arrays(CAPTIONS, VOCABULARY, WORDS, length=4)
    assert arrays["caption_ids"].tolist() == [1, 2, 3]
    assert arrays["caption_images"].tolist() == [0, 0, 1]
    assert arrays["tokens"].tolist() == [[1, 4, 5, 4, 8, 2], [1, 7, 2, 0, 0, 0], [1, 3, 3, 4, 5, 2]]
    # "hot dog" ends after the fourth word, and "cats" is not in the vocabulary.
    assert arrays["word_categories"].tolist() == [[0], [2], [0]]
    assert arrays["word_spans"].tolist() == [[[1, 2]], [[0, 1]], [[3, 4]]]


def test_spans_are_of_targets() -> None:
    arrays = caption_arrays(CAPTIONS, VOCABULARY, WORDS, length=9)
    assert arrays["word_categories"].tolist() == [[0, 1], [2, -1], [0, 2]]
    assert arrays["word_spans"].tolist() == [[[1, 2], [3, 5]], [[0, 1], [-1, -1]], [[3, 4], [4, 5]]]
    targets = arrays["tokens"][:, 1:]
    assert VOCABULARY.decode(targets[0, slice(*arrays["word_spans"][0, 1])].tolist()) == "hot dog"


def test_captions_without_visual_words() -> None:
    arrays = caption_arrays([[Caption(1, 7, "", ("a",))]], VOCABULARY, WORDS, length=9)
    assert arrays["word_spans"].shape == (1, 0, 2)
    images = {7: Geometry(BOXES, *SIZE)}
    arrays = {"image_ids": np.array([7])} | arrays
    pairs = pair_arrays(arrays, images.__getitem__, Instances.read([]), 4, named_only=True)
    assert pairs["word_pairs"].shape == (1, 0)
    assert pairs["hints"].shape == pairs["relevant"].shape == (0, 4)
    assert split_counts(arrays | pairs)["visual_words"] == 0


@pytest.fixture
def instances(tmp_path: Path) -> Instances:
    """Image 7: two cats at the corners of the left half, and a dog too small for a pixel; image 8: a hot dog."""

    def rectangle(image: int, category: int, x: float, y: float, w: float, h: float) -> dict[str, Any]:
        shape = [[x, y, x + w, y, x + w, y + h, x, y + h]]
        return {"image_id": image, "category_id": category, "bbox": [x, y, w, h], "segmentation": shape}

    document = {
        "images": [{"id": i, "height": SIZE[0], "width": SIZE[1]} for i in (7, 8)],
        "categories": [{"id": i, "name": name} for i, name in enumerate(WORDS.categories)],
        "annotations": [
            rectangle(7, 0, 0, 0, 2, 2),
            rectangle(7, 0, 3, 4, 2, 2),
            rectangle(7, 2, 7.6, 2.6, 0.1, 0.1),
            rectangle(8, 1, 5, 0, 5, 6),
        ],
    }
    (tmp_path / "instances.json").write_text(json.dumps(document))
    return Instances.read([tmp_path / "instances.json"])


def both(instances: Instances, images: dict[int, Geometry], *, named_only: bool) -> Arrays:
    arrays = {"image_ids": np.array([7, 8])} | caption_arrays(CAPTIONS, VOCABULARY, WORDS, 9)
    return arrays | pair_arrays(arrays, images.__getitem__, instances, 5, named_only=named_only)


def test_importance_by_hand(instances: Instances) -> None:
    """s = E_in / (E_in + E_out), E the share of the pixels inside and outside that are cats: 8 pixels, all on the left.

    Left half: 8/30 against 0. Right half: 0 against 8/30. The whole image has 0.5 by definition. The corner:
    4/4 against 4/56, which is 14/15.
    """
    images = {7: Geometry(BOXES, *SIZE), 8: Geometry(BOXES[:2], *SIZE)}
    arrays = both(instances, images, named_only=True)
    assert arrays["pairs"].tolist() == [[0, 0], [0, 2]]  # no caption names the hot dog of image 8
    assert arrays["objects"].tolist() == [[0, 0], [0, 2], [1, 1]]
    np.testing.assert_allclose(arrays["hints"][0], [1, 0, 0.5, 14 / 15, np.nan])
    assert np.isnan(arrays["hints"][1]).all()  # a dog without a pixel
    assert arrays["relevant"].tolist() == [[False, False, False, True, False], [False] * 5]
    assert arrays["word_pairs"].tolist() == [[0, -1], [1, -1], [-1, -1]]
    expected = {"visual_words": 5, "hinted_words": 1, "visual_words_without_an_object": 4, "hinted_captions": 1}
    assert split_counts(arrays).items() >= expected.items()
    assert split_counts(arrays).items() >= {"images": 2, "captions": 3, "words": 11, "unknown_words": 2}.items()


@pytest.mark.parametrize("scale", [1, 100])
def test_corners_as_boxes_are_refused(tmp_path: Path, scale: int) -> None:
    """If the difference exceeds the few pixels that come from the rounding of masks."""
    x1, y1, x2, y2 = (scale * z for z in (3, 2, 5, 4))
    shape = [[x1, y1, x2, y1, x2, y2, x1, y2]]
    document = {
        "images": [{"id": 7, "height": 6 * scale, "width": 10 * scale}],
        "categories": [{"id": i, "name": name} for i, name in enumerate(WORDS.categories)],
        "annotations": [{"image_id": 7, "category_id": 0, "bbox": [x1, y1, x2, y2], "segmentation": shape}],
    }
    (tmp_path / "instances.json").write_text(json.dumps(document))
    instances = Instances.read([tmp_path / "instances.json"])
    geometry = {7: Geometry(BOXES * scale, 6 * scale, 10 * scale)}
    arrays = {"image_ids": np.array([7])} | caption_arrays(CAPTIONS[:1], VOCABULARY, WORDS, 9)
    if scale == 1:
        pair_arrays(arrays, geometry.__getitem__, instances, 5, named_only=False)
    else:
        with pytest.raises(InputError, match=r'image 7, category 0: boxes reach .* A "bbox" is x, y, width and height'):
            pair_arrays(arrays, geometry.__getitem__, instances, 5, named_only=False)


def test_all_objects_have_hints_outside_train(instances: Instances) -> None:
    images = {7: Geometry(BOXES, *SIZE), 8: Geometry(BOXES[:2], *SIZE)}
    arrays = both(instances, images, named_only=False)
    assert arrays["pairs"].tolist() == [[0, 0], [0, 2], [1, 1]]
    np.testing.assert_allclose(arrays["hints"][2], [0, 1, np.nan, np.nan, np.nan])
    assert arrays["relevant"][2].tolist() == [False, True, False, False, False]
    assert arrays["word_pairs"].tolist() == [[0, -1], [1, -1], [-1, -1]]


def test_image_of_another_size_is_refused(instances: Instances) -> None:
    images = {7: Geometry(BOXES, 12, 20), 8: Geometry(BOXES, *SIZE)}
    with pytest.raises(InputError) as error:
        both(instances, images, named_only=True)
    assert str(error.value) == (
        "The instances of image 7 are on 10 x 6 pixels, but its proposals on 20 x 12. Take features that were "
        "extracted from COCO's own images."
    )


def test_real_masks(shared_data: Path) -> None:
    """On 100 real images, s equals a loop over the pixels with centres in a box of whole pixels."""
    instances = Instances.read([shared_data / "coco/instances_val2014_100.json"])
    generator = torch.Generator().manual_seed(0)
    for image_id in (1146, 42, 73, 133):
        height, width = instances.size(image_id)
        for category in instances.present(image_id):
            mask = instances.mask(image_id, category)
            for _ in range(4):
                x1, x2 = sorted(torch.randperm(width, generator=generator)[:2].tolist())
                y1, y2 = sorted(torch.randperm(height, generator=generator)[:2].tolist())
                inside = torch.zeros_like(mask)
                inside[y1:y2, x1:x2] = True
                e_in, e_out = mask[inside].double().mean(), mask[~inside].double().mean()
                s = human_importance(mask, torch.tensor([[x1, y1, x2, y2]], dtype=torch.float32))
                torch.testing.assert_close(s[0].double(), e_in / (e_in + e_out), atol=1e-6, rtol=1e-5)
