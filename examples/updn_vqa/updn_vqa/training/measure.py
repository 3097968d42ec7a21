"""What is measured of a network: its answers, and whether it looks where people do."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from accelerate import Accelerator
from jaxtyping import Float, Int
from torch import Tensor

from hint_loss import pointing_game, proposal_importance, rank_correlation
from updn_common.runs.directory import check_vocabulary, read_checkpoint, read_config
from updn_common.runs.importance import trained_importance
from updn_common.runs.processes import over_processes
from updn_vqa.data.prepared import PreparedData, VqaBatch, VqaSplit
from updn_vqa.data.vocabulary import prepared_checksum
from updn_vqa.networks import NetworkSizes, VqaNetwork, build_network
from updn_vqa.training.objective import decision_score


class Measured(NamedTuple):
    """What was measured on each of N questions, in their order."""

    answers: Int[Tensor, " N"]
    """Index of the predicted answer in the vocabulary."""
    scores: Float[Tensor, " N"]
    """Soft score of the predicted answer."""
    rank_correlation: Float[Tensor, " N"]
    """Of importance and human importance; NaN without a hint, or a true answer in the vocabulary."""
    pointing: Float[Tensor, " N"]
    """Whether the most important proposal shows the asked object; NaN where that is not known, or without a true answer
    in the vocabulary."""

    def summary(self) -> dict[str, float]:
        """Means in percent (accuracy, pointing) and Spearman's rho, over the questions that have them."""
        return {
            "accuracy": 100 * self.scores.mean().item(),
            "rank_correlation": self.rank_correlation.nanmean().item(),
            "pointing": 100 * self.pointing.nanmean().item(),
        }


Columns = Callable[[VqaBatch, VqaBatch], Sequence[Float[Tensor, " B"] | Int[Tensor, " B"]]]
"""What is measured of a batch, given as it was read and as it is on the device: some numbers for each question."""


def measure(model: VqaNetwork, split: VqaSplit, accelerator: Accelerator, *, batch_size: int = 256) -> Measured:
    """Answer all questions of a split, every process its share; the importance is that of the ground truth.

    The network is put into evaluation mode and back.
    """

    def columns(asked: VqaBatch, batch: VqaBatch) -> Sequence[Tensor]:
        features = batch.features.requires_grad_()
        with torch.enable_grad(), accelerator.autocast():
            logits = model(batch.tokens, features, batch.mask).logits
            score = decision_score(logits, batch)
            alpha = proposal_importance(score, features, reduction=model.explained_by, differentiable=False).cpu()
        answers = logits.argmax(-1).cpu()
        known = asked.grounded & (asked.ground_truth >= 0)  # nothing matters for an answer that is not there
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
    """What ``columns`` says of each batch, put together for all questions in their order, in every process."""
    was_training = model.training
    model.eval()

    def rows(indices: Tensor) -> Iterator[tuple[float, ...]]:
        asked = split.batch(indices)
        found = columns(asked, asked.to(accelerator.device))
        return zip(*(column.tolist() for column in found), strict=True)

    by_column = zip(*over_processes(rows, len(split), accelerator, batch_size), strict=True)
    model.train(was_training)
    return map(torch.tensor, by_column)


def load_model(run: Path, data: PreparedData, checkpoint: str = "best", *, option: str = "--run") -> VqaNetwork:
    """A network from a run's checkpoint, in evaluation mode.

    Args:
        run: The run's directory.
        data: What it was trained on.
        checkpoint: ``"best"`` or ``"last"``.
        option: The flag that the run was given by, for the error message.

    Raises:
        InputError: there is no such run or checkpoint, or it was trained on other vocabularies or features.
    """
    weights = read_checkpoint(run, checkpoint, option=option)
    check_vocabulary(run, data.directory, prepared_checksum(data.directory), option=option)
    model = build_network(NetworkSizes(**read_config(run)["scale"]["model"]), data)
    weights.restore_model(model)
    model.explained_by = trained_importance(run)
    return model.eval()
