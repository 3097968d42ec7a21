"""
A convolutional network, and heads that cannot learn from hints
===============================================================

The cells of a feature map are proposals too, even inside of a model that you cannot
edit. Whether hints help depends on the head: it must be able to move importance from
one cell to another.
"""

# %%
# Two heads
# ---------
# The backbone is the same. One head adds up what each cell says by itself; the other
# weighs cells by attention.
from functools import partial

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import nn

from hint_loss import (
    HintRankingLoss,
    answer_flips,
    grid_boxes,
    human_importance,
    proposal_importance,
    submodule_proposals,
    track_proposals,
)
from hint_loss.plot import draw_importance
from scenes import GRID, SHAPES, SIZE, make_scenes


class SumHead(nn.Module):
    """A 1 x 1 convolution and global average pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = nn.Conv2d(32, len(SHAPES), 1)

    def forward(self, cells: torch.Tensor) -> torch.Tensor:
        """Logits (B, 4) of a feature map (B, 32, 4, 4)."""
        return self.answer(cells).mean((2, 3))


class AttentionHead(nn.Module):
    """Attention pooling, then a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.Conv2d(32, 1, 1)
        layers = nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, len(SHAPES))
        self.answer = nn.Sequential(*layers)

    def forward(self, cells: torch.Tensor) -> torch.Tensor:
        """Logits (B, 4) of a feature map (B, 32, 4, 4)."""
        weights = self.attention(cells).flatten(2).softmax(2)
        return self.answer((weights * cells.flatten(2)).sum(2))


def network(head: nn.Module) -> nn.Sequential:
    """A backbone that sees each cell alone, and a head."""
    layers = nn.Conv2d(3, 32, 3, stride=3), nn.ReLU(), nn.Conv2d(32, 32, 4, stride=4)
    return nn.Sequential(nn.Sequential(*layers, nn.ReLU()), head)


# %%
# Training
# --------
# ``submodule_proposals`` makes the backbone's output the proposals, while the model
# runs inside of it.
train = make_scenes(2000, shortcut=1.0, seed=0)
test = make_scenes(500, shortcut=0.25, seed=1)
boxes = grid_boxes(GRID, GRID, image_size=(SIZE, SIZE))
s = human_importance(train.shape_mask, boxes.expand(len(train.labels), -1, -1))
track = partial(track_proposals, feature_dim=1, reduction="norm")


def fit(head: nn.Module, weight: float, steps: int = 300) -> nn.Sequential:
    """Train with this weight on the ranking loss."""
    torch.manual_seed(0)
    model, ranking_loss = network(head), HintRankingLoss.recommended()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(steps):
        rows = torch.randint(len(train.labels), (64,))
        with submodule_proposals(model[0], track=track) as proposals:
            logits = model(train.images[rows] - 0.5)
        loss = F.cross_entropy(logits, train.labels[rows])
        if weight:
            score = logits.gather(1, train.labels[rows, None])[:, 0]
            alpha = proposal_importance(
                score, proposals[0], feature_dim=1, reduction="norm"
            )
            loss = loss + weight * ranking_loss(alpha.flatten(1), s[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


# %%
# What hints do
# -------------
# Under the first head the gradient is the same for all cells: there is nothing to rank,
# and the hints change nothing. Under attention they do.
of_test = human_importance(test.shape_mask, boxes.expand(len(test.labels), -1, -1))
relevant = of_test > 0.5
ignored = (~relevant & ~relevant.roll(-1, 0)).view(-1, GRID, GRID)
figure, axes = plt.subplots(1, 4, figsize=(9, 2.6), layout="constrained")
columns = iter(axes)
for name, head in {"sum": SumHead, "attention": AttentionHead}.items():
    for weight in (0.0, 10.0):
        torch.manual_seed(0)
        model = fit(head(), weight)
        cells = model[0](test.images - 0.5).detach().requires_grad_()
        logits = model[1](cells)
        score = logits.gather(1, test.labels[:, None])[:, 0]
        how = {"feature_dim": 1, "reduction": "norm", "differentiable": False}
        alpha = proposal_importance(score, cells, **how)
        accuracy = (logits.argmax(1) == test.labels).double().mean()
        flips = answer_flips(model[1], cells.detach(), ignored, feature_dim=1).nanmean()
        hints = "hints" if weight else "no hints"
        print(f"{name:10} {hints:9} test accuracy {accuracy:4.0%}   flips {flips:4.0%}")
        panel, picture = next(columns), test.images[0].permute(1, 2, 0)
        draw_importance(panel, picture, boxes, alpha[0].flatten())
        panel.set_title(f"{name}, {hints}: {accuracy:.0%}", fontsize=10)
plt.show()
