import errno
import json
import os
import pickle
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from updn_common.errors import InputError
from updn_common.files.reading import sha256, sha256_of_all
from updn_common.files.writing import new_directory
from updn_common.proposals import store_writer
from updn_common.proposals.image_proposals import ImageProposals
from updn_common.proposals.readers import read_proposals
from updn_common.proposals.store import ProposalBatch, ProposalStore
from updn_common.proposals.store_writer import write_store

MakeImage = Callable[..., ImageProposals]


def whole(message: str) -> str:
    return f"^{re.escape(message)}$"


def pack(images: list[ImageProposals]) -> ProposalBatch:
    """The oracle: a batch made with loops."""
    K, D = max(len(image.boxes) for image in images), images[0].features.shape[1]
    features, boxes = torch.zeros(len(images), K, D), torch.zeros(len(images), K, 4)
    mask = torch.zeros(len(images), K, dtype=torch.bool)
    for i, image in enumerate(images):
        for k in range(len(image.boxes)):
            features[i, k] = torch.from_numpy(image.features[k])
            boxes[i, k] = torch.from_numpy(image.boxes[k])
            mask[i, k] = True
    sizes = torch.tensor([[image.width, image.height] for image in images], dtype=torch.int32)
    return ProposalBatch(features, boxes, mask, sizes)


def assert_same_batch(found: ProposalBatch, expected: ProposalBatch) -> None:
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.fixture
def images(make_image: MakeImage) -> list[ImageProposals]:
    return [make_image(7, n=3), make_image(900000000001, n=1), make_image(6, n=5), make_image(1, n=3)]


@pytest.fixture
def directory(tmp_path: Path, images: list[ImageProposals]) -> Path:
    path = tmp_path / "store"
    (tmp_path / "source.tsv").write_text("source")
    (tmp_path / "folder").mkdir()
    for name in ("b.npz", "a.npz", "notes.txt"):
        (tmp_path / "folder" / name).write_text(name)
    with new_directory(path) as temporary:
        write_store(temporary, iter(images), total=4, sources=[tmp_path / "source.tsv", tmp_path / "folder"])
    return path


def test_round_trip(directory: Path, images: list[ImageProposals]) -> None:
    store = ProposalStore.open(directory)
    assert (len(store), store.feature_size, store.max_proposals) == (4, 4, 5)
    assert store.image_ids.tolist() == [7, 900000000001, 6, 1]
    assert 6 in store
    assert 8 not in store
    assert 10**15 not in store
    order = [2, 0, 2, 1]
    rows = store.rows([images[i].image_id for i in order])
    assert rows.tolist() == order
    assert_same_batch(store.batch(rows), pack([images[i] for i in order]))


def test_batch_is_as_wide_as_its_widest_image(directory: Path) -> None:
    store = ProposalStore.open(directory)
    assert store.batch([1]).features.shape == (1, 1, 4)
    assert store.batch([1, 0]).features.shape == (2, 3, 4)
    assert store.batch([]).features.shape == (0, 0, 4)


def test_batch_is_a_copy(directory: Path) -> None:
    store = ProposalStore.open(directory)
    for tensor in store.batch([0, 1]):
        tensor.zero_()
    assert store.batch([0]).features.count_nonzero() > 0
    store.verify()


def test_geometry(tmp_path: Path, images: list[ImageProposals]) -> None:
    named = replace(images[0], objects=np.array([5, 0, 1599]))
    write_store(tmp_path, [named, *images[1:]])
    store = ProposalStore.open(tmp_path)
    boxes, height, width, objects = store.geometry(7)
    assert torch.equal(boxes, torch.from_numpy(named.boxes))
    assert (height, width) == store.geometry(7).size == (80, 100)
    assert objects is not None
    assert objects.tolist() == [5, 0, 1599]
    assert store.geometry(6).boxes.shape == (5, 4)
    assert store.geometry(6).objects is None
    with pytest.raises(InputError, match=whole(f"{tmp_path} lacks the proposals of 1 images: 8.")):
        store.geometry(8)


def test_store_without_objects_opens(directory: Path, images: list[ImageProposals]) -> None:
    description = json.loads((directory / "store.json").read_text())
    del description["files"]["objects.npy"]
    (directory / "store.json").write_text(json.dumps(description))
    (directory / "objects.npy").unlink()
    store = ProposalStore.open(directory)
    assert store.geometry(7).objects is None
    assert_same_batch(store.batch([0]), pack(images[:1]))


def test_files_are_plain_numpy(directory: Path, images: list[ImageProposals]) -> None:
    features = np.load(directory / "features.npy", allow_pickle=False)
    assert features.dtype == np.float32
    np.testing.assert_array_equal(features, np.concatenate([image.features for image in images]))
    assert np.load(directory / "offsets.npy").tolist() == [0, 3, 4, 9, 12]
    assert np.load(directory / "sizes.npy").dtype == np.int32
    assert sorted(path.name for path in directory.iterdir()) == sorted(
        ["features.npy", "boxes.npy", "objects.npy", "offsets.npy", "image_ids.npy", "sizes.npy", "store.json"]
    )


