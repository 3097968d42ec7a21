"""A run's answers to questions without annotations, such as VQA's test2015: ``updn-vqa predict``."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from updn_common.console import plain_console
from updn_common.errors import InputError, check_range, first_few
from updn_common.files.writing import new_directory
from updn_common.progress import track
from updn_common.proposals.conversion import FeatureOptions, store_proposals
from updn_common.proposals.store import ProposalStore
from updn_common.runs.measurements import CheckpointName
from updn_common.runs.processes import make_accelerator
from updn_vqa.data.prepared import PreparedData
from updn_vqa.data.questions import read_questions, write_results
from updn_vqa.data.vocabulary import UNKNOWN
from updn_vqa.networks import VqaNetwork
from updn_vqa.training.measure import load_model


@dataclass(frozen=True)
class PredictConfig:
    """Which questions a run should answer.

    Attributes:
        data: The prepared directory that the run was trained on.
        run: Path of the run.
        questions: A question file, such as v2_OpenEnded_mscoco_test2015_questions.json.
        out: The new directory. VQA's server takes its results.json.
        features: Features of the images: TSV or HDF5 files, folders of npz, or a prepared directory. Default: those
            of the prepared directory.
        skip_damaged_features: Skip features that cannot be read, and repeated features of an image, instead of
            stopping. Images that are then without features are still refused.
        checkpoint: The best checkpoint on the development split, or the last.
        batch_size: Number of questions at a time.
        cpu: Use the CPU even where there is a GPU.
    """

    data: Path
    run: Path
    questions: Path
    out: Path
    features: tuple[Path, ...] = ()
    skip_damaged_features: bool = False
    checkpoint: CheckpointName = "best"
    batch_size: int = 256
    cpu: bool = False


def predict(config: PredictConfig) -> None:
    """Write the answer to every question into ``results.json``, in the official results format.

    Features are converted first, which takes longest; after an interruption the same command continues with it.

    Raises:
        InputError: The batch size is below 1, a file is malformed, an image has no proposals, or the run does not
            belong to the prepared data. Only converted features are left behind.
    """
    check_range(1, batch_size=config.batch_size)
    data = PreparedData.open(config.data)
    questions = read_questions(config.questions)
    device = make_accelerator(cpu=config.cpu).device
    model = load_model(config.run, data, config.checkpoint).to(device)
    length = data.split("train").tokens.shape[1]
    tokens = torch.from_numpy(data.words.encode([question.text for question in questions], length))
    image_ids = [question.image_id for question in questions]
    with new_directory(config.out, keep="proposals") as out:
        store = _store(config, data, set(image_ids), out / "proposals")
        with torch.inference_mode():
            found = [data.answers.answers[i] for i in _answers(model, tokens, image_ids, store, config.batch_size)]
        write_results(out / "results.json", zip((q.question_id for q in questions), found, strict=True))
    unknown = (tokens == UNKNOWN).sum() / (tokens > 0).sum().clamp(min=1)
    plain_console().print(
        f"{config.out / 'results.json'}: {len(questions):,} answers about {len(set(image_ids)):,} images; "
        f"{unknown:.1%} of the questions' words are unknown to the network.",
        soft_wrap=True,
    )


def _store(config: PredictConfig, data: PreparedData, wanted: set[int], directory: Path) -> ProposalStore:
    """Proposals of all wanted images, with as many features as the network was trained with."""
    store = data.store
    if config.features:
        options = FeatureOptions(size=store.feature_size, skip_damaged=config.skip_damaged_features)
        store = store_proposals(directory, config.features, wanted, options)
    if missing := sorted(image_id for image_id in wanted if image_id not in store):
        source = ", ".join(map(str, config.features)) or config.data
        raise InputError(
            f"{len(missing)} of the {len(wanted)} images have no proposals in {source}: {first_few(missing)}. Give "
            "the features of all images with --features."
        )
    return store


def _answers(
    model: VqaNetwork, tokens: Tensor, image_ids: Sequence[int], store: ProposalStore, batch_size: int
) -> Iterator[int]:
    """Yield the index of the answer to each question."""
    device = next(model.parameters()).device
    rows = store.rows(image_ids)
    for start in track(range(0, len(rows), batch_size), "answers"):
        at = slice(start, start + batch_size)
        proposals = store.batch(rows[at])
        logits = model(tokens[at].to(device), proposals.features.to(device), proposals.mask.to(device)).logits
        yield from logits.argmax(-1).tolist()
