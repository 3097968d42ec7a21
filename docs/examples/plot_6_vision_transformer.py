"""
A vision transformer
====================

The proposals of a ViT are its patches. Nothing in the model changes, but its attention
needs kernels that have a second derivative.
"""

# %%
# The model
# ---------
# A small ViT: patches, a class token, positions, and PyTorch's own encoder.
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import nn

from hint_loss import (
    HintRankingLoss,
    double_backward_kernels,
    grid_boxes,
    human_importance,
    proposal_importance,
    track_proposals,
    tracking_report,
)
from hint_loss.plot import draw_importance
from scenes import CELL, GRID, SHAPES, SIZE, make_scenes


class ViT(nn.Module):
    """Answers from the class token."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.patch = nn.Linear(3 * CELL**2, width)
        self.first = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.position = nn.Parameter(0.02 * torch.randn(1, GRID**2 + 1, width))
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, 0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.answer = nn.Linear(width, len(SHAPES))

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """Logits (B, 4) of patches (B, 16, 432)."""
        first = self.first.expand(len(patches), -1, -1)
        tokens = torch.cat([first, self.patch(patches)], 1) + self.position
        return self.answer(self.encoder(tokens)[:, 0])


# %%
# Training
# --------
# Half of each batch has a hint. The forward pass stands inside of
# ``double_backward_kernels()``; without it, ``backward`` would raise an error that says
# so, because fused attention has no second derivative.
train = make_scenes(2000, shortcut=1.0, seed=0)
test = make_scenes(500, shortcut=0.25, seed=1)
boxes = grid_boxes(GRID, GRID, image_size=(SIZE, SIZE))
s = human_importance(train.shape_mask, boxes.expand(len(train.labels), -1, -1))


def patches_of(images: torch.Tensor) -> torch.Tensor:
    """The patches of pictures, (B, 16, 432)."""
    return F.unfold(images - 0.5, CELL, stride=CELL).mT


def fit(weight: float, steps: int = 250) -> nn.Module:
    """Train with this weight on the ranking loss."""
    torch.manual_seed(0)
    model, ranking_loss = ViT(), HintRankingLoss.recommended()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(steps):
        rows = torch.randint(len(train.labels), (64,))
        hinted = torch.arange(64) < 32
        patches = track_proposals(patches_of(train.images[rows]), reduction="norm")
        with double_backward_kernels():
            logits = model(patches)
        loss = F.cross_entropy(logits, train.labels[rows])
        if weight:
            score = logits.gather(1, train.labels[rows, None])[:, 0]
            alpha = proposal_importance(score, patches, reduction="norm")
            loss = loss + weight * ranking_loss(alpha, s[rows], mask=hinted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


plain, hinted = fit(0.0), fit(10.0)

# %%
# Which operations were tracked lazily? The patch embedding. What follows gets plain
# tensors, and costs what it costs without tracking.
patches = track_proposals(patches_of(test.images[:2]), reduction="norm")
with double_backward_kernels():
    hinted(patches)
print(tracking_report(patches))

# %%
# Before and after
# ----------------
figure, axes = plt.subplots(2, 5, figsize=(9, 3.9), layout="constrained")
for row, (name, model) in enumerate({"without hints": plain, "hints": hinted}.items()):
    model.eval()
    patches = patches_of(test.images).requires_grad_()
    with double_backward_kernels():
        logits = model(patches)
    accuracy = (logits.argmax(1) == test.labels).double().mean()
    score = logits.gather(1, test.labels[:, None])[:, 0]
    alpha = proposal_importance(score, patches, reduction="norm", differentiable=False)
    print(f"{name:13}  test accuracy {accuracy:.0%}")
    for column in range(5):
        picture = test.images[column].permute(1, 2, 0)
        draw_importance(axes[row, column], picture, boxes, alpha[column])
    axes[row, 0].set_title(f"{name}: {accuracy:.0%}", loc="left")
plt.show()
