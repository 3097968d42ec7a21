"""Conversion of feature files to a store: after a kill at any moment, the result is the same."""

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from updn_common.errors import InputError
from updn_common.files.writing import new_directory
from updn_common.proposals import store_writer
from updn_common.proposals.conversion import FeatureOptions, convert
from updn_common.proposals.image_proposals import ImageProposals
from updn_common.proposals.store import ProposalStore

N = 60
POINTS = {
    **{("StoreWriter", "append", calls): calls // 8 * 8 for calls in (0, 5, 8, 31, 45, 59)},
    **{("_ArrayFile", "append", calls): calls // 3 // 8 * 8 for calls in (1, 50, 100, 152)},  # inside of an image
    **{("_ArrayFile", "sync", calls): calls // 3 * 8 for calls in (0, 1, 2, 4, 9, 11)},
    ("StoreWriter", "finish", 0): 60,
    ("os", "fsync", 4): 8,  # the first index is written, though perhaps not on disk
}
"""Where a process is killed (after this number of calls of a method), and after how many images the next continues."""
KILLED = """
import os, signal, sys
from pathlib import Path
from updn_common.proposals import store_writer
from updn_common.proposals.conversion import FeatureOptions, convert
from updn_common.files.writing import new_directory

store_writer.CHECKPOINT_EVERY = 8

def run(out, holder, name, calls):
    original = getattr(holder, name)
    def counted(*args, **kwargs):
        nonlocal calls
        calls -= 1
        if calls < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)
    setattr(holder, name, counted)
    with new_directory(out, keep="store") as directory:
        convert(directory / "store", [folder / "a.tsv", folder / "b.tsv"], range(0, 120, 2), FeatureOptions("float16"))

folder = Path(sys.argv[1])
for point in sys.argv[2:]:
    holder, name, calls = point.split()
    if not (child := os.fork()):
        run(folder / point, getattr(store_writer, holder), name, int(calls))
    print(os.WTERMSIG(os.waitpid(child, 0)[1]))
"""


def kill(folder: Path, *points: tuple[str, str, int]) -> list[Path]:
    """Convert once for each point in a process that is killed there; returns the output directories."""
    names = [" ".join(map(str, point)) for point in points]
    done = subprocess.run([sys.executable, "-c", KILLED, str(folder), *names], capture_output=True, check=True)
    assert done.stdout.split() == [b"9"] * len(points)
    return [folder / name for name in names]


@pytest.fixture
def sources(
    tmp_path: Path, make_image: Callable[..., ImageProposals], tsv_cells: Callable[..., list[str]]
) -> list[Path]:
    """Two files of 60 images each; every other image is wanted."""
    for name, ids in (("a.tsv", range(N)), ("b.tsv", range(N, 2 * N))):
        images = [make_image(i, n=i % 5 + 1, feature_size=16) for i in ids]
        (tmp_path / name).write_text("".join("\t".join(tsv_cells(image)) + "\n" for image in images))
    return [tmp_path / "a.tsv", tmp_path / "b.tsv"]


def contents(store: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in store.iterdir()}


def run(sources: list[Path], out: Path, wanted: range = range(0, 2 * N, 2)) -> ProposalStore:
    with new_directory(out, keep="store") as temporary:
        convert(temporary / "store", sources, wanted, FeatureOptions("float16"))
    return ProposalStore.open(out / "store")


def test_wanted_images_of_all_files(sources: list[Path], tmp_path: Path) -> None:
    store = run(sources, tmp_path / "whole")
    assert store.image_ids.tolist() == list(range(0, 2 * N, 2))
    assert store.description["sources"] == [
        {"name": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()} for path in sources
    ]
    store.verify()


def test_sources_are_read_once(sources: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    again: list[Path] = []

    def noted(path: Path) -> str:
        again.append(path)
        return "0"

    monkeypatch.setattr(store_writer, "sha256", noted)
    description = run(sources, tmp_path / "out").description
    assert not set(again) & set(sources)
    assert [source["sha256"] for source in description["sources"]] == [
        hashlib.sha256(path.read_bytes()).hexdigest() for path in sources
    ]


def test_killed_conversion_continues(
    sources: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = contents(run(sources, tmp_path / "whole").directory)
    monkeypatch.setattr(store_writer, "CHECKPOINT_EVERY", 8)
    for out, resumed_after in zip(kill(tmp_path, *POINTS), POINTS.values(), strict=True):
        assert not out.exists()
        # After a power failure, garbage may follow the rows that are known to be on disk.
        for path in out.with_name(f"{out.name}.partial").glob("store/*.npy"):
            with path.open("ab") as file:
                file.write(b"torn")
        capsys.readouterr()
        resumed = run(sources, out).directory
        said = f"Continuing after {resumed_after} images of an interrupted conversion." if resumed_after else ""
        assert capsys.readouterr().err.strip() == said, out.name
        assert contents(resumed) == whole, out.name


def test_finished_store_is_not_converted_again(sources: list[Path], tmp_path: Path) -> None:
    run(sources, tmp_path / "whole")
    partial = tmp_path / "out.partial" / "store"
    partial.parent.mkdir()
    (tmp_path / "whole" / "store").rename(partial)
    (partial / "unfinished.bin").write_bytes(b"")  # a kill may leave this beside a finished store
    before = (partial / "features.npy").stat().st_mtime_ns
    store = run(sources, tmp_path / "out")
    assert (store.directory / "features.npy").stat().st_mtime_ns == before
    assert not list(store.directory.glob("unfinished*"))


@pytest.mark.parametrize("change", ["source", "wanted"])
@pytest.mark.parametrize("finished", [False, True])
def test_other_input_starts_a_new_conversion(sources: list[Path], tmp_path: Path, change: str, finished: bool) -> None:
    out = tmp_path / "out"
    if finished:
        run(sources, tmp_path / "whole")
        (tmp_path / "out.partial").mkdir()
        (tmp_path / "whole" / "store").rename(tmp_path / "out.partial" / "store")
    else:
        (out,) = kill(tmp_path, ("StoreWriter", "append", 40))
    if change == "source":
        lines = sources[0].read_text().splitlines(keepends=True)
        sources[0].write_text("".join(lines[::-1]))
    wanted = range(0, 2 * N, 3 if change == "wanted" else 2)
    resumed = run(sources, out, wanted).directory
    assert contents(resumed) == contents(run(sources, tmp_path / "again", wanted).directory)


def test_malformed_line_leaves_nothing(sources: list[Path], tmp_path: Path) -> None:
    sources[1].write_text(sources[1].read_text()[:-9])
    with pytest.raises(InputError, match=re.escape(f"{sources[1]}, line {N}: ")):
        run(sources, tmp_path / "out", range(2 * N))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tsv", "b.tsv"]


def test_full_disk_leaves_nothing(sources: list[Path], small_disk: Path) -> None:
    """Unlike after other interruptions, nothing is kept for the next attempt, which needs the space."""
    lines = [line.split("\t", 1) for line in sources[0].read_text().splitlines(keepends=True)]
    with sources[0].open("w") as file:
        file.writelines(f"{i}\t{lines[i % N][1]}" for i in range(20_000))
    with (
        pytest.raises(InputError, match=r"the disk is full \(1 MiB free now, nothing was left behind\)"),
        new_directory(small_disk / "out", keep="store") as temporary,
    ):
        convert(temporary / "store", sources[:1], range(20_000), FeatureOptions("float32"))
    assert list(small_disk.iterdir()) == []


def test_files_without_wanted_images_are_refused(sources: list[Path], tmp_path: Path) -> None:
    message = (
        f"{sources[0]}, {sources[1]}: none of the images is among the 2 wanted ones. "
        "It holds others, such as '0'. Give the features of the right data set with --features."
    )
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        run(sources, tmp_path / "out", range(500, 502))


def test_image_in_two_files_is_refused(sources: list[Path], tmp_path: Path) -> None:
    sources[1].write_text(sources[1].read_text() + sources[0].read_text())
    with pytest.raises(InputError, match=r"^image 0 occurs twice, at .*/a.tsv, line 1 and .*/b.tsv, line 61; "):
        run(sources, tmp_path / "out")


def test_store_shorter_than_its_index_is_refused(sources: list[Path], tmp_path: Path) -> None:
    """A broken disk can cause this, a kill cannot."""
    (out,) = kill(tmp_path, ("StoreWriter", "append", 40))
    features = out.with_name(f"{out.name}.partial") / "store" / "features.npy"
    os.truncate(features, 1000)
    message = f"{features} is shorter than the index beside it says: delete {features.parent}."
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        run(sources, out)


def test_memory_does_not_grow_with_the_data(
    tmp_path: Path, make_image: Callable[..., ImageProposals], tsv_cells: Callable[..., list[str]]
) -> None:
    """Converting 64 MB of features needs much less memory."""
    line = "\t".join(tsv_cells(make_image(1, n=16, feature_size=2048))).split("\t", 1)[1]
    with (tmp_path / "a.tsv").open("w") as file:
        file.writelines(f"{i}\t{line}\n" for i in range(500))
    code = (
        "import sys; from pathlib import Path; from updn_common.proposals.conversion import FeatureOptions, convert\n"
        "def peak(): return int(Path('/proc/self/status').read_text().partition('VmHWM:')[2].split()[0])\n"
        "folder = Path(sys.argv[1]); before = peak()\n"
        "convert(folder / 'store', [folder / 'a.tsv'], range(500), FeatureOptions('float32')); print(peak() - before)"
    )
    if not Path("/proc/self/status").exists():
        pytest.skip("memory is read from Linux' /proc")
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert np.load(tmp_path / "store" / "features.npy", mmap_mode="r").nbytes > 60 << 20
    assert int(done.stdout) < 20 << 10  # KiB
