"""The ranking loss equals loops over the paper's formula, and a dense form that autograd differentiates."""

import itertools
from typing import Any, ClassVar, assert_type

import pytest
import torch
from torch import Tensor

import hint_loss
from hint_loss import HintRankingLoss, _slopes, hint_pairs

from .ranking import hint_ranking_loss, value_and_gradient

VERSION = tuple(int(part) for part in torch.__version__.split(".")[:2])


BOUND = 1e-12  # above the float64 rounding error of a sum over 66 pairs of values below 4
OPTIONS = [
    {"margin": margin, "min_gap": min_gap, "scale_free": scale_free, "pair_reduction": pair_reduction}
    for margin, min_gap, scale_free, pair_reduction in itertools.product(
        (0.0, 0.5), (0.0, 0.25), (False, True), ("sum", "mean")
    )
]


def text(options: dict[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in options.items())


def loop_loss(
    alpha: list[float], s: list[float], *, margin: float, min_gap: float, scale_free: bool, pair_reduction: str
) -> tuple[float, list[float]]:
    """Value and gradient of one sample's loss, pair by pair, as the paper prints the formula."""
    norm = sum(abs(a) for a in alpha)
    scale = norm if scale_free and norm > 0 else 1.0
    shares = [a / scale for a in alpha]
    value, pairs, slope = 0.0, 0, [0.0] * len(alpha)
    for i in range(len(alpha)):
        for j in range(len(alpha)):
            if s[i] - s[j] > min_gap:
                pairs += 1
                hinge = margin * (s[i] - s[j]) - (shares[i] - shares[j])
                if hinge > 0:
                    value += hinge
                    slope[i] -= 1.0
                    slope[j] += 1.0
    if pair_reduction == "mean" and pairs:
        value, slope = value / pairs, [x / pairs for x in slope]
    if scale_free and norm > 0:  # d share_i / d alpha_j = (i == j) / norm - alpha_i sign(alpha_j) / norm^2
        along = sum(x * a for x, a in zip(slope, alpha, strict=True)) / norm**2
        slope = [x / norm - along * ((a > 0) - (a < 0)) for x, a in zip(slope, alpha, strict=True)]
    return value, slope


def dense_loss(
    alpha: Tensor, s: Tensor, mask: Tensor, *, margin: float, min_gap: float, scale_free: bool, pair_reduction: str
) -> Tensor:
    """The loss of each sample, from a (B, K, K) tensor of all pairs."""
    alpha = alpha * mask
    if scale_free:
        norm = alpha.abs().sum(-1, keepdim=True)
        alpha = alpha / torch.where(norm == 0, 1.0, norm)
    pairs = (s[:, :, None] - min_gap > s[:, None]) & mask[:, :, None] & mask[:, None]
    hinge = (margin * (s[:, :, None] - s[:, None]) - (alpha[:, :, None] - alpha[:, None])).relu()
    loss = (hinge * pairs).sum((1, 2))
    return loss / pairs.sum((1, 2)).clamp(min=1) if pair_reduction == "mean" else loss


@pytest.mark.parametrize("options", OPTIONS, ids=text)
def test_equals_loops_and_all_pairs_on_ten_thousand_cases_with_ties(options: dict[str, Any]) -> None:
    """16 options x 13 values of K x 49 samples = 10,192 cases, every other one with a mask."""
    batch = 49
    # Values on a grid make ties, also exactly at the kink of a hinge. Shares of importance are not on a grid: with a
    # margin that no difference of shares can equal, they are off the kinks, where rounding would decide.
    margin = options["margin"] * (2**0.5 if options["scale_free"] else 1)
    options = options | {"margin": margin}
    for k in range(13):
        alpha = (torch.randint(-4, 5, (batch, k)).double() / 2).requires_grad_()
        s = torch.randint(0, 5, (batch, k)).double() / 4
        mask = torch.rand(batch, k) < 0.7
        mask[::2] = True

        closed = value_and_gradient(hint_ranking_loss(alpha, s, mask=mask, reduction="none", **options), alpha)
        dense = value_and_gradient(dense_loss(alpha, s, mask, **options), alpha)
        loop = torch.zeros(batch, dtype=torch.float64), torch.zeros(batch, k, dtype=torch.float64)
        for b in range(batch):
            value, slope = loop_loss(alpha[b, mask[b]].tolist(), s[b, mask[b]].tolist(), **options)
            loop[0][b] = value
            loop[1][b, mask[b]] = torch.tensor(slope, dtype=torch.float64)

        for oracle in (dense, loop):
            torch.testing.assert_close(closed[0], oracle[0], rtol=0, atol=BOUND)
            torch.testing.assert_close(closed[1], oracle[1], rtol=0, atol=BOUND)


@pytest.mark.parametrize("options", OPTIONS, ids=text)
def test_without_a_mask_equals_an_all_true_mask(options: dict[str, Any]) -> None:
    alpha = torch.randn(5, 9, dtype=torch.float64, requires_grad=True)
    s = torch.randint(0, 5, (5, 9)).double() / 4
    bare = value_and_gradient(hint_ranking_loss(alpha, s, **options), alpha)
    masked = value_and_gradient(hint_ranking_loss(alpha, s, mask=torch.ones(5, 9).bool(), **options), alpha)
    torch.testing.assert_close(bare, masked, rtol=0, atol=BOUND)


def test_float32_equals_all_pairs_in_float64() -> None:
    alpha = torch.randn(16, 100, requires_grad=True)
    s, mask = torch.rand(16, 100), torch.ones(16, 100).bool()
    closed = value_and_gradient(hint_ranking_loss(alpha, s, reduction="none"), alpha)
    exact = alpha.detach().double().requires_grad_()
    dense = dense_loss(exact, s, mask, margin=0.0, min_gap=0.0, scale_free=False, pair_reduction="sum")
    value, gradient = value_and_gradient(dense, exact)
    torch.testing.assert_close(closed[0].double(), value, rtol=1e-6, atol=0)
    assert torch.equal(closed[1].double(), gradient)  # whole numbers


def test_gives_known_values() -> None:
    alpha = torch.tensor([[0.5, -1.0, 2.0, 0.0], [1.0, 0.0, 3.0, 1.0]], dtype=torch.float64, requires_grad=True)
    s = torch.tensor([[0.75, 0.5, 0.25, 0.25], [0.0, 1.0, 0.5, 0.5]], dtype=torch.float64)
    expected = {
        # sample 0: pairs (0,2) 1.5, (1,2) 3, (1,3) 1; sample 1: (1,0) 1, (1,2) 3, (1,3) 1
        "paper": ({}, [5.5, 5.0], [[-1, -2, 2, 1], [1, -3, 1, 1]]),
        # sample 0: (0,2) 2, (1,2) 3.25, (1,3) 1.25, (0,3) 0; sample 1: 2, 3.5, 1.5 and (3,0) 0.5
        "margin": ({"margin": 1.0}, [6.5, 7.5], [[-1, -2, 2, 1], [2, -3, 1, 0]]),
        # sample 0: (0,2) alone; sample 1: (1,0) alone
        "min_gap": ({"min_gap": 0.5}, [0.0, 1.0], [[0, 0, 0, 0], [1, -1, 0, 0]]),
        # both have 5 ordered pairs
        "mean": ({"pair_reduction": "mean"}, [1.1, 1.0], [[-0.2, -0.4, 0.4, 0.2], [0.2, -0.6, 0.2, 0.2]]),
    }
    for options, values, gradients in expected.values():
        loss = hint_ranking_loss(alpha, s, reduction="none", **options)
        value, gradient = value_and_gradient(loss, alpha)
        torch.testing.assert_close(value, torch.tensor(values, dtype=torch.float64), rtol=0, atol=1e-15)
        torch.testing.assert_close(gradient, torch.tensor(gradients, dtype=torch.float64), rtol=0, atol=1e-15)
    scale_free = hint_ranking_loss(alpha, s, reduction="none", scale_free=True)
    torch.testing.assert_close(scale_free, torch.tensor([5.5 / 3.5, 1.0]).double(), rtol=1e-7, atol=0)


def test_min_gap_leaves_out_pairs_whose_gap_equals_it() -> None:
    alpha, s = torch.tensor([[0.0, 1.0]]), torch.tensor([[0.75, 0.25]])
    assert hint_ranking_loss(alpha, s, min_gap=0.49) == 1.0
    assert hint_ranking_loss(alpha, s, min_gap=0.5) == 0.0


@pytest.mark.parametrize("options", OPTIONS, ids=text)
def test_passes_gradcheck_and_gradgradcheck(options: dict[str, Any]) -> None:
    alpha = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    s = torch.randint(0, 5, (3, 6)).double() / 4
    mask = torch.rand(3, 6) < 0.8

    def loss(alpha: Tensor) -> Tensor:
        return hint_ranking_loss(alpha, s, mask=mask, **options)

    assert torch.autograd.gradcheck(loss, alpha)
    assert torch.autograd.gradgradcheck(loss, alpha)


def test_the_margin_is_differentiable_in_the_human_scores() -> None:
    alpha, s = torch.randn(3, 6).double().requires_grad_(), torch.rand(3, 6).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda alpha, s: hint_ranking_loss(alpha, s, margin=0.7), (alpha, s))


