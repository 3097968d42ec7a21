"""
Choosing the weight and the margin
==================================

The loss on hints has a weight and a margin. Choose both on a development set, on which
the shortcut fails as it will in the test, and read the test once.
"""

# %%
# What can be wrong
# -----------------
# Too small a weight does nothing. Too large a weight lets the task loss go unheard. The
# margin says how far apart importances should be, in shares of importance, for each
# unit of human gap: with a margin of 0, all importances may be nearly equal. Only 24
# pictures have a hint here, 1.2 %, so that there is something to choose.
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import nn

from hint_loss import (
    HintRankingLoss,
    grid_boxes,
    human_importance,
    proposal_importance,
    track_proposals,
)
from scenes import CELL, GRID, SHAPES, SIZE, make_scenes

train = make_scenes(2000, shortcut=1.0, seed=0)
development = make_scenes(300, shortcut=0.25, seed=1)
test = make_scenes(1000, shortcut=0.25, seed=2)
boxes, hints = grid_boxes(GRID, GRID, image_size=(SIZE, SIZE)), 24
s = human_importance(train.shape_mask[:hints], boxes.expand(hints, -1, -1))


def proposals_of(images: torch.Tensor) -> torch.Tensor:
    """The cells of pictures, (B, 16, 432)."""
    return F.unfold(images - 0.5, CELL, stride=CELL).mT


class Model(nn.Module):
    """Answers from a weighted mean of cells."""

    def __init__(self) -> None:
        super().__init__()
        layers = nn.Linear(3 * CELL**2, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU()
        self.cell = nn.Sequential(*layers)
        self.attention = nn.Linear(48, 1)
        self.answer = nn.Linear(48, len(SHAPES))

    def forward(self, proposals: torch.Tensor) -> torch.Tensor:
        """Logits (B, 4) of proposals (B, K, 432)."""
        cells = self.cell(proposals)
        return self.answer((self.attention(cells).softmax(1) * cells).sum(1))


def fit(weight: float, margin: float, seed: int = 0, steps: int = 200) -> nn.Module:
    """Train with these options."""
    torch.manual_seed(seed)
    model, ranking_loss = Model(), HintRankingLoss.recommended(margin=margin)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(steps):
        hinted = torch.randint(hints, (8,))
        rows = torch.cat([hinted, torch.randint(len(train.labels), (56,))])
        proposals = track_proposals(proposals_of(train.images[rows]), reduction="norm")
        logits = model(proposals)
        score = logits.gather(1, train.labels[rows, None])[:, 0]
        alpha = proposal_importance(score, proposals, reduction="norm")[:8]
        loss = F.cross_entropy(logits, train.labels[rows])
        optimizer.zero_grad()
        (loss + weight * ranking_loss(alpha, s[hinted])).backward()
        optimizer.step()
    return model


@torch.no_grad()
def accuracy(model: nn.Module, scenes: object) -> float:
    """Share of right answers."""
    right = model(proposals_of(scenes.images)).argmax(1) == scenes.labels
    return right.double().mean().item()


# %%
# The grid
# --------
# The same budget for each setting. Learning rate and steps would belong to the grid of
# a real study, and several seeds.
weights, margins = (0.1, 1.0, 10.0, 100.0), (0.0, 0.4, 0.8)
found = {(w, m): accuracy(fit(w, m), development) for m in margins for w in weights}
chosen = max(found, key=found.__getitem__)

figure, ax = plt.subplots(figsize=(7, 3.4), layout="constrained")
for margin in margins:
    heights = [100 * found[weight, margin] for weight in weights]
    ax.semilogx(weights, heights, "o-", label=f"margin {margin:g}")
ax.set(xlabel="weight of the ranking loss", ylabel="development accuracy (%)")
ax.legend()
ax.spines[["top", "right"]].set_visible(False)

# %%
# The test, once
# --------------
# With the chosen options, another seed, and beside it a network without hints.
print(f"chosen: weight {chosen[0]:g}, margin {chosen[1]:g}")
print(f"test accuracy {accuracy(fit(*chosen, seed=1), test):.0%}", end=", ")
print(f"without hints {accuracy(fit(0.0, 0.0, seed=1), test):.0%}")
plt.show()
