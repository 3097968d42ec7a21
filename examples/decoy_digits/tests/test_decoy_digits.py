"""The data are as published, every row trains, and MNIST is read from each form of its files."""

import gzip
import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from decoy_digits import ROWS, Net, box, decoy, main, measure, train
from decoy_report import best_weight, draw, table
from mnist_files import load


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    images, labels, _, _ = load(None)
    return images[:60], labels[:60]


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize(("protocol", "size"), [("ross", 4), ("rieger", 5)])
@pytest.mark.parametrize("shows", ["truth", "test", "random"])
def test_the_swatch(digits: tuple[Tensor, Tensor], protocol: str, size: int, shows: str) -> None:
    images, labels = digits
    batch = decoy(images, labels, protocol, shows, generator())
    corners = set()
    for image, label, swatch, before in zip(batch.images, labels, batch.swatch, images, strict=True):
        (rows, columns), shades = swatch.nonzero().T, ((image[0][swatch] + 1) * 127.5).round()
        assert len(rows) == size**2
        assert (rows.max() - rows.min(), columns.max() - columns.min()) == (size - 1, size - 1)
        corners.add((int(rows.min()), int(columns.min())))
        assert len(shades.unique()) == 1
        if shows == "truth":
            assert shades[0] == 255 - 25 * label
        elif shows == "test" and protocol == "rieger":
            assert shades[0] == 25 * label
        torch.testing.assert_close(image[0][~swatch], before[~swatch] / 127.5 - 1)
    assert corners == {(y, x) for y in (0, 28 - size) for x in (0, 28 - size)}
    if shows == "random" or (shows, protocol) == ("test", "ross"):
        shown = (255 - (batch.images[:, 0][batch.swatch].view(60, -1)[:, 0] + 1) * 127.5) / 25
        assert (shown.round() != labels).float().mean() > 0.7
    assert 10 < (batch.place < 0.5).sum() < 50


def test_cells_on_the_digit_matter_most(digits: tuple[Tensor, Tensor]) -> None:
    """The cell at ``[y, x]`` of the feature map has its middle at pixel ``(2 x + 2.5, 2 y + 2.5)``."""
    images, labels = digits
    batch = decoy(images, labels, "ross", "truth", generator())
    marked = torch.nn.functional.avg_pool2d(batch.digit[:, None].float(), 4, stride=2, padding=0)[:, 0]
    assert batch.s.shape == (60, 144)
    inside = marked[:, :12, :12].flatten(1)
    assert batch.of_pixels[inside == 1].min() > 0.6
    assert batch.of_pixels[inside == 0].max() == 0
    assert batch.s[inside == 1].min() > 0.55
    assert (batch.s > 0.55).sum() > 1.3 * (batch.of_pixels > 0.55).sum()  # also cells between the digit's strokes
    covered = torch.nn.functional.avg_pool2d(batch.swatch[:, None].float(), 4, stride=2)[:, 0, :12, :12].flatten(1)
    assert batch.of_swatch[covered == 1].max() < 0.1
    assert batch.of_swatch[covered == 0].min() == 1


def test_boxes_are_the_smallest() -> None:
    mask = torch.zeros(2, 28, 28, dtype=torch.bool)
    mask[0, 3, 5] = mask[0, 7, 9] = mask[1, 27, 0] = True
    assert box(mask).tolist() == [[[5, 3, 10, 8]], [[0, 27, 1, 28]]]


@pytest.mark.parametrize("name", ROWS)
def test_every_row_trains(digits: tuple[Tensor, Tensor], name: str) -> None:
    """With some hints; a weight of zero, which leaves the classes' loss alone, ends elsewhere."""
    images, labels = digits
    row, ends = ROWS[name], []
    for weight in (row.weight or 1.0, 0.0):
        torch.manual_seed(0)
        net = Net()
        data = decoy(images, labels, "ross", "truth", generator())
        assert train(net, row._replace(weight=weight), data, 0.5, 2, generator()) > 0
        ends.append(torch.cat([parameter.detach().flatten() for parameter in net.parameters()]))
        assert ends[-1].isfinite().all()
    assert torch.equal(*ends) == (name == "nothing" or name.startswith("oracle"))


def test_flips_are_of_answers_that_the_swatch_gives(digits: tuple[Tensor, Tensor]) -> None:
    """A network that reads the corners alone flips wherever shades differ, one that never looks there nowhere."""
    images, labels = digits
    data = decoy(images, labels, "ross", "test", generator())

    class Reader(Net):
        def __init__(self, corners: bool) -> None:
            super().__init__()
            self.of_corners = corners

        def forward(self, images: Tensor) -> Tensor:
            middle = images[:, 0, 4:24, 4:24].mean((1, 2))
            corner = (images[:, 0] * data.swatch[: len(images)]).sum((1, 2)) / 16
            seen = corner if self.of_corners else middle
            return -(seen[:, None] - torch.linspace(-1, 1, 300)).square()  # finer than shades

    for corners in (True, False):
        found = measure(Reader(corners), data, "norm", generator())
        assert found["flips"] == float(corners)


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "rows.jsonl"
    options = ["--images", "64", "--epochs", "1", "--hints", "0.5", "1", "--rows", "nothing", "RRR", "--out", str(out)]
    monkeypatch.setattr("sys.argv", ["decoy_digits.py", *options])
    main()
    main()  # does nothing again
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    found = [(row["row"], row["hints"]) for row in rows]
    assert found == [("nothing", 0.5), ("RRR", 0.5), ("RRR", 1.0)]  # no hints are no hints
    assert all(0 <= row[name] <= 1 for row in rows for name in ("accuracy", "flips", "pointing"))
    assert '"row": "RRR"' in capsys.readouterr().out