def test_torch_func_grad_equals_backward() -> None:
    alpha, s = torch.randn(3, 7, requires_grad=True), torch.rand(3, 7)
    _, gradient = value_and_gradient(hint_ranking_loss(alpha, s), alpha)
    torch.testing.assert_close(torch.func.grad(hint_ranking_loss)(alpha.detach(), s), gradient)


@pytest.mark.skipif(VERSION < (2, 13), reason="views of bits have no batching rule before PyTorch 2.13")
@pytest.mark.filterwarnings("ignore:There is a performance drop because we have not yet implemented the batching rule")
@pytest.mark.parametrize("options", OPTIONS, ids=text)
def test_vmap_over_samples_equals_the_batch(options: dict[str, Any]) -> None:
    alpha, s, mask = torch.randn(3, 7), torch.randint(0, 5, (3, 7)) / 4, torch.rand(3, 7) < 0.7

    def single(alpha: Tensor, s: Tensor, mask: Tensor) -> Tensor:
        return hint_ranking_loss(alpha, s, mask=mask, **options)

    batch = hint_ranking_loss(alpha, s, mask=mask, reduction="none", **options)
    torch.testing.assert_close(torch.vmap(single)(alpha, s, mask), batch)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # raised by torch while it imports Inductor
def test_compiles_without_a_graph_break() -> None:
    """The loss adds 0.0 to make -0.0 equal to 0.0; a compiler must not drop this."""
    alpha = torch.tensor([[-0.0, 0.0, 1.0, 0.5], [0.3, 0.1, 0.1, -2.0]], requires_grad=True)
    s = torch.tensor([[1.0, 0.0, 0.2, 0.2], [0.1, 0.2, 0.3, 0.3]])
    try:
        compiled = torch.compile(hint_loss.hint_ranking_loss, fullgraph=True)(alpha, s)
    except torch._inductor.exc.InductorError as error:  # such as: no C++ compiler
        pytest.skip(f"torch.compile does not work on this machine: {error}")
    torch.testing.assert_close(
        value_and_gradient(compiled, alpha), value_and_gradient(hint_ranking_loss(alpha, s), alpha)
    )