def test_description(directory: Path) -> None:
    folder = directory.parent / "folder"
    description = json.loads((directory / "store.json").read_text())
    files = description.pop("files")
    assert {name: file["sha256"] for name, file in files.items()} == {
        path.name: sha256(path) for path in directory.glob("*.npy")
    }
    assert description == {
        "format_version": 1,
        "images": 4,
        "proposals": 12,
        "min_proposals": 1,
        "max_proposals": 5,
        "feature_size": 4,
        "dtype": "float32",
        "sources": [
            {"name": "source.tsv", "sha256": sha256(directory.parent / "source.tsv")},
            {"name": "folder", "sha256": sha256_of_all([folder / "a.npz", folder / "b.npz"])},
        ],
    }


def test_float16(tmp_path: Path, images: list[ImageProposals]) -> None:
    write_store(tmp_path, images, dtype="float16")
    assert np.load(tmp_path / "features.npy").dtype == np.float16
    halved = [replace(i, features=i.features.astype(np.float16).astype(np.float32)) for i in images]
    batch = ProposalStore.open(tmp_path).batch([3, 2])
    assert_same_batch(batch, pack([halved[3], halved[2]]))
    assert batch.boxes.dtype == torch.float32


@settings(max_examples=50, deadline=None)
@given(counts=st.lists(st.integers(1, 12), min_size=1, max_size=8), feature_size=st.integers(1, 5), data=st.data())
def test_any_store_round_trips(
    make_image: MakeImage, counts: list[int], feature_size: int, data: st.DataObject
) -> None:
    ids = data.draw(st.lists(st.integers(0, 2**62), min_size=len(counts), max_size=len(counts), unique=True))
    images = [make_image(i, n=n, feature_size=feature_size) for i, n in zip(ids, counts, strict=True)]
    order = data.draw(st.lists(st.integers(0, len(ids) - 1), min_size=1, max_size=10))
    with TemporaryDirectory() as folder:
        write_store(Path(folder), images)
        store = ProposalStore.open(Path(folder))
        assert store.image_ids.tolist() == ids
        rows = store.rows(np.array([ids[i] for i in order]))
        assert_same_batch(store.batch(rows), pack([images[i] for i in order]))


def test_real_features_round_trip_bitwise(shared_data: Path, tmp_path: Path) -> None:
    images = list(read_proposals(shared_data / "bottom_up" / "train2014_obj36.tsv"))
    write_store(tmp_path, images)
    assert_same_batch(ProposalStore.open(tmp_path).batch(range(10)), pack(images))


def test_workers_map_the_same_files(directory: Path) -> None:
    store = ProposalStore.open(directory)
    assert len(pickle.dumps(store)) < 1000
    loader = DataLoader([0, 1, 2, 3], 2, num_workers=1, multiprocessing_context="spawn", collate_fn=store.batch)  # type: ignore[arg-type,var-annotated]
    for i, batch in enumerate(loader):
        assert_same_batch(batch, store.batch([2 * i, 2 * i + 1]))


def test_missing_images(directory: Path) -> None:
    store = ProposalStore.open(directory)
    message = f"{directory} lacks the proposals of 1 images: 8."
    with pytest.raises(InputError, match=whole(message)):
        store.rows([7, 8, 8])
    message = f"{directory} lacks the proposals of 20 images: 100, 101, 102, 103, 104, ...."
    with pytest.raises(InputError, match=whole(message)):
        store.rows(np.arange(100, 120))


def test_images_that_cannot_be_stored(tmp_path: Path, make_image: MakeImage) -> None:
    large = make_image(3)
    large.features[1, 1] = -70000
    cases = {
        "image 3: a feature of 70000 is too large for float16; use float32.": [large],
        "image 2 occurs twice; give each image's proposals once.": [make_image(2), make_image(3), make_image(2)],
        "image 3: feature size 5; the images before it have 4.": [make_image(2), make_image(3, feature_size=5)],
        "No proposals to store: the input holds no image.": [],
    }
    for message, images in cases.items():
        with pytest.raises(InputError, match=whole(message)), new_directory(tmp_path / "out") as temporary:
            write_store(temporary, images, dtype="float16")
        assert list(tmp_path.iterdir()) == []


def test_full_disk_leaves_nothing(tmp_path: Path, make_image: MakeImage, monkeypatch: pytest.MonkeyPatch) -> None:
    append = store_writer._ArrayFile.append
    appended: list[str] = []

    def full_at_the_third_image(self: object, rows: np.ndarray, where: str) -> None:
        if where == "image 3":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        appended.append(where)
        append(self, rows, where)  # type: ignore[arg-type]

    monkeypatch.setattr(store_writer._ArrayFile, "append", full_at_the_third_image)
    with (
        pytest.raises(InputError, match=re.escape(f"{tmp_path / 'out'} could not be written: the disk is full (")),
        new_directory(tmp_path / "out") as temporary,
    ):
        write_store(temporary, map(make_image, range(1, 5)))
    assert appended == ["image 1"] * 3 + ["image 2"] * 3
    assert list(tmp_path.iterdir()) == []


