"""What is measured of a network whose importance is known by hand."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from updn_common.errors import InputError
from updn_vqa.data import VqaBatch, VqaSplit
from updn_vqa.evaluate import EvaluateConfig, evaluate
from updn_vqa.measure import Measured, measure
from updn_vqa.model import UpDn, UpDnOutput
from updn_vqa.prepare import PrepareConfig, prepare

NAN = float("nan")
PREDICTED = [2, 0, 1, 1]
SCORES = [[0.0, 0.3, 1.0], [0.6, 1.0, 0.0], [1.0, 0.0, 0.9], [0.9, 0.3, 0.0]]
HUMAN = [[0.1, 0.9, 0.4, 0.6], [0.8, 0.2, 0.5, NAN], [NAN] * 4, [0.3, 0.2, 0.7, 0.6]]
"""The second question's image has three proposals; nobody gave a hint for the third question."""


class HandMade(nn.Module):
    """Answers what the question's last word says; the importance of a proposal is `sign` times its first feature."""

    def __init__(self, sign: float) -> None:
        super().__init__()
        self.sign = nn.Parameter(torch.tensor(sign))
        self.dropout = nn.Dropout(0.9)

    def forward(self, tokens: Tensor, features: Tensor, mask: Tensor) -> UpDnOutput:
        value = self.sign * self.dropout(features)[..., 0].square().sum(-1) / 2
        answer = nn.functional.one_hot(tokens[:, -1], 3) * 100.0
        return UpDnOutput(answer + value[:, None], mask / mask.sum(-1, keepdim=True))


class HandMadeSplit:
    """Four questions. The first feature is the human importance; padding has a larger one."""

    def __len__(self) -> int:
        return len(PREDICTED)

    def batch(self, indices: Tensor) -> VqaBatch:
        human, B = torch.tensor(HUMAN)[indices], len(indices)
        features = torch.stack([human.nan_to_num(9.0), torch.full_like(human, 5.0)], dim=-1)
        mask = torch.ones(4, 4, dtype=torch.bool)
        mask[1, 3] = False
        return VqaBatch(
            question_ids=indices,
            tokens=torch.tensor([[0, answer] for answer in PREDICTED])[indices],
            features=features,
            boxes=torch.zeros(B, 4, 4),
            mask=mask[indices],
            sizes=torch.ones(B, 2, dtype=torch.int32),
            answer_scores=torch.tensor(SCORES)[indices],
            ground_truth=torch.tensor([2, 1, 0, 0])[indices],
            human=human,
            relevant=human == human.nan_to_num(-1.0).amax(-1, keepdim=True),
            grounded=~human.isnan().all(-1),
        )


def measure_by_hand(model: HandMade, batch_size: int = 256) -> Measured:
    split = cast(VqaSplit, HandMadeSplit())
    return measure(cast(UpDn, model), split, Accelerator(cpu=True), batch_size=batch_size)


@pytest.mark.parametrize("batch_size", [1, 3, 256])
@pytest.mark.parametrize(("sign", "correlation", "pointing"), [(1.0, 1.0, 1.0), (-1.0, -1.0, 0.0)])
def test_importance_as_peoples_and_as_its_opposite(
    sign: float, correlation: float, pointing: float, batch_size: int
) -> None:
    measured = measure_by_hand(HandMade(sign), batch_size)
    expected = [correlation, correlation, NAN, correlation]
    assert measured.rank_correlation.tolist() == pytest.approx(expected, nan_ok=True)
    assert measured.pointing.tolist() == pytest.approx([pointing, pointing, NAN, pointing], nan_ok=True)
    assert measured.answers.tolist() == PREDICTED
    assert measured.scores.tolist() == pytest.approx([1.0, 0.6, 0.0, 0.3])
    summary = {"accuracy": 47.5, "rank_correlation": correlation, "pointing": 100 * pointing}
    assert measured.summary() == pytest.approx(summary)


@pytest.mark.parametrize("training", [True, False])
def test_the_network_is_measured_in_evaluation_mode_and_left_as_it_was(training: bool) -> None:
    """Dropout of 0.9 would break every measure above, if it were on."""
    model = HandMade(1.0).train(training)
    measured = measure_by_hand(model)
    assert measured.summary()["rank_correlation"] == pytest.approx(1.0)
    assert model.training is training
    assert model.dropout.training is training
    assert model.sign.grad is None
    assert model.sign.requires_grad
    assert model.sign.item() == 1.0


def test_summary_without_hints_or_grounding_truth_is_not_a_number() -> None:
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
    assert re.search(r"│ all +│ 80\.00 │ 80\.00 │", capsys.readouterr().out)  # 100, 90, 30 and 100
    before = sorted(options.out.rglob("*"))
    with pytest.raises(InputError) as error:
        evaluate(EvaluateConfig(data=options.out, results=results, split="train"))
    assert str(error.value) == (
        f"{results}: 6 of the 6 annotated questions are missing, the first is 1000. "
        "There should be one record for each annotation."
    )
    assert sorted(options.out.rglob("*")) == before


def test_evaluate_takes_a_run_or_answers(tmp_path: Path) -> None:
    message = r"^Give either --run, to answer the split, or --results, to score answers to it\.$"
    for given in ({}, {"run": tmp_path, "results": tmp_path / "results.json"}):
        with pytest.raises(InputError, match=message):
            evaluate(EvaluateConfig(data=tmp_path, **given))
