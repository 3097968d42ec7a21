"""Fuzz every reader with thousands of damaged files: each must load or raise an InputError; ``make fuzz``.

Two tiny worlds are rendered, prepared, trained on and evaluated. Then each of their files, and one of each other kind
of input file, is damaged at random and read: bytes are changed, cut, doubled or exchanged, and values in JSON replaced.
A reader has ten seconds and four GiB. Other outcomes are reported with the number of the mutant, whose file is kept.

HDF5 files with rows of variable length are left out: HDF5's own code can loop for ever on a damaged heap.

    python fuzz.py --mutants 50000             # divided among all readers
    python fuzz.py --only store --mutants 500  # readers with "store" in their names
"""

import argparse
import json
import multiprocessing
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import torch

from shapes_cp.pairs import PairWorld
from shapes_cp.world import World
from shapes_cp.write import write_world
from shapes_cp.write_pairs import write_pair_world
from updn_captioning.data import coco, results
from updn_captioning.data import prepare as captions
from updn_captioning.data.instances import Instances
from updn_captioning.data.prepared import PreparedData as CaptionData
from updn_captioning.data.visual_words import VisualWords
from updn_common.data.attention_maps import read_attention_map, read_salicon
from updn_common.errors import InputError
from updn_common.proposals.hdf5 import read_image_ids
from updn_common.proposals.readers import read_proposals
from updn_common.proposals.store import ProposalStore
from updn_common.runs.directory import read_checkpoint, read_config, read_metrics
from updn_vqa.data import prepare as questions
from updn_vqa.data.hints import BoxHints, FileHints, read_gqa
from updn_vqa.data.hints.words import ObjectNames, read_explanations
from updn_vqa.data.prepared import PreparedData
from updn_vqa.data.questions import read_annotations, read_questions
from updn_vqa.data.questions import read_results as read_answers
from updn_vqa.data.rebuild import read_question_ids
from updn_vqa.evaluation.evaluate import EvaluateConfig, evaluate
from updn_vqa.training.config import TrainConfig
from updn_vqa.training.measure import load_model
from updn_vqa.training.methods import METHODS, SCALES, SMALL
from updn_vqa.training.train import train

MEMORY, SECONDS = 4 << 30, 10
JSON_SUFFIXES = (".json", ".jsonl")


class Target(NamedTuple):
    """A file, and a function that reads it."""

    name: str
    path: Path
    read: Callable[[], object]