def test_really_full_disk_leaves_nothing(small_disk: Path, make_image: MakeImage) -> None:
    images = (make_image(i, n=36, feature_size=512) for i in range(1, 100))
    with (
        pytest.raises(InputError, match=r"the disk is full \(1 MiB free now, nothing was left behind\)"),
        new_directory(small_disk / "out") as temporary,
    ):
        write_store(temporary, images)
    assert list(small_disk.iterdir()) == []


def test_not_a_store(tmp_path: Path) -> None:
    path = tmp_path / "store.json"
    message = f"{path} does not exist; expected the proposal store that the prepare command writes."
    with pytest.raises(InputError, match=whole(message)):
        ProposalStore.open(tmp_path)
    path.write_text('{"format_version": 2}')
    message = f"{path}: format version 2; expected 1. Prepare it again."
    with pytest.raises(InputError, match=whole(message)):
        ProposalStore.open(tmp_path)


def test_damaged_store(directory: Path) -> None:
    path = directory / "features.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    store = ProposalStore.open(directory)  # sizes agree: only the checksum tells
    with pytest.raises(InputError, match=whole(f"{path} does not match its checksum. Prepare it again.")):
        store.verify()
    path.write_bytes(data[:-4])
    message = f"{path} has {len(data) - 4} bytes, not {len(data)}. Prepare it again."
    with pytest.raises(InputError, match=whole(message)):
        ProposalStore.open(directory)
    path.unlink()
    with pytest.raises(InputError, match=whole(f"{path} has no bytes, not {len(data)}. Prepare it again.")):
        ProposalStore.open(directory)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda d: d["files"].update({"../../evil.npy": d["files"]["boxes.npy"]}),
            "do not list the files of a store: ../../evil",
        ),
        (
            lambda d: d["files"].update({"/etc/passwd": d["files"]["boxes.npy"]}),
            "do not list the files of a store: /etc/passwd",
        ),
        (lambda d: d["files"].pop("sizes.npy"), "do not list the files of a store: sizes.npy"),
        (lambda d: d.update(files=["a"]), r"do not list the files of a store: \['a'\]"),
        (lambda d: d.pop("files"), "do not list the files of a store: None"),
        (lambda d: d["files"].update({"boxes.npy": 1}), "boxes.npy lacks its size in bytes or its checksum"),
        (lambda d: d["files"]["boxes.npy"].pop("sha256"), "boxes.npy lacks its size in bytes or its checksum"),
        (lambda d: d.update(feature_size="4"), r"`feature_size` and `max_proposals` are \['4', 5\], not above 0"),
        (lambda d: d.update(feature_size=7), "features.npy has shape .*, which does not fit the 4 images"),
    ],
)
def test_malformed_description(directory: Path, change: Callable[[Any], Any], message: str) -> None:
    description = json.loads((directory / "store.json").read_text())
    change(description)
    (directory / "store.json").write_text(json.dumps(description))
    with pytest.raises(InputError, match=message):
        ProposalStore.open(directory)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("offsets", np.array([0, 3, 2, 9, 12])),
        ("offsets", np.array([0, 3, 4, 12])),
        ("offsets", np.array([1, 3, 4, 9, 12])),
        ("sizes", np.ones((3, 2), np.int32)),
        ("objects", np.ones(11, np.int32)),
        ("boxes", np.ones((12, 4), np.int32)),
        ("image_ids", np.array(["a", "b", "c", "d"])),
    ],
)
def test_arrays_that_do_not_fit_each_other(directory: Path, name: str, values: npt.NDArray[Any]) -> None:
    path = directory / f"{name}.npy"
    np.save(path, values)
    description = json.loads((directory / "store.json").read_text())
    description["files"][path.name]["bytes"] = path.stat().st_size
    (directory / "store.json").write_text(json.dumps(description))
    with pytest.raises(InputError, match=r"does not fit the 4 images|does not hold the type of numbers"):
        ProposalStore.open(directory)


def test_damaged_bytes_never_raise_another_error(directory: Path) -> None:
    """Change one byte of a small file or of a header: the error, if any, is an InputError."""
    random = np.random.default_rng(0)
    opened = 0
    for path in sorted(directory.iterdir()):
        data = path.read_bytes()
        for _ in range(150):
            damaged = bytearray(data)
            damaged[random.integers(min(len(data), 1000))] = random.integers(256)
            path.write_bytes(damaged)
            with suppress(InputError):
                ProposalStore.open(directory).batch([0])
                opened += 1
        path.write_bytes(data)
    assert 0 < opened < 700  # of 1,050