def test_the_module_is_the_function_with_its_options_stored() -> None:
    options: dict[str, Any] = {
        "margin": 0.2, "min_gap": 0.1, "scale_free": True, "pair_reduction": "mean", "reduction": "sum"
    }  # fmt: skip
    alpha, s, mask = torch.randn(4, 6, requires_grad=True), torch.rand(4, 6), torch.rand(4, 6) < 0.7
    module = HintRankingLoss(**options)
    assert {name: getattr(module, name) for name in options} == options
    assert torch.equal(module(alpha, s, mask=mask), hint_ranking_loss(alpha, s, mask=mask, **options))
    assert torch.equal(HintRankingLoss()(alpha, s), hint_ranking_loss(alpha, s))
    assert torch.equal(module.pairs(s, mask=mask), hint_pairs(s, mask=mask, min_gap=0.1))
    assert (
        repr(module) == "HintRankingLoss(margin=0.2, min_gap=0.1, relative=False, scale_free=True, "
        "pair_reduction='mean', reduction='sum')"
    )
    assert not list(module.parameters())


@pytest.mark.parametrize("K", [1, 2, 5, 31, 32, 33, 130, 200])
def test_min_gap_equals_all_pairs_on_random_cases(K: int) -> None:
    """With ties in alpha, in s and in both, gaps that equal differences of scores, and padding."""
    samples, levels = (80 if K < 100 else 10), (2, 4, 9, 1000)
    for n_alpha, n_s in itertools.product(levels, levels):
        alpha = (torch.randint(n_alpha, (samples, K)) / 8.0).double()
        s = torch.randint(n_s, alpha.shape).double() / 8
        mask = torch.rand(len(s), 1).mul(1.3) > torch.rand(len(s), K)
        for gap, margin in ((0.125, 0.0), (0.5, 0.25), (0.3, 0.0), (20.0, 0.25)):
            x, options = alpha.clone().requires_grad_(), {"margin": margin, "min_gap": gap}
            dense = dense_loss(x, s, mask, scale_free=False, pair_reduction="sum", **options)
            losses = hint_ranking_loss(x, s, mask=mask, reduction="none", **options)
            (expected, slope), (value, gradient) = value_and_gradient(dense, x), value_and_gradient(losses, x)
            torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)
            assert torch.equal(gradient, slope)  # whole numbers
            lower, order = _slopes.partners(torch.where(mask, s, 0.0), mask, gap)
            counted = _slopes.slope_by_counting(torch.where(mask, alpha - margin * s, 0.0), mask, lower, order)
            assert torch.equal(counted.double(), slope)


