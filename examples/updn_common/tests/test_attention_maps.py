import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from updn_common.data.attention_maps import find_vqa_hat, mean_attention_map, read_attention_map, read_salicon
from updn_common.errors import InputError

GREY = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20


def whole(message: str) -> str:
    return f"^{re.escape(message)}$"


def save(path: Path, values: np.ndarray, mode: str | None = None) -> Path:
    image = Image.fromarray(values)
    (image.convert(mode) if mode else image).save(path)
    return path


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P"])
def test_grey_in_any_mode(tmp_path: Path, mode: str) -> None:
    found = read_attention_map(save(tmp_path / "a.png", GREY, mode))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, GREY.astype(np.float32) / 255)


def test_sixteen_bit_and_bilevel(tmp_path: Path) -> None:
    deep = GREY.astype(np.uint16) * 250
    found = read_attention_map(save(tmp_path / "a.png", deep))
    np.testing.assert_array_equal(found, deep.astype(np.float32) / 65535)
    found = read_attention_map(save(tmp_path / "b.png", GREY, "1"))
    assert set(found.ravel().tolist()) == {0.0, 1.0}


def test_map_errors(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    with pytest.raises(InputError, match=whole(f"{path} does not exist; expected a greyscale attention map.")):
        read_attention_map(path)
    save(path, GREY)
    assert read_attention_map(path, (4, 3)).shape == (3, 4)
    with pytest.raises(InputError, match=whole(f"{path} is 4 x 3 pixels, but its image is 3 x 4.")):
        read_attention_map(path, (3, 4))
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(InputError, match=re.escape(f"{path} is not a readable image (")):
        read_attention_map(path)
    path.write_text("no image")
    with pytest.raises(InputError, match=re.escape(f"{path} is not a readable image (")):
        read_attention_map(path)
    save(path, np.zeros((3, 4), np.uint8))
    message = f"{path} (4 x 3 pixels) is zero everywhere: it shows no attention."
    with pytest.raises(InputError, match=whole(message)):
        read_attention_map(path)
    colours = np.stack([GREY, GREY, GREY[::-1]], axis=-1)
    message = f"{path} has colours; an attention map is greyscale, as VQA-HAT's are."
    for mode in ("RGB", "P"):
        save(path, colours, mode)
        with pytest.raises(InputError, match=whole(message)):
            read_attention_map(path)


def test_find_vqa_hat_and_mean(tmp_path: Path) -> None:
    for name, value in {"20_1": 10, "20_10": 40, "20_2": 100, "3_1": 5}.items():
        save(tmp_path / f"{name}.png", np.full((3, 4), value, np.uint8))
    (tmp_path / "README.txt").touch()
    found = find_vqa_hat(tmp_path)
    assert list(found) == [3, 20]
    assert [path.name for path in found[20]] == ["20_1.png", "20_2.png", "20_10.png"]
    np.testing.assert_allclose(mean_attention_map(found[20]), np.full((3, 4), 50 / 255), rtol=1e-6)
    np.testing.assert_array_equal(mean_attention_map(found[3]), np.full((3, 4), 5, np.float32) / 255)
    save(tmp_path / "20_2.png", GREY.T.copy())
    message = f"{tmp_path / '20_2.png'} is 3 x 4 pixels, but its image is 4 x 3."
    with pytest.raises(InputError, match=whole(message)):
        mean_attention_map(found[20])


def test_find_vqa_hat_errors(tmp_path: Path) -> None:
    folder = tmp_path / "vqahat_train"
    message = f"{folder} is not a folder; expected VQA-HAT maps, <v1 question id>_<k>.png."
    with pytest.raises(InputError, match=whole(message)):
        find_vqa_hat(folder)
    folder.mkdir()
    message = f"{folder} holds no attention maps, <v1 question id>_<k>.png."
    with pytest.raises(InputError, match=whole(message)):
        find_vqa_hat(folder)
    (folder / "7.png").touch()
    message = f"{folder / '7.png'} is not named as VQA-HAT maps are, <v1 question id>_<k>.png."
    with pytest.raises(InputError, match=whole(message)):
        find_vqa_hat(folder)


def test_salicon_gives_the_official_fixation_maps(shared_data: Path) -> None:
    folder = shared_data / "attention"
    goldens = json.loads((folder / "salicon_fixmap_golden.json").read_text())["images"]
    fixations = read_salicon(folder / "fixations_train2014examples.json")
    assert sorted(fixations) == sorted(map(int, goldens))
    for image_id, found in fixations.items():
        golden = goldens[str(image_id)]
        assert found.points.shape == (golden["points"], 2)
        assert found.points.dtype == np.float32
        hits = np.zeros((found.height, found.width))
        x, y = found.points.astype(int).T
        hits[y, x] = 1  # the official recipe: presence, not count; sigma 19; min-max
        smooth = gaussian_filter(hits, sigma=19)
        smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
        assert list(np.unravel_index(smooth.argmax(), smooth.shape)) == golden["argmax_rc"]
        assert smooth.mean() == pytest.approx(golden["mean"], rel=1e-9)
        blocks = smooth[:476, :630].reshape(14, 34, 14, 45).mean(axis=(1, 3))
        np.testing.assert_allclose(blocks, golden["block14"], atol=6e-7)


def salicon(fixations: list[object], image_id: int = 5) -> dict[str, object]:
    return {
        "images": [{"id": 5, "width": 20, "height": 10}, {"id": 6, "width": 20, "height": 10}],
        "annotations": [{"image_id": image_id, "fixations": trial} for trial in fixations],
    }


FIXATIONS = ": image 5: fixations should be a list of [row, column] in numbers, found "


def test_salicon_joins_trials(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(salicon([[[1, 2], [10, 20]], [], [[3, 4]]])))
    found = read_salicon(path)
    assert list(found) == [5]
    assert (found[5].width, found[5].height) == (20, 10)
    assert found[5].points.tolist() == [[1, 0], [19, 9], [3, 2]]
    assert found[5].points.flags["C_CONTIGUOUS"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], " should be an object with the key 'images', found list."),
        ({"images": []}, " has no 'annotations'; it has 'images'."),
        ({"images": [{"id": 1, "width": "10", "height": 3}]}, ", image 0: 'width' should be int, found '10' (str)."),
        (
            {"images": [{"id": 1, "width": 10, "height": None}]},
            ", image 0: 'height' should be int, found None (NoneType).",
        ),
        (
            salicon([[[1, 2]]], image_id=7),
            ", annotation 0 is about image 7, which is not among the images of the file.",
        ),
        (salicon([[[1, 2, 3]]]), f"{FIXATIONS}[[1, 2, 3]]."),
        (salicon([[[1, 2], [3]]]), f"{FIXATIONS}[[1, 2], [3]]."),
        (salicon([[["1", "2"]]]), f"{FIXATIONS}[['1', '2']]."),
        (salicon([[[10**400, 2]]]), f"{FIXATIONS}{str([[10**400, 2]])[:60]}."),
        (
            salicon([[[1e300, 2]]]),
            ": image 5: fixation [row, column] [1e+300, 2.0] is outside 10 rows x 20 columns (from 1).",
        ),
        (
            salicon([[[1, 2], [0, 3]]]),
            ": image 5: fixation [row, column] [0, 3] is outside 10 rows x 20 columns (from 1).",
        ),
        (salicon([[[11, 2]]]), ": image 5: fixation [row, column] [11, 2] is outside 10 rows x 20 columns (from 1)."),
    ],
)
def test_salicon_malformed(tmp_path: Path, content: object, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=whole(f"{path}{message}")):
        read_salicon(path)