def make_seeds(folder: Path) -> None:
    """Write small files of every kind."""
    write_world(folder / "world", World(seed=0), "tiny", workers=1)
    write_pair_world(folder / "pairs", PairWorld(seed=0), "tiny", workers=1)
    prepared = folder / "prepared"
    options = {"min_answer_occurrences": 1, "hints": "hat"}
    questions.prepare(questions.PrepareConfig(data=folder / "world", out=prepared, **options))  # type: ignore[arg-type]
    captions.prepare(captions.PrepareConfig(data=folder / "pairs", out=folder / "captions", min_word_occurrences=1))
    scale = replace(SCALES["shapes"], model=replace(SMALL, embedding=8, hidden=16), steps=2, evaluate_every=1)
    train(TrainConfig(prepared, folder / "run", METHODS["unsigned"], scale, cpu=True))
    evaluate(EvaluateConfig(prepared, folder / "run", cpu=True))
    small = folder / "small"
    small.mkdir()
    tsv = next((folder / "world").glob("*.tsv"))
    with tsv.open() as file:
        (small / "a.tsv").write_text("".join(next(file) for _ in range(2)))
    images = list(read_proposals(small / "a.tsv"))
    (small / "npz").mkdir()
    for image in images:
        size = {"image_w": image.width, "image_h": image.height, "num_bbox": len(image.boxes)}
        np.savez(small / "npz" / f"{image.image_id}.npz", x=image.features, bbox=image.boxes, **size)  # type: ignore[arg-type]
    with h5py.File(small / "a.hdf5", "w") as file:
        scale_of = [np.array([i.width, i.height] * 2, dtype=np.float32) for i in images]
        file["image_features"] = np.stack([image.features for image in images])
        file["image_bb"] = np.stack([image.boxes for image in images])
        sides = [np.concatenate([i.boxes, i.boxes[:, 2:] - i.boxes[:, :2]], 1) for i in images]
        file["spatial_features"] = np.stack([x / s[[0, 1, 2, 3, 0, 1]] for x, s in zip(sides, scale_of, strict=True)])
    about = {"format": "hints", "version": 1, "about": "a test"}
    hints = [{"question_id": 1, "boxes": [[0, 0, 9, 9]]}, {"question_id": 2, "importance": [0.1, 0.9]}]
    graph = {"width": 90, "height": 60, "objects": {"5": {"name": "cat", "x": 1, "y": 2, "w": 30, "h": 20}}}
    asked = {"question": "Is it a cat?", "answer": "yes", "imageId": "7", "annotations": {"question": {"0": "5"}}}
    fixations = {"image_id": 1, "fixations": [[3, 4], [5, 6]]}
    documents = {
        "a.ids": [image.image_id for image in images],
        "sceneGraphs": {"7": graph},
        "gqa": {"3": asked},
        "salicon": {"images": [{"id": 1, "width": 40, "height": 30}], "annotations": [fixations]},
        "explanations": {"1": ["because of the cat"], "2": ["it is", "a dog"]},
        "answers": [{"question_id": 1, "answer": "red"}],
        "ids": [1, 2, 3],
        "results": [{"image_id": 1, "caption": "a cat"}],
    }
    for name, document in documents.items():
        (small / f"{name}.json").write_text(json.dumps(document))
    (small / "hints.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [about, *hints]))
    (small / "objects.txt").write_text("cat\ndog,puppy\nhot dog\n")
    (small / "words.txt").write_text("person, man\ndog, puppy\n! hot dog\n+ baby: dog\n")


def find_targets(folder: Path) -> Iterator[Target]:
    """All files with their readers."""
    small, world, pairs = folder / "small", folder / "world", folder / "pairs"
    lone: dict[str, tuple[Path, Callable[[Path], object]]] = {
        "features, TSV": (small / "a.tsv", lambda path: list(read_proposals(path))),
        "features, HDF5": (small / "a.hdf5", lambda path: list(read_proposals(path))),
        "features, npz": (next((small / "npz").glob("*.npz")), lambda path: list(read_proposals(path.parent))),
        "image ids": (small / "a.ids.json", read_image_ids),
        "attention map": (next((world / "vqahat_train").glob("*.png")), read_attention_map),
        "fixations": (small / "salicon.json", read_salicon),
        "questions": (next(world.glob("*_test_questions.json")), read_questions),
        "annotations": (next(world.glob("*_test_annotations.json")), read_annotations),
        "boxes": (next(world.glob("*_boxes.json")), lambda path: BoxHints.read([path])),
        "hint file": (small / "hints.jsonl", lambda path: FileHints.read([path], None)),
        "GQA's questions": (small / "gqa.json", lambda path: read_gqa([path, small / "sceneGraphs.json"])),
        "scene graphs": (small / "sceneGraphs.json", lambda path: read_gqa([small / "gqa.json", path])),
        "object names": (small / "objects.txt", ObjectNames.read),
        "explanations": (small / "explanations.json", read_explanations),
        "answers": (small / "answers.json", read_answers),
        "question ids": (small / "ids.json", read_question_ids),
        "instances": (next(pairs.glob("instances*.json")), lambda path: Instances.read([path])),
        "results of captions": (small / "results.json", results.read_results),
        "visual words": (small / "words.txt", VisualWords.read_list),
        "captions": (next(pairs.glob("captions_*.json")), coco.read_captions),
        "Karpathy's captions": (pairs / "dataset_coco.json", coco.read_karpathy),
        "configuration": (folder / "run" / "config.json", lambda path: read_config(path.parent)),
        "metrics": (folder / "run" / "metrics.jsonl", lambda path: read_metrics(path.parent)),
    }
    for name, (path, read) in lone.items():
        yield Target(name, path, lambda path=path, read=read: read(path))  # type: ignore[misc]

    def store() -> object:
        opened = ProposalStore.open(folder / "prepared" / "proposals")
        return opened.batch(range(min(3, len(opened.image_ids))))

    for path in sorted((folder / "prepared" / "proposals").iterdir()):
        yield Target(f"store, {path.name}", path, store)
    for name, prepared, read in (("questions", "prepared", _vqa), ("captions", "captions", _captions)):
        for path in sorted((folder / prepared).rglob("*")):
            if path.is_file() and path.parent.name != "proposals":
                where = path.relative_to(folder / prepared)
                yield Target(f"prepared {name}, {where}", path, lambda read=read, at=folder / prepared: read(at))  # type: ignore[misc]

    def checkpoint() -> object:
        checkpoint = read_checkpoint(folder / "run", "best", option="--run")
        return load_model(folder / "run", PreparedData.open(folder / "prepared"), option="--run"), checkpoint.progress

    yield Target("checkpoint", folder / "run" / "best.safetensors", checkpoint)


def _vqa(directory: Path) -> object:
    data = PreparedData.open(directory)
    for name in data.split_names:
        split = data.split(name)
        _ = split.batch([0, 1]), split.questions, split.annotations, split.hints
    return data.words.encode(["what is it"])


def _captions(directory: Path) -> object:
    data = CaptionData.open(directory)
    for name in data.split_names:
        split = data.split(name)
        _ = split.batch([0, 1]), split.references
    return data.visual_words.find(["a", "cat"])


def damage(content: bytes, is_json: bool, rng: random.Random) -> bytes:
    """Damage the content of a file, mostly at one place."""
    if is_json and rng.random() < 0.6:
        lines = content.split(b"\n")
        at = rng.randrange(len(lines))
        try:
            document = json.loads(lines[at] if len(lines) > 2 else content)
        except ValueError:
            document = None
        if document is not None:
            text = json.dumps(_changed(document, rng)).encode()
            return b"\n".join([*lines[:at], text, *lines[at + 1 :]]) if len(lines) > 2 else text
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        begin = rng.randrange(len(changed) + 1)
        end = min(len(changed), begin + rng.choice((0, 1, 1, 4, 64, 4096)))
        piece = bytes(changed[begin:end])
        noise, n = rng.randbytes(len(piece)), len(piece)
        changed[begin:end] = rng.choice((b"", piece * 2, piece[::-1], noise, b"\0" * n, b"\xff" * n))
    return bytes(changed[: rng.randrange(len(changed) + 1)] if rng.random() < 0.1 else changed)


VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 0.5, 1e308, -1e308, float("nan"), float("inf"), 2**31, 2**63, 2**64, -(2**63) - 1),
    *("", "a", "\ud800", "../x", "/etc/passwd", "[/x]", "\0", "9" * 5000, "x" * 300, [], {}, [[]], [None], {"a": 1}),
)


