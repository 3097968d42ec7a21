"""
Do the answers depend on the wrong evidence?
============================================

A heat map that points at the right place does not prove that the answer comes from
there. Two checks do more: swap what people ignore for that of another picture, and
train with hints that belong to other pictures.
"""

# %%
# The data and the model are those of :doc:`plot_1_first_loss`.
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import nn

from hint_loss import (
    HintRankingLoss,
    answer_flips,
    grid_boxes,
    human_importance,
    pointing_game,
    proposal_importance,
    track_proposals,
)
from scenes import CELL, GRID, SHAPES, SIZE, make_scenes

train = make_scenes(2000, shortcut=1.0, seed=0)
test = make_scenes(500, shortcut=0.25, seed=1)
boxes = grid_boxes(GRID, GRID, image_size=(SIZE, SIZE))
hints = 120
s = human_importance(train.shape_mask[:hints], boxes.expand(hints, -1, -1))


def proposals_of(images: torch.Tensor) -> torch.Tensor:
    """The cells of pictures, (B, 16, 432)."""
    return F.unfold(images - 0.5, CELL, stride=CELL).mT


class Model(nn.Module):
    """Answers from a weighted mean of cells."""

    def __init__(self) -> None:
        super().__init__()
        layers = nn.Linear(3 * CELL**2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU()
        self.cell = nn.Sequential(*layers)
        self.attention = nn.Linear(64, 1)
        self.answer = nn.Linear(64, len(SHAPES))

    def forward(self, proposals: torch.Tensor) -> torch.Tensor:
        """Logits (B, 4) of proposals (B, K, 432)."""
        cells = self.cell(proposals)
        return self.answer((self.attention(cells).softmax(1) * cells).sum(1))


def fit(
    targets: torch.Tensor, weight: float, reduction: str = "norm", steps: int = 300
) -> nn.Module:
    """Train with these human importances."""
    torch.manual_seed(0)
    model, ranking_loss = Model(), HintRankingLoss.recommended()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(steps):
        rows = torch.cat(
            [torch.randint(hints, (16,)), torch.randint(len(train.labels), (112,))]
        )
        proposals = track_proposals(
            proposals_of(train.images[rows]), reduction=reduction
        )
        logits = model(proposals)
        score = logits.gather(1, train.labels[rows, None])[:, 0]
        alpha = proposal_importance(score, proposals, reduction=reduction)[:16]
        loss = F.cross_entropy(logits, train.labels[rows]) + weight * ranking_loss(
            alpha, targets[rows[:16]]
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


# %%
# Hints, and two controls
# -----------------------
# A control gets the same loss, weight and number of hints, but the hints say nothing
# (another picture's), or the opposite. If a control helps as much as real hints, then
# the hints are not what helped.
random = torch.randperm(hints, generator=torch.Generator().manual_seed(0))
models = {
    "no hints": fit(s, 0.0),
    "hints": fit(s, 10.0),
    "another picture's": fit(s[random], 10.0),
    "inverted": fit(1 - s, 10.0),
}

# %%
# Three numbers for each
# ----------------------
# Test accuracy; *pointing*: the most important cell shows the shape; *flips*: the
# answer changes if cells that show no shape are replaced with those of another picture.
# The shape of the other picture must not come along, so cells that show a shape in
# either picture stay.
relevant = (
    human_importance(test.shape_mask, boxes.expand(len(test.labels), -1, -1)) > 0.5
)
ignored = ~relevant & ~relevant.roll(-1, 0)
rows = []
for name, model in models.items():
    proposals = proposals_of(test.images).requires_grad_()
    logits = model(proposals)
    score = logits.gather(1, test.labels[:, None])[:, 0]
    alpha = proposal_importance(
        score, proposals, reduction="norm", differentiable=False
    )
    accuracy = (logits.argmax(1) == test.labels).double().mean()
    flips = answer_flips(model, proposals.detach(), ignored).nanmean()
    rows.append(
        [accuracy.item(), pointing_game(alpha, relevant).nanmean().item(), flips.item()]
    )
    cells = "   ".join(f"{value:4.0%}" for value in rows[-1])
    print(f"{name:18} accuracy, pointing, flips: {cells}")

figure, ax = plt.subplots(figsize=(9, 3), layout="constrained")
for i, measure in enumerate(("accuracy", "pointing", "flips")):
    ax.bar(
        [x + 0.27 * (i - 1) for x in range(len(rows))],
        [100 * row[i] for row in rows],
        0.25,
        label=measure,
    )
ax.set(xticks=range(len(rows)), xticklabels=models, ylabel="%")
ax.legend(ncols=3, loc="upper right")
ax.spines[["top", "right"]].set_visible(False)
plt.show()
