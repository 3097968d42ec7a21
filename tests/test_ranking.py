"""The ranking loss against a loop transcription of the paper's formula and a dense autograd form."""

import itertools
from typing import Any, ClassVar, assert_type

import numpy as np
import pytest
import torch
from torch import Tensor

import hint_loss
from hint_loss import HintRankingLoss, _slopes, hint_pairs, proposal_importance

DEVICE = torch.zeros(()).device
VERSION = tuple(int(part) for part in torch.__version__.split(".")[:2])


def hint_ranking_loss(alpha: Tensor, s: Tensor, **options: Any) -> Tensor:
    """Also of constants, as they are refused where gradients are on."""
    with torch.set_grad_enabled(getattr(alpha, "requires_grad", False)):
        return hint_loss.hint_ranking_loss(alpha, s, **options)


BOUND = 1e-12  # float64 rounding of sums of at most 66 pairs of values below 4
OPTIONS = [
    {"margin": margin, "min_gap": min_gap, "scale_free": scale_free, "pair_reduction": pair_reduction}
    for margin, min_gap, scale_free, pair_reduction in itertools.product(
        (0.0, 0.5), (0.0, 0.25), (False, True), ("sum", "mean")
    )
]


def name(options: dict[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in options.items())


def loop_loss(
    alpha: list[float], s: list[float], *, margin: float, min_gap: float, scale_free: bool, pair_reduction: str
) -> tuple[float, list[float]]:
    """Value and gradient of one sample's loss, pair by pair: the formula as it is printed."""
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
    """Every sample's loss over a (B, K, K) tensor of all pairs, for autograd to differentiate."""
    alpha = alpha * mask
    if scale_free:
        norm = alpha.abs().sum(-1, keepdim=True)
        alpha = alpha / torch.where(norm == 0, 1.0, norm)
    gap = s[:, :, None] - s[:, None, :]
    pairs = (gap > min_gap) & mask[:, :, None] & mask[:, None, :]
    hinge = (margin * gap - (alpha[:, :, None] - alpha[:, None, :])).relu()
    loss = (hinge * pairs).sum((1, 2))
    return loss / pairs.sum((1, 2)).clamp(min=1) if pair_reduction == "mean" else loss


def value_and_gradient(loss: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
    (gradient,) = torch.autograd.grad(loss.sum(), alpha)
    return loss.detach(), gradient


@pytest.mark.parametrize("options", OPTIONS, ids=name)
def test_equals_loop_and_dense_on_ten_thousand_cases_with_ties(options: dict[str, Any]) -> None:
    """16 options x 13 values of K x 49 samples = 10,192 cases, every other one with a mask."""
    batch = 49
    # Grids make ties, exactly at a hinge's kink too. Shares of importance are not on a grid: a margin that no
    # difference of shares can equal keeps them off the kinks, where rounding, not the formula, would decide.
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


@pytest.mark.parametrize("options", OPTIONS, ids=name)
def test_without_a_mask_equals_an_all_true_mask(options: dict[str, Any]) -> None:
    alpha = torch.randn(5, 9, dtype=torch.float64, requires_grad=True)
    s = torch.randint(0, 5, (5, 9)).double() / 4
    bare = value_and_gradient(hint_ranking_loss(alpha, s, **options), alpha)
    masked = value_and_gradient(hint_ranking_loss(alpha, s, mask=torch.ones(5, 9).bool(), **options), alpha)
    torch.testing.assert_close(bare, masked, rtol=0, atol=BOUND)


def test_continuous_float32_values_equal_the_dense_form() -> None:
    alpha = torch.randn(16, 100, requires_grad=True)
    s = torch.rand(16, 100)
    closed = value_and_gradient(hint_ranking_loss(alpha, s, reduction="none"), alpha)
    exact = alpha.detach().double().requires_grad_()
    everything = torch.ones(16, 100).bool()
    dense = dense_loss(exact, s, everything, margin=0.0, min_gap=0.0, scale_free=False, pair_reduction="sum")
    value, gradient = value_and_gradient(dense, exact)
    torch.testing.assert_close(closed[0].double(), value, rtol=1e-6, atol=0)
    assert torch.equal(closed[1].double(), gradient)  # positions are whole numbers


def test_scores_in_float64_keep_their_order_where_float32_cannot_tell_them_apart() -> None:
    s = torch.tensor([[0.5 + 1e-12, 0.5]], dtype=torch.float64)
    assert hint_ranking_loss(torch.tensor([[0.0, 1.0]]), s) == 1.0
    assert hint_ranking_loss(torch.tensor([[0.0, 1.0]]), s.float()) == 0.0


def test_frozen_values() -> None:
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


@pytest.mark.parametrize("options", OPTIONS, ids=name)
def test_gradcheck_and_gradgradcheck(options: dict[str, Any]) -> None:
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


@pytest.mark.parametrize("offset", [1e4, 1e7])
@pytest.mark.parametrize("real", [36, 10], ids=["no padding", "padding"])
def test_a_large_offset_in_float32_adds_no_error(offset: float, real: int) -> None:
    """The slopes sum to zero: an uncentred sum of 1e7s would lose the loss to rounding."""
    shifted, s = torch.randn(8, 36) + offset, torch.rand(8, 36)
    mask = (torch.arange(36) < real).expand(8, 36)
    exact = hint_ranking_loss(shifted.double(), s, mask=mask)
    error = (hint_ranking_loss(shifted, s, mask=mask).double() - exact).abs() / exact
    assert error < 2e-6


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("options", [{}, {"margin": 0.3}, {"scale_free": True}], ids=["paper", "margin", "scale-free"])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype, options: dict[str, Any]) -> None:
    alpha = torch.randn(4, 36).to(dtype).requires_grad_()
    s = torch.rand(4, 36)
    loss = hint_ranking_loss(alpha, s, **options)
    assert loss.dtype == torch.float32
    assert loss == hint_ranking_loss(alpha.detach().float(), s, **options)
    loss.backward()
    assert alpha.grad is not None
    assert alpha.grad.dtype == dtype


def test_float64_stays_float64() -> None:
    assert hint_ranking_loss(torch.randn(2, 3).double(), torch.rand(2, 3)).dtype == torch.float64


def test_func_grad_equals_backward() -> None:
    alpha, s = torch.randn(3, 7, requires_grad=True), torch.rand(3, 7)
    _, gradient = value_and_gradient(hint_ranking_loss(alpha, s), alpha)
    torch.testing.assert_close(torch.func.grad(hint_ranking_loss)(alpha.detach(), s), gradient)


@pytest.mark.skipif(VERSION < (2, 13), reason="views of bits have no batching rule before PyTorch 2.13")
@pytest.mark.filterwarnings("ignore:There is a performance drop because we have not yet implemented the batching rule")
@pytest.mark.parametrize("options", OPTIONS, ids=name)
def test_vmap_over_samples_equals_the_batch(options: dict[str, Any]) -> None:
    alpha, s, mask = torch.randn(3, 7), torch.randint(0, 5, (3, 7)) / 4, torch.rand(3, 7) < 0.7

    def single(alpha: Tensor, s: Tensor, mask: Tensor) -> Tensor:
        return hint_ranking_loss(alpha, s, mask=mask, **options)

    batch = hint_ranking_loss(alpha, s, mask=mask, reduction="none", **options)
    torch.testing.assert_close(torch.vmap(single)(alpha, s, mask), batch)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, while Inductor is imported
def test_compiles_without_a_graph_break() -> None:
    """-0.0 before 0.0 would show a compiler that drops the addition which makes them equal."""
    alpha = torch.tensor([[-0.0, 0.0, 1.0, 0.5], [0.3, 0.1, 0.1, -2.0]], requires_grad=True)
    s = torch.tensor([[1.0, 0.0, 0.2, 0.2], [0.1, 0.2, 0.3, 0.3]])
    try:
        compiled = torch.compile(hint_loss.hint_ranking_loss, fullgraph=True)(alpha, s)
    except torch._inductor.exc.InductorError as error:  # such as: no C++ compiler
        pytest.skip(f"torch.compile does not work on this machine: {error}")
    torch.testing.assert_close(
        value_and_gradient(compiled, alpha), value_and_gradient(hint_ranking_loss(alpha, s), alpha)
    )


def test_module_is_the_function_with_its_options_stored() -> None:
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


def test_a_nan_that_is_not_masked_shows() -> None:
    good, bad = torch.zeros(1, 3), torch.tensor([[0.0, float("nan"), 1.0]])
    for options in ({}, {"min_gap": 0.1}, {"scale_free": True}, {"margin": 0.1}):
        for alpha, s in ((bad, good), (good, bad)):
            alpha = alpha.clone().requires_grad_()
            loss = hint_ranking_loss(alpha, s, **options)
            loss.backward()
            assert loss.isnan()
            assert alpha.grad is not None
            assert alpha.grad.isnan().any()  # for whoever watches gradients alone


def test_other_samples_do_not_share_a_nan() -> None:
    alpha = torch.rand(3, 4, requires_grad=True)
    s = torch.rand(3, 4)
    s[1, 2] = float("nan")
    losses = hint_ranking_loss(alpha, s, reduction="none")
    losses.sum().backward()
    assert losses.isnan().tolist() == [False, True, False]
    assert alpha.grad is not None
    assert alpha.grad.isnan().any(1).tolist() == [False, True, False]


@pytest.mark.parametrize("scale", [1e-38, 1e-41, 1e-44, 0.0])
def test_vanishing_alphas_have_finite_gradients(scale: float) -> None:
    """Below the smallest normal number, the inverse of their sum is infinite."""
    alpha = (torch.tensor([[0.1, 0.5, 0.3]]) * scale).requires_grad_()
    loss = hint_ranking_loss(alpha, torch.tensor([[0.9, 0.2, 0.2]]), scale_free=True)
    loss.backward()
    assert loss.isfinite()
    assert alpha.grad is not None
    assert alpha.grad.isfinite().all()


@pytest.mark.parametrize("alpha_type", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("s_type", [torch.bool, torch.float32, torch.float64])
def test_the_loss_has_the_precision_of_alpha(alpha_type: torch.dtype, s_type: torch.dtype) -> None:
    alpha, s = torch.rand(2, 3).to(alpha_type).requires_grad_(), torch.rand(2, 3).round().to(s_type)
    expected = torch.float64 if alpha_type == torch.float64 else torch.float32
    for options in ({}, {"margin": 0.5, "scale_free": True}, {"min_gap": 0.5}, {"pair_reduction": "mean"}):
        assert hint_ranking_loss(alpha, s, **options).dtype == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("infinity", [float("inf"), -float("inf")])
def test_an_infinite_score_shows(infinity: float) -> None:
    """It has no distance from the others, and a sample that is left out would go unnoticed."""
    s = torch.tensor([[0.0, infinity, 1.0]])
    for options in ({}, {"relative": True}, {"relative": True, "min_gap": 0.1}, {"margin": 0.1}):
        assert hint_ranking_loss(torch.zeros(1, 3), s, **options).isnan()
    masked = hint_ranking_loss(torch.tensor([[1.0, 5.0, 0.0]]), s, mask=s.isfinite(), relative=True)
    assert masked == 1.0


def by_loops(alpha: Tensor, s: Tensor, mask: Tensor, gap: float, margin: float) -> tuple[Tensor, Tensor]:
    """Sums and gradients of samples, pair by pair in the formula's words."""
    hinges = margin * (s[:, :, None] - s[:, None]) - (alpha[:, :, None] - alpha[:, None])
    pairs = (s[:, :, None] - gap > s[:, None]) & mask[:, :, None] & mask[:, None]
    losses = torch.where(pairs, hinges.clamp(min=0), 0.0).sum((1, 2))
    wrong = (pairs & (hinges > 0)).double()
    return losses, wrong.sum(1) - wrong.sum(2)


@pytest.mark.parametrize("K", [1, 2, 5, 31, 32, 33, 130, 200])
def test_a_gap_in_ten_thousand_random_cases(K: int) -> None:
    """Ties in alpha, in s and in both, gaps that are differences of scores, padding; counted or compared."""
    cases, levels = 1250, (2, 4, 9, 1000)
    for n_alpha, n_s in itertools.product(levels, levels):
        alpha = (torch.randint(n_alpha, (cases // 16 + 1, K)) / 8.0).double()
        s = torch.randint(n_s, alpha.shape).double() / 8
        mask = torch.rand(len(s), 1).mul(1.3) > torch.rand(len(s), K)
        for gap, margin in ((0.125, 0.0), (0.5, 0.25), (0.3, 0.0), (20.0, 0.25)):
            expected, slope = by_loops(alpha, s, mask, gap, margin)
            x = alpha.clone().requires_grad_()
            losses = hint_ranking_loss(x, s, mask=mask, min_gap=gap, margin=margin, reduction="none")
            losses.sum().backward()
            assert x.grad is not None
            torch.testing.assert_close(losses, expected, rtol=1e-12, atol=1e-12)
            assert torch.equal(x.grad, slope)  # whole numbers
            lower, order = _slopes.partners(torch.where(mask, s, 0.0), mask, gap)
            counted = _slopes.slope_by_counting(torch.where(mask, alpha - margin * s, 0.0), mask, lower, order)
            assert torch.equal(counted.double(), slope)


class TestRelative:
    """Scores relative to the sample's own range."""

    OPTIONS: ClassVar[dict[str, Any]] = {"margin": 0.4, "min_gap": 0.25, "scale_free": True, "pair_reduction": "mean"}

    def test_a_soft_hint_counts_as_a_firm_one_does(self) -> None:
        alpha, firm = torch.randn(6, 20, dtype=torch.float64), torch.rand(6, 20, dtype=torch.float64)
        firm = (firm - firm.amin(1, keepdim=True)) / (firm.amax(1, keepdim=True) - firm.amin(1, keepdim=True))
        soft = 0.4 + 0.1 * firm
        expected = hint_ranking_loss(alpha, firm, **self.OPTIONS)
        assert hint_pairs(soft, min_gap=0.25).sum() == 0
        assert hint_ranking_loss(alpha, soft, **self.OPTIONS) == 0
        torch.testing.assert_close(hint_ranking_loss(alpha, soft, relative=True, **self.OPTIONS), expected)
        assert (hint_pairs(soft, min_gap=0.25, relative=True) - hint_pairs(firm, min_gap=0.25)).abs().max() <= 1

    def test_the_range_is_that_of_unmasked_proposals(self) -> None:
        alpha, s = torch.randn(3, 8), torch.rand(3, 8)
        padded = torch.cat([s, torch.tensor([[float("nan"), -100.0, 100.0]]).expand(3, 3)], 1)
        mask = torch.arange(11).expand(3, 11) < 8
        expected = hint_ranking_loss(alpha, s, relative=True, **self.OPTIONS)
        found = hint_ranking_loss(
            torch.cat([alpha, torch.randn(3, 3)], 1), padded, mask=mask, relative=True, **self.OPTIONS
        )
        torch.testing.assert_close(found, expected)

    @pytest.mark.parametrize("constant", [0.0, 0.5, 0.1])
    def test_rounding_orders_nothing(self, constant: float) -> None:
        s = torch.full((2, 9), constant) * (1 + 1e-6 * torch.rand(2, 9))
        assert hint_pairs(s, relative=True).tolist() == [0, 0]
        assert hint_ranking_loss(torch.randn(2, 9), s, relative=True, **self.OPTIONS) == 0

    def test_samples_that_say_nothing_do_not_count(self) -> None:
        """A constant hint, one proposal, none: the mean is that of the other samples."""
        alpha, s, mask = torch.randn(4, 6), torch.rand(4, 6), torch.ones(4, 6, dtype=torch.bool)
        s[1], mask[2, 1:], mask[3] = 0.5, False, False
        for relative in (False, True):
            whole = hint_ranking_loss(alpha, s, mask=mask, relative=relative)
            assert whole == hint_ranking_loss(alpha[:1], s[:1], relative=relative)
            assert (hint_pairs(s, mask=mask, relative=relative) > 0).tolist() == [True, False, False, False]

    def test_a_nan_shows(self) -> None:
        s = torch.tensor([[0.0, float("nan"), 1.0]])
        assert hint_ranking_loss(torch.zeros(1, 3), s, relative=True, **self.OPTIONS).isnan()


def test_recommended() -> None:
    loss = HintRankingLoss.recommended(margin=0.8)
    assert_type(loss(torch.rand(1, 2, requires_grad=True), torch.rand(1, 2)), Tensor)  # for mypy
    assert (loss.margin, loss.scale_free, loss.relative, loss.pair_reduction) == (0.8, True, True, "mean")
    with pytest.raises(TypeError):
        HintRankingLoss.recommended(scale=True)  # type: ignore[call-arg]


class TestErrors:
    """Whole messages."""

    def test_shapes(self, raises: Any) -> None:
        message = (
            "Parameters `alpha` and `s` should have the same shape (..., K), on one device. "
            f"Found `alpha.shape = (2, 3)` on {DEVICE} and `s.shape = (3,)` on {DEVICE}."
        )
        with raises(ValueError, message):
            hint_ranking_loss(torch.zeros(2, 3), torch.zeros(3))

    def test_scalar(self, raises: Any) -> None:
        message = (
            "Parameters `alpha` and `s` should have the same shape (..., K), on one device. "
            f"Found `alpha.shape = ()` on {DEVICE} and `s.shape = ()` on {DEVICE}."
        )
        with raises(ValueError, message):
            hint_ranking_loss(torch.tensor(0.0), torch.tensor(0.0))

    def test_integer_alpha(self, raises: Any) -> None:
        message = "Parameter `alpha` should be a floating point tensor. Found `alpha.dtype = torch.int64`."
        with raises(TypeError, message):
            hint_ranking_loss(torch.tensor([[1, 2]]), torch.zeros(1, 2))

    @pytest.mark.parametrize(
        ("mask", "found"),
        [
            (torch.ones(2, 3), "`mask.dtype = torch.float32` and `mask.shape = (2, 3)`"),
            (torch.ones(3, 2).bool(), "`mask.dtype = torch.bool` and `mask.shape = (3, 2)`"),
            (torch.ones(2, 1).bool(), "`mask.dtype = torch.bool` and `mask.shape = (2, 1)`"),
        ],
        ids=["not boolean", "transposed", "broadcastable"],
    )
    def test_mask(self, raises: Any, mask: Tensor, found: str) -> None:
        message = (
            f"Parameter `mask` should be boolean, of shape (2, 3) or, for whole samples, (2,). "
            f"Found {found} on {DEVICE}."
        )
        with raises(ValueError, message):
            hint_ranking_loss(torch.zeros(2, 3), torch.zeros(2, 3), mask=mask)

    def test_another_device(self, raises: Any) -> None:
        message = (
            "Parameters `alpha` and `s` should have the same shape (..., K), on one device. "
            f"Found `alpha.shape = (2, 3)` on {DEVICE} and `s.shape = (2, 3)` on meta."
        )
        with raises(ValueError, message):
            hint_ranking_loss(torch.zeros(2, 3), torch.zeros(2, 3, device="meta"))

    def test_a_map_that_is_not_flattened(self, raises: Any) -> None:
        message = (
            "Parameter `alpha` should have shape (B, K) or, with a mask, (..., K). Found `alpha.shape = (2, 7, 7)` "
            "without one: pass `alpha.flatten(1)` and `s.flatten(1)` if these are maps, or the mask of the decisions "
            "that count, `torch.ones_like(alpha, dtype=torch.bool)` for all."
        )
        alpha, s = torch.rand(2, 7, 7), torch.rand(2, 7, 7)
        with raises(ValueError, message):
            hint_ranking_loss(alpha, s)
        decisions = hint_ranking_loss(alpha, s, mask=torch.ones_like(alpha, dtype=torch.bool))
        torch.testing.assert_close(decisions, hint_ranking_loss(alpha.flatten(0, 1), s.flatten(0, 1)))

    def test_a_mask_of_decisions_or_of_proposals(self, raises: Any) -> None:
        """(B, K) is read as (B, T) only where it cannot be the other."""
        message = (
            "Parameter `mask` of shape (2, 4) could be meant for decisions or for proposals, because `alpha.shape = "
            "(2, 4, 4)` has as many of both: pass `mask[..., None].expand_as(alpha)` or "
            "`mask[..., None, :].expand_as(alpha)`."
        )
        alpha, s, mask = torch.rand(2, 4, 4), torch.rand(2, 4, 4), torch.rand(2, 4) > 0.5
        with raises(ValueError, message):
            hint_ranking_loss(alpha, s, mask=mask)
        for whole in (mask[..., None].expand_as(alpha), mask[..., None, :].expand_as(alpha)):
            assert hint_ranking_loss(alpha, s, mask=whole).isfinite()
        assert hint_ranking_loss(alpha[..., :3], s[..., :3], mask=mask).isfinite()
        assert hint_ranking_loss(alpha[0], s[0], mask=mask[0]).isfinite()  # (B,), though B = K

    def test_an_importance_that_cannot_be_trained(self, raises: Any) -> None:
        message = (
            "Parameter `alpha` should carry a graph, or nothing is trained. Found `alpha.requires_grad = False`: take "
            "the importance with `differentiable=True`, or only measure the loss, under `torch.no_grad()`."
        )
        proposals, weight = torch.rand(2, 3, 4, requires_grad=True), torch.rand(4, requires_grad=True)
        score = (proposals @ weight).square().sum(1)
        alpha = proposal_importance(score, proposals, differentiable=False)
        for loss in (HintRankingLoss(), hint_loss.hint_ranking_loss):
            with raises(ValueError, message):
                loss(alpha, torch.rand(2, 3))
            with torch.no_grad():
                assert loss(alpha, torch.rand(2, 3)).isfinite()

    @pytest.mark.parametrize(("margin", "min_gap"), [(-0.5, 0.0), (0.0, -0.5), (float("nan"), 0.0)])
    def test_margin_and_min_gap(self, raises: Any, margin: float, min_gap: float) -> None:
        message = (
            f"Parameters `margin` and `min_gap` should be at least 0. Found `margin = {margin}`, `min_gap = {min_gap}`."
        )
        with raises(ValueError, message):
            hint_ranking_loss(torch.zeros(2, 3), torch.zeros(2, 3), margin=margin, min_gap=min_gap)
        with raises(ValueError, message):
            HintRankingLoss(margin=margin, min_gap=min_gap)

    def test_options_that_are_no_numbers(self, raises: Any) -> None:
        message = "Parameters `margin` and `min_gap` should be numbers. Found `margin = '1'`, `min_gap = 0.0`."
        with raises(TypeError, message):
            HintRankingLoss(margin="1")  # type: ignore[arg-type]
        with raises(TypeError, message.replace("'1'", "None")):
            HintRankingLoss(margin=None)  # type: ignore[arg-type]

    def test_reductions(self, raises: Any) -> None:
        alpha: Any = torch.zeros(2, 3)
        calls: list[Any] = [lambda **options: hint_ranking_loss(alpha, alpha, **options), HintRankingLoss]
        for call in calls:
            with raises(ValueError, "Parameter `pair_reduction` should be 'sum' or 'mean'. Found 'max'."):
                call(pair_reduction="max")
            with raises(ValueError, "Parameter `reduction` should be 'mean', 'sum' or 'none'. Found 'batchmean'."):
                call(reduction="batchmean")

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (
                {"alpha": [0.0]},
                "Parameter `alpha` should be a torch.Tensor. Found a list: pass `torch.as_tensor(alpha)`.",
            ),
            (
                {"s": np.zeros(1)},
                "Parameter `s` should be a torch.Tensor. Found a numpy.ndarray: pass `torch.as_tensor(s)`.",
            ),
            (
                {"mask": np.ones(1, bool)},
                "Parameter `mask` should be a torch.Tensor. Found a numpy.ndarray: pass `torch.as_tensor(mask)`.",
            ),
        ],
        ids=["alpha", "s", "mask"],
    )
    def test_arrays_and_lists(self, raises: Any, arguments: dict[str, Any], message: str) -> None:
        with raises(TypeError, message):
            hint_ranking_loss(**({"alpha": torch.zeros(1), "s": torch.zeros(1)} | arguments))

    def test_alpha_and_s_exchanged(self, raises: Any) -> None:
        message = (
            "Parameter `alpha` is what the loss trains, `s` its target. Found `alpha.requires_grad = False` and "
            "`s.requires_grad = True`: swap them if they are the wrong way round, or else pass `s.detach()`."
        )
        alpha, s = torch.zeros(2, 3, requires_grad=True), torch.zeros(2, 3)
        with raises(ValueError, message):
            hint_ranking_loss(s, alpha)
        assert hint_ranking_loss(alpha.detach(), s) == 0  # an evaluation


def test_a_gap_between_half_precision_scores_is_taken_in_float32() -> None:
    s = torch.tensor([[1.0, 0.75]], dtype=torch.bfloat16)
    assert hint_ranking_loss(torch.tensor([[0.0, 1.0]]), s, min_gap=0.249) == 1.0


def test_inputs_need_not_be_contiguous() -> None:
    alpha, s, mask = torch.rand(5, 3).T, torch.rand(5, 3).T, (torch.rand(5, 3) < 0.8).T
    loss = hint_ranking_loss(alpha, s, mask=mask, pair_reduction="mean")  # torch would warn of what it copies
    copies = alpha.contiguous(), s.contiguous(), mask.contiguous()
    assert loss == hint_ranking_loss(*copies[:2], mask=copies[2], pair_reduction="mean")