def _changed(value: Any, rng: random.Random) -> Any:
    """Replace, delete or double one value or key of a JSON document."""
    if not isinstance(value, dict | list) or not value or rng.random() < 0.1:
        return rng.choice(VALUES)
    if isinstance(value, list):
        value, at = list(value), rng.randrange(len(value))
        if (choice := rng.random()) < 0.1:
            del value[at]
        elif choice < 0.2:
            value.append(value[at])
        else:
            value[at] = _changed(value[at], rng)
        return value
    value, key = dict(value), rng.choice(list(value))
    if (choice := rng.random()) < 0.1:
        del value[key]
    elif choice < 0.2:
        value[rng.choice(("", "x", "-1", "\ud800", "../x", "9" * 30))] = value.pop(key)
    else:
        value[key] = _changed(value[key], rng)
    return value


@contextmanager
def limited() -> Iterator[None]:
    """Raise a TimeoutError after ``SECONDS``."""

    def late(number: int, frame: object) -> None:
        raise TimeoutError(f"more than {SECONDS} s")

    signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)


def attack(target: Target, mutants: int, seed: int, kept: Path) -> dict[str, Any]:
    """Read damaged files, and count the outcomes."""
    content, ends, faults = target.path.read_bytes(), {"loaded": 0, "refused": 0}, []
    progress = kept / "at"
    for number in range(mutants):
        progress.write_text(str(number))
        mutant = damage(content, target.path.suffix in JSON_SUFFIXES, random.Random(f"{seed} {target.name} {number}"))
        if target.path.stat().st_nlink > 1:  # a file of a shared store
            target.path.unlink()
        target.path.write_bytes(mutant)
        try:
            with limited(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
                target.read()
            ends["loaded"] += 1
        except InputError as error:
            str(error).encode("utf-8", "surrogateescape")
            ends["refused"] += 1
        except (Exception, SystemExit) as error:
            message = f"{type(error).__name__}: {error}"[:200]
            if message.split(":")[0] not in {fault["error"].split(":")[0] for fault in faults} or len(faults) < 5:
                path = kept / f"{len(faults)}-{target.path.name}"
                path.write_bytes(mutant)
                faults.append({"number": number, "error": message, "kept": str(path)})
    target.path.write_bytes(content)
    return {"target": target.name, **ends, "other": mutants - sum(ends.values()), "faults": faults}


def watched(target: Target, mutants: int, seed: int, kept: Path) -> dict[str, Any]:
    """Run `attack` in a separate process, which may crash or hang."""
    kept.mkdir(parents=True, exist_ok=True)
    content, context = target.path.read_bytes(), multiprocessing.get_context("fork")  # everything is imported already
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_attack, args=(sending, target, mutants, seed, kept))
    process.start()
    sending.close()
    progress, at, since = kept / "at", "", time.monotonic()
    while process.is_alive() and not receiving.poll(0.2):
        now = progress.read_text() if progress.exists() else ""
        if now != at:
            at, since = now, time.monotonic()
        elif time.monotonic() - since > 3 * SECONDS:
            process.kill()
    try:
        found: dict[str, Any] = receiving.recv()
    except EOFError:
        process.join()
        shutil.copy(target.path, kept / f"fatal-{target.path.name}")
        target.path.write_bytes(content)
        fault = {"number": int(at or 0), "error": f"the process hung, or ended with {process.exitcode}"}
        found = failure(target, int(at or 0) + 1, fault)
    process.join()
    return found


