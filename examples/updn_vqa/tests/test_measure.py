"""Measuring a handmade network with known importance."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from hint_loss import proposal_importance, rank_correlation
from updn_common.errors import InputError
from updn_vqa.data.prepare import PrepareConfig, prepare
from updn_vqa.data.prepared import VqaBatch, VqaSplit
from updn_vqa.evaluation.evaluate import EvaluateConfig, evaluate
from updn_vqa.networks import VqaNetwork, VqaOutput
from updn_vqa.training.measure import Measured, measure

NAN = float("nan")
PREDICTED = [2, 0, 1, 1, 2]
TRUTH = [2, 1, 0, 0, -1]
SCORES = [[0.0, 0.3, 1.0], [0.6, 1.0, 0.0], [1.0, 0.0, 0.9], [0.9, 0.3, 0.0], [0.0, 0.0, 0.0]]
HUMAN = [[0.1, 0.9, 0.4, 0.6], [0.8, 0.2, 0.5, NAN], [NAN] * 4, [0.3, 0.2, 0.7, 0.6], [0.5, 0.1, 0.2, 0.3]]
"""The second question's image has three proposals, the third question has no hint, and the annotated answer to the
fifth is not in the vocabulary."""


class HandMade(nn.Module):
    """Gives the answer whose index is the question's last word.

    The importance of a proposal is `sign` times its first feature for the answer that the first word says, the true
    one, and the opposite for all others.
    """

    explained_by = "sum"

    def __init__(self, sign: float) -> None:
        super().__init__()
        self.sign = nn.Parameter(torch.tensor(sign))
        self.dropout = nn.Dropout(0.9)

    def forward(self, tokens: Tensor, features: Tensor, mask: Tensor) -> VqaOutput:
        value = self.sign * self.dropout(features)[..., 0].square().sum(-1) / 2
        truth, answer = (nn.functional.one_hot(tokens[:, i].clamp(min=0), 3) for i in (0, 1))
        return VqaOutput(
            1000.0 * answer + value[:, None] * (2 * truth - 1), mask / mask.sum(-1, keepdim=True), tokens.float()
        )


class HandMadeSplit:
    """Five questions. The first feature is the human importance; padding has a larger one."""

    def __len__(self) -> int:
        return len(PREDICTED)

    def batch(self, indices: Tensor) -> VqaBatch:
        human, B = torch.tensor(HUMAN)[indices], len(indices)
        features = torch.stack([human.nan_to_num(9.0), torch.full_like(human, 5.0)], dim=-1)
        mask = torch.ones(len(self), 4, dtype=torch.bool)
        mask[1, 3] = False
        return VqaBatch(
            question_ids=indices,
            tokens=torch.tensor([TRUTH, PREDICTED]).T[indices],
            features=features,
            boxes=torch.zeros(B, 4, 4),
            mask=mask[indices],
            sizes=torch.ones(B, 2, dtype=torch.int32),
            answer_scores=torch.tensor(SCORES)[indices],
            ground_truth=torch.tensor(TRUTH)[indices],
            human=human,
            relevant=human == human.nan_to_num(-1.0).amax(-1, keepdim=True),
            grounded=~human.isnan().all(-1),
        )


def measure_by_hand(model: HandMade, batch_size: int = 256) -> Measured:
    split = cast(VqaSplit, HandMadeSplit())
    return measure(cast(VqaNetwork, model), split, Accelerator(cpu=True), batch_size=batch_size)


@pytest.mark.parametrize("batch_size", [1, 3, 256])
@pytest.mark.parametrize(("sign", "correlation", "pointing"), [(1.0, 1.0, 1.0), (-1.0, -1.0, 0.0)])
def test_importance_that_agrees_with_people_or_is_its_opposite(
    sign: float, correlation: float, pointing: float, batch_size: int
) -> None:
    measured = measure_by_hand(HandMade(sign), batch_size)
    expected = [correlation, correlation, NAN, correlation, NAN]
    assert measured.rank_correlation.tolist() == pytest.approx(expected, nan_ok=True)
    assert measured.pointing.tolist() == pytest.approx([pointing, pointing, NAN, pointing, NAN], nan_ok=True)
    assert measured.answers.tolist() == PREDICTED
    assert measured.scores.tolist() == pytest.approx([1.0, 0.6, 0.0, 0.3, 0.0])
    summary = {"accuracy": 38.0, "rank_correlation": correlation, "pointing": 100 * pointing}
    assert measured.summary() == pytest.approx(summary)


class OnDevice(Tensor):
    """A tensor on a device without float64, like Apple's MPS, that cannot be combined with tensors on the CPU."""

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is Tensor.cpu:
            return args[0].as_subclass(Tensor)
        result = super().__torch_function__(func, types, args, kwargs or {})
        if isinstance(result, Tensor) and result.dtype == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype.")
        if any(type(arg) is Tensor and arg.dim() for arg in args):
            raise RuntimeError("Expected all tensors to be on the same device.")
        return result


