"""Digits beside a grey swatch that tells their class: which loss makes a network read the digit?

Decoy-MNIST, as published twice. In training, a square in a random corner has a shade that tells the digit.

* ``ross``: 4 x 4 pixels; in the test, the shade of a random digit (Ross et al., IJCAI 2017, arXiv:1703.03717).
* ``rieger``: 5 x 5 pixels; in the test, the shades of all digits in reverse order (Rieger et al., "Interpretations are
  useful", ICML 2020).

On some training images people have drawn a box round the digit, which matters. Two rows of HINT and most rivals get a
mask of the digit's pixels, or a box round the swatch, instead. The flip rate is the share of test answers that change
with the shade of the swatch.
Weights are chosen with ``--development``, on training images that are kept aside, with swatches as in the test.

    python decoy_digits.py --data FOLDER      # the main rows, one seed, on 10,000 images
    python decoy_digits.py --data FOLDER --development --weights 1 10 100 1000 --out selection.jsonl
    python decoy_digits.py --data FOLDER --chosen-in selection.jsonl --seeds 0 1 2 3 4
"""

import argparse
import itertools
import json
import multiprocessing
import time
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from statistics import median
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from decoy_report import best_weight
from hint_loss import (
    HintRankingLoss,
    answer_flips,
    grid_boxes,
    human_importance,
    human_importance_from_boxes,
    pointing_game,
    proposal_importance,
    track_proposals,
)
from mnist_files import load

CELLS = 12  # a side of the feature map whose cells are the proposals


class Batch(NamedTuple):
    """Images and what people say of them."""

    images: Tensor  # (B, 1, 28, 28) in [-1, 1]
    labels: Tensor  # (B,)
    digit: Tensor  # (B, 28, 28): the digit's pixels
    swatch: Tensor  # (B, 28, 28): those of the swatch
    s: Tensor  # (B, 144): human importance of the cells, by a box round the digit
    of_pixels: Tensor  # (B, 144): by a mask of the digit
    of_swatch: Tensor  # (B, 144): by a box round what does not matter
    place: Tensor  # (B,) in [0, 1): an image has a hint if that is below the share of hints

    def take(self, index: Tensor) -> "Batch":
        return Batch(*(x[index] for x in self))


class Net(nn.Module):
    """A small one, in which nothing is pooled: shades reach the classes as they are."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.Sequential(nn.Conv2d(1, 16, 5, stride=2), nn.ReLU())  # (B, 16, 12, 12)
        self.last = nn.Sequential(nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU())  # (B, 32, 6, 6)
        self.classes = nn.Sequential(nn.Flatten(), nn.Linear(32 * 36, 64), nn.ReLU(), nn.Linear(64, 10))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classes(self.last(self.cells(images)))
        return logits


Term = Callable[[Net, Batch], tuple[Tensor, Tensor]]
"""What is learned from images with a hint, beside their class: gives their logits, and a loss, a mean over them."""


def nothing(net: Net, batch: Batch) -> tuple[Tensor, Tensor]:
    logits = net(batch.images)
    return logits, logits.new_zeros(())


def hint(form: HintRankingLoss, reduction: Literal["sum", "norm"], probes: int = 0, marked: str = "s") -> Term:
    """HINT: the importance of the cells should rank as people's does."""

    def term(net: Net, batch: Batch) -> tuple[Tensor, Tensor]:
        cells = net.cells(batch.images)
        if probes:
            cells = track_proposals(cells, feature_dim=1, reduction=reduction, probes=probes)
        logits = net.classes(net.last(cells))
        score = logits.gather(1, batch.labels[:, None])[:, 0]
        alpha = proposal_importance(score, cells, feature_dim=1, reduction=reduction)
        return logits, form(alpha.flatten(1), getattr(batch, marked))

    return term