def test_weights_are_those_of_the_best_mean_for_each_row_and_share() -> None:
    accuracies = {(1.0, 0): 0.8, (1.0, 1): 0.4, (10.0, 0): 0.5, (10.0, 1): 0.9, (100.0, 0): 0.95, (100.0, 1): 0.1}
    lines = [
        {"row": "HINT, unsigned", "hints": 0.06, "weight": weight, "seed": seed, "accuracy": accuracy}
        for (weight, seed), accuracy in accuracies.items()
    ]
    others = [{"row": "RRR", "hints": 0.06, "weight": 3.0, "accuracy": 1.0}]
    others.append({"row": "HINT, unsigned", "hints": 1.0, "weight": 5.0, "accuracy": 1.0})
    for row in ("HINT, unsigned", "HINT, unsigned, 16 directions"):
        assert best_weight(lines + others, row, 0.06) == 10.0
    assert best_weight(lines + others, "RRR, Grad-CAM", 0.06) is None


@pytest.mark.parametrize("zipped", [False, True])
def test_the_official_files(tmp_path: Path, zipped: bool) -> None:
    images, labels = np.arange(2 * 28 * 28).reshape(2, 28, 28).astype(np.uint8), np.array([7, 3], np.uint8)
    for part in ("train", "t10k"):
        for name, content in (
            (f"{part}-images-idx3-ubyte", struct.pack(">IIII", 2051, 2, 28, 28) + images.tobytes()),
            (f"{part}-labels-idx1-ubyte", struct.pack(">II", 2049, 2) + labels.tobytes()),
        ):
            path = tmp_path / (f"{name}.gz" if zipped else name)
            path.write_bytes(gzip.compress(content) if zipped else content)
    for found, expected in zip(load(tmp_path), (images, labels, images, labels), strict=True):
        assert (found.numpy() == expected).all()


def test_a_folder_without_mnist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="holds neither train-images-idx3-ubyte"):
        load(tmp_path)


def test_real_digits(shared_data: Path) -> None:
    images, labels, test_images, test_labels = load(shared_data / "mnist")
    assert (len(images), len(labels), len(test_images), len(test_labels)) == (60_000, 60_000, 3000, 3000)
    assert labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert test_labels[:3].tolist() == [7, 2, 1]


def test_the_table_has_a_row_for_each_method_and_published_numbers(tmp_path: Path) -> None:
    rows = [
        {"row": name, "hints": share, "weight": weight, "accuracy": accuracy, "flips": 0.25, "pointing": 0.5}
        for name, share, weight in (("nothing", 1.0, 0.0), ("RRR", 0.06, 1.0), ("RRR", 1.0, 10.0))
        for accuracy in (0.5, 0.7)  # two seeds
    ]
    text = table(rows, {"nothing": 10.0, "RRR": 25.0}, "rieger")
    lines = [[cell.strip() for cell in line.strip("|\n ").split("|")] for line in text.splitlines()]
    assert lines[0][1:5] == ["accuracy, 100 % of hints", "flips", "pointing", "accuracy, 6 % of hints"]
    assert lines[2] == ["nothing", "60.0 ± 14.1", "25.0 ± 0.0", "50.0 ± 0.0", "", "", "", "1.00", "60.1 ± 5.1"]
    assert lines[3] == ["RRR", *["60.0 ± 14.1", "25.0 ± 0.0", "50.0 ± 0.0"] * 2, "2.50", "99.0 ± 1.0"]
    assert [line[0] for line in lines[4:6]] == ["CDEP (only as published)", "expected gradients (only as published)"]
    assert text.endswith("Weights, for 100 %, 6 %: RRR: 10, 1.\n")
    assert "99.0" not in table(rows, {}, "ross")
    draw(rows, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000


@pytest.mark.parametrize("protocol", ["ross", "rieger"])
def test_the_committed_tables_match_the_committed_runs(protocol: str) -> None:
    """Also, each weight is the one chosen on the development set."""
    folder = Path(__file__).parents[1] / "results"
    rows, chosen, timed = (
        [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]
        for name in (protocol, f"{protocol}-selection", "steps")
    )
    steps = {row["row"]: row["step_ms"] for row in timed}
    assert (folder / f"{protocol}.md").read_text(encoding="utf-8") == table(rows, steps, protocol)
    assert {row["row"] for row in rows} == set(ROWS)
    assert all(row["weight"] == (best_weight(chosen, row["row"], row["hints"]) or 0) for row in rows)
    assert all(row["development"] for row in chosen)
    assert not any(row["development"] for row in rows)
