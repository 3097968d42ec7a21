"""Building and loading the captioner, and captioning a whole split with it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from jaxtyping import Int64
from torch import Tensor

from updn_captioning.data.prepared import CaptionSplit, PreparedData
from updn_captioning.networks.decode import MAX_LENGTH, beam_search
from updn_captioning.networks.updn import NetworkSizes, UpDnCaptioner
from updn_common.errors import check_range
from updn_common.runs.networks import evaluating, load_trained
from updn_common.runs.processes import over_processes

BATCH_SIZE = 64


@dataclass(frozen=True)
class Decoding:
    """How captions are made."""

    beam_size: int = 5
    """Number of captions that are kept at each word; 1 is greedy search."""
    max_length: int = MAX_LENGTH
    """Number of words after which a caption is cut."""
    length_penalty: float = 0.0
    """Captions are compared by log-probability / length ** penalty: 0 by log-probability, 1 by its mean per word."""
    repeats: bool = True
    """Allow the same word twice in a row; "a dog and a dog" is always allowed."""

    def check(self) -> None:
        """Check the options.

        Raises:
            InputError: An option is out of range.
        """
        check_range(1, beam_size=self.beam_size, max_length=self.max_length)
        check_range(0, length_penalty=self.length_penalty)


def build_model(sizes: NetworkSizes, data: PreparedData) -> UpDnCaptioner:
    """An untrained network for a prepared data set."""
    return UpDnCaptioner(sizes, vocabulary_size=len(data.vocabulary), feature_size=data.store.feature_size)


def load_model(run: Path, data: PreparedData, checkpoint: str = "best", *, option: str = "--run") -> UpDnCaptioner:
    """Load a network from a run's checkpoint; see `load_trained`."""

    def build(sizes: dict[str, Any]) -> UpDnCaptioner:
        return build_model(NetworkSizes(**sizes), data)

    vocabulary = data.vocabulary.checksum
    return load_trained(run, checkpoint, build, data=data.directory, vocabulary=vocabulary, option=option)


def generate(
    model: UpDnCaptioner,
    split: CaptionSplit,
    accelerator: Accelerator,
    decoding: Decoding,
    *,
    positions: Int64[Tensor, " N"] | None = None,
    batch_size: int = BATCH_SIZE,
) -> list[list[int]]:
    """Caption a split's images, all or those at given positions; processes share the work.

    The network is in evaluation mode meanwhile.

    Returns:
        The words of each caption, as indices.
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
