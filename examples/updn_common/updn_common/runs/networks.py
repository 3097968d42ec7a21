"""Networks of either pipeline: reading a trained one from a run, and evaluating it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from updn_common.runs.directory import check_vocabulary, read_checkpoint, read_config
from updn_common.runs.importance import Importance, trained_importance


class ExplainedNetwork(nn.Module):
    """A network that is explained by the importance of proposals."""

    explained_by: Importance = "sum"
    """The importance that the network was trained with and is measured by."""


N = TypeVar("N", bound=ExplainedNetwork)


def load_trained(
    run: Path, checkpoint: str, build: Callable[[dict[str, Any]], N], *, data: Path, vocabulary: str, option: str
) -> N:
    """Load a network from a run's checkpoint, in evaluation mode.

    Args:
        run: The run's directory.
        checkpoint: ``"best"`` or ``"last"``.
        build: Makes the untrained network from its recorded sizes.
        data: The prepared directory that the network was trained on.
        vocabulary: Checksum of the directory's vocabulary.
        option: Flag that the run was given by, for the error message.

    Raises:
        InputError: There is no such run or checkpoint, or it was trained on another vocabulary or other features.
    """
    weights = read_checkpoint(run, checkpoint, option=option)
    check_vocabulary(run, data, vocabulary, option=option)
    network = build(read_config(run)["scale"]["model"])
    weights.restore_model(network)
    network.explained_by = trained_importance(run)
    return network.eval()


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode, and back into its former mode."""
    was_training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(was_training)
