"""A run's network, and its captions of a whole split."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from jaxtyping import Int64
from torch import Tensor, nn

from updn_captioning.data.prepared import CaptionSplit, PreparedData
from updn_captioning.networks.decode import MAX_LENGTH, beam_search
from updn_captioning.networks.updn import NetworkSizes, UpDnCaptioner
from updn_common.errors import check_range
from updn_common.runs.directory import check_vocabulary, read_checkpoint, read_config
from updn_common.runs.importance import trained_importance
from updn_common.runs.processes import over_processes

BATCH_SIZE = 64


@dataclass(frozen=True)
class Decoding:
    """How captions are made."""

    beam_size: int = 5
    """Captions that are kept at each word; 1 is greedy."""
    max_length: int = MAX_LENGTH
    """Words after which a caption is cut."""
    length_penalty: float = 0.0
    """Log-probabilities are compared over length to the power of this: 0 as they are, 1 per word."""
    repeats: bool = True
    """May a word be said twice in a row? --no-repeats forbids that alone: "a dog and a dog" can still be said."""

    def check(self) -> None:
        """Check the options.

        Raises:
            InputError: One makes no sense.
        """
        check_range(1, beam_size=self.beam_size, max_length=self.max_length)
        check_range(0, length_penalty=self.length_penalty)


def build_model(sizes: NetworkSizes, data: PreparedData) -> UpDnCaptioner:
    """An untrained network for a prepared data set."""
    return UpDnCaptioner(sizes, vocabulary_size=len(data.vocabulary), feature_size=data.store.feature_size)


def load_model(run: Path, data: PreparedData, checkpoint: str = "best", *, option: str = "--run") -> UpDnCaptioner:
    """A network from a run's checkpoint, in evaluation mode.

    Args:
        run: The run's directory.
        data: What it was trained on.
        checkpoint: ``"best"`` or ``"last"``.
        option: The flag that the run was given by, for the error message.

    Raises:
        InputError: There is no such run or checkpoint, or it was trained on another vocabulary or features.
    """
    weights = read_checkpoint(run, checkpoint, option=option)
    check_vocabulary(run, data.directory, data.vocabulary.checksum, option=option)
    model = build_model(NetworkSizes(**read_config(run)["scale"]["model"]), data)
    weights.restore_model(model)
    model.explained_by = trained_importance(run)
    return model.eval()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode, and back into the mode that it was in."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def generate(
    model: UpDnCaptioner,
    split: CaptionSplit,
    accelerator: Accelerator,
    decoding: Decoding,
    *,
    positions: Int64[Tensor, " N"] | None = None,
    batch_size: int = BATCH_SIZE,
) -> list[list[int]]:
    """The words, as indices, of a caption of a split's images, all or those at some positions, in their order.

    Every process does its share. The network is put into evaluation mode and back.
    """
    wanted = torch.arange(len(split.image_ids)) if positions is None else positions

    def captions(batch: Tensor) -> Sequence[list[int]]:
        images = split.images(wanted[batch])
        features, mask = (x.to(accelerator.device) for x in (images.features, images.mask))
        with evaluating(model), accelerator.autocast():
            found = beam_search(
                model,
                features,
                mask,
                beam_size=decoding.beam_size,
                max_length=decoding.max_length,
                length_penalty=decoding.length_penalty,
                repeats=decoding.repeats,
            )
        return [caption.tokens for caption in found]

    return over_processes(captions, len(wanted), accelerator, batch_size, "captions")
