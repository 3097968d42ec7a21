"""Human importance of attention maps equals loops over pixels, and is exact in float32."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hint_loss import human_importance

from .boxes import clip, random_boxes, ratio


def loop_map(attention_map: Tensor, box: list[float]) -> float:
    """The human importance of a box, from the share of each pixel that it covers."""
    height, width = attention_map.shape
    x1, y1, x2, y2 = clip(box, height, width)
    inside = 0.0
    for y in range(height):
        for x in range(width):
            cover_x = max(0.0, min(x2, x + 1) - max(x1, x))
            cover_y = max(0.0, min(y2, y + 1) - max(y1, y))
            inside += float(attention_map[y, x]) * cover_x * cover_y
    total = float(attention_map.double().sum())
    return ratio(inside, total, (x2 - x1) * (y2 - y1), float(height * width))


@pytest.mark.parametrize(("samples", "k"), [(4, 20), (1, 150), (35, 3)], ids=["few boxes", "many boxes", "many maps"])
def test_equals_a_loop_over_pixels(samples: int, k: int) -> None:
    maps = torch.rand(samples, 9, 13, dtype=torch.float64)
    boxes = random_boxes(samples, k, height=9, width=13)
    s = human_importance(maps, boxes)
    expected = [[loop_map(m, box) for box in row] for m, row in zip(maps, boxes.tolist(), strict=True)]
    assert s.dtype == torch.float64
    torch.testing.assert_close(s, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-13)


def test_equals_supersampling() -> None:
    """The borders are multiples of 1/8, so an enlarged map has boxes with whole borders."""
    maps = torch.rand(2, 6, 7, dtype=torch.float64)
    boxes = (random_boxes(2, 10, height=6, width=7, beyond=0.0) * 8).round() / 8
    fine = maps.repeat_interleave(8, -1).repeat_interleave(8, -2)
    s = human_importance(maps, boxes)
    for b, row in enumerate((boxes * 8).long().tolist()):
        for k, (x1, y1, x2, y2) in enumerate(row):
            inside = float(fine[b, y1:y2, x1:x2].sum())
            expected = ratio(inside, float(fine[b].sum()), (x2 - x1) * (y2 - y1), fine[b].numel())
            assert s[b, k].item() == pytest.approx(expected, abs=1e-13)


def test_gives_known_values() -> None:
    attention_map = torch.tensor([[4.0, 0.0], [0.0, 0.0]])
    boxes = torch.tensor(
        [[0, 0, 1, 1], [0, 0, 2, 1], [0, 0, 2, 2], [0, 0, 0.5, 2], [1, 1, 2, 2], [1, 1, 1, 1], [-9, -9, 9, 9]]
    )
    s = human_importance(attention_map, boxes)
    # [0, 0, 0.5, 2] holds 2 of 4 in 1 of 4: (2 / 1) / (2 / 1 + 2 / 3)
    torch.testing.assert_close(s, torch.tensor([1.0, 1.0, 0.5, 0.75, 0.0, 0.0, 0.5]))


def test_uniform_attention_is_half_everywhere() -> None:
    boxes = random_boxes(30, height=32, width=48, beyond=0.0)
    s = human_importance(torch.full((32, 48), 7.0), boxes)
    torch.testing.assert_close(s, torch.full((30,), 0.5), rtol=0, atol=1e-6)


def test_boxes_without_area_in_the_image_have_no_importance() -> None:
    boxes = torch.tensor([[0.0, 0, 0, 0], [2, 2, 2, 5], [-5, -5, -5, -1], [9, 0, 9, 4], [8, 0, 8, 4]])
    assert (human_importance(torch.ones(8, 8), boxes) == 0).all()


def test_boxes_with_no_attention_or_all_of_it_tie_exactly() -> None:
    """The ranking loss would learn an order that is due to rounding."""
    attention_map = torch.zeros(20, 30, dtype=torch.float64)
    attention_map[5:9, 10:17] = torch.rand(4, 7)
    low, high = torch.rand(2, 40, 2).double()
    around = torch.cat([low * torch.tensor([10, 5]), 20 + 10 * high[:, :1], 10 + 10 * high[:, 1:]], 1)
    assert (human_importance(attention_map, around) == 1).all()
    corners = torch.rand(40, 2, 2).double().sort(1).values
    for region in ([0, 0, 30, 5], [0, 9, 30, 11], [0, 0, 10, 20], [17, 0, 13, 20]):
        x, y, width, height = region
        beside = (corners * torch.tensor([width, height]) + torch.tensor([x, y])).flatten(1)
        assert (human_importance(attention_map, beside) == 0).all()


@given(
    st.lists(st.integers(0, 16 * 32), max_size=3),  # in 32nds of a pixel, so that s determines e
    st.lists(st.integers(0, 12 * 32), max_size=3),
    st.integers(0, 1000),
)
def test_the_energies_of_a_partition_add_up(cuts_x: list[int], cuts_y: list[int], seed: int) -> None:
    """The share e / E of the energy, solved from s, adds up to 1 over boxes that tile the image."""
    x, y = (sorted({0.0, end, *(cut / 32 for cut in cuts)}) for end, cuts in ((16.0, cuts_x), (12.0, cuts_y)))
    tiles = [[x1, y1, x2, y2] for x1, x2 in itertools.pairwise(x) for y1, y2 in itertools.pairwise(y)]
    boxes = torch.tensor(tiles, dtype=torch.float64)
    attention_map = torch.rand(12, 16, generator=torch.Generator().manual_seed(seed)).double() + 0.01
    s = human_importance(attention_map, boxes)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
    odds = s * area / ((1 - s) * (192 - area))  # e / (E - e)
    energy = torch.where(area == 192, 1.0, odds / (1 + odds))
    assert energy.sum().item() == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("kind", ["any", "nearly the whole image", "thin"])
def test_float32_is_exact_to_a_millionth_on_a_large_map(kind: str) -> None:
    """The energy outside of a box is added up, not subtracted from the whole."""
    attention_map, corners = torch.rand(480, 640).pow(4), torch.rand(36, 2) * torch.tensor([630.0, 400.0])
    nearly = [[0, 0, 639.0, 479.0], [0, 0, 640, 479.0], [0, 0, 639.9, 480], [0, 0, 639.99, 480]]
    boxes = {
        "any": random_boxes(36, height=480, width=640).float(),
        "nearly the whole image": torch.tensor(nearly),
        "thin": torch.cat([corners, corners + torch.tensor([0.5, 60.0])], 1),
    }[kind]
    s = human_importance(attention_map, boxes)
    assert s.dtype == torch.float32
    torch.testing.assert_close(s.double(), human_importance(attention_map.double(), boxes), rtol=0, atol=1e-6)


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1 / 255])
def test_float32_is_exact_to_a_millionth_on_a_constant_map(value: float) -> None:
    """This is the worst case for long sums, because all rounding errors have the same sign."""
    boxes = torch.tensor([[0.0, 1000.0, 16.0, 2000.0], [8.0, 300.0, 16.0, 304.0]])[:, None]
    s = human_importance(torch.full((2000, 16), value).expand(2, -1, -1), boxes)
    torch.testing.assert_close(s, torch.full((2, 1), 0.5), rtol=0, atol=1e-6)


def test_autocast_does_not_change_the_importance() -> None:
    maps, boxes = torch.rand(2, 48, 64), random_boxes(2, 6, height=48, width=64)
    expected = human_importance(maps, boxes)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(human_importance(maps, boxes), expected)


@pytest.mark.parametrize("side", [25, 41, 82, 333.3])
def test_rounding_takes_no_box_beyond_the_map(side: float) -> None:
    """In floating point, 25 * (7 / 25) is more than 7."""
    boxes = torch.tensor([[0.0, 0.0, side, side]], dtype=torch.float64)
    assert human_importance(torch.rand(7, 7), boxes, image_size=(side, side)) == 0.5


@pytest.mark.parametrize(("down", "across"), [(2, 2), (2, 3), (1, 4)])
def test_image_size_equals_a_resized_map(down: int, across: int) -> None:
    maps = torch.rand(2, 6, 9, dtype=torch.float64)
    boxes = random_boxes(2, 12, height=6 * down, width=9 * across)
    large = maps.repeat_interleave(across, -1).repeat_interleave(down, -2)
    torch.testing.assert_close(
        human_importance(maps, boxes, image_size=(6 * down, 9 * across)),
        human_importance(large, boxes),
        rtol=0,
        atol=1e-13,
    )


def test_each_sample_may_have_its_own_image_size() -> None:
    maps = torch.rand(2, 8, 8, dtype=torch.float64)
    sizes = torch.tensor([[480, 640], [333, 500]])
    boxes = random_boxes(2, 12, height=333, width=500)
    each = [human_importance(maps[b], boxes[b], image_size=sizes[b].tolist()) for b in range(2)]
    torch.testing.assert_close(human_importance(maps, boxes, image_size=sizes), torch.stack(each))


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float16, torch.bfloat16])
def test_maps_of_any_dtype_give_float32(dtype: torch.dtype) -> None:
    maps = torch.randint(0, 2 if dtype == torch.bool else 256, (2, 7, 5)).to(dtype)
    boxes = random_boxes(2, 6, height=7, width=5)
    s = human_importance(maps, boxes)
    assert s.dtype == torch.float32
    torch.testing.assert_close(s.double(), human_importance(maps.double(), boxes), rtol=0, atol=1e-6)


def test_integer_boxes_equal_floating_point_ones() -> None:
    maps, boxes = torch.rand(7, 5), torch.tensor([[0, 1, 3, 4], [2, 2, 5, 7]])
    assert torch.equal(human_importance(maps, boxes), human_importance(maps, boxes.double()))


def test_the_unit_of_attention_does_not_matter() -> None:
    maps, boxes = torch.rand(2, 7, 5).double(), random_boxes(2, 6, height=7, width=5)
    torch.testing.assert_close(human_importance(255 * maps, boxes), human_importance(maps, boxes), rtol=1e-13, atol=0)


def test_a_batch_equals_its_samples() -> None:
    maps, boxes = torch.rand(2, 3, 7, 5).double(), random_boxes(2, 3, 6, height=7, width=5)
    s = human_importance(maps, boxes)
    assert s.shape == (2, 3, 6)
    for i, j in itertools.product(range(2), range(3)):
        torch.testing.assert_close(s[i, j], human_importance(maps[i, j], boxes[i, j]))


def test_no_boxes_or_no_samples_give_an_empty_importance() -> None:
    assert human_importance(torch.ones(2, 4, 4), torch.zeros(2, 0, 4)).shape == (2, 0)
    assert human_importance(torch.ones(0, 4, 4), torch.zeros(0, 3, 4)).shape == (0, 3)
