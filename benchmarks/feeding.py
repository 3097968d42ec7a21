"""Training UpDn from the memory-mapped store against training it from RAM; and opening a store."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _measure import interleaved_times, run
from rich.console import Console
from rich.progress import track
from torch import nn
from torch.utils.data import Dataset

from updn_common.data.loading import load_ahead
from updn_common.proposals.image_proposals import ImageProposals
from updn_common.proposals.store import ProposalBatch, ProposalStore
from updn_common.proposals.store_writer import Dtype, write_store
from updn_vqa.networks import NetworkSizes
from updn_vqa.networks.updn import UpDn
from updn_vqa.training.objective import answer_loss

K, D, T, WORDS, ANSWERS = 36, 2048, 14, 15_000, 3129
BATCHES = (64, 256)
CASES = {(64, 0): 1, (256, 0): 1, (64, 1): 8}
"""Steps to time at once, for each batch size and number of workers; a worker may have loaded two of them before."""
FED_IMAGES, OPENED_IMAGES = 1_500, 10_000
ENDLESS = 10**9


class Batches(Dataset[ProposalBatch]):
    """Batches of random images, the same for every source."""

    def __init__(self, store: ProposalStore, size: int) -> None:
        self.store, self.size = store, size

    def __getitem__(self, step: int) -> ProposalBatch:
        return self.store.batch(np.random.default_rng(step).integers(len(self.store), size=self.size))


def synthetic_store(directory: Path, images: int, dtype: Dtype) -> ProposalStore:
    """Write a store of random proposals in the format of `updn-vqa prepare`."""
    rng = np.random.default_rng(0)
    features = rng.random((images + K, D), dtype=np.float32)  # each image has K consecutive rows
    boxes = np.tile(np.array([[0, 0, 640, 480]], dtype=np.float32), (K, 1))
    directory.mkdir()
    proposals = (ImageProposals(i, 640, 480, boxes, features[i : i + K]) for i in range(images))
    write_store(directory, proposals, dtype=dtype, total=images)
    return ProposalStore.open(directory)


def in_ram(store: ProposalStore) -> ProposalStore:
    """The same store with all arrays in memory."""
    arrays = {Path(name).stem: np.load(store.directory / name) for name in store.description["files"]}
    return ProposalStore(store.directory, store.description, arrays)


def training_step(device: str) -> Callable[[ProposalBatch], None]:
    """Forward, backward, clipping and update on proposals, with the same random questions and answers each time."""
    torch.manual_seed(0)
    model = UpDn(NetworkSizes(), words=WORDS, answers=ANSWERS, feature_size=D).to(device)
    optimiser = torch.optim.Adamax(model.parameters())
    tokens = torch.randint(1, WORDS, (max(BATCHES), T), device=device)
    targets = torch.zeros(max(BATCHES), ANSWERS, device=device)

    def step(proposals: ProposalBatch) -> None:
        features, mask = (x.to(device, non_blocking=True) for x in (proposals.features, proposals.mask))
        logits = model(tokens[: len(mask)], features, mask).logits
        torch.autograd.backward(answer_loss(logits, targets[: len(mask)]).mean())
        nn.utils.clip_grad_norm_(model.parameters(), 0.25)
        optimiser.step()
        optimiser.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()

    return step


def fed(batches: Iterator[ProposalBatch], step: Callable[[ProposalBatch], None], steps: int) -> Callable[[], None]:
    def closure() -> None:
        for proposals in islice(batches, steps):
            step(proposals)

    return closure


def rows_of(stores: dict[str, ProposalStore], size: int, workers: int, device: str, seconds: float) -> list[Any]:
    """Time a training step for each source and, without workers, the loading of a batch alone."""
    rows = []
    programs: dict[str, Callable[[ProposalBatch], Any]] = {"training step": training_step(device)}
    if workers == 0:
        programs["batch alone"] = lambda proposals: None
    for program, step in programs.items():
        loaders = {
            name: load_ahead(Batches(store, size), range(ENDLESS), workers=workers, pin_memory=device == "cuda")
            for name, store in stores.items()
        }
        closures = {name: fed(iter(loader), step, CASES[size, workers]) for name, loader in loaders.items()}
        times = interleaved_times(closures, seconds=seconds)
        rows += [
            {"program": program, "B": size, "workers": workers, "source": name, **quartiles}
            | {"questions_per_second": 1e3 * size * CASES[size, workers] / quartiles["median_ms"]}
            | {"throughput_of_ram": times["RAM"]["median_ms"] / quartiles["median_ms"]}
            for name, quartiles in times.items()
        ]
    return rows


def open_rows(store: ProposalStore, seconds: float) -> list[dict[str, Any]]:
    times = interleaved_times({"open": lambda: ProposalStore.open(store.directory)}, seconds=seconds)
    gigabytes = sum(file["bytes"] for file in store.description["files"].values()) / 1e9
    source = f"{len(store):,} images, {store.description['dtype']}, {gigabytes:.2f} GB"
    return [{"program": "opening", "source": source, **times["open"]}]


def benchmark(device: str, seconds: float) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        mapped = synthetic_store(Path(folder) / "float32", FED_IMAGES, "float32")
        halved = synthetic_store(Path(folder) / "float16", OPENED_IMAGES, "float16")
        rows += open_rows(halved, seconds=1.0)
        stores = {"RAM": in_ram(mapped), "store": mapped, "store, float16": halved}
        for store in stores.values():
            for start in range(0, len(store), 64):
                store.batch(range(start, min(start + 64, len(store))))  # so that the files are cached
        for size, workers in track(CASES, "feeding", console=Console(stderr=True)):
            rows += rows_of(stores, size, workers, device, seconds)
    return rows


if __name__ == "__main__":
    run(
        "feeding",
        f"UpDn's training step fed from the memory-mapped store and from RAM, {K} proposals of {D} features",
        benchmark,
        device={"choices": ["cpu", "cuda"], "default": "cpu"},
        seconds={"type": float, "default": 60.0, "help": "for each size and number of workers, default: %(default)s"},
    )
