"""A run's captions of a split, their scores, and the grounding of visual words.

All results that need the network are kept: ``evaluation/<split>/words.safetensors`` in the run's directory has the
captions and the measurements on each visual word, and identifies the checkpoint, the data and the decoding. A
comparison of many runs need not generate captions again.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from accelerate import Accelerator
from jaxtyping import Float64
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from updn_captioning.data.prepared import CaptionSplit, PreparedData
from updn_captioning.data.tokenise import tokenise
from updn_captioning.data.vocabulary import PAD
from updn_captioning.evaluation.grounding import CaptionKind, Words, measure_generated, measure_references
from updn_captioning.networks.generate import Decoding, generate, load_model
from updn_captioning.networks.updn import UpDnCaptioner
from updn_captioning.scores.chair import Finder, chair, present_objects
from updn_captioning.scores.official import official_scores
from updn_common.files.writing import json_text
from updn_common.reports.bootstrap import Statistic
from updn_common.runs.measurements import CheckpointName, Origin, keep_measurements, kept_measurements, origin

KINDS: tuple[CaptionKind, ...] = get_args(CaptionKind)
_FORMAT = "2"
"""Version of the file; measurements in another version are measured again."""


@dataclass(frozen=True)
class Evaluation:
    """Captions of images and their scores.

    Attributes:
        captions: A tokenised caption of each image, by its COCO id.
        references: Tokenised references of each image.
        statistics: All scores, as functions of sums over the images.
        by_image: The official scores of each caption.
        words: Measurements on visual words; empty if only captions are given.
        categories: Names of the categories of visual words.
        chair_words: Where the words of CHAIR come from.
    """

    captions: Mapping[int, str]
    references: Mapping[int, Sequence[str]]
    statistics: Mapping[str, Statistic]
    by_image: Mapping[str, Float64[np.ndarray, " I"]]
    words: Mapping[CaptionKind, Words] = field(default_factory=dict)
    categories: Sequence[str] = ()
    chair_words: str = ""


def evaluate_captions(
    captions: Mapping[int, str],
    references: Mapping[int, Sequence[str]],
    annotated: Iterable[tuple[int, int]] | None,
    words: Finder,
) -> Evaluation:
    """Score tokenised captions.

    Args:
        captions: A caption of each image.
        references: The references of the same images.
        annotated: Pairs of an image and the category of an object in it, for CHAIR; None to leave CHAIR out.
        words: Finds the words that name categories.
    """
    scores = official_scores(captions, references)
    statistics = scores.corpus
    if annotated is not None:
        statistics = statistics | chair(captions, present_objects(references, annotated, words), words)
    return Evaluation(
        captions, references, statistics, scores.by_image, categories=words.categories, chair_words=words.source
    )


def evaluate_on_split(
    captions: Mapping[int, str], data: PreparedData, split: CaptionSplit, words: Finder | None = None
) -> Evaluation:
    """Score untokenised captions of a prepared split; by default, CHAIR counts the visual words of the data."""
    tokens = {image_id: tokenise(captions[image_id]) for image_id in split.image_ids}
    annotated = split.annotated if data.categories else None
    return evaluate_captions(tokens, split.references, annotated, words or data.visual_words)


def evaluate_run(
    run: Path,
    data: PreparedData,
    split: CaptionSplit,
    accelerator: Accelerator,
    *,
    checkpoint: CheckpointName = "best",
    decoding: Decoding | None = None,
    option: str = "--run",
    reuse: bool = False,
) -> Evaluation:
    """Caption a split with a run's network, measure it, and keep the measurements in the run's directory.

    Args:
        run: The run's directory.
        data: The prepared data.
        split: One of its splits.
        accelerator: Knows the device and the processes.
        checkpoint: The best checkpoint on the development split, or the last.
        decoding: How captions are generated.
        option: Flag that the run was given by, for error messages.
        reuse: Take measurements that were kept, if they are of the same checkpoint, data and decoding.

    Raises:
        InputError: The run or the checkpoint does not exist or does not belong to this data.
    """
    decoding = decoding or Decoding()
    weights, path = run / f"{checkpoint}.safetensors", run / "evaluation" / split.name / "words.safetensors"
    kept = None
    if reuse and weights.is_file():
        kept = kept_measurements(path, _origin(weights, data, decoding))
    if kept is None:
        model = load_model(run, data, checkpoint, option=option).to(accelerator.device)
        kept = _measure(model, data, split, accelerator, decoding)
        if accelerator.is_main_process:
            keep_measurements(path, kept, _origin(weights, data, decoding))
    texts = [data.vocabulary.decode(caption) for caption in kept["captions"].tolist()]
    evaluation = evaluate_on_split(dict(zip(split.image_ids, texts, strict=True)), data, split)
    words = {kind: Words(*(kept[f"{kind}.{name}"] for name in Words._fields)) for kind in KINDS}
    statistics = dict(evaluation.statistics)
    for kind, measured in words.items():
        statistics |= measured.statistics(kind, len(split.image_ids))
    return replace(evaluation, statistics=statistics, words=words)


def _measure(
    model: UpDnCaptioner, data: PreparedData, split: CaptionSplit, accelerator: Accelerator, decoding: Decoding
) -> dict[str, Tensor]:
    captions = generate(model, split, accelerator, decoding)
    words: dict[CaptionKind, Words] = {
        "reference": measure_references(model, split, accelerator),
        "generated": measure_generated(model, split, captions, data.vocabulary, data.visual_words, accelerator),
    }
    padded = pad_sequence(list(map(torch.tensor, captions)), batch_first=True, padding_value=PAD)
    measures = {f"{kind}.{name}": x for kind, found in words.items() for name, x in found._asdict().items()}
    return {"captions": padded.long()} | measures


def _origin(weights: Path, data: PreparedData, decoding: Decoding) -> Origin:
    return {**origin(_FORMAT, weights, data.directory), "decoding": json_text(asdict(decoding))}
