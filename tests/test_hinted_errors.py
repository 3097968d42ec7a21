"""`forward_hinted` refuses arguments, models and outputs that it cannot split by samples."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hint_loss import forward_hinted

B, K, D, H = 6, 5, 4, 8
SOME = torch.tensor([False, True, True, False, True, False])
WORDS = torch.ones(B, 3)


def features() -> Tensor:
    return torch.rand(B, K, D, dtype=torch.float64)


class TestBatchNormalisation:
    @pytest.fixture
    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(D, H), nn.Sequential(nn.Flatten(), nn.BatchNorm1d(K * H))).double()

    @pytest.mark.parametrize("name", ["BatchNorm1d", "SyncBatchNorm"])
    def test_raises_in_training(self, name: str, model: nn.Module, raises: Any) -> None:
        if name == "SyncBatchNorm":
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        message = (
            "Batch normalisation mixes the samples of a batch, so the batch cannot be split: put `1.1` "
            f"({name}) in `eval()` mode with running statistics, or run the whole batch with `track_proposals`."
        )
        with raises(ValueError, message):
            forward_hinted(model, features(), hinted=SOME)

    def test_works_in_evaluation(self, model: nn.Module) -> None:
        x = features()
        model(x)  # changes the running statistics
        model[1].eval()  # type: ignore[index]
        output, _ = forward_hinted(model, x, hinted=SOME)
        torch.testing.assert_close(output, model(x), rtol=1e-10, atol=1e-12)

    def test_raises_without_running_statistics(self) -> None:
        model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(K * D, track_running_stats=False)).double().eval()
        with pytest.raises(ValueError, match="Batch normalisation mixes"):
            forward_hinted(model, features(), hinted=SOME)

    def test_raises_in_a_method_of_a_module(self) -> None:
        with pytest.raises(ValueError, match="Batch normalisation mixes the samples of a batch"):
            forward_hinted(nn.BatchNorm1d(K).double().forward, features(), hinted=SOME)

    @pytest.mark.parametrize("kind", ["function", "partial"])
    def test_raises_in_a_callable_that_is_no_module(self, kind: str) -> None:
        layer = nn.BatchNorm1d(K).double()
        models = {"function": lambda x: F.batch_norm(x, None, None, training=True), "partial": partial(layer)}
        with pytest.raises(ValueError, match=r"put `torch.nn.functional.batch_norm` in `eval\(\)` mode"):
            forward_hinted(models[kind], features(), hinted=SOME)


class TestHinted:
    @pytest.mark.parametrize(
        ("hinted", "found"),
        [
            (torch.ones(B), "`hinted.dtype = torch.float32` and `hinted.shape = (6,)`"),
            (torch.ones(B, dtype=torch.int64), "`hinted.dtype = torch.int64` and `hinted.shape = (6,)`"),
            (torch.ones(B - 1).bool(), "`hinted.dtype = torch.bool` and `hinted.shape = (5,)`"),
            (torch.ones(B, K).bool(), "`hinted.dtype = torch.bool` and `hinted.shape = (6, 5)`"),
            (torch.tensor(True), "`hinted.dtype = torch.bool` and `hinted.shape = ()`"),
        ],
        ids=str,
    )
    def test_another_dtype_or_shape_raises(self, hinted: Tensor, found: str, raises: Any) -> None:
        with raises(ValueError, f"Parameter `hinted` should be boolean, of shape (6,). Found {found}."):
            forward_hinted(lambda x: x.sum(1), features(), hinted=hinted)

    def test_a_list_raises(self) -> None:
        with pytest.raises(TypeError, match="`hinted`"):
            forward_hinted(lambda x: x.sum(1), features(), hinted=[True] * B)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("inputs", "options", "shape"),
    [
        ((WORDS[1:],), {}, "(5, 3)"),
        (([WORDS, torch.rand(1, B)],), {}, "(1, 6)"),
        ((WORDS,), {"absent": WORDS[0]}, "(3,)"),
        ((WORDS,), {"absent": torch.tensor(0.5)}, "()"),
    ],
    ids=["positional", "in a list", "keyword", "without dimensions"],
)
@pytest.mark.parametrize("hinted", [[], [0], [5], [1, 2, 4], range(B)], ids=["none", "first", "last", "some", "all"])
def test_an_argument_with_another_batch_size_raises(
    inputs: tuple[Any, ...], options: dict[str, Any], shape: str, hinted: list[int], raises: Any
) -> None:
    mask = torch.zeros(B, dtype=torch.bool).index_fill(0, torch.tensor(hinted, dtype=torch.long), True)
    with raises(ValueError, f"A tensor argument should have 6 samples. Found the shape {shape}."):
        forward_hinted(lambda x, words, absent=None: x.sum(1), features(), *inputs, hinted=mask, **options)


@pytest.mark.parametrize(
    ("model", "shapes"),
    [(lambda x: x.mean(), "() of 4 and () of 2"), (lambda x: x.transpose(0, 1), "(5, 4, 4) of 4 and (5, 2, 4) of 2")],
    ids=["a loss", "the batch second"],
)
def test_outputs_without_the_batch_first_raise(model: Callable[..., Any], shapes: str, raises: Any) -> None:
    message = (
        f"Outputs of `model` should have the batch first. Found the shapes {shapes} samples: let it return logits, "
        "of which to take the loss afterwards."
    )
    with raises(ValueError, message):
        forward_hinted(model, features(), hinted=torch.arange(B) < 2)


def test_outputs_of_another_type_raise(raises: Any) -> None:
    message = (
        "Outputs of `model` should be tensors, or tuples, lists and dictionaries of them. Found a range: return what "
        "you need of it."
    )
    with raises(TypeError, message):
        forward_hinted(lambda x: range(3), features(), hinted=torch.arange(B) < 2)