def test_metrics_are_computed_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """They need float64, which not every device has."""

    def to_device(batch: VqaBatch, device: torch.device) -> VqaBatch:
        there = {name: getattr(batch, name).as_subclass(OnDevice) for name in ("human", "relevant", "answer_scores")}
        return batch._replace(**there)

    def importance_on_device(*args: Tensor, **options: bool) -> Tensor:
        return proposal_importance(*args, **options).as_subclass(OnDevice)

    with pytest.raises(TypeError, match="float64"):
        rank_correlation(torch.rand(2, 3).as_subclass(OnDevice), torch.rand(2, 3).as_subclass(OnDevice))
    with pytest.raises(RuntimeError, match="same device"):
        torch.rand(2, 3).as_subclass(OnDevice) + torch.rand(2, 3)
    expected = measure_by_hand(HandMade(1.0))
    monkeypatch.setattr(VqaBatch, "to", to_device)
    monkeypatch.setattr("updn_vqa.training.measure.proposal_importance", importance_on_device)
    measured = measure_by_hand(HandMade(1.0))
    assert all(type(column) is Tensor for column in measured)
    torch.testing.assert_close(tuple(measured), tuple(expected), equal_nan=True)


@pytest.mark.parametrize("training", [True, False])
def test_the_network_is_measured_in_evaluation_mode_and_restored(training: bool) -> None:
    """Dropout of 0.9 would change all measures above."""
    model = HandMade(1.0).train(training)
    measured = measure_by_hand(model)
    assert measured.summary()["rank_correlation"] == pytest.approx(1.0)
    assert model.training is training
    assert model.dropout.training is training
    assert model.sign.grad is None
    assert model.sign.requires_grad
    assert model.sign.item() == 1.0


def test_the_summary_is_nan_without_hints_or_relevant_proposals() -> None:
    unknown = torch.full((2,), NAN)
    summary = Measured(torch.tensor([0, 1]), torch.tensor([1.0, 0.3]), unknown, unknown).summary()
    assert summary == pytest.approx({"accuracy": 65.0, "rank_correlation": NAN, "pointing": NAN}, nan_ok=True)


def test_answers_of_any_model_are_scored(
    config: Callable[..., PrepareConfig], dump: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    options = config()
    prepare(options)
    capsys.readouterr()
    given = {11000: "Red.", 11001: "no", 12000: "dark red", 12001: "yes"}
    results = dump([{"question_id": key, "answer": answer} for key, answer in given.items()])
    evaluate(EvaluateConfig(data=options.out, results=results))
    printed = capsys.readouterr().out
    assert re.search(r"┃ questions +┃ +rules of 2016 \(%\) ┃ +rules of 2021 \(%\) ┃", printed)
    assert re.search(r"│ all +│ 80\.00 \[[0-9., ]+\] │ 80\.00 \[[0-9., ]+\] │", printed)  # 100, 90, 30 and 100
    assert "nan" not in printed
    assert "grounding" not in printed


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([1000, 1001, 2000], "{} answers questions of the split 'train', none of 'test'. Give --split train."),
        (
            [11000, 11001, 12000],
            "{}: 1 of the 4 annotated questions are missing, the first is 12001. There should be one record for each "
            "annotation.",
        ),
        (
            [11000, 11001, 12000, 12001, 1000],
            "{}: 1 questions have no annotation, the first is 1000. There should be one record for each annotation.",
        ),
        (
            [7, 8],
            "{}: 4 of the 4 annotated questions are missing, the first is 11000. There should be one record for each "
            "annotation.",
        ),
        (
            [],
            "{}: 4 of the 4 annotated questions are missing, the first is 11000. There should be one record for each "
            "annotation.",
        ),
    ],
)
def test_answers_to_other_questions(
    config: Callable[..., PrepareConfig], dump: Callable[..., Path], given: list[int], message: str
) -> None:
    options = config(development_share=0)
    prepare(options)
    results = dump([{"question_id": key, "answer": "red"} for key in given])
    before = sorted(options.out.rglob("*"))
    with pytest.raises(InputError) as error:
        evaluate(EvaluateConfig(data=options.out, results=results))
    assert str(error.value) == message.format(results)
    assert sorted(options.out.rglob("*")) == before


def test_evaluate_takes_either_a_run_or_answers(tmp_path: Path) -> None:
    message = r"^Give either --run, to answer the split, or --results, to score answers to it\.$"
    for given in ({}, {"run": tmp_path, "results": tmp_path / "results.json"}):
        with pytest.raises(InputError, match=message):
            evaluate(EvaluateConfig(data=tmp_path, **given))