def rrr(net: Net, batch: Batch) -> tuple[Tensor, Tensor]:
    """Right for the right reasons: no input gradient of the log-probabilities at the swatch (Ross et al., 2017)."""
    images = batch.images.clone().requires_grad_()
    logits = net(images)
    (gradient,) = torch.autograd.grad(logits.log_softmax(1).sum(), images, create_graph=True)
    return logits, (gradient[:, 0] * batch.swatch).square().sum((1, 2)).mean()


def rbr(net: Net, batch: Batch) -> tuple[Tensor, Tensor]:
    """Right for better reasons: the same, times an influence function's gradient (Shao et al., AAAI 2021)."""
    images = batch.images.clone().requires_grad_()
    logits = net(images)
    of_weights = torch.autograd.grad(F.cross_entropy(logits, batch.labels), list(net.parameters()), create_graph=True)
    total = torch.stack([gradient.sum() for gradient in of_weights]).sum()
    (influence,) = torch.autograd.grad(total, images, create_graph=True)
    (gradient,) = torch.autograd.grad(logits.log_softmax(1).sum(), images, create_graph=True)
    product = len(images) * influence * gradient  # the cross entropy is a mean over the batch
    return logits, (product[:, 0] * batch.swatch).square().sum((1, 2)).mean()


def grad_cam(net: Net, batch: Batch, of: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Logits, and Grad-CAM ``(B, 6, 6)`` of the last convolution for the class that ``of`` chooses, up to 1."""
    maps = net.last(net.cells(batch.images))
    logits = net.classes(maps)
    score = logits.gather(1, of(logits)[:, None]).sum()
    (gradient,) = torch.autograd.grad(score, maps, create_graph=True)
    cam = (gradient.mean((2, 3), keepdim=True) * maps).sum(1).relu()
    return logits, cam / cam.amax((1, 2), keepdim=True).clamp(min=1e-8)


def rrr_grad_cam(net: Net, batch: Batch) -> tuple[Tensor, Tensor]:
    """The same with Grad-CAM of the predicted class (Schramowski et al., Nature Machine Intelligence 2020)."""
    logits, cam = grad_cam(net, batch, lambda logits: logits.argmax(1))
    swatch = F.adaptive_max_pool2d(batch.swatch[:, None].float(), 6)[:, 0]
    return logits, (cam * swatch).square().sum((1, 2)).mean()


def grad_cam_square(net: Net, batch: Batch) -> tuple[Tensor, Tensor]:
    """What a typology calls HINT: Grad-CAM should equal the digit's mask (Friedrich et al., 2023)."""
    logits, cam = grad_cam(net, batch, lambda logits: batch.labels)
    digit = F.adaptive_avg_pool2d(batch.digit[:, None].float(), 6)[:, 0]
    return logits, (cam - digit).square().mean()


class Row(NamedTuple):
    """One row of the table."""

    term: Term
    weight: float = 0.0
    importance: Literal["sum", "norm"] = "norm"  # by which pointing is measured
    trained_on: str = "decoys"


recommended = HintRankingLoss.recommended()
ROWS = {
    "nothing": Row(nothing),
    "oracle: random swatches in training": Row(nothing, trained_on="random swatches"),
    "HINT, the paper's loss": Row(hint(HintRankingLoss(), "sum"), 0.01, "sum"),
    "HINT, signed": Row(hint(recommended, "sum"), 30.0, "sum"),
    "HINT, unsigned": Row(hint(recommended, "norm"), 30.0),
    **{f"HINT, unsigned, {m} directions": Row(hint(recommended, "norm", m), 30.0) for m in (1, 4, 16, 64)},
    "HINT, unsigned, of the swatch": Row(hint(recommended, "norm", marked="of_swatch"), 30.0),
    "HINT, unsigned, of the pixels": Row(hint(recommended, "norm", marked="of_pixels"), 30.0),
    "RRR": Row(rrr, 1.0),
    "RRR, Grad-CAM": Row(rrr_grad_cam, 1.0),
    "RBR": Row(rbr, 1.0),
    "Grad-CAM mean square": Row(grad_cam_square, 1.0),
}
MAIN_ROWS = [name for name in ROWS if name not in ("RBR", "Grad-CAM mean square") and "directions" not in name]


def decoy(digits: Tensor, labels: Tensor, protocol: str, shows: str, draw: torch.Generator) -> Batch:
    """Put a swatch in a corner of each image. What it shows: the digit (``truth``), a ``random`` one, or ``test``'s."""
    count, size, device = len(labels), {"ross": 4, "rieger": 5}[protocol], labels.device
    random = torch.randint(10, (count,), generator=draw).to(device)
    other = random if protocol == "ross" else 10.2 - labels  # 255 - 25 * (10.2 - y) = 25 * y
    shade = 255 - 25 * {"truth": labels, "random": random, "test": other}[shows]
    y, x = (torch.randint(2, (2, count), generator=draw) * (28 - size))[..., None] + torch.arange(size)
    swatch = torch.zeros(count, 28, 28, dtype=torch.bool)
    swatch[torch.arange(count)[:, None, None], y[:, :, None], x[:, None, :]] = True
    swatch = swatch.to(device)
    images = torch.where(swatch, shade[:, None, None].float(), digits.float())[:, None] / 127.5 - 1
    digit = (digits > 64) & ~swatch
    # A cell sees 5 x 5 pixels. Its box is the 2 x 2 in their middle.
    boxes = (grid_boxes(CELLS, CELLS, image_size=(24, 24)) + 1.5).to(device).expand(count, -1, -1)
    s, unimportant = (human_importance_from_boxes(box(m), boxes, image_size=(28, 28)) for m in (digit, swatch))
    place = torch.rand(count, generator=draw).to(device)
    return Batch(images, labels, digit, swatch, s, human_importance(digit, boxes), 1 - unimportant, place)


def box(mask: Tensor) -> Tensor:
    """The smallest boxes ``(B, 1, 4)`` round what masks ``(B, 28, 28)`` mark."""
    sides = [mask.any(1).int(), mask.any(2).int()]  # which columns, and which rows
    return torch.stack([side.argmax(1) for side in sides] + [28 - x.flip(1).argmax(1) for x in sides], 1)[
        :, None
    ].float()


def train(net: Net, row: Row, data: Batch, share: float, epochs: int, draw: torch.Generator) -> float:
    """Train, with hints for a share of the images, and return the median time of a step in milliseconds."""
    optimizer, times = torch.optim.Adam(net.parameters(), lr=3e-3), []
    for _ in range(epochs):
        for index in torch.randperm(len(data.labels), generator=draw).to(data.labels.device).split(256):
            began, is_hinted = time.perf_counter(), data.place[index] < share
            hinted, rest = data.take(index[is_hinted]), data.take(index[~is_hinted])
            logits, loss = row.term(net, hinted) if len(hinted.labels) else (net(hinted.images), 0)
            logits = torch.cat([logits, net(rest.images)])
            optimizer.zero_grad()
            (F.cross_entropy(logits, torch.cat([hinted.labels, rest.labels])) + row.weight * loss).backward()
            optimizer.step()
            times.append(1e3 * (time.perf_counter() - began))
    return median(times)


def measure(net: Net, data: Batch, how: Literal["sum", "norm"], draw: torch.Generator) -> dict[str, float]:
    """Accuracy, flip rate, and pointing by the importance that HINT was trained with."""
    order = torch.randperm(len(data.labels), generator=draw).to(data.labels.device)
    shades = data.images.flatten(1).gather(1, data.swatch.flatten(1).int().argmax(1, keepdim=True))[order]
    others = torch.where(data.swatch[:, None], shades[..., None, None], data.images)
    flips = answer_flips(net, data.images, data.swatch, others=others, feature_dim=1).nanmean()
    correct, points = [], []
    for part in map(data.take, torch.arange(len(data.labels), device=order.device).split(1000)):
        cells = net.cells(part.images)
        logits = net.classes(net.last(cells))
        correct.append(logits.argmax(1) == part.labels)
        score = logits.gather(1, part.labels[:, None])[:, 0]
        alpha = proposal_importance(score, cells, feature_dim=1, reduction=how, differentiable=False)
        points.append(pointing_game(alpha.flatten(1), part.s >= 0.55))
    accuracy, pointing = torch.cat(correct).float().mean(), torch.cat(points).nanmean()
    return {"accuracy": accuracy.item(), "flips": flips.item(), "pointing": pointing.item()}


@lru_cache(1)
def prepare(data: Path | None, protocol: str, images: int, aside: bool, device: str, seed: int) -> dict[str, Batch]:
    """What the networks of a seed train on, and what they are measured on."""
    draw = torch.Generator().manual_seed(seed)
    digits, labels, test_digits, test_labels = (x.to(device) for x in load(data))
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0)).to(device)
    kept, chosen = order[: min(len(labels) // 10, 3000)], order[len(labels) // 10 :][:images]
    if aside:
        test_digits, test_labels = digits[kept], labels[kept]
    return {
        "decoys": decoy(digits[chosen], labels[chosen], protocol, "truth", draw),
        "random swatches": decoy(digits[chosen], labels[chosen], protocol, "random", draw),
        "test": decoy(test_digits, test_labels, protocol, "test", draw),
    }


def run(options: argparse.Namespace, job: dict[str, Any]) -> dict[str, Any]:
    """Train and measure one network."""
    torch.set_num_threads(1)
    torch.manual_seed(job["seed"])
    net, draw = Net().to(options.device), torch.Generator().manual_seed(job["seed"])
    data = prepare(options.data, options.protocol, options.images, options.development, options.device, job["seed"])
    if options.from_base:
        train(net, ROWS["nothing"], data["decoys"], 0.0, options.epochs, draw)
    row = ROWS[job["row"]]._replace(weight=job["weight"])
    step = train(net, row, data[row.trained_on], job["hints"], options.epochs, draw)
    return job | {"step_ms": step} | measure(net, data["test"], row.importance, draw)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a folder with MNIST; default: scikit-learn's 1,797 small digits")
    parser.add_argument("--protocol", choices=["ross", "rieger"], default="ross")
    parser.add_argument("--rows", nargs="+", choices=[*ROWS, "all"], default=MAIN_ROWS, metavar="ROW", help="or all")
    parser.add_argument("--weights", nargs="+", type=float, help="default: each row's own")
    parser.add_argument("--chosen-in", type=Path, help="take the best weights of this --development --out instead")
    parser.add_argument("--hints", nargs="+", type=float, default=[1.0], help="shares of the images that have one")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--images", type=int, default=10_000, help="for training, at most")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--from-base", action="store_true", help="train without hints first, for as many epochs")
    parser.add_argument("--development", action="store_true", help="measure on the development set, not on the test")
    parser.add_argument("--out", type=Path, help="append a line for each network that it has none of")
    parser.add_argument("--processes", type=int, default=1, help="networks at a time, each on one thread")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    chosen = [json.loads(line) for line in options.chosen_in.open()] if options.chosen_in else []
    jobs, facts = [], {key: value for key, value in vars(options).items() if isinstance(value, str | int)}
    rows = list(ROWS) if "all" in options.rows else options.rows
    for seed, hints, row in itertools.product(options.seeds, options.hints, rows):
        own = best_weight(chosen, row, hints) or ROWS[row].weight
        weights = options.weights if options.weights and own else [own] if own or hints == options.hints[0] else []
        jobs += [{"row": row, "hints": hints, "weight": weight, "seed": seed, **facts} for weight in weights]
    lines = options.out.read_text().splitlines() if options.out and options.out.exists() else []
    done = [{key: found.get(key) for key in jobs[0]} for found in map(json.loads, lines)]
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        for found in pool.imap(partial(run, options), [job for job in jobs if job not in done]):
            lines.append(json.dumps(found))
            print(lines[-1], flush=True)
            if options.out:
                options.out.write_text("\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
