"""
Your first HINT loss
====================

A small attention model learns to name a shape. In training, the colour of a patch gives
the answer away. Hints for 6 % of the pictures make the model look at the shape instead.
"""

# %%
# The data
# --------
# In the test, the colour of the patch is random.
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import nn

from hint_loss import (
    HintRankingLoss,
    grid_boxes,
    human_importance,
    pointing_game,
    proposal_importance,
    track_proposals,
)
from hint_loss.plot import draw_importance
from scenes import CELL, GRID, SHAPES, SIZE, make_scenes

train = make_scenes(2000, shortcut=1.0, seed=0)
test = make_scenes(500, shortcut=0.25, seed=1)

figure, axes = plt.subplots(1, 6, figsize=(9, 1.9), layout="constrained")
for i, ax in enumerate(axes):
    ax.imshow(train.images[i].permute(1, 2, 0))
    ax.set(title=SHAPES[train.labels[i]], xticks=[], yticks=[])

# %%
# Proposals and human importance
# ------------------------------
# The proposals are the 4 x 4 cells of a picture, as plain pixels. ``human_importance``
# turns a mask of the shape into one number for each cell. Only the first 6 % of the
# pictures have such a hint.


def proposals_of(images: torch.Tensor) -> torch.Tensor:
    """The cells of pictures, (B, 16, 432)."""
    return F.unfold(images - 0.5, CELL, stride=CELL).mT


boxes = grid_boxes(GRID, GRID, image_size=(SIZE, SIZE))
hints = 120
s = human_importance(train.shape_mask[:hints], boxes.expand(hints, -1, -1))  # (120, 16)

# %%
# The model
# ---------
# Attention pooling over cells, then a classifier. It contains nothing of HINT.


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


# %%
# Training with and without hints
# -------------------------------
# Each batch has 16 pictures with a hint and 112 others. The mask tells the loss which
# is which.


def fit(weight: float, steps: int = 300) -> nn.Module:
    """Train with this weight on the ranking loss."""
    torch.manual_seed(0)
    model, ranking_loss = Model(), HintRankingLoss.recommended()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(steps):
        rows = torch.cat(
            [torch.randint(hints, (16,)), torch.randint(len(train.labels), (112,))]
        )
        labels = train.labels[rows]
        proposals = track_proposals(proposals_of(train.images[rows]), reduction="norm")
        logits = model(proposals)
        loss = F.cross_entropy(logits, labels)
        if weight:
            score = logits.gather(1, labels[:, None])[:, 0]
            alpha = proposal_importance(score, proposals, reduction="norm")[:16]
            loss = loss + weight * ranking_loss(alpha, s[rows[:16]])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


plain, hinted = fit(0.0), fit(10.0)

# %%
# What it changed
# ---------------
# Accuracy where the colour is random, and how often the most important cell shows the
# shape.


def importances(model: nn.Module, count: int = 500) -> torch.Tensor:
    """The unsigned importance of test cells for the true answer, exact."""
    proposals = proposals_of(test.images[:count]).requires_grad_()
    score = model(proposals).gather(1, test.labels[:count, None])[:, 0]
    return proposal_importance(score, proposals, reduction="norm", differentiable=False)


relevant = human_importance(test.shape_mask, boxes.expand(500, -1, -1)) > 0.5
for name, model in {"without hints": plain, "with hints": hinted}.items():
    accuracy = (
        (model(proposals_of(test.images)).argmax(1) == test.labels).double().mean()
    )
    pointing = pointing_game(importances(model), relevant).mean()
    print(f"{name:13}  test accuracy {accuracy:.0%}, pointing {pointing:.0%}")

# %%
# The importance of each cell for the true answer, before and after: colour and tint
# mark what is important, and a frame the most important cell.
figure, axes = plt.subplots(3, 5, figsize=(9, 5.6), layout="constrained")
for column in range(5):
    picture = test.images[column].permute(1, 2, 0)
    axes[0, column].imshow(picture)
    axes[0, column].set(title=SHAPES[test.labels[column]], xticks=[], yticks=[])
    for row, model in ((1, plain), (2, hinted)):
        draw_importance(
            axes[row, column], picture, boxes, importances(model, 5)[column]
        )
axes[1, 0].set_title("without hints", loc="left")
axes[2, 0].set_title("with hints", loc="left")
plt.show()

# sphinx_gallery_thumbnail_number = 2