def failure(target: Target, mutants: int, fault: dict[str, Any]) -> dict[str, Any]:
    """The result for a reader that did not finish."""
    return {"target": target.name, "loaded": 0, "refused": 0, "other": mutants, "faults": [fault]}


def _attack(sending: Any, *arguments: Any) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    sending.send(attack(*arguments))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutants", type=int, default=50_000, help="number of damaged files for all readers together")
    parser.add_argument("--only", default="", help="part of the names of the readers to run")
    parser.add_argument("--seed", type=int, default=0, help="seed of the damage")
    parser.add_argument("--minutes", type=float, default=30.0, help="time after which no more readers are started")
    parser.add_argument("--kept", type=Path, default=Path("runs/fuzz"), help="directory of files that broke a reader")
    options = parser.parse_args()
    torch.set_num_threads(1)
    began, found = time.monotonic(), []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with redirect_stdout(StringIO()):
            make_seeds(folder)
        targets = [target for target in find_targets(folder) if options.only in target.name]
        each = -(-options.mutants // len(targets))
        for number, target in enumerate(targets):
            if time.monotonic() - began > 60 * options.minutes:
                result = failure(target, 0, {"error": "no time"})
            else:
                result = watched(target, each, options.seed, options.kept / str(number))
            found.append(result)
            sys.stdout.write(json.dumps(result) + "\n")
            sys.stdout.flush()
    total = {end: sum(result[end] for result in found) for end in ("loaded", "refused", "other")}
    seconds = time.monotonic() - began
    sys.stdout.write(f"{sum(total.values()):,} mutants of {len(targets)} files: {total}, {seconds:.0f} s\n")
    sys.exit(bool(any(result["faults"] for result in found)))


if __name__ == "__main__":
    main()