class TestRelative:
    """Scores are taken relative to the range of the sample."""

    OPTIONS: ClassVar[dict[str, Any]] = {"margin": 0.4, "min_gap": 0.25, "scale_free": True, "pair_reduction": "mean"}

    def test_a_hint_of_a_small_range_gives_the_same_loss(self) -> None:
        alpha, firm = torch.randn(6, 20, dtype=torch.float64), torch.rand(6, 20, dtype=torch.float64)
        firm = (firm - firm.amin(1, keepdim=True)) / (firm.amax(1, keepdim=True) - firm.amin(1, keepdim=True))
        soft = 0.4 + 0.1 * firm
        expected = hint_ranking_loss(alpha, firm, **self.OPTIONS)
        assert hint_pairs(soft, min_gap=0.25).sum() == 0
        assert hint_ranking_loss(alpha, soft, **self.OPTIONS) == 0
        torch.testing.assert_close(hint_ranking_loss(alpha, soft, relative=True, **self.OPTIONS), expected)
        assert (hint_pairs(soft, min_gap=0.25, relative=True) - hint_pairs(firm, min_gap=0.25)).abs().max() <= 1

    def test_masked_proposals_do_not_change_the_range(self) -> None:
        alpha, s = torch.randn(3, 8), torch.rand(3, 8)
        padded = torch.cat([s, torch.tensor([[float("nan"), -100.0, 100.0]]).expand(3, 3)], 1)
        mask = torch.arange(11).expand(3, 11) < 8
        expected = hint_ranking_loss(alpha, s, relative=True, **self.OPTIONS)
        found = hint_ranking_loss(
            torch.cat([alpha, torch.randn(3, 3)], 1), padded, mask=mask, relative=True, **self.OPTIONS
        )
        torch.testing.assert_close(found, expected)

    @pytest.mark.parametrize("constant", [0.0, 0.5, 0.1])
    def test_differences_by_rounding_order_nothing(self, constant: float) -> None:
        s = torch.full((2, 9), constant) * (1 + 1e-6 * torch.rand(2, 9))
        assert hint_pairs(s, relative=True).tolist() == [0, 0]
        assert hint_ranking_loss(torch.randn(2, 9), s, relative=True, **self.OPTIONS) == 0

    def test_the_mean_leaves_out_samples_without_an_ordered_pair(self) -> None:
        """They have a constant hint, one proposal, or none."""
        alpha, s, mask = torch.randn(4, 6), torch.rand(4, 6), torch.ones(4, 6, dtype=torch.bool)
        s[1], mask[2, 1:], mask[3] = 0.5, False, False
        for relative in (False, True):
            whole = hint_ranking_loss(alpha, s, mask=mask, relative=relative)
            assert whole == hint_ranking_loss(alpha[:1], s[:1], relative=relative)
            assert (hint_pairs(s, mask=mask, relative=relative) > 0).tolist() == [True, False, False, False]


def test_recommended_options_can_be_replaced() -> None:
    loss = HintRankingLoss.recommended(margin=0.8)
    assert_type(loss(torch.rand(1, 2, requires_grad=True), torch.rand(1, 2)), Tensor)  # for mypy
    assert (loss.margin, loss.scale_free, loss.relative, loss.pair_reduction) == (0.8, True, True, "mean")
    with pytest.raises(TypeError):
        HintRankingLoss.recommended(scale=True)  # type: ignore[call-arg]
