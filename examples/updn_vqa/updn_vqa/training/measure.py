"""Measuring a network: its answers, and whether its importance agrees with people's."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from jaxtyping import Float, Int
from torch import Tensor

from hint_loss import pointing_game, proposal_importance, rank_correlation
from updn_common.runs.networks import evaluating, load_trained
from updn_common.runs.processes import over_processes
from updn_vqa.data.prepared import PreparedData, VqaBatch, VqaSplit
from updn_vqa.data.vocabulary import prepared_checksum
from updn_vqa.networks import NetworkSizes, VqaNetwork, build_network
from updn_vqa.training.objective import decision_score


class Measured(NamedTuple):
    """Measurements on each of N questions, in their order."""

    answers: Int[Tensor, " N"]
    """Index of the predicted answer in the vocabulary."""
    scores: Float[Tensor, " N"]
    """Soft score of the predicted answer."""
    rank_correlation: Float[Tensor, " N"]
    """Spearman's, of importance and human importance; NaN without a hint, or if the annotated answer is not in the
    vocabulary."""
    pointing: Float[Tensor, " N"]
    """Whether the most important proposal shows the object that was asked for; NaN where that is unknown, or if the
    annotated answer is not in the vocabulary."""

    def summary(self) -> dict[str, float]:
        """Means over the questions where they are known: accuracy and pointing in percent, and rank correlation."""
        return {
            "accuracy": 100 * self.scores.mean().item(),
            "rank_correlation": self.rank_correlation.nanmean().item(),
            "pointing": 100 * self.pointing.nanmean().item(),
        }


Columns = Callable[[VqaBatch, VqaBatch], Sequence[Float[Tensor, " B"] | Int[Tensor, " B"]]]
"""Measures a batch, given on the CPU and on the device: columns with one number for each question."""


def measure(model: VqaNetwork, split: VqaSplit, accelerator: Accelerator, *, batch_size: int = 256) -> Measured:
    """Answer all questions of a split, and measure the importance for the annotated answers; processes share the work.

    The network is in evaluation mode meanwhile.
    """

    def columns(asked: VqaBatch, batch: VqaBatch) -> Sequence[Tensor]:
        features = batch.features.requires_grad_()
        with torch.enable_grad(), accelerator.autocast():
            logits = model(batch.tokens, features, batch.mask).logits
            score = decision_score(logits, batch)
            alpha = proposal_importance(score, features, reduction=model.explained_by, differentiable=False).cpu()
        answers = logits.argmax(-1).cpu()
        known = asked.grounded & (asked.ground_truth >= 0)  # else all importances are 0
        return (  # metrics are in float64, on the CPU: not every device has it
            answers,
            asked.answer_scores.gather(1, answers[:, None]).squeeze(1),
            rank_correlation(alpha, asked.human, mask=~asked.human.isnan()),
            torch.where(known, pointing_game(alpha, asked.relevant, mask=asked.mask), torch.nan),
        )

    return Measured(*measure_all(columns, model, split, accelerator, batch_size))


def measure_all(
    columns: Columns, model: VqaNetwork, split: VqaSplit, accelerator: Accelerator, batch_size: int
) -> Iterator[Tensor]:
    """Collect the columns of all questions, in their order, in every process."""

    def rows(indices: Tensor) -> Iterator[tuple[float, ...]]:
        asked = split.batch(indices)
        found = columns(asked, asked.to(accelerator.device))
        return zip(*(column.tolist() for column in found), strict=True)

    with evaluating(model):
        by_question = over_processes(rows, len(split), accelerator, batch_size)
    return map(torch.tensor, zip(*by_question, strict=True))


def load_model(run: Path, data: PreparedData, checkpoint: str = "best", *, option: str = "--run") -> VqaNetwork:
    """Load a network from a run's checkpoint; see `load_trained`."""

    def build(sizes: dict[str, Any]) -> VqaNetwork:
        return build_network(NetworkSizes(**sizes), data)

    vocabulary = prepared_checksum(data.directory)
    return load_trained(run, checkpoint, build, data=data.directory, vocabulary=vocabulary, option=option)
